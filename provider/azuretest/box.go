package azuretest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a box. The zero value is useful.
type Options struct {
	// Clock is what the box believes the time is: for tokens and for what is created. Default time.Now.
	// It does not govern TLS certificates.
	Clock func() time.Time
	// DisableHTTP2 offers HTTP/1.1 only.
	DisableHTTP2 bool
	// IssuerClient fetches the discovery document and the keys of OIDC issuers that are not clusters
	// of this box. Default: none, so a foreign issuer is unreachable and nothing leaves the machine.
	IssuerClient *http.Client
}

// Box is a running Azure. Make one with [New].
type Box struct {
	clock        func() time.Time
	disableHTTP2 bool

	ca     *authority
	conns  *conns
	tls    *listener
	proxy  *listener
	server *http.Server
	tunnel *http.Server

	registry *registry
	issuers  *issuers
	knobs    knobs
	journal  *journal

	handshakes  atomic.Int64
	refuseProxy atomic.Int64
	lifetime    atomic.Int64 // of access tokens, nanoseconds
	refresh     atomic.Int64 // refresh_in of token responses, nanoseconds; 0 leaves it out

	cancel  context.CancelFunc // ends the context of every request
	running sync.WaitGroup     // accept loops, servers, connections and requests
	mu      sync.Mutex         // guards closed
	closed  bool
}

// New starts a box: its TLS listener and its CONNECT proxy, both on loopback.
func New(o Options) (*Box, error) {
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	if _, err := processKey(firstClusterKey); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	b := &Box{
		clock: o.Clock, disableHTTP2: o.DisableHTTP2, ca: ca,
		conns:    &conns{open: map[*conn]struct{}{}},
		registry: newRegistry(),
		issuers:  newIssuers(o.IssuerClient),
		journal:  newJournal(),
	}
	b.lifetime.Store(int64(time.Hour))
	if b.tls, err = newListener(b.conns); err != nil {
		return nil, fmt.Errorf("listen for TLS: %w", err)
	}
	if b.proxy, err = newListener(b.conns); err != nil {
		_ = b.tls.Close()
		return nil, fmt.Errorf("listen for the proxy: %w", err)
	}
	b.serve()
	return b, nil
}

// serve starts the two servers.
func (b *Box) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(!b.disableHTTP2)
	b.server = &http.Server{
		Handler: b, Protocols: protocols,
		TLSConfig: &tls.Config{
			MinVersion:       tls.VersionTLS12,
			GetCertificate:   b.ca.certificate,
			VerifyConnection: func(tls.ConnectionState) error { b.handshakes.Add(1); return nil },
		},
		ConnContext: withConn,
	}
	b.tunnel = &http.Server{Handler: http.HandlerFunc(b.connect)}
	for _, s := range []*http.Server{b.server, b.tunnel} {
		s.BaseContext = func(net.Listener) context.Context { return ctx }
		s.ConnState = b.waitForConns()
		s.ReadHeaderTimeout = time.Minute
		s.ErrorLog = log.New(io.Discard, "", 0) // failed handshakes are what some tests are about
	}
	for _, run := range []func(){
		b.tls.pump,
		b.proxy.pump,
		func() { _ = b.server.ServeTLS(b.tls, "", "") },
		func() { _ = b.tunnel.Serve(b.proxy) },
	} {
		b.running.Go(run)
	}
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

// Close stops the box, cuts every connection and waits for its goroutines. It may be called twice.
func (b *Box) Close() error {
	b.mu.Lock()
	first := !b.closed
	b.closed = true
	b.mu.Unlock()
	var err error
	if first {
		b.cancel()
		err = errors.Join(b.tls.Close(), b.proxy.Close())
		err = errors.Join(err, b.server.Close(), b.tunnel.Close())
		b.conns.close()
	}
	b.running.Wait()
	return err
}

// enter counts a request in, unless the box is closing.
func (b *Box) enter() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.running.Add(1)
	return true
}

// Handshakes is the number of TLS handshakes completed, resumed ones included.
func (b *Box) Handshakes() int { return int(b.handshakes.Load()) }

// SetOutage cuts every connection and resets each new one, at both listeners, until called with
// false: an Azure that is gone. Names still resolve.
func (b *Box) SetOutage(on bool) { b.conns.setOutage(on) }

// CACert returns the certificate of the box's CA as PEM.
func (b *Box) CACert() []byte { return append([]byte(nil), b.ca.pem...) }

// Environ writes the CA certificate into dir and returns the environment for a process that reaches
// the box and nothing else: this process's own, with HTTPS_PROXY and SSL_CERT_FILE in place of all
// that says where to go and whom to trust.
func (b *Box) Environ(dir string) ([]string, error) {
	path, err := filepath.Abs(filepath.Join(dir, "azuretest-ca.pem"))
	if err != nil {
		return nil, fmt.Errorf("place of the CA certificate: %w", err)
	}
	if err := os.WriteFile(path, b.ca.pem, 0o644); err != nil {
		return nil, fmt.Errorf("write CA certificate: %w", err)
	}
	var env []string
	for _, have := range os.Environ() {
		name, _, _ := strings.Cut(have, "=")
		switch strings.ToUpper(name) {
		case "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR":
		default:
			env = append(env, have)
		}
	}
	return append(env, "HTTPS_PROXY="+b.ProxyURL(), "SSL_CERT_FILE="+path), nil
}
