package transport_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"akv-csi-provider/provider/transport"
)

const shortSilence = 100 * time.Millisecond

// network is a server whose connections can die: it answers nothing more on those of before.
type network struct {
	conns  *http.Transport
	client *transport.Client
	opened atomic.Int32
	came   atomic.Int32 // requests that were answered
	dead   atomic.Int32 // connections up to this one
	slow   atomic.Int64 // nanoseconds until the answer
	close  chan struct{}
}

type connKey struct{}

func newNetwork(t *testing.T, http2 bool, maxConns int) *network {
	t.Helper()
	n := &network{close: make(chan struct{})}
	n.conns = serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if conn := r.Context().Value(connKey{}).(int32); conn <= n.dead.Load() {
			<-n.close
			return
		}
		select {
		case <-time.After(time.Duration(n.slow.Load())):
		case <-n.close:
		}
		n.came.Add(1)
		_, _ = w.Write(body)
	}, http2, func(_ context.Context, _ net.Conn) context.Context {
		return context.WithValue(context.Background(), connKey{}, n.opened.Add(1))
	})
	t.Cleanup(func() { close(n.close) })
	n.conns.MaxConnsPerHost, n.conns.MaxIdleConnsPerHost, n.conns.MaxIdleConns = maxConns, maxConns, maxConns
	n.client = reader(transport.NewPoolOf(only(n.conns), shortSilence))
	return n
}

// crowd sends requests at once, so that each has its own connection, and returns the errors.
func (n *network) crowd(t *testing.T, size int) {
	t.Helper()
	var group sync.WaitGroup
	for range size {
		group.Go(func() {
			if err := get(t.Context(), n.client, secretURL); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// When connections die while they are idle, one request pays for it, and only a little.
func TestDeadIdleConnections(t *testing.T) {
	const size = 20
	for _, together := range []int{1, size} {
		n := newNetwork(t, false, size)
		n.client = reader(n.conns)
		n.slow.Store(int64(50 * time.Millisecond)) // for as many connections
		n.crowd(t, size)
		n.slow.Store(0)
		n.client = reader(transport.NewPoolOf(only(n.conns), time.Second)) // longer than this machine is busy
		n.dead.Store(n.opened.Load())
		if got := n.dead.Load(); got < size/2 {
			t.Errorf("%d connections", got)
		}
		start := time.Now()
		n.crowd(t, together)
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%d requests took %v", together, took)
		}
		before := n.came.Load()
		n.crowd(t, 1)
		if n.came.Load() != before+1 {
			t.Error("a request came twice")
		}
	}
}

// What is sent again is complete.
func TestDeadConnectionAndBody(t *testing.T) {
	n := newNetwork(t, false, 4)
	n.crowd(t, 1)
	n.dead.Store(n.opened.Load())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, secretURL, strings.NewReader("client_assertion=x"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := n.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "client_assertion=x" {
		t.Errorf("got %q, %v", body, err)
	}
}

// What cannot be sent again fails at its deadline; the next does not meet another dead
// connection.
func TestDeadConnectionAndBodyOnce(t *testing.T) {
	n := newNetwork(t, false, 4)
	n.slow.Store(int64(50 * time.Millisecond))
	n.crowd(t, 4)
	n.slow.Store(0)
	n.dead.Store(n.opened.Load())
	post := func(timeout time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, secretURL, io.NopCloser(strings.NewReader("x")))
		if err != nil {
			return err
		}
		resp, err := n.client.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	if post(3*shortSilence) == nil {
		t.Error("the dead connection answers")
	}
	if err := post(10 * time.Second); err != nil {
		t.Error(err)
	}
}

// A host that is slow on new connections too is given its time from then on.
func TestSlowHost(t *testing.T) {
	n := newNetwork(t, false, 4)
	n.slow.Store(int64(2 * shortSilence))
	n.crowd(t, 1)
	n.crowd(t, 1) // is sent twice
	conns := n.opened.Load()
	for range 3 {
		n.crowd(t, 1)
	}
	if got := n.opened.Load(); conns != 2 || got != conns {
		t.Errorf("%d connections, then %d", conns, got)
	}
}

// HTTP/2 has pings, and its connection may be in use by others.
func TestSilenceOfHTTP2(t *testing.T) {
	n := newNetwork(t, true, 4)
	n.slow.Store(int64(2 * shortSilence))
	n.crowd(t, 1)
	n.crowd(t, 3)
	if got, conns := n.came.Load(), n.opened.Load(); got != 4 || conns != 1 {
		t.Errorf("%d requests, %d connections", got, conns)
	}
}
