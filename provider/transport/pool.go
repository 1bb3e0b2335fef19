package transport

import (
	"crypto/tls"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"akv-csi-provider/provider/fair"
)

// NewPool is the plugin's connections to Azure: those of [Base] with four additions.
//
// It lets a few requests to a host dial, and the others wait until one of them has
// its connection. Where the host speaks HTTP/2, that one serves all; without it, all that
// come at once dial, and all but one of the connections are thrown away. From then on no request
// waits: dials a few at a time would save processor time, but where handshakes are mostly
// round trips they would be slow, and slower still where they fail.
//
// A request on a connection that was idle and does not answer is sent again; see send.
//
// TLS handshakes are bounded, and divided between the tenants of package fair.
//
// And it replaces the connections when there have been maxHosts hosts: net/http never forgets
// a host that it could not reach, and hosts are named by those who write classes.
func NewPool(maxConns int) http.RoundTripper {
	sessions := tls.NewLRUClientSessionCache(maxSessions) // outlives the connections
	return newPool(func() http.RoundTripper {
		conns := Base(maxConns)
		conns.TLSClientConfig.ClientSessionCache = sessions
		return conns
	})
}

const (
	// few is enough to keep the processors of a small node busy with handshakes.
	few = 3
	// maxHosts is more than a node needs in a while.
	maxHosts = 500
)

type pool struct {
	fresh      func() http.RoundTripper
	silence    time.Duration
	handshakes *fair.Semaphore

	mu    sync.Mutex // guards what follows, and the fields of each host
	conns http.RoundTripper
	hosts map[string]*dialled // of conns
}

func newPool(fresh func() http.RoundTripper) *pool {
	return &pool{fresh: fresh, silence: maxSilence, handshakes: fair.New(maxHandshakes, fair.ThreeQuarters), conns: fresh(), hosts: make(map[string]*dialled)}
}

// dialled is a host to which there is, or will be, a connection.
type dialled struct {
	ready    chan struct{} // closed when one of the first has its connection, or has failed
	open     func()        // closes it
	dialling int           // the first
	used     time.Time
	slow     time.Time // until then, silence is no sign of a dead connection
}

// RoundTrip implements [http.RoundTripper].
func (p *pool) RoundTrip(req *http.Request) (*http.Response, error) {
	host, conns, first := p.host(req.URL.Host)
	if !first {
		select {
		case <-host.ready:
		case <-req.Context().Done():
			if req.Body != nil {
				_ = req.Body.Close()
			}
			return nil, req.Context().Err()
		}
		return p.send(conns, host, req)
	}
	defer host.open()
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { host.open() }})
	return p.send(conns, host, req.WithContext(ctx))
}

// host returns the host's entry, the connections to use, and whether the caller is one of the
// first: since the pool closes connections that were idle, also of the first after a while.
func (p *pool) host(name string) (_ *dialled, conns http.RoundTripper, first bool) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	d, ok := p.hosts[name]
	if ok && now.Sub(d.used) < idleTimeout {
		d.used = now
		select {
		case <-d.ready:
			return d, p.conns, false
		default:
		}
		d.dialling++
		return d, p.conns, d.dialling <= few
	}
	if !ok && len(p.hosts) >= maxHosts {
		closeIdle(p.conns) // now, and those that are in use when they become idle
		p.conns, p.hosts = p.fresh(), make(map[string]*dialled)
	}
	d = &dialled{ready: make(chan struct{}), dialling: 1, used: now}
	d.open = sync.OnceFunc(func() { close(d.ready) })
	p.hosts[name] = d
	return d, p.conns, true
}

// CloseIdleConnections is called by [http.Client].
func (p *pool) CloseIdleConnections() {
	p.mu.Lock()
	defer p.mu.Unlock()
	closeIdle(p.conns)
}

func closeIdle(conns http.RoundTripper) {
	if c, ok := conns.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
