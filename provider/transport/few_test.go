package transport_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/transport"
)

// Of many requests at once to a host that speaks HTTP/2, a few dial.
func TestFewDial(t *testing.T) {
	var conns atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("protocol %s", r.Proto)
		}
	}))
	server.EnableHTTP2 = true
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	pool := transport.Base(32)
	pool.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	t.Cleanup(pool.CloseIdleConnections)
	client := transport.New(transport.FewAtATime(pool), "test")
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			_ = resp.Body.Close()
		})
	}
	group.Wait()
	if got := conns.Load(); got > 4 {
		t.Errorf("%d connections", got)
	}
}

// The others wait until one has its connection, not for its answer, or until it fails. Who
// gives up does not wait, and other hosts are not kept.
func TestOthersWaitForConnections(t *testing.T) {
	for _, fails := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var asked atomic.Int32
			rt := transport.FewAtATime(roundTripper(func(req *http.Request) (*http.Response, error) {
				asked.Add(1)
				time.Sleep(10 * time.Millisecond)
				if fails {
					return nil, errors.New("no connection")
				}
				httptrace.ContextClientTrace(req.Context()).GotConn(httptrace.GotConnInfo{})
				time.Sleep(time.Second)
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
			}))
			send := func(ctx context.Context, host string) error {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/", nil)
				if err != nil {
					return err
				}
				_, err = rt.RoundTrip(req)
				return err
			}
			for range 2 { // what the first leave behind does not keep the next
				asked.Store(0)
				start := time.Now()
				var group sync.WaitGroup
				for range 10 {
					group.Go(func() { _ = send(t.Context(), "host.example") })
				}
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				if err := send(ctx, "host.example"); !errors.Is(err, context.DeadlineExceeded) || asked.Load() != 4 {
					t.Errorf("got %v after %d requests", err, asked.Load())
				}
				cancel()
				group.Go(func() { _ = send(t.Context(), "other.example") })
				synctest.Wait()
				if asked.Load() != 5 {
					t.Errorf("%d requests, and one to another host", asked.Load())
				}
				group.Wait()
				want := 30 * time.Millisecond // ten, four at a time
				if !fails {
					want += time.Second
				}
				if took := time.Since(start); asked.Load() != 11 || took != want {
					t.Errorf("%d requests in %v, want %v", asked.Load(), took, want)
				}
			}
		})
	}
}
