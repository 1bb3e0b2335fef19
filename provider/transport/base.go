package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// Limits of connections.
const (
	connectTimeout = 10 * time.Second
	idleTimeout    = 90 * time.Second
	// Further connections to a host resume the TLS session of an earlier one (RFC 8446,
	// section 2.2), which spares both sides half of a handshake.
	maxSessions = 64 // hosts
)

// Base is the plugin's connection pool. It honors HTTPS_PROXY, NO_PROXY,
// SSL_CERT_FILE and SSL_CERT_DIR as they are when it sends its first request, and
// has at most maxConns connections to one host (with HTTP/2 one serves all).
func Base(maxConns int) *http.Transport {
	pool := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		OnProxyConnectResponse: checkProxy,
		TLSHandshakeTimeout:    connectTimeout,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(maxSessions)},
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           maxIdle(maxConns),
		MaxIdleConnsPerHost:    maxConns,
		MaxConnsPerHost:        maxConns,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		// Without pings, requests would go on over a connection that a firewall has
		// dropped in silence, until TCP gives it up.
		// What is still sent of an answer that was given up must fit into maxReceived.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second, MaxReceiveBufferPerStream: 1 << 20},
	}
	pool.DialContext = dialing(pool, &net.Dialer{Timeout: connectTimeout})
	return pool
}

// Direct is a pool for the node's own metadata service, which speaks clear text: it
// goes through no proxy and reaches link-local and loopback addresses only.
func Direct() *http.Transport {
	const conns = 5 // what the service takes at a time ("How to use managed identities on a VM")
	pool := Base(conns)
	pool.Proxy, pool.OnProxyConnectResponse = nil, nil
	pool.DialContext = dialing(pool, &net.Dialer{Timeout: nearTimeout, Control: onlyNear})
	return pool
}

// nearTimeout is enough for what is on the node, or is not there.
const nearTimeout = 2 * time.Second

var errFar = errors.New("neither a link-local nor a loopback address")

// onlyNear is called with an address before it is dialled.
func onlyNear(_, address string, _ syscall.RawConn) error {
	if to, err := netip.ParseAddrPort(address); err != nil || !to.Addr().IsLinkLocalUnicast() && !to.Addr().IsLoopback() {
		return errFar
	}
	return nil
}

// dialing returns the dial function of a pool. When the process has no file descriptor left,
// it closes the pool's idle connections, which are worth less than a new one. What connections
// receive is bounded.
func dialing(pool *http.Transport, d *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	// What is idle and dead is noticed before it is used, in most cases.
	d.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 2}
	allowed := d.Control
	d.Control = func(network, address string, c syscall.RawConn) error {
		setUserTimeout(c)
		if allowed == nil {
			return nil
		}
		return allowed(network, address, c)
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, address)
		if noFiles(err) {
			pool.CloseIdleConnections()
			conn, err = d.DialContext(ctx, network, address)
		}
		if err != nil {
			return nil, err
		}
		return newMeter(conn), nil
	}
}

// noFiles reports whether there was no file descriptor for a dial. The resolver returns bare
// text.
func noFiles(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		ok && (strings.HasSuffix(dns.Err, syscall.EMFILE.Error()) || strings.HasSuffix(dns.Err, syscall.ENFILE.Error()))
}

// MaxRequests is how many requests to Azure may be under way in the process where maxConns
// may be to one host: enough for several vaults and their sign-ins. It leaves half of the
// file descriptors to the rest of the process.
func MaxRequests(maxConns int) int { return atMost(max(320, 4*maxConns), maxFiles()/2) }

// maxIdle bounds the idle connections of a pool.
func maxIdle(maxConns int) int { return atMost(2*maxConns, maxFiles()/4) }

// atMost is n, or what the file descriptors allow, if those are bounded.
func atMost(n int, files uint64) int {
	if files == 0 || uint64(n) <= files {
		return n
	}
	return max(4, int(files))
}
