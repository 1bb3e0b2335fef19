package azuretest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// ProxyURL is the address of the CONNECT proxy. It opens tunnels to port 443 of the names the fake
// serves and answers 502 for any other, as a corporate proxy does for a name that does not resolve.
func (b *Box) ProxyURL() string { return "http://" + b.proxy.Addr().String() }

// RefuseProxy makes the proxy answer every CONNECT with the status, for instance 407 or 403; 0 turns
// that off. Tunnels that are open stay open.
func (b *Box) RefuseProxy(status int) { b.refuseProxy.Store(int64(status)) }

// connect answers the proxy's requests.
func (b *Box) connect(w http.ResponseWriter, r *http.Request) {
	if status := int(b.refuseProxy.Load()); status != 0 {
		if status == http.StatusProxyAuthRequired {
			w.Header().Set("Proxy-Authenticate", `Basic realm="azuretest"`)
		}
		http.Error(w, "azuretest: the proxy refuses", status)
		return
	}
	if r.Method != http.MethodConnect {
		http.Error(w, "azuretest: only CONNECT", http.StatusMethodNotAllowed)
		return
	}
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil || port != "443" || !b.serves(host) {
		http.Error(w, "azuretest: no such host", http.StatusBadGateway)
		return
	}
	c, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if early := buffered.Reader.Buffered(); early > 0 {
		ahead, _ := buffered.Reader.Peek(early) // cannot fail: it is buffered
		if tracked, ok := c.(*conn); ok {
			tracked.unread = bytes.NewReader(bytes.Clone(ahead))
		}
	}
	if _, err := io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		_ = c.Close()
		return
	}
	b.tls.push(c)
}

// Transport returns a new transport that dials the fake for every name it serves, without a proxy,
// and trusts its CA. A name the fake does not serve fails as a name that does not exist does in DNS.
// The address of IMDS on a node leads to the fake's [IMDS], or nowhere if it has none; the addresses
// of the fake's listeners lead to themselves.
func (b *Box) Transport() *http.Transport {
	roots := x509.NewCertPool()
	roots.AddCert(b.ca.cert)
	return &http.Transport{
		DialContext:         b.dial,
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:   !b.disableHTTP2,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
	}
}

func (b *Box) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	var d net.Dialer
	switch {
	case address == nodeAddress:
		node := b.node()
		if node == nil {
			return nil, &net.OpError{Op: "dial", Net: network, Addr: nodeIP, Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}
		}
		address = node.address
	case b.listens(address):
	case b.serves(host):
		address = b.tls.Addr().String()
	default:
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{
			Err: "no such host", Name: host, IsNotFound: true,
		}}
	}
	return d.DialContext(ctx, network, address)
}

// hostName is the name in a Host header or an address: lower case, without port and root dot.
func hostName(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
