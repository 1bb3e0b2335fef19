package admin

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Bounds of one port's connections. Anybody who reaches the node's address can open
// connections, and each costs memory of the process that mounts volumes.
const (
	maxConnections = 100
	// headerGrace is how long a connection may take to send its request while there is no place
	// for another. Clients send it together with the connection, so they need far less, also
	// while a flood keeps the processors busy.
	headerGrace = 50 * time.Millisecond
)

// connections bounds the open connections of a server. A connection beyond the bound replaces
// those that have not sent a complete request: if it waited instead, a flood of idle
// connections would keep out kubelet's probes. Requests under way are never cut.
type connections struct {
	changed chan struct{} // one element after a connection has ended or sent its request

	mu   sync.Mutex
	open []connection
}

type connection struct {
	net.Conn
	accepted  time.Time
	requested bool // has sent a complete request
}

func newConnections() *connections { return &connections{changed: make(chan struct{}, 1)} }

// guard bounds the connections of the server, which gets its handler here.
func (c *connections) guard(server *http.Server, handler http.Handler) {
	type key struct{}
	server.ConnState = c.track
	server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, key{}, conn)
	}
	// Not http.StateActive, which connections with a malformed or too large header reach too,
	// and the latter then stay open for half a second.
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.update(r.Context().Value(key{}).(net.Conn), func(i int) { c.open[i].requested = true })
		handler.ServeHTTP(w, r)
	})
}

// track is a server's ConnState. The server accepts no connection while it runs for
// [http.StateNew].
func (c *connections) track(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		for wait := c.add(conn); wait > 0; wait = c.add(conn) {
			select {
			case <-c.changed:
			case <-time.After(wait):
			}
		}
	case http.StateHijacked, http.StateClosed:
		c.update(conn, func(i int) { c.open = slices.Delete(c.open, i, i+1) })
	}
}

// update runs the function with the index of a connection, unless that was replaced.
func (c *connections) update(conn net.Conn, change func(i int)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.open, func(o connection) bool { return o.Conn == conn }); i >= 0 {
		change(i)
	}
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// add adds a connection and returns 0 or, if all places are taken, how long to wait. It
// frees places in batches: one wait for each connection would be slower than a flood.
func (c *connections) add(conn net.Conn) (wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if len(c.open) >= maxConnections {
		c.open = slices.DeleteFunc(c.open, func(o connection) bool {
			left := headerGrace - now.Sub(o.accepted)
			if !o.requested {
				wait = max(wait, left)
			}
			if o.requested || left > 0 {
				return false
			}
			_ = o.Close()
			return true
		})
	}
	if len(c.open) >= maxConnections {
		return cmp.Or(wait, time.Second) // requests under way end soon; see changed
	}
	c.open = append(c.open, connection{Conn: conn, accepted: now})
	return 0
}

// withoutBody ends requests with a body, which no request of a probe or of Prometheus has: the
// server would wait for the body.
func withoutBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
	})
}
