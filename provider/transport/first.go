package transport

import (
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// OneFirst lets the first request to a host dial alone, and the others wait until it has
// its connection. Where the host speaks HTTP/2, that one serves all; without it, all that
// come at once dial, and all but one of the connections are thrown away.
func OneFirst(next http.RoundTripper) http.RoundTripper {
	return &oneFirst{next: next, hosts: make(map[string]*dialled)}
}

type oneFirst struct {
	next http.RoundTripper

	mu    sync.Mutex // guards what follows
	hosts map[string]*dialled
}

// dialled is a host to which there is, or will be, a connection.
type dialled struct {
	ready chan struct{} // closed when the first request has its connection, or has failed
	used  time.Time
}

// RoundTrip implements [http.RoundTripper].
func (o *oneFirst) RoundTrip(req *http.Request) (*http.Response, error) {
	host, first := o.host(req.URL.Host)
	if !first {
		select {
		case <-host.ready:
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
		return o.next.RoundTrip(req)
	}
	ready := sync.OnceFunc(func() { close(host.ready) })
	defer ready()
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { ready() }})
	return o.next.RoundTrip(req.WithContext(ctx))
}

// host returns the host's entry, and whether the caller is the first: since the pool
// closes connections that were idle, also the first after a while. Hosts that are idle
// for so long are forgotten.
func (o *oneFirst) host(name string) (_ *dialled, first bool) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	if d, ok := o.hosts[name]; ok && now.Sub(d.used) < idleTimeout {
		d.used = now
		return d, false
	}
	for other, d := range o.hosts {
		if now.Sub(d.used) >= idleTimeout {
			delete(o.hosts, other)
		}
	}
	d := &dialled{ready: make(chan struct{}), used: now}
	o.hosts[name] = d
	return d, true
}
