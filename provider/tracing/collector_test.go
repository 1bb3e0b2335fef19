package tracing

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

const canary = "CANARY"

// testCollector returns a collector whose URL and headers contain the canary, and its log.
func testCollector(t *testing.T, endpoint string) (*collector, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	env := map[string]string{EndpointVariable: endpoint + "/" + canary + "?key=" + canary, headersVariable: "api-key=" + canary}
	c, err := newCollector(func(name string) string { return env[name] }, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.transport.CloseIdleConnections)
	return c, &log
}

// answerRaw serves one fixed reply, which need not be HTTP.
func answerRaw(t *testing.T, reply string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, reply)
			_ = conn.Close()
		}
	}()
	return "http://" + listener.Addr().String()
}

// The log says why spans are lost, and quotes neither the URL nor a header nor a reply.
func TestErrorsQuoteNoCredential(t *testing.T) {
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	untrusted.StartTLS()
	defer untrusted.Close()
	badProxy := func(*http.Request) (*url.URL, error) { return nil, fmt.Errorf("invalid proxy address %q", canary) }
	for _, c := range []struct {
		name, endpoint string
		proxy          func(*http.Request) (*url.URL, error)
		says           string
	}{
		{"nothing listens", "http://127.0.0.1:1", nil, "connection refused"},
		{"certificate", untrusted.URL, nil, "certificate"},
		{"status", answerRaw(t, "HTTP/1.1 401 "+canary+"\r\nContent-Length: 6\r\n\r\n"+canary), nil, "the collector answers 401"},
		{"not HTTP", answerRaw(t, "GARBAGE "+canary+"\r\n\r\n"), nil, "the request failed"},
		{"header", answerRaw(t, "HTTP/1.1 200 OK\r\n"+canary+"\r\n\r\n"), nil, "the request failed"},
		{"redirect", answerRaw(t, "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://"+canary+"%zz:/\r\n\r\n"), nil, "the collector answers 302"},
		{"proxy", "http://collector.example:4318", badProxy, "the request failed"},
	} {
		to, log := testCollector(t, c.endpoint)
		to.transport.Proxy = c.proxy
		err := to.UploadTraces(context.Background(), nil)
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: got %v", c.name, err)
		}
		if text := log.String(); !strings.Contains(text, c.says) || strings.Contains(text, canary) {
			t.Errorf("%s: logged %q", c.name, text)
		}
	}
}

// A collector that does not answer is given up when the caller's time is over.
func TestTimeout(t *testing.T) {
	asked := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then the server notices that the client has gone
		close(asked)
		<-r.Context().Done()
	}))
	defer server.Close()
	to, log := testCollector(t, server.URL)
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		<-asked
		cancel(context.DeadlineExceeded)
	}()
	if err := to.UploadTraces(ctx, nil); err == nil || err.Error() != "no answer in time" || strings.Contains(log.String(), canary) {
		t.Errorf("got %v, logged %q", err, log)
	}
}

// A redirect is not followed: the headers would be sent to a host of the collector's choice.
func TestNoRedirect(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	to, _ := testCollector(t, server.URL)
	if err := to.UploadTraces(context.Background(), nil); err == nil || elsewhere.Load() != 0 {
		t.Errorf("got %v, and the other host %d requests", err, elsewhere.Load())
	}
}

// The log has one line when spans begin to be lost, and one when they arrive again. The
// URL's query and the headers are sent.
func TestOneLinePerChange(t *testing.T) {
	var status atomic.Int32
	var bad atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/"+canary+"/v1/traces" || r.URL.RawQuery != "key="+canary || r.Header.Get("Api-Key") != canary {
			bad.Add(1)
		}
		w.WriteHeader(int(status.Load()))
	}))
	defer server.Close()
	to, log := testCollector(t, server.URL)
	for _, code := range []int32{200, 503, 429, 202, 200, 500} {
		status.Store(code)
		if err := to.UploadTraces(context.Background(), nil); (err == nil) != (code < 300) {
			t.Errorf("%d: got %v", code, err)
		}
	}
	var got []string
	for line := range strings.Lines(log.String()) {
		_, line, _ = strings.Cut(line, "msg=")
		message, _, _ := strings.Cut(line, " host=")
		got = append(got, message)
	}
	if want := []string{`"traces are lost"`, `"traces are sent again"`, `"traces are lost"`}; fmt.Sprint(got) != fmt.Sprint(want) || bad.Load() != 0 {
		t.Errorf("logged %q; %d bad requests", got, bad.Load())
	}
}
