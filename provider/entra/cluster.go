package entra

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"sync"

	"akv-csi-provider/provider/transport"
)

// clusterPool holds connections to the cluster's apiserver, which never go through a
// proxy: its address is inside the cluster, and HTTPS_PROXY leads out of it. Whom it
// trusts is in a file that Kubernetes writes anew when the cluster's CA rotates, so
// that is read with every use. It is safe for concurrent use.
type clusterPool struct {
	caFile   string
	orSystem bool // without the file, the system's roots are trusted
	conns    int
	measure  func(http.RoundTripper) http.RoundTripper // nil: not at all

	mu         sync.Mutex // guards what follows
	pem        []byte     // of which pool was made
	serverName string     // likewise
	pool       *http.Transport
}

// get returns the pool whose servers must prove that they have the name; "" is the
// name or address that is dialled. A file that cannot be used for a moment, as in
// the middle of a rotation, leaves what was there before.
func (c *clusterPool) get(serverName string) (*http.Transport, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pem, err := readBounded(c.caFile, 1<<20) // under the lock, so that an older file never follows a newer one
	same := serverName == c.serverName && c.pool != nil
	if same && (err != nil || bytes.Equal(pem, c.pem)) {
		return c.pool, nil
	}
	roots := x509.NewCertPool()
	switch {
	case c.orSystem && errors.Is(err, fs.ErrNotExist):
		pem, roots = nil, nil
	case err == nil && roots.AppendCertsFromPEM(pem):
	case same:
		return c.pool, nil
	default:
		return nil, &Error{reason: ReasonServiceUnavailable,
			cause: fmt.Sprintf("no CA certificates of the cluster can be read from %q", c.caFile),
			fix:   "run the provider with its service account's volume (automountServiceAccountToken)"}
	}
	pool := transport.Base(c.conns)
	pool.Proxy, pool.OnProxyConnectResponse = nil, nil
	pool.TLSClientConfig.RootCAs, pool.TLSClientConfig.ServerName = roots, serverName
	if c.pool != nil {
		c.pool.CloseIdleConnections()
	}
	c.pem, c.serverName, c.pool = pem, serverName, pool
	return pool, nil
}

// measured is a pool with what measures it.
func (c *clusterPool) measured(pool *http.Transport) http.RoundTripper {
	if c.measure == nil {
		return pool
	}
	return c.measure(pool)
}

// readBounded reads a file that should be small.
func readBounded(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(content)) > most {
		err = fmt.Errorf("%s is longer than %d bytes", name, most)
	}
	return content, err
}
