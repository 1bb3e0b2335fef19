package transport_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/transport"
)

const (
	host      = "contoso.vault.azure.net"
	secretURL = "https://" + host + "/secrets/db-password?api-version=7.6"
)

// authority is a CA of the tests.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a CA"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert = a.sign(template, &a.key.PublicKey, template)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(template *x509.Certificate, public *ecdsa.PublicKey, parent *x509.Certificate) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

func (a *authority) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue makes a server certificate for the host; change may spoil it.
func (a *authority) issue(change func(*x509.Certificate)) tls.Certificate {
	a.t.Helper()
	key := newKey(a.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	cert := a.sign(template, &key.PublicKey, a.cert)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// serve starts a server over TLS whose certificate the pool trusts, and returns
// a pool that takes every name to it.
func serve(t testing.TB, handler http.HandlerFunc, http2 bool, conn ...func(context.Context, net.Conn) context.Context) *http.Transport {
	t.Helper()
	ca := newAuthority(t)
	return serveTLS(t, handler, http2, ca.roots(), &tls.Config{Certificates: []tls.Certificate{ca.issue(nil)}}, conn...)
}

func serveTLS(t testing.TB, handler http.HandlerFunc, http2 bool, roots *x509.CertPool, config *tls.Config, conn ...func(context.Context, net.Conn) context.Context) *http.Transport {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.EnableHTTP2 = http2
	s.TLS = config
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // failed handshakes are what some tests are about
	for _, of := range conn {
		s.Config.ConnContext = of
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	pool := dialling(t, s.Listener.Addr().String(), roots)
	t.Cleanup(s.CloseClientConnections) // before the server waits for them
	return pool
}

// dialling is the plugin's pool but for the name server: every name leads to the
// address.
func dialling(t testing.TB, address string, roots *x509.CertPool) *http.Transport {
	t.Helper()
	pool := transport.Base(4)
	pool.Proxy = nil
	pool.TLSClientConfig.RootCAs = roots
	dial := pool.DialContext
	pool.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) { return dial(ctx, network, address) }
	t.Cleanup(pool.CloseIdleConnections)
	return pool
}

// proxied is the plugin's pool in a process that has this HTTPS_PROXY.
func proxied(t testing.TB, proxy string, roots *x509.CertPool) *http.Transport {
	t.Helper()
	address, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	pool := transport.Base(4)
	pool.Proxy = http.ProxyURL(address)
	pool.TLSClientConfig.RootCAs = roots
	t.Cleanup(pool.CloseIdleConnections)
	return pool
}

func newBox(t testing.TB, o azuretest.Options) (*azuretest.Box, *x509.CertPool) {
	t.Helper()
	box, err := azuretest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Close() })
	box.Vault("contoso", box.Tenant("11111111-2222-3333-4444-555555555555"))
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(box.CACert()) {
		t.Fatal("the fake Azure has no CA certificate")
	}
	return box, roots
}

// closedPort is an address of loopback that refuses connections until the test ends: it
// is the near end of a connection.
func closedPort(t testing.TB) string {
	t.Helper()
	conn, err := net.Dial("tcp", accepting(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.LocalAddr().String()
}

// accepting returns the address of a listener that hands each connection over.
func accepting(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				handle(conn)
			}()
		}
	}()
	return l.Addr().String()
}

// get sends a GET and reads the answer to its end. It returns how that failed.
func get(ctx context.Context, c *transport.Client, address string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// reader is a client over the pool as the plugin reads vaults with.
func reader(pool http.RoundTripper) *transport.Client {
	return transport.New(pool, "test/1").For(transport.PhaseRead)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(body string) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body))}
}

// failure is the typed error a client must return.
func failure(t testing.TB, err error) *fault.Error {
	t.Helper()
	e, ok := errors.AsType[*fault.Error](err)
	if !ok {
		t.Fatalf("got %T %v, want a *fault.Error", err, err)
	}
	return e
}

// isPermanent asks as azcore's retry policy does.
func isPermanent(err error) bool {
	var mark interface{ NonRetriable() }
	return errors.As(err, &mark)
}

// deadline is a context whose time is up when the test says so.
type deadline struct {
	context.Context
	done chan struct{}
}

func newDeadline(t testing.TB) deadline { return deadline{t.Context(), make(chan struct{})} }

func (d deadline) expire() { close(d.done) }

func (d deadline) Deadline() (time.Time, bool) { return time.Now().Add(time.Hour), true }

func (d deadline) Done() <-chan struct{} { return d.done }

func (d deadline) Err() error {
	select {
	case <-d.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}
