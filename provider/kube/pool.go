package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"sync"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/transport"
)

// PoolConfig says how a [Pool] connects.
type PoolConfig struct {
	// CAFile contains the cluster's CA certificates as PEM. Kubernetes replaces it when the CA
	// rotates, so it is read again with every use.
	CAFile string
	// SystemRoots trusts the system's roots where CAFile does not exist.
	SystemRoots bool
	// MaxConns bounds the connections; with HTTP/2 one serves all requests.
	MaxConns int
	// UserAgent is put before the SDK's own.
	UserAgent string
	// Measure, if not nil, wraps the connections.
	Measure func(http.RoundTripper) http.RoundTripper
}

// Pool connects to the API server's address, and never through a proxy: the address is inside
// the cluster, and HTTPS_PROXY leads out of it. It is safe for concurrent use.
type Pool struct {
	cfg PoolConfig

	mu         sync.Mutex     // guards what follows
	known      bool           // the roots have been read
	pem        []byte         // from which roots were made
	roots      *x509.CertPool // nil for the system's
	serverName string         // of the connections
	conns      *http.Transport
	client     *transport.Client // over conns; nil until it is needed
}

// maxCAFile bounds the file with the CA certificates.
const maxCAFile = 1 << 20

// NewPool makes a Pool. It sends and reads nothing.
func NewPool(cfg PoolConfig) *Pool { return &Pool{cfg: cfg} }

// Client returns a client for the server that proves to have that name; "" is the host of the
// request's URL. There is one client and one set of connections, until the name or the CA
// certificates change. The error is a *fault.Error.
func (p *Pool) Client(serverName string) (*transport.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.readRoots(); err != nil {
		return nil, err
	}
	if p.client != nil && p.serverName == serverName {
		return p.client, nil
	}
	p.disconnect()
	p.conns = transport.Base(p.cfg.MaxConns)
	p.conns.Proxy, p.conns.OnProxyConnectResponse = nil, nil
	p.conns.TLSClientConfig.RootCAs, p.conns.TLSClientConfig.ServerName = p.roots, serverName
	var conns http.RoundTripper = p.conns
	if p.cfg.Measure != nil {
		conns = p.cfg.Measure(conns)
	}
	p.client, p.serverName = transport.New(conns, p.cfg.UserAgent), serverName
	return p.client, nil
}

// Certificate connects to the URL's host under the host's own name, and returns the
// certificate that the server proves to have. It sends no request, which the API server would
// log. The error is a *fault.Error, or the context's own when the caller gave up.
func (p *Pool) Certificate(ctx context.Context, u *url.URL) (*x509.Certificate, error) {
	config, err := p.tlsConfig()
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	dialer := &tls.Dialer{Config: config}
	// A transport.Client, for its errors, over a round trip that is the handshake alone.
	client := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
		conn, err := dialer.DialContext(req.Context(), "tcp", net.JoinHostPort(u.Hostname(), port))
		if err != nil {
			return nil, err
		}
		defer func() { _ = conn.Close() }()
		state := conn.(*tls.Conn).ConnectionState()
		return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, TLS: &state}, nil
	}), p.cfg.UserAgent).For(transport.PhaseConnect)
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	return resp.TLS.PeerCertificates[0], resp.Body.Close()
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// tlsConfig is for one connection outside the pool.
func (p *Pool) tlsConfig() (*tls.Config, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.readRoots(); err != nil {
		return nil, err
	}
	config := transport.Base(1).TLSClientConfig
	config.RootCAs = p.roots
	return config, nil
}

// readRoots reads the CA certificates again, and disconnects if they have changed. A file that
// cannot be used for a moment, as in the middle of a rotation, changes nothing. The lock is
// held, so that an older file never replaces a newer one.
func (p *Pool) readRoots() error {
	pem, err := readFile(p.cfg.CAFile, maxCAFile)
	if p.known && (err != nil || bytes.Equal(pem, p.pem)) {
		return nil
	}
	roots := x509.NewCertPool()
	switch {
	case p.cfg.SystemRoots && errors.Is(err, fs.ErrNotExist):
		pem, roots = nil, nil
	case err == nil && roots.AppendCertsFromPEM(pem):
	case p.known:
		return nil
	default:
		return &fault.Error{Reason: fault.ServiceUnavailable, Err: err,
			Cause: fmt.Sprintf("cannot read the cluster's CA certificates from %q", p.cfg.CAFile),
			Fix:   "cluster operator: set automountServiceAccountToken: true for the provider"}
	}
	p.disconnect()
	p.known, p.pem, p.roots = true, pem, roots
	return nil
}

// disconnect drops the client; requests under way continue. The lock is held.
func (p *Pool) disconnect() {
	if p.conns != nil {
		p.conns.CloseIdleConnections()
	}
	p.conns, p.client = nil, nil
}
