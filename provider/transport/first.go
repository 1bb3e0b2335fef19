package transport

import (
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// LimitFirstDials lets a few requests to a host dial, and the others wait until one of them has
// its connection. Where the host speaks HTTP/2, that one serves all; otherwise all requests that
// come at once would dial, and all but one of the connections would be thrown away. From then on
// no request waits: a few dials at a time would save processor time, but would be slow where
// handshakes are mostly round trips, and slower still where they fail.
func LimitFirstDials(next http.RoundTripper) http.RoundTripper {
	return &firstDials{next: next, hosts: make(map[string]*dialled)}
}

// few is enough to keep the processors of a small node busy with handshakes.
const few = 3

type firstDials struct {
	next http.RoundTripper

	mu    sync.Mutex // guards what follows, and its dialling and used
	hosts map[string]*dialled
}

// dialled is a host to which there is, or will be, a connection.
type dialled struct {
	ready    chan struct{} // closed when one of the first requests has its connection, or has failed
	open     func()        // closes it
	dialling int           // number of first requests
	used     time.Time
}

// RoundTrip implements [http.RoundTripper].
func (f *firstDials) RoundTrip(req *http.Request) (*http.Response, error) {
	host, first := f.host(req.URL.Host)
	if !first {
		select {
		case <-host.ready:
		case <-req.Context().Done():
			if req.Body != nil {
				_ = req.Body.Close()
			}
			return nil, req.Context().Err()
		}
		return f.next.RoundTrip(req)
	}
	defer host.open()
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { host.open() }})
	return f.next.RoundTrip(req.WithContext(ctx))
}

// host returns the host's entry, and whether the caller is one of the first: since the
// pool closes connections that were idle, also of the first after a while. Hosts that are
// idle for so long are forgotten.
func (f *firstDials) host(name string) (_ *dialled, first bool) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if d, ok := f.hosts[name]; ok && now.Sub(d.used) < idleTimeout {
		d.used = now
		select {
		case <-d.ready:
			return d, false
		default:
		}
		d.dialling++
		return d, d.dialling <= few
	}
	for other, d := range f.hosts {
		if now.Sub(d.used) >= idleTimeout {
			delete(f.hosts, other)
		}
	}
	d := &dialled{ready: make(chan struct{}), dialling: 1, used: now}
	d.open = sync.OnceFunc(func() { close(d.ready) })
	f.hosts[name] = d
	return d, true
}
