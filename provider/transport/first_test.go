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
func TestFewFirst(t *testing.T) {
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
	client := transport.New(transport.LimitFirstDials(pool), "test")
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
	if got := conns.Load(); got > 3 {
		t.Errorf("%d connections", got)
	}
}

// The others wait for the first one's connection only, not for its answer; they go when
// it fails, and who gives up does not wait.
func TestFewFirstWaits(t *testing.T) {
	for _, fails := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var asked atomic.Int32
			rt := transport.LimitFirstDials(roundTripper(func(req *http.Request) (*http.Response, error) {
				asked.Add(1)
				time.Sleep(10 * time.Millisecond)
				if fails {
					return nil, errors.New("no connection")
				}
				if trace := httptrace.ContextClientTrace(req.Context()); trace != nil && trace.GotConn != nil {
					trace.GotConn(httptrace.GotConnInfo{})
				}
				time.Sleep(time.Second)
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
			}))
			send := func(ctx context.Context) error {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://host.example/", nil)
				if err != nil {
					return err
				}
				_, err = rt.RoundTrip(req)
				return err
			}
			start := time.Now()
			var group sync.WaitGroup
			for range 5 {
				group.Go(func() { _ = send(t.Context()) })
			}
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			if err := send(ctx); !errors.Is(err, context.DeadlineExceeded) || asked.Load() != 3 {
				t.Errorf("got %v after %d requests", err, asked.Load())
			}
			cancel()
			group.Wait()
			if took := time.Since(start); asked.Load() != 5 || took > 1100*time.Millisecond {
				t.Errorf("%d requests in %v", asked.Load(), took)
			}
			time.Sleep(time.Hour) // by then the pool has no connection
			for range 5 {
				group.Go(func() { _ = send(t.Context()) })
			}
			synctest.Wait()
			if asked.Load() != 5+3 {
				t.Errorf("%d requests", asked.Load())
			}
			group.Wait()
		})
	}
}
