package transport_test

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// mute is a connection that something on the way drops in silence.
type mute struct {
	net.Conn
	dropped *atomic.Bool
}

func (m mute) Write(p []byte) (int, error) {
	if m.dropped.Load() {
		return len(p), nil
	}
	return m.Conn.Write(p)
}

func (m mute) Read(p []byte) (int, error) {
	for {
		n, err := m.Conn.Read(p)
		if err != nil || !m.dropped.Load() {
			return n, err
		}
	}
}

// One request notices that an HTTP/2 connection is dead; those after it go on over
// a new one.
func TestDeadConnectionIsFound(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	pool := dialling(t, srv.Listener.Addr().String(), roots)
	if pool.HTTP2.SendPingTimeout <= 0 || pool.HTTP2.SendPingTimeout+pool.HTTP2.PingTimeout > 15*time.Second {
		t.Fatalf("pings %+v: an attempt may take 15 s", pool.HTTP2)
	}
	pool.HTTP2.SendPingTimeout, pool.HTTP2.PingTimeout = 20*time.Millisecond, 20*time.Millisecond
	var dials atomic.Int32
	var dropped atomic.Bool
	dial := pool.DialContext
	pool.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err == nil && dials.Add(1) == 1 {
			conn = mute{conn, &dropped}
		}
		return conn, err
	}
	client, address := reader(pool), "https://example.com/" // the name of httptest's certificate
	if err := get(t.Context(), client, address); err != nil {
		t.Fatal(err)
	}
	dropped.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	first := get(ctx, client, address)
	if ctx.Err() != nil {
		t.Fatalf("not noticed: %v", first)
	}
	if err := get(ctx, client, address); err != nil || dials.Load() != 2 {
		t.Errorf("after it: %v, %d connections", err, dials.Load())
	}
}
