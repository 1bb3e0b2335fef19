// Package transport is the plugin's one way out to Azure: an HTTP client with
// bounds on everything it reads, that follows no redirect and says in one typed
// error what stands between the node and the service.
package transport

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"time"
)

// Limits of one HTTP exchange. A secret holds at most 25 KiB and a page of a
// listing 25 entries, so what is larger does not come from Key Vault.
const (
	maxResponseBody   = 1 << 20
	maxResponseHeader = 64 << 10
	connectTimeout    = 10 * time.Second
	idleTimeout       = 90 * time.Second
)

// Client sends requests to Azure. It is safe for concurrent use.
type Client struct {
	roundTripper http.RoundTripper
	userAgent    string
	phase        Phase
}

// Base is the plugin's connection pool. It heeds HTTPS_PROXY, NO_PROXY,
// SSL_CERT_FILE and SSL_CERT_DIR as they are when it sends its first request, and
// holds at most maxConns connections to one host (with HTTP/2 one serves all).
func Base(maxConns int) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		OnProxyConnectResponse: checkProxy,
		DialContext:            (&net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:    connectTimeout,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           0, // the bound is per host
		MaxIdleConnsPerHost:    maxConns,
		MaxConnsPerHost:        maxConns,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
	}
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

// Do implements the Azure SDK's policy.Transporter. Its error is an *Error, or
// the context's own when the caller gave up. Redirects are not followed: Key
// Vault and Entra send none, and following one could carry a credential away.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	connected := false
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected = true },
	})
	req = req.Clone(ctx)
	req.Header.Set("User-Agent", c.userAgent+" "+req.Header.Get("User-Agent"))
	resp, err := c.roundTripper.RoundTrip(req)
	if err != nil {
		err = c.classify(err, req.URL.Hostname(), connected)
		note(ctx, err)
		return nil, err
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxResponseBody, failed: func(err error) error {
		err = c.classify(err, req.URL.Hostname(), true)
		note(ctx, err)
		return err
	}}
	return resp, nil
}

// boundedBody fails a response that is too long, and types what goes wrong while
// it is read.
type boundedBody struct {
	io.ReadCloser
	left   int64
	failed func(error) error
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// Exactly at the bound there may be nothing more to come.
		if n, err := b.ReadCloser.Read(make([]byte, 1)); n == 0 {
			return 0, err
		}
		return 0, b.failed(errTooLong)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err != nil && err != io.EOF {
		err = b.failed(err)
	}
	return n, err
}

// checkProxy types a proxy's refusal, which net/http reports as bare text.
func checkProxy(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &proxyRefusal{proxy: proxy.Host, status: resp.StatusCode}
}
