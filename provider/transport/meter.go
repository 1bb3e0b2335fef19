package transport

import (
	"crypto/tls"
	"net"
	"sync"
)

// maxReceived bounds what a connection receives, between two moments at which a request on it begins
// or ends, for each request under way and once more: for what belongs to none, and for answers
// that were given up. The bounds of responses do not see an endless sequence of HTTP/2 frames such
// as PING, of which each takes processor time, and which goes on when no request is under way.
const maxReceived = 1<<20 + 64<<10 // an answer of 1 MiB, and what TLS and HTTP/2 add to it

// meter is a connection that closes itself when it receives more than that.
type meter struct {
	net.Conn

	mu       sync.Mutex // guards what follows
	requests int64      // under way
	left     int64      // bytes
}

func newMeter(conn net.Conn) *meter { return &meter{Conn: conn, left: maxReceived} }

// meterOf finds the meter below TLS; nil if the connection has none.
func meterOf(conn net.Conn) *meter {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	m, _ := conn.(*meter)
	return m
}

// Read implements [net.Conn].
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	m.mu.Lock()
	m.left -= int64(n)
	exceeded := m.left < 0
	m.mu.Unlock()
	if exceeded {
		_ = m.Close()
		return 0, errTooLong
	}
	return n, err
}

// count notes that requests have begun, or ended.
func (m *meter) count(requests int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests += requests
	m.left = maxReceived * (m.requests + 1)
}
