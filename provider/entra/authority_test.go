package entra

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/throttle"
	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
)

// directory counts the requests that reach it and answers as a test says.
type directory struct {
	asked  atomic.Int64
	answer func(n int64, req *http.Request) (*http.Response, error)
}

func (d *directory) Do(req *http.Request) (*http.Response, error) {
	n := d.asked.Add(1)
	if d.answer != nil {
		return d.answer(n, req)
	}
	resp := answer(200, fmt.Sprintf(`{"n":%d}`, n))
	resp.Header = http.Header{"X-N": {fmt.Sprint(n)}}
	return resp, nil
}

const document1 = "https://login.microsoftonline.com/t/v2.0/.well-known/openid-configuration?"

// send sends a request through the policy of one sign-in.
func send(next policy.Transporter, cache *metadataCache, req *policy.Request) (*http.Response, error) {
	return runtime.NewPipeline("test", "v1", runtime.PipelineOptions{}, &policy.ClientOptions{
		Transport: next, Retry: policy.RetryOptions{MaxRetries: -1}, PerCallPolicies: []policy.Policy{&authorityPolicy{cache: cache}},
	}).Do(req)
}

// look requests a URL as one sign-in does.
func look(t testing.TB, ctx context.Context, next policy.Transporter, cache *metadataCache, url string) (*http.Response, string, error) {
	t.Helper()
	req, err := runtime.NewRequest(ctx, http.MethodGet, url)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := send(next, cache, req)
	if err != nil {
		return nil, "", err
	}
	if resp.Request != req.Raw() {
		t.Error("the response belongs to another request")
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Body.Close() != nil {
		t.Error(err)
	}
	return resp, string(body), nil
}

func isCached(cache *metadataCache, url string) bool {
	_, ok := cache.Cached(url, time.Time{})
	return ok
}

func TestMetadataIsCached(t *testing.T) {
	d, docs := new(directory), newMetadataCache()
	var first *http.Response
	for range 3 {
		resp, body, err := look(t, t.Context(), d, docs, document1)
		if err != nil || resp.StatusCode != 200 || body != `{"n":1}` || resp.Header.Get("X-N") != "1" || resp.ContentLength != int64(len(body)) {
			t.Fatalf("got %+v, %s, %v", resp, body, err)
		}
		resp.Header.Set("X-N", "changed") // its own response
		if resp == first {
			t.Error("callers share a response")
		}
		first = resp
	}
	for i, url := range []string{
		strings.Replace(document1, "/t/", "/u/", 1), strings.Replace(document1, "/t/", "/T/", 1), document1 + "a=b",
		strings.Replace(document1, "microsoftonline.com", "partner.microsoftonline.cn", 1), strings.TrimSuffix(document1, "?"),
		strings.Replace(document1, ".com/", ".com:443/", 1),
	} {
		for range 2 {
			if _, body, err := look(t, t.Context(), d, docs, url); err != nil || body != fmt.Sprintf(`{"n":%d}`, i+2) {
				t.Errorf("%s: got %s, %v", url, body, err)
			}
		}
	}
}

// Only metadata is cached, and of other requests nothing.
func TestWhatIsNotCached(t *testing.T) {
	bare := strings.TrimSuffix(document1, "?")
	same := func(*policy.Request) {}
	body := func(r *policy.Request) {
		if err := r.SetBody(streaming.NopCloser(strings.NewReader("x")), "text/plain"); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		method, url string
		change      func(*policy.Request)
	}{
		"post":     {"POST", bare, body},
		"head":     {"HEAD", bare, same},
		"body":     {"GET", bare, body},
		"token":    {"GET", "https://login.microsoftonline.com/t/oauth2/v2.0/token", same},
		"other":    {"GET", bare + "/x", same},
		"user":     {"GET", strings.Replace(bare, "//", "//u@", 1), same},
		"bearer":   {"GET", bare, func(r *policy.Request) { r.Raw().Header.Set("Authorization", "x") }},
		"host":     {"GET", bare, func(r *policy.Request) { r.Raw().Host = "other.example" }},
		"long URL": {"GET", bare + "?" + strings.Repeat("x", 2000), same},
	} {
		d, docs := new(directory), newMetadataCache()
		for range 2 {
			req, err := runtime.NewRequest(t.Context(), c.method, c.url)
			if err != nil {
				t.Fatal(err)
			}
			c.change(req)
			if _, err := send(d, docs, req); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if d.asked.Load() != 2 || isCached(docs, c.url) || isCached(docs, bare) {
			t.Errorf("%s: %d requests", name, d.asked.Load())
		}
	}
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"no tenant": {400, `{"error":"invalid_tenant","error_codes":[90002]}`}, "created": {201, `{}`}, "moved": {302, `{}`}, "down": {503, `{}`},
		"list": {200, `[]`}, "null": {200, `null`}, "page": {200, `<p>`}, "empty": {200, ``}, "cut": {200, `{"a":`}, "two": {200, `{}{}`},
		"long": {200, `{"a":"` + strings.Repeat("x", maxMetadataBytes) + `"}`},
	} {
		d, docs := &directory{answer: func(int64, *http.Request) (*http.Response, error) { return answer(c.status, c.body), nil }}, newMetadataCache()
		for range 2 {
			resp, body, err := look(t, t.Context(), d, docs, document1)
			if err != nil || resp.StatusCode != c.status || body != c.body {
				t.Errorf("%s: got %v, %d bytes, %v", name, resp, len(body), err)
			}
		}
		if d.asked.Load() != 2 {
			t.Errorf("%s: %d requests", name, d.asked.Load())
		}
	}
	// What has no end is not read to it.
	endlessly := transport.New(roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(endless{})}, nil
	}), "")
	var network *fault.Error
	if _, _, err := look(t, t.Context(), endlessly, newMetadataCache(), document1); !errors.As(err, &network) || !strings.Contains(network.Cause, "returned more than") {
		t.Errorf("got %v", err)
	}
}

