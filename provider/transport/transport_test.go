package transport_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

const bound = 1 << 20

// The bound is on the uncompressed size, and exact to the byte.
func TestResponseBound(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		pool := serve(t, func(w http.ResponseWriter, r *http.Request) {
			size, err := strconv.Atoi(r.URL.Query().Get("size"))
			if err != nil {
				panic(err)
			}
			body := bytes.Repeat([]byte("x"), size)
			switch r.URL.Path {
			case "/length":
				w.Header().Set("Content-Length", strconv.Itoa(size))
			case "/gzip":
				w.Header().Set("Content-Encoding", "gzip")
				z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
				_, _ = z.Write(body)
				_ = z.Close()
				return
			}
			_, _ = w.Write(body)
		}, http2)
		for _, path := range []string{"/chunked", "/length", "/gzip"} {
			for size, fits := range map[int]bool{0: true, bound - 1: true, bound: true, bound + 1: false, 2 * bound: false} {
				err := get(t.Context(), reader(pool), fmt.Sprintf("https://%s%s?size=%d", host, path, size))
				if fits {
					if err != nil {
						t.Errorf("%s of %d bytes, HTTP/2 %t: %v", path, size, http2, err)
					}
					continue
				}
				e := failure(t, err)
				if e.Reason != fault.ServiceUnavailable || !isPermanent(err) {
					t.Errorf("%s of %d bytes: got %s, permanent %t", path, size, e.Reason, isPermanent(err))
				}
				checkText(t, err, "1048576 bytes")
			}
		}
	}
}

// A body that is read in small pieces is bounded too, and stays failed.
func TestResponseBoundInPieces(t *testing.T) {
	client := reader(roundTripper(func(*http.Request) (*http.Response, error) { return answer(strings.Repeat("x", bound+1)), nil }))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, secretURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	var got int
	piece := make([]byte, 1000)
	for err == nil {
		var n int
		n, err = resp.Body.Read(piece)
		got += n
	}
	if got != bound || failure(t, err).Reason != fault.ServiceUnavailable {
		t.Errorf("got %d bytes and %v", got, err)
	}
}

// What breaks off at the very bound is typed like what breaks off before it.
func TestBreaksOffAtBound(t *testing.T) {
	client := reader(roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(io.MultiReader(
			strings.NewReader(strings.Repeat("x", bound)), failingReader{io.ErrUnexpectedEOF}))}, nil
	}))
	if e := failure(t, get(t.Context(), client, secretURL)); e.Reason != fault.ServiceUnavailable {
		t.Errorf("got %s", e.Reason)
	}
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

// A redirect is an answer. Followed, it would carry an assertion or a token to
// another host.
func TestRedirects(t *testing.T) {
	var elsewhere atomic.Int32
	for _, status := range []int{301, 302, 303, 307, 308} {
		pool := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Host != host {
				elsewhere.Add(1)
				return
			}
			http.Redirect(w, r, "https://elsewhere.example/", status)
		}, true)
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			pipeline := runtime.NewPipeline("test", "v1", runtime.PipelineOptions{},
				&policy.ClientOptions{Transport: reader(pool), Retry: policy.RetryOptions{MaxRetries: -1}})
			req, err := runtime.NewRequest(t.Context(), method, secretURL)
			if err != nil {
				t.Fatal(err)
			}
			if method == http.MethodPost {
				if err := req.SetBody(nopCloser{strings.NewReader("client_assertion=x")}, "application/x-www-form-urlencoded"); err != nil {
					t.Fatal(err)
				}
			}
			resp, err := pipeline.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != status {
				t.Errorf("%s: got %d, want the %d itself", method, resp.StatusCode, status)
			}
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d requests reached the other host", n)
	}
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

// Old TLS is refused whatever the other side offers.
func TestTLSVersion(t *testing.T) {
	ca := newAuthority(t)
	for version, ok := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		pool := serveTLS(t, func(http.ResponseWriter, *http.Request) {}, true, ca.roots(), &tls.Config{
			Certificates: []tls.Certificate{ca.issue(nil)}, MinVersion: version, MaxVersion: version,
		})
		if err := get(t.Context(), reader(pool), secretURL); (err == nil) != ok {
			t.Errorf("%s: got %v", tls.VersionName(version), err)
		}
	}
}

// The plugin names itself before the SDK, and the caller's request stays as it is.
func TestUserAgent(t *testing.T) {
	for _, c := range []struct{ ours, sdk, want string }{
		{"akv/1 (x)", "azsdk-go-azsecrets/v1", "akv/1 (x) azsdk-go-azsecrets/v1"},
		{"akv/1", "", "akv/1"},
		{"", "azsdk", "azsdk"},
	} {
		var got []string
		client := transport.New(roundTripper(func(r *http.Request) (*http.Response, error) {
			got = r.Header.Values("User-Agent")
			return answer(""), nil
		}), c.ours)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, secretURL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.sdk != "" {
			req.Header.Set("User-Agent", c.sdk)
		}
		for range 2 { // as retries do
			if _, err := client.Do(req); err != nil {
				t.Fatal(err)
			}
		}
		if len(got) != 1 || got[0] != c.want {
			t.Errorf("sent %q, want %q", got, c.want)
		}
		if req.Header.Get("User-Agent") != c.sdk {
			t.Errorf("the caller's request was changed to %q", req.Header.Get("User-Agent"))
		}
	}
}

