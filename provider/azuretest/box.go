package azuretest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a fake. The zero value is useful.
type Options struct {
	// Clock is the fake's time, of tokens and of what is created. Default time.Now.
	// It does not govern TLS certificates.
	Clock func() time.Time
	// DisableHTTP2 offers HTTP/1.1 only.
	DisableHTTP2 bool
	// Address is the IP address that all services listen on. Default 127.0.0.1. Every client that
	// reaches it can use the fake.
	Address string
	// Listen makes the listeners of all services. Default [net.Listen]. A test within a bubble of
	// testing/synctest has no network: it returns listeners that cannot be reached, and calls the handlers.
	Listen func(network, address string) (net.Listener, error)
	// IssuerClient fetches the discovery document and the keys of OIDC issuers that are not clusters
	// of this fake. Default: none, so a foreign issuer is unreachable and nothing leaves the machine.
	IssuerClient *http.Client
}

// Box is a running fake Azure. Make one with [New].
type Box struct {
	clock        func() time.Time
	disableHTTP2 bool
	address      string
	listen       func(network, address string) (net.Listener, error)

	ca    *authority
	conns *conns // all but those of clusters
	tls   *listener
	proxy *listener

	registry *registry
	issuers  *issuers
	knobs    knobs
	journal  *journal
	tokens   readTokens

	handshakes  atomic.Int64
	refuseProxy atomic.Int64
	lifetime    atomic.Int64 // of access tokens, nanoseconds
	refresh     atomic.Int64 // refresh_in of token responses, nanoseconds; 0 leaves it out

	base    func(net.Listener) context.Context // of every request
	cancel  context.CancelFunc                 // ends them all
	running sync.WaitGroup                     // accept loops, servers, connections and requests

	mu       sync.Mutex // guards closed and services
	closed   bool
	services []*service

	nodeMu sync.Mutex // guards imds; held while it is started
	imds   *IMDS      // nil: the machine is no node of Azure
}

// New starts a fake: its TLS listener and its CONNECT proxy.
func New(o Options) (*Box, error) {
	ca, err := newAuthority("azuretest CA")
	if err != nil {
		return nil, err
	}
	if _, err := processKey(firstClusterKey); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Address == "" {
		o.Address = "127.0.0.1"
	}
	if o.Listen == nil {
		o.Listen = net.Listen
	}
	b := &Box{
		clock: o.Clock, disableHTTP2: o.DisableHTTP2, address: o.Address, listen: o.Listen, ca: ca,
		conns:    newConns(),
		registry: newRegistry(),
		issuers:  newIssuers(o.IssuerClient),
		journal:  newJournal(),
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.base, b.cancel = func(net.Listener) context.Context { return ctx }, cancel
	b.lifetime.Store(int64(time.Hour))
	if b.tls, err = b.start(b.conns, b, &tls.Config{
		GetCertificate:   ca.certificate,
		VerifyConnection: func(tls.ConnectionState) error { b.handshakes.Add(1); return nil },
	}); err == nil {
		b.proxy, err = b.start(b.conns, http.HandlerFunc(b.connect), nil)
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// enter counts a request in, unless the fake is closing.
func (b *Box) enter() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.running.Add(1)
	return true
}

// Handshakes is the number of TLS handshakes that Azure completed, resumed ones included. Those with
// the API server of a cluster are not Azure's.
func (b *Box) Handshakes() int { return int(b.handshakes.Load()) }

// SetOutage cuts every connection and resets each new one, until called with false: an Azure that is
// down, the node's metadata service included. Names still resolve, and the API servers of clusters
// stay; requests for Entra at their token proxies are reset.
func (b *Box) SetOutage(on bool) { b.conns.setOutage(on) }

// CACert returns the certificate of the fake's CA as PEM.
func (b *Box) CACert() []byte { return append([]byte(nil), b.ca.pem...) }

// Environ writes the CA certificate into dir and returns the environment for a process that reaches
// the fake and nothing else: this process's own, with HTTPS_PROXY and SSL_CERT_FILE in place of all
// that says where to go and whom to trust. If the fake has an [IMDS], the environment names its URL in
// AZURE_POD_IDENTITY_AUTHORITY_HOST; azidentity itself does not read that variable.
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
		if !slices.Contains(ownEnviron, strings.ToUpper(name)) {
			env = append(env, have)
		}
	}
	env = append(env, "HTTPS_PROXY="+b.ProxyURL(), "SSL_CERT_FILE="+path)
	if node := b.node(); node != nil {
		env = append(env, "AZURE_POD_IDENTITY_AUTHORITY_HOST="+node.URL())
	}
	return env, nil
}

// ownEnviron are the variables that say where to go and whom to trust. Those of managed identities
// make SDKs look for another endpoint than IMDS, or for IMDS in another place.
var ownEnviron = []string{
	"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"AZURE_POD_IDENTITY_AUTHORITY_HOST", "IDENTITY_ENDPOINT", "IDENTITY_HEADER",
	"MSI_ENDPOINT", "MSI_SECRET", "IMDS_ENDPOINT",
}
