package transport_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/transport"
)

// handshaking is a pool whose requests each make a handshake of that length. It counts those
// under way by tenant.
type handshaking struct {
	takes func(tenant string) time.Duration
	now   map[string]*atomic.Int32
	most  atomic.Int32
}

func (h *handshaking) RoundTrip(req *http.Request) (*http.Response, error) {
	trace, tenant := httptrace.ContextClientTrace(req.Context()), fair.Tenant(req.Context())
	trace.TLSHandshakeStart()
	h.most.Store(max(h.most.Load(), h.now[tenant].Add(1)))
	time.Sleep(h.takes(tenant))
	h.now[tenant].Add(-1)
	trace.TLSHandshakeDone(tls.ConnectionState{}, nil)
	trace.GotConn(httptrace.GotConnInfo{})
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

// send sends n requests of a tenant, each to another host, and returns when all are answered.
func (h *handshaking) send(t *testing.T, pool http.RoundTripper, tenant string, n int) {
	t.Helper()
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			ctx := fair.WithTenant(t.Context(), tenant)
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+tenant+string(rune('a'+i%26))+".example/", nil)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := pool.RoundTrip(req); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestHandshakes(t *testing.T) {
	for name, c := range map[string]struct {
		many   time.Duration // what a handshake of the tenant with many takes
		within time.Duration // the other tenant's one is over
		most   int32         // at a time, of one tenant; 0 for no bound
	}{
		"quick":  {10 * time.Millisecond, 30 * time.Millisecond, transport.MaxHandshakes * 3 / 4},
		"silent": {10 * time.Second, 30 * time.Millisecond, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &handshaking{now: map[string]*atomic.Int32{"many": {}, "one": {}}, takes: func(tenant string) time.Duration {
					return map[string]time.Duration{"many": c.many, "one": 10 * time.Millisecond}[tenant]
				}}
				pool := transport.NewPoolOf(only(h), transport.MaxSilence)
				begin := time.Now()
				var many sync.WaitGroup
				many.Go(func() { h.send(t, pool, "many", 200) })
				time.Sleep(time.Millisecond)
				h.send(t, pool, "one", 1)
				if took := time.Since(begin); took > c.within {
					t.Errorf("the other tenant waited for %s", took)
				}
				many.Wait()
				if most := h.most.Load(); most < 3 || c.most > 0 && most > c.most {
					t.Errorf("%d handshakes of one tenant at a time", most)
				}
			})
		})
	}
}

// Silent peers delay the others of their tenant only for a moment each. A caller does not wait
// after its deadline, and one that gives up releases its place.
func TestHandshakesOfSilentPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var silent atomic.Bool
		silent.Store(true)
		h := &handshaking{now: map[string]*atomic.Int32{"one": {}}, takes: func(string) time.Duration {
			if silent.Load() {
				return 10 * time.Second
			}
			return 0
		}}
		pool := transport.NewPoolOf(only(h), transport.MaxSilence)
		var group sync.WaitGroup
		group.Go(func() { h.send(t, pool, "one", 60) })
		time.Sleep(time.Millisecond)
		ctx, cancel := context.WithTimeout(fair.WithTenant(t.Context(), "one"), time.Millisecond)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://gives-up.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		silent.Store(false)
		begin := time.Now()
		if _, err := pool.RoundTrip(req); err != nil || time.Since(begin) > 2*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(begin)) // net/http would end the handshake now
		}
		h.send(t, pool, "one", 1)
		if took := time.Since(begin); took > time.Second {
			t.Errorf("waited for %s", took)
		}
		group.Wait()
		begin = time.Now()
		h.send(t, pool, "one", 60)
		if took := time.Since(begin); took > 0 {
			t.Errorf("places were left taken: %s", took)
		}
	})
}
