package azuretest

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// conns has every TCP connection of some listeners, so that an outage can cut them all and Close leaves
// none behind, hijacked ones included.
type conns struct {
	mu     sync.Mutex // guards what follows
	open   map[*conn]struct{}
	outage bool
	closed bool
}

// conn is an accepted TCP connection.
type conn struct {
	net.Conn
	all    *conns
	unread io.Reader // what a server had already read when the connection changed hands, or nil
}

func newConns() *conns { return &conns{open: map[*conn]struct{}{}} }

// admit takes the connection over, or resets it during an outage.
func (s *conns) admit(c net.Conn) *conn {
	tracked := &conn{Conn: c, all: s}
	s.mu.Lock()
	refuse := s.outage || s.closed
	if !refuse {
		s.open[tracked] = struct{}{}
	}
	s.mu.Unlock()
	if refuse {
		tracked.reset()
		return nil
	}
	return tracked
}

// setOutage cuts all connections and refuses new ones until it is called with false.
func (s *conns) setOutage(on bool) {
	s.mu.Lock()
	s.outage = on
	s.mu.Unlock()
	if on {
		s.resetAll()
	}
}

func (s *conns) out() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outage
}

func (s *conns) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.resetAll()
}

func (s *conns) resetAll() {
	s.mu.Lock()
	open := make([]*conn, 0, len(s.open))
	for c := range s.open {
		open = append(open, c)
	}
	s.mu.Unlock()
	for _, c := range open {
		c.reset()
	}
}

func (c *conn) Read(p []byte) (int, error) {
	if c.unread != nil {
		n, err := c.unread.Read(p)
		if n > 0 || !errors.Is(err, io.EOF) {
			return n, err
		}
		c.unread = nil
	}
	return c.Conn.Read(p)
}

func (c *conn) Close() error {
	c.all.mu.Lock()
	delete(c.all.open, c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// reset closes the connection so that the peer sees "connection reset by peer", not an orderly end.
func (c *conn) reset() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a connection that is already closed has nothing to linger
	}
	_ = c.Close()
}

// listener hands the TLS server the connections that clients opened to it and those that the proxy
// passes on: a tunnel then costs no copying and no second connection.
type listener struct {
	net.Listener
	conns *conns
	in    chan net.Conn
	done  chan struct{}
	close func() error // once: the server that uses the listener closes it as well
}

func (b *Box) newListener(s *conns) (*listener, error) {
	l, err := b.listen("tcp", net.JoinHostPort(b.address, "0"))
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	return &listener{
		Listener: l, conns: s, in: make(chan net.Conn), done: done,
		close: sync.OnceValue(func() error { close(done); return l.Close() }),
	}, nil
}

// pump accepts until the listener is closed.
func (l *listener) pump() {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			// Out of file descriptors, say: a crowd of clients must not end the fake.
			select {
			case <-time.After(5 * time.Millisecond):
				continue
			case <-l.done:
				return
			}
		}
		if tracked := l.conns.admit(c); tracked != nil {
			l.push(tracked)
		}
	}
}

// push passes one more connection to the server, or closes it when the server has ended.
func (l *listener) push(c net.Conn) {
	select {
	case l.in <- c:
	case <-l.done:
		_ = c.Close()
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.in:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error { return l.close() }
