// Package transport is the plugin's only HTTP client: it bounds everything that it reads, follows
// no redirect, and says in one typed error what stands between the node and a service. The SDK's
// own client does none of these.
package transport

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"

	"akv-csi-provider/provider/stats"
)

// Limits of one HTTP exchange. A secret contains at most 25 KiB and a page of a
// listing 25 entries, so what is larger does not come from Key Vault.
const (
	maxResponseBody   = 1 << 20
	maxResponseHeader = 64 << 10
)

// Client sends requests to Azure. It is safe for concurrent use.
type Client struct {
	roundTripper http.RoundTripper
	userAgent    string
	phase        Phase
}

// New makes a Client over a pool such as [Base]. The user agent goes before the
// SDK's own.
func New(pool http.RoundTripper, userAgent string) *Client {
	return &Client{roundTripper: pool, userAgent: userAgent}
}

// For returns a client over the same connections whose errors name the phase.
func (c *Client) For(p Phase) *Client {
	labelled := *c
	labelled.phase = p
	return &labelled
}

// Do implements the Azure SDK's policy.Transporter. Its error is a
// *fault.Error, or the context's own when the caller gave up. Redirects are not followed: Key
// Vault and Entra send none, and following one could send a credential to another host.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	ctx, progress := withProgress(req.Context())
	req = req.WithContext(ctx)
	req.Header = maps.Clone(req.Header) // the request is the SDK's, which may send it again
	req.Header.Set("User-Agent", strings.TrimSpace(c.userAgent+" "+req.Header.Get("User-Agent")))
	stats.Requested(ctx)
	resp, err := c.roundTripper.RoundTrip(req)
	if err == nil && (resp.StatusCode < 100 || resp.StatusCode > 599) {
		_ = resp.Body.Close()
		err = errNotHTTP // Go's HTTP/2 client takes any number
	}
	if err != nil {
		return nil, c.explain(ctx, err, req.URL.Hostname(), progress)
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxResponseBody, failed: func(err error) error {
		return c.explain(ctx, err, req.URL.Hostname(), progress)
	}}
	return resp, nil
}

// progress is how far a request has come. The hooks of httptrace may run in any
// goroutine, even after the request has ended.
type progress struct {
	mu        sync.Mutex // guards what follows
	hop       string     // host and port dialled last: the proxy's if there is one
	connected bool
}

// withProgress returns a context under which a request's progress is recorded. The pool may use
// several connections for one request: it sends a GET again if an idle connection turns out to
// be dead.
func withProgress(ctx context.Context) (context.Context, *progress) {
	p := new(progress)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(hop string) { p.set(hop, false) },
		GotConn: func(httptrace.GotConnInfo) { p.set("", true) },
	}), p
}

func (p *progress) set(hop string, connected bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hop, p.connected = hop, connected
}

func (p *progress) get() (hop string, connected bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hop, p.connected
}

// boundedBody fails a response that is too long, and makes its errors typed ones.
type boundedBody struct {
	io.ReadCloser
	left   int64
	failed func(error) error
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// Exactly at the bound there may be nothing more to come.
		n, err := b.ReadCloser.Read(make([]byte, 1))
		if n > 0 {
			err = errTooLong
		}
		if err != nil && err != io.EOF {
			err = b.failed(err)
		}
		return 0, err
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err != nil && err != io.EOF {
		err = b.failed(err)
	}
	return n, err
}
