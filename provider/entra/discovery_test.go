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

	"akv-csi-provider/provider/transport"
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

// look asks the way of one sign-in for a URL.
func look(t testing.TB, ctx context.Context, d *directory, docs *documents, url string) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	record := new(transport.Record)
	resp, err := way{next: d, documents: docs, record: record, host: "login.microsoftonline.com"}.Do(req)
	if record.Err != err {
		t.Errorf("noted %v of %v", record.Err, err)
	}
	if err != nil {
		return nil, "", err
	}
	if resp.Request != req {
		t.Error("the answer belongs to another request")
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Body.Close() != nil {
		t.Error(err)
	}
	return resp, string(body), nil
}

func TestDocumentsAreKept(t *testing.T) {
	d, docs := new(directory), new(documents)
	var first *http.Response
	for range 3 {
		resp, body, err := look(t, t.Context(), d, docs, document1)
		if err != nil || resp.StatusCode != 200 || body != `{"n":1}` || resp.Header.Get("X-N") != "1" || resp.ContentLength != int64(len(body)) {
			t.Fatalf("got %+v, %s, %v", resp, body, err)
		}
		resp.Header.Set("X-N", "changed") // an answer of one's own
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

// Only documents are kept, and of other requests nothing.
func TestWhatIsNotKept(t *testing.T) {
	request := func(method, url string, body io.Reader, change func(*http.Request)) *http.Request {
		req, err := http.NewRequestWithContext(t.Context(), method, url, body)
		if err != nil {
			t.Fatal(err)
		}
		change(req)
		return req
	}
	same := func(*http.Request) {}
	for name, req := range map[string]*http.Request{
		"post":     request("POST", document1, strings.NewReader("x"), same),
		"head":     request("HEAD", document1, nil, same),
		"body":     request("GET", document1, strings.NewReader("x"), same),
		"token":    request("GET", "https://login.microsoftonline.com/t/oauth2/v2.0/token", nil, same),
		"other":    request("GET", "https://login.microsoftonline.com/t/.well-known/openid-configuration/x", nil, same),
		"user":     request("GET", "https://u@login.microsoftonline.com/t/.well-known/openid-configuration", nil, same),
		"bearer":   request("GET", document1, nil, func(r *http.Request) { r.Header.Set("Authorization", "x") }),
		"host":     request("GET", document1, nil, func(r *http.Request) { r.Host = "other.example" }),
		"long URL": request("GET", document1+strings.Repeat("x", 2000), nil, same),
	} {
		d, docs := new(directory), new(documents)
		for range 2 {
			if _, err := (way{next: d, documents: docs, record: new(transport.Record)}).Do(req); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if d.asked.Load() != 2 || docs.kept != nil {
			t.Errorf("%s: asked %d times", name, d.asked.Load())
		}
	}
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"no tenant": {400, `{"error":"invalid_tenant","error_codes":[90002]}`}, "created": {201, `{}`}, "moved": {302, `{}`}, "down": {503, `{}`},
		"list": {200, `[]`}, "null": {200, `null`}, "page": {200, `<p>`}, "empty": {200, ``}, "cut": {200, `{"a":`}, "two": {200, `{}{}`},
		"long": {200, `{"a":"` + strings.Repeat("x", maxDocument) + `"}`},
	} {
		d, docs := &directory{answer: func(int64, *http.Request) (*http.Response, error) { return answer(c.status, c.body), nil }}, new(documents)
		for range 2 {
			resp, body, err := look(t, t.Context(), d, docs, document1)
			if err != nil || resp.StatusCode != c.status || body != c.body {
				t.Errorf("%s: got %v, %d bytes, %v", name, resp, len(body), err)
			}
		}
		if d.asked.Load() != 2 {
			t.Errorf("%s: asked %d times", name, d.asked.Load())
		}
	}
	// What has no end is not read to it.
	d := &directory{answer: func(int64, *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(endless{})}, nil
	}}
	if _, body, err := look(t, t.Context(), d, new(documents), document1); err != nil || len(body) != maxAnswer {
		t.Errorf("got %d bytes, %v", len(body), err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// Callers that come together share a request, each for as long as it likes.
func TestDocumentIsReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type mark struct{}
		d, docs := new(directory), new(documents)
		d.answer = func(_ int64, req *http.Request) (*http.Response, error) {
			if req.Context().Value(mark{}) != nil {
				t.Error("the context of one caller is in the shared request")
			}
			select {
			case <-time.After(3 * time.Second):
				return answer(200, `{}`), nil
			case <-req.Context().Done():
				return nil, transport.Timeout("shared", transport.PhaseConnect)
			}
		}
		var callers sync.WaitGroup
		first, leave := context.WithCancel(context.WithValue(t.Context(), mark{}, 1))
		callers.Go(func() {
			if _, _, err := look(t, first, d, docs, document1); err != context.Canceled {
				t.Errorf("who left got %v", err)
			}
		})
		synctest.Wait()
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var network *transport.Error
			_, _, err := look(t, ctx, d, docs, document1)
			if !errors.As(err, &network) || network.Host != "login.microsoftonline.com" || network.Reason() != transport.ReasonTimeout {
				t.Errorf("whose time was over got %v", err)
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
			t.Errorf("asked %d times", d.asked.Load())
		}
	})
}

// After a day a document is read again, while callers go on; what fails leaves the old
// one, and is tried again after a while.
func TestDocumentsAreRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, docs := new(directory), new(documents)
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
				t.Errorf("asked %d times, want %d, in %s", n, asked, time.Since(start))
			}
		}
		want(`{"n":1}`, 1)
		time.Sleep(24*time.Hour - time.Second)
		want(`{"n":1}`, 1)
		time.Sleep(time.Second)
		for i := range fail {
			want(`{"n":1}`, int64(i)+2)
			want(`{"n":1}`, int64(i)+2)
			time.Sleep(documentAgain)
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

func TestDocumentsAreBounded(t *testing.T) {
	d, docs := new(directory), new(documents)
	for i := range 10000 {
		if _, _, err := look(t, t.Context(), d, docs, strings.Replace(document1, "/t/", fmt.Sprintf("/t%d/", i), 1)); err != nil {
			t.Fatal(err)
		}
	}
	if n := docs.kept.Len(); n != maxDocuments {
		t.Errorf("%d are kept", n)
	}
}

// A body that breaks off is an error, not half a document.
func TestDocumentThatBreaksOff(t *testing.T) {
	broken := errors.New("reset")
	d := &directory{answer: func(int64, *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(io.MultiReader(bytes.NewReader([]byte(`{}`)), failing{broken}))}, nil
	}}
	docs := new(documents)
	if _, _, err := look(t, t.Context(), d, docs, document1); err != broken || docs.kept != nil {
		t.Errorf("got %v", err)
	}
}

type failing struct{ error }

func (f failing) Read([]byte) (int, error) { return 0, f.error }
