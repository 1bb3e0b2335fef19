package transport

import (
	"net/http"
	"net/http/httptrace"
	"sync"
)

// FewAtATime lets a few requests to a host at a time wait for a connection: one that is
// free they get at once, or they dial. Where the host speaks HTTP/2, the first connection
// serves all that come with it; otherwise each would dial, and all but one of the
// connections be thrown away. Where it does not, handshakes that share the processors with
// many others would all be done at the same late moment.
func FewAtATime(next http.RoundTripper) http.RoundTripper {
	return &fewAtATime{next: next, hosts: make(map[string]*line)}
}

// few is enough to keep the processors of a small node busy with handshakes.
const few = 4

type fewAtATime struct {
	next http.RoundTripper

	mu    sync.Mutex // guards what follows
	hosts map[string]*line
}

// line is where requests to a host wait.
type line struct {
	places  chan struct{}
	members int // that wait for a place or a connection; guarded by mu
}

// RoundTrip implements [http.RoundTripper].
func (f *fewAtATime) RoundTrip(req *http.Request) (*http.Response, error) {
	l := f.enter(req.URL.Host)
	select {
	case l.places <- struct{}{}:
	case <-req.Context().Done():
		f.leave(req.URL.Host)
		return nil, req.Context().Err()
	}
	connected := sync.OnceFunc(func() {
		<-l.places
		f.leave(req.URL.Host)
	})
	defer connected() // or it failed
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected() }})
	return f.next.RoundTrip(req.WithContext(ctx))
}

func (f *fewAtATime) enter(host string) *line {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.hosts[host]
	if l == nil {
		l = &line{places: make(chan struct{}, few)}
		f.hosts[host] = l
	}
	l.members++
	return l
}

func (f *fewAtATime) leave(host string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.hosts[host]
	if l.members--; l.members == 0 {
		delete(f.hosts, host)
	}
}
