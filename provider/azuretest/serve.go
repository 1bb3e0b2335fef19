package azuretest

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

var errClosed = errors.New("azuretest: the fake is closed")

// service is one HTTP server of the fake with its listener.
type service struct {
	listener *listener
	server   *http.Server
}

// start serves h on a new listener until the fake is closed: over TLS if there is a config,
// which start completes.
func (b *Box) start(s *conns, h http.Handler, config *tls.Config) (*listener, error) {
	l, err := b.newListener(s)
	if err != nil {
		return nil, err
	}
	server := &http.Server{
		Handler: h, Protocols: new(http.Protocols), TLSConfig: config,
		BaseContext: b.base, ConnContext: withConn, ConnState: b.waitForConns(),
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0), // failed handshakes are what some tests are about
	}
	server.Protocols.SetHTTP1(true)
	run := func() { _ = server.Serve(l) }
	if config != nil {
		config.MinVersion = tls.VersionTLS12
		// Not the hybrid key exchange: it would take a fifth more of each handshake from what a
		// benchmark measures on the same processors.
		config.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256}
		server.Protocols.SetHTTP2(!b.disableHTTP2)
		run = func() { _ = server.ServeTLS(l, "", "") }
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errors.Join(errClosed, l.Close())
	}
	b.services = append(b.services, &service{l, server})
	b.running.Go(l.pump)
	b.running.Go(run)
	return l, nil
}

// listens reports whether the address is that of one of the fake's listeners.
func (b *Box) listens(address string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.services, func(s *service) bool { return s.listener.Addr().String() == address })
}

// waitForConns returns a hook that makes Close wait for the goroutine of each connection.
func (b *Box) waitForConns() func(net.Conn, http.ConnState) {
	var mu sync.Mutex // guards live
	live := map[net.Conn]bool{}
	return func(c net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch state {
		case http.StateNew:
			live[c] = true
			b.running.Add(1)
		case http.StateClosed, http.StateHijacked:
			if live[c] {
				delete(live, c)
				b.running.Done()
			}
		}
	}
}

type connKey struct{}

// withConn lets a handler find the TCP connection below its request.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// Close stops the fake, cuts every connection and waits for its goroutines. It may be called twice.
func (b *Box) Close() error {
	b.mu.Lock()
	services := b.services
	b.closed, b.services = true, nil
	b.mu.Unlock()
	b.cancel()
	var err error
	for _, s := range services {
		err = errors.Join(err, s.listener.Close())
	}
	for _, s := range services {
		err = errors.Join(err, s.server.Close())
		s.listener.conns.close()
	}
	b.running.Wait()
	return err
}