// azcore retries transient failures, and no others.
func TestRetries(t *testing.T) {
	box, roots := newBox(t, azuretest.Options{})
	dns := &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	servfail := &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
	for _, c := range []struct {
		name     string
		pool     http.RoundTripper
		set      func()
		attempts int32
	}{
		{"untrusted", proxied(t, box.ProxyURL(), newAuthority(t).roots()), nil, 1},
		{"proxy refuses", proxied(t, box.ProxyURL(), roots), func() { box.RefuseProxy(403) }, 1},
		{"no such host", failing(dns)(t), nil, 1},
		{"too long", roundTripper(func(*http.Request) (*http.Response, error) { return answer(strings.Repeat("x", bound+1)), nil }), nil, 1},
		{"SERVFAIL", failing(servfail)(t), nil, 4},
		{"proxy not listening", proxied(t, "http://"+closedPort(t), roots), nil, 4},
		{"connection refused", dialling(t, closedPort(t), roots), nil, 4},
		{"timeout", failing(timedOut{})(t), nil, 4},
		{"reset", proxied(t, box.ProxyURL(), roots), func() { box.SetFault(azuretest.Challenge, azuretest.Fault{Reset: true}) }, 4},
		{"cut in the answer", serve(t, cutShort, false), nil, 4},
		{"503", proxied(t, box.ProxyURL(), roots), func() { box.SetFault(azuretest.Challenge, azuretest.Fault{Status: 503}) }, 4},
		{"404", proxied(t, box.ProxyURL(), roots), func() { box.SetFault(azuretest.Challenge, azuretest.Fault{Status: 404}) }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			box.RefuseProxy(0)
			box.ClearFaults()
			if c.set != nil {
				c.set()
			}
			var attempts atomic.Int32
			client := reader(roundTripper(func(r *http.Request) (*http.Response, error) {
				attempts.Add(1)
				return c.pool.RoundTrip(r)
			}))
			pipeline := runtime.NewPipeline("test", "v1", runtime.PipelineOptions{}, &policy.ClientOptions{
				Transport: client,
				Retry:     policy.RetryOptions{MaxRetries: 3, RetryDelay: time.Nanosecond, MaxRetryDelay: time.Minute},
			})
			req, err := runtime.NewRequest(t.Context(), http.MethodGet, secretURL)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := pipeline.Do(req); err != nil {
				failure(t, err)
			}
			if got := attempts.Load(); got != c.attempts {
				t.Errorf("got %d attempts, want %d", got, c.attempts)
			}
		})
	}
}

// httptrace warns that its hooks may run in other goroutines and after the end of
// the request. For the race detector.
func TestHooksAnywhere(t *testing.T) {
	var hooks sync.WaitGroup
	client := reader(roundTripper(func(r *http.Request) (*http.Response, error) {
		trace := httptrace.ContextClientTrace(r.Context())
		for range 4 {
			hooks.Go(func() {
				trace.GetConn(host + ":443")
				trace.GotConn(httptrace.GotConnInfo{})
			})
		}
		return nil, &net.OpError{Op: "proxyconnect", Net: "tcp", Err: io.EOF}
	}))
	for range 100 {
		if err := get(t.Context(), client, secretURL); failure(t, err).Reason != fault.ProxyRefused {
			t.Fatal(err)
		}
	}
	hooks.Wait()
}

// One client serves many callers. Some of them leave while their connection is
// made, which goes on for the others.
func TestConcurrentCallers(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		pool := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Header.Get("X-Caller")) }, http2)
		client := reader(pool)
		var callers sync.WaitGroup
		for i := range 32 {
			callers.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i%4 == 0 {
					go cancel()
				}
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, secretURL, nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("X-Caller", strconv.Itoa(i))
				resp, err := client.Do(req)
				if err == nil {
					var body []byte
					body, err = io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					if err == nil && string(body) != strconv.Itoa(i) {
						t.Errorf("caller %d got the answer of %s", i, body)
					}
				}
				if err != nil && (i%4 != 0 || !errors.Is(err, context.Canceled)) {
					t.Errorf("caller %d: %v", i, err)
				}
			})
		}
		callers.Wait()
	}
}

// The pool is bounded and honors the proxy of the environment.
func TestBase(t *testing.T) {
	pool := transport.Base(7)
	if pool.MaxConnsPerHost != 7 || pool.MaxIdleConnsPerHost != 7 || pool.MaxIdleConns != 14 {
		t.Errorf("bounds: %d, %d, %d", pool.MaxConnsPerHost, pool.MaxIdleConnsPerHost, pool.MaxIdleConns)
	}
	if pool.Proxy == nil || pool.OnProxyConnectResponse == nil || pool.TLSHandshakeTimeout <= 0 || pool.MaxResponseHeaderBytes <= 0 || pool.IdleConnTimeout <= 0 {
		t.Error("a bound or the proxy is missing")
	}
	if pool.TLSClientConfig.InsecureSkipVerify || pool.TLSClientConfig.MinVersion != tls.VersionTLS12 {
		t.Error("TLS is not strict enough")
	}
}

// A connection to a host that was reached before is cheaper than the first.
func TestSessionsAreResumed(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("x")) }))
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	pool := dialling(t, srv.Listener.Addr().String(), roots)
	for _, resumed := range []bool{false, true} {
		resp, err := (&http.Client{Transport: pool}).Get("https://example.com/")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil { // the ticket comes before it
			t.Error(err)
		}
		_ = resp.Body.Close()
		if resp.TLS.DidResume != resumed {
			t.Errorf("resumed: %v", resp.TLS.DidResume)
		}
		pool.CloseIdleConnections()
	}
}

// Headers are bounded as the body is.
func TestHeaderBound(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 128<<10))
	}))
	t.Cleanup(s.Close)
	pool := dialling(t, s.Listener.Addr().String(), nil)
	err := get(t.Context(), reader(pool), "http://"+host+"/")
	if e := failure(t, err); e.Reason != fault.ServiceUnavailable {
		t.Errorf("got %s", e.Reason)
	}
	checkText(t, err)
}
