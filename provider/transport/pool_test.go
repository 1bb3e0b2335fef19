package transport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/transport"
)

// only makes connections that are those of the test.
func only(conns http.RoundTripper) func() http.RoundTripper {
	return func() http.RoundTripper { return conns }
}

// Of many requests at once to a host that speaks HTTP/2, a few dial.
func TestFewDialFirst(t *testing.T) {
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
	client := transport.New(transport.NewPoolOf(only(pool), transport.MaxSilence), "test")
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

// The others wait for the first one's connection only, not for its answer; they continue
// when it fails, and a caller that gives up does not wait.
func TestFewDialFirstWaits(t *testing.T) {
	for _, fails := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var asked atomic.Int32
			rt := transport.NewPoolOf(only(roundTripper(func(req *http.Request) (*http.Response, error) {
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
			})), transport.MaxSilence)
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

// Hosts that cannot be reached leave nothing behind: the connections are replaced.
func TestManyHosts(t *testing.T) {
	var made, closed atomic.Int32
	pool := transport.NewPoolOf(func() http.RoundTripper {
		made.Add(1)
		return closing{roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("unreachable") }), &closed}
	}, transport.MaxSilence)
	client := reader(pool)
	for i := range 3 * transport.MaxHosts {
		_ = get(t.Context(), client, fmt.Sprintf("https://vault-%d.example/", i))
		_ = get(t.Context(), client, fmt.Sprintf("https://vault-%d.example/", i)) // counts once
	}
	if made.Load() != 3 || closed.Load() != 2 {
		t.Errorf("made %d, closed %d", made.Load(), closed.Load())
	}
}

// closing counts how often its idle connections are closed.
type closing struct {
	http.RoundTripper
	times *atomic.Int32
}

func (c closing) CloseIdleConnections() { c.times.Add(1) }

// What is under way when the connections are replaced goes on.
func TestReplacedWhileInUse(t *testing.T) {
	conns := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("x")) }, false)
	client := reader(transport.NewPoolOf(func() http.RoundTripper { return conns }, transport.MaxSilence))
	resp, err := open(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	for i := range transport.MaxHosts {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = get(ctx, client, fmt.Sprintf("https://vault-%d.example/", i))
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "x" {
		t.Errorf("got %q, %v", body, err)
	}
	_ = resp.Body.Close()
	if err := get(t.Context(), client, secretURL); err != nil {
		t.Error(err)
	}
}

// Unreachable names do not fill the memory for good.
func BenchmarkUnreachableHosts(b *testing.B) {
	for name, pool := range map[string]http.RoundTripper{"net/http": failingBase(), "pool": transport.NewPoolOf(func() http.RoundTripper { return failingBase() }, transport.MaxSilence)} {
		b.Run(name, func(b *testing.B) {
			client := reader(pool)
			runtime.GC()
			runtime.GC() // pools are emptied by the second one
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for i := range b.N {
				_ = get(b.Context(), client, fmt.Sprintf("https://vault-%d.example/", i))
			}
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc)), "bytes-retained")
			runtime.KeepAlive(client)
		})
	}
}

func failingBase() *http.Transport {
	conns := transport.Base(80)
	conns.Proxy = nil
	conns.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("unreachable") }
	return conns
}
