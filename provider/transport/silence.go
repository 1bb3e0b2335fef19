package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// How dead connections are found. A firewall that forgets connections, or a node that lost
// its network for a moment, leaves a pool full of them, and each request would take another.
const (
	// maxSilence is how long a request waits for the first byte of its response on a
	// connection that was used before.
	maxSilence = 3 * time.Second
	// slowFor is for how long a host may be silent that was slow on a new connection, too.
	slowFor = time.Minute
)

var errSilent = errors.New("no response on a connection that was idle")

// send sends a request. If it meets silence on a connection that was used before, it closes
// the idle connections, which may be dead like that one, and sends the request again. HTTP/2
// does without: it has pings.
func (p *pool) send(conns http.RoundTripper, host *dialled, req *http.Request) (*http.Response, error) {
	h := &handshake{places: p.handshakes, ctx: req.Context()}
	w := &watch{handshake: h, limit: p.silence, mayGiveUp: p.mayRepeat(host, req)}
	var ctx context.Context
	ctx, w.cancel = context.WithCancelCause(req.Context()) // which ends with the attempt
	resp, err := conns.RoundTrip(w.watching(ctx, req))
	silent, gaveUp := w.end()
	if !gaveUp {
		if err != nil && silent {
			closeIdle(conns)
		}
		return resp, err
	}
	if resp != nil {
		_ = resp.Body.Close()
	}
	closeIdle(conns)
	again := req.Clone(req.Context())
	if req.GetBody != nil {
		if again.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	w = &watch{handshake: h, limit: p.silence, all: true}
	resp, err = conns.RoundTrip(w.watching(again.Context(), again))
	if silent, _ := w.end(); silent {
		p.mu.Lock()
		defer p.mu.Unlock()
		host.slow = time.Now().Add(slowFor)
	}
	return resp, err
}

// mayRepeat reports whether silence is a reason to send the request again.
func (p *pool) mayRepeat(host *dialled, req *http.Request) bool {
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().After(host.slow)
}

// watch watches for the first byte of a response. Its methods are hooks of httptrace.
type watch struct {
	handshake *handshake
	limit     time.Duration
	all       bool                    // also on new connections
	mayGiveUp bool                    // after limit
	cancel    context.CancelCauseFunc // gives up

	mu     sync.Mutex // guards what follows
	timer  *time.Timer
	since  time.Time // when the request got a connection; zero if it does not wait on one
	silent bool      // it waited for longer than limit
	gaveUp bool
}

// watching returns the request to send.
func (w *watch) watching(ctx context.Context, req *http.Request) *http.Request {
	return req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		TLSHandshakeStart: w.handshake.start, TLSHandshakeDone: w.handshake.done,
		GotConn: w.gotConn, GotFirstResponseByte: w.answered,
	}))
}

// gotConn may be called several times: the pool sends a request again if it finds a
// connection closed.
func (w *watch) gotConn(info httptrace.GotConnInfo) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stop()
	if !w.all && !info.Reused || isHTTP2(info.Conn) {
		return
	}
	w.since = time.Now()
	if w.mayGiveUp && !w.gaveUp {
		w.timer = time.AfterFunc(w.limit, w.expire)
	}
}

func (w *watch) answered() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stop()
}

// stop ends the wait on a connection. The lock is held.
func (w *watch) stop() {
	w.silent = w.isSilent()
	w.since = time.Time{}
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *watch) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isSilent() {
		w.gaveUp = true
		w.cancel(errSilent)
	}
}

func (w *watch) isSilent() bool { return !w.since.IsZero() && time.Since(w.since) >= w.limit }

// end reports whether the request waited on its last connection for too long, and whether
// it was given up for that.
func (w *watch) end() (silent, gaveUp bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.since.IsZero() {
		w.stop()
	}
	return w.silent, w.gaveUp
}

func isHTTP2(conn net.Conn) bool {
	c, ok := conn.(*tls.Conn)
	return ok && c.ConnectionState().NegotiatedProtocol == "h2"
}