// A panic in a read of metadata, which sign-ins share, is their error, with its stack.
func TestPanicInMetadata(t *testing.T) {
	d := &directory{answer: func(int64, *http.Request) (*http.Response, error) { panic("broken") }}
	x, err := NewExchange(Config{Transport: d, Throttle: throttle.Config{Max: 1}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = x.Token(t.Context(), podIdentity("a", time.Hour), vault)
	if p, ok := errors.AsType[*fault.Panic](err); !ok || p.Value != "broken" || !strings.Contains(string(p.Stack), t.Name()) {
		t.Errorf("got %T %v", err, err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// Callers that come together share a request, each for as long as it likes.
func TestMetadataIsReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, docs := new(directory), newMetadataCache()
		d.answer = func(_ int64, req *http.Request) (*http.Response, error) {
			select {
			case <-time.After(3 * time.Second):
				return answer(200, `{}`), nil
			case <-req.Context().Done():
				return nil, transport.Timeout("shared", transport.PhaseConnect)
			}
		}
		var callers sync.WaitGroup
		first, leave := context.WithCancel(t.Context())
		callers.Go(func() {
			if _, _, err := look(t, first, d, docs, document1); err != context.Canceled {
				t.Errorf("the caller that left got %v", err)
			}
		})
		synctest.Wait()
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, _, err := look(t, ctx, d, docs, document1); err != context.DeadlineExceeded {
				t.Errorf("the caller whose time was over got %v", err)
			}
		})
		for range 20 {
			callers.Go(func() {
				if _, body, err := look(t, t.Context(), d, docs, document1); err != nil || body != "{}" {
					t.Errorf("got %s, %v", body, err)
				}
			})
		}
		time.Sleep(time.Second)
		leave()
		callers.Wait()
		if d.asked.Load() != 1 {
			t.Errorf("%d requests", d.asked.Load())
		}
	})
}

// After a day metadata is read again, while callers go on with the old one. A failure
// leaves that, and the read is repeated after a while.
func TestMetadataIsRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, docs := new(directory), newMetadataCache()
		fail := []func(int64) (*http.Response, error){
			func(int64) (*http.Response, error) { return nil, errors.New("down") },
			func(int64) (*http.Response, error) { return answer(503, `{}`), nil },
			func(int64) (*http.Response, error) { return answer(200, `<p>`), nil },
			func(int64) (*http.Response, error) { panic("broken") },
		}
		d.answer = func(n int64, _ *http.Request) (*http.Response, error) {
			if n := n - 2; n >= 0 && int(n) < len(fail) {
				return fail[n](n)
			}
			time.Sleep(time.Second)
			return answer(200, fmt.Sprintf(`{"n":%d}`, n)), nil
		}
		want := func(body string, asked int64) {
			t.Helper()
			start := time.Now()
			for range 10 {
				if _, got, err := look(t, t.Context(), d, docs, document1); err != nil || got != body {
					t.Errorf("got %s, %v", got, err)
				}
			}
			synctest.Wait()
			if n := d.asked.Load(); n != asked || asked > 1 && time.Since(start) > 0 {
				t.Errorf("%d requests, want %d, in %s", n, asked, time.Since(start))
			}
		}
		want(`{"n":1}`, 1)
		time.Sleep(24*time.Hour - time.Second)
		want(`{"n":1}`, 1)
		time.Sleep(time.Second)
		for i := range fail {
			want(`{"n":1}`, int64(i)+2)
			want(`{"n":1}`, int64(i)+2)
			time.Sleep(metadataAgain)
		}
		want(`{"n":1}`, 6)
		time.Sleep(2 * time.Second)
		want(`{"n":6}`, 6)
		time.Sleep(24*time.Hour - 2*time.Second)
		want(`{"n":6}`, 6)
		time.Sleep(2 * time.Second)
		want(`{"n":6}`, 7)
		time.Sleep(2 * time.Second)
		want(`{"n":7}`, 7)
	})
}

func TestMetadataIsBounded(t *testing.T) {
	d, docs := new(directory), newMetadataCache()
	const tenants = 3 * maxMetadata
	url := func(tenant int) string { return strings.Replace(document1, "/t/", fmt.Sprintf("/t%d/", tenant), 1) }
	for i := range tenants {
		if _, _, err := look(t, t.Context(), d, docs, url(i)); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for i := range tenants {
		if isCached(docs, url(i)) {
			n++
		}
	}
	if n != maxMetadata {
		t.Errorf("%d are cached", n)
	}
}

// A body that breaks off is an error, not half of the metadata.
func TestMetadataThatBreaksOff(t *testing.T) {
	broken := errors.New("reset")
	d := &directory{answer: func(int64, *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(io.MultiReader(bytes.NewReader([]byte(`{}`)), failing{broken}))}, nil
	}}
	docs := newMetadataCache()
	if _, _, err := look(t, t.Context(), d, docs, document1); !errors.Is(err, broken) || isCached(docs, document1) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ error }

func (f failing) Read([]byte) (int, error) { return 0, f.error }
