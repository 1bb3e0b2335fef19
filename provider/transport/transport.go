// Package transport is the plugin's only HTTP client: it bounds everything that it reads, follows
// no redirect, and says in one typed error what stands between the node and a service. The SDK's
// own client does none of these.
package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"

	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/stats"
)

// Limits of one HTTP exchange.
const (
	// The largest response that the API server may send is an object of etcd.
	maxResponseBody   = 1 << 20
	maxResponseHeader = 64 << 10
	// attemptTimeout bounds an exchange, so that a lost one does not use up the time of a
	// mount.
	attemptTimeout = 15 * time.Second
)

// maxAzureBody bounds what Azure sends. A secret has at most 25 KiB. The largest responses are
// pages of lists: 25 entries with 15 tags of a thousand characters each are 400 KB.
const maxAzureBody = 512 << 10

// Client sends requests to Azure. It is safe for concurrent use.
type Client struct {
	roundTripper http.RoundTripper
	userAgent    string
	phase        Phase
	maxBody      int64
	requests     *fair.Semaphore // that may be under way; nil does not bound them
}

// New makes a Client over a pool such as [Base]. The user agent is put in
// front of the SDK's.
func New(pool http.RoundTripper, userAgent string) *Client {
	return &Client{roundTripper: pool, userAgent: userAgent, maxBody: maxResponseBody}
}

// Bounded returns a client over the same connections that is for Azure's services: so many
// requests are under way at a time, divided between the tenants of package fair, and
// responses are no longer than Azure's.
func (c *Client) Bounded(requests int) *Client {
	bounded := *c
	bounded.requests, bounded.maxBody = fair.New(int64(requests), fair.ThreeQuarters), maxAzureBody
	return &bounded
}

// For returns a client over the same connections whose errors name the phase.
func (c *Client) For(p Phase) *Client {
	labelled := *c
	labelled.phase = p
	return &labelled
}

// Do implements the Azure SDK's policy.Transporter. Its error is a
// *fault.Error, or the context's own when the caller gave up. Redirects are not followed: Key
// Vault and Entra send none, and following one could leak a credential.
//
// A request that may not be under way yet waits for as long as its caller does. What is
// bounded by attemptTimeout begins after that, and ends with the response's body.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	leave, err := c.enter(req)
	if err != nil {
		return nil, err
	}
	attempt, cancel := context.WithTimeout(req.Context(), attemptTimeout)
	ctx, progress := withProgress(attempt)
	end := func() { progress.end(); cancel(); leave() }
	handedOver := false
	defer func() {
		if !handedOver {
			end()
		}
	}()
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
	resp.Body = &boundedBody{body: resp.Body, left: c.maxBody, end: end, failed: func(err error) error {
		return c.explain(ctx, err, req.URL.Hostname(), progress)
	}}
	handedOver = true
	return resp, nil
}

// enter waits until one more request may be under way. Call the returned function when it
// has ended. The error is one of Do's.
func (c *Client) enter(req *http.Request) (leave func(), _ error) {
	if c.requests == nil {
		return func() {}, nil
	}
	ctx := req.Context()
	leave, err := c.requests.Acquire(ctx, fair.Tenant(ctx), 1)
	if err == nil {
		return leave, nil
	}
	if req.Body != nil {
		_ = req.Body.Close()
	}
	if errors.Is(err, context.Canceled) {
		return nil, err
	}
	// Nothing about the service follows from it.
	return nil, permanent{&fault.Error{
		Reason: fault.Timeout,
		Cause:  fmt.Sprintf("too many other requests waited for %s: this one was not sent in time", req.URL.Hostname()),
		Fix:    "start fewer pods at once, or use fewer vaults",
		Err:    err,
	}}
}

// progress is how far a request has come. The hooks of httptrace may run in any
// goroutine, even after the request has ended.
type progress struct {
	mu        sync.Mutex // guards what follows
	hop       string     // host and port dialled last: the proxy's if there is one
	connected bool
	meter     *meter // of the connection in use
	ended     bool
}

// withProgress returns a context under which a request's progress is recorded. The pool may use
// several connections for one request: it sends a GET again if an idle connection turns out to
// be dead.
func withProgress(ctx context.Context) (context.Context, *progress) {
	p := new(progress)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(hop string) { p.set(hop, false) },
		GotConn: func(info httptrace.GotConnInfo) { p.set("", true); p.use(meterOf(info.Conn)) },
	}), p
}

func (p *progress) set(hop string, connected bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hop, p.connected = hop, connected
}

// use counts the request for a connection, and no longer for the one before.
func (p *progress) use(m *meter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	if p.meter != nil {
		p.meter.count(-1)
	}
	if p.meter = m; m != nil {
		m.count(1)
	}
}

// end is called when the request has ended; it may be called again.
func (p *progress) end() {
	p.use(nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
}

func (p *progress) get() (hop string, connected bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hop, p.connected
}

// boundedBody fails a response that is too long, and makes its errors typed ones.
type boundedBody struct {
	body   io.ReadCloser
	left   int64
	failed func(error) error
	end    func() // of the exchange; may be called again
	err    error  // of an earlier Read
}

// Read implements [io.Reader].
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.read(p)
	if err != nil {
		if err != io.EOF {
			err = b.failed(err)
		}
		b.err = err
		b.end()
	}
	return n, err
}

func (b *boundedBody) read(p []byte) (int, error) {
	if b.left <= 0 {
		// Exactly at the bound there may be nothing more to come.
		n, err := b.body.Read(make([]byte, 1))
		if n > 0 {
			err = errTooLong
		}
		return 0, err
	}
	n, err := b.body.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// Close implements [io.Closer].
func (b *boundedBody) Close() error {
	defer b.end()
	return b.body.Close()
}
