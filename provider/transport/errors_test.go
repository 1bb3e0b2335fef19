package transport_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/transport"
)

// Every reason is reached with what the network really does, twice and on other
// ports, since kubelet folds only events of equal text.
func TestReasons(t *testing.T) {
	for _, c := range []struct {
		name      string
		pool      func(t *testing.T) http.RoundTripper
		reason    fault.Reason
		permanent bool
		says      []string
	}{
		{"untrusted CA", func(t *testing.T) http.RoundTripper {
			box, _ := newBox(t, azuretest.Options{})
			pool := box.Transport()
			t.Cleanup(pool.CloseIdleConnections)
			pool.TLSClientConfig.RootCAs = x509.NewCertPool()
			return pool
		}, fault.TLSUntrusted, true, []string{"unknown authority", "SSL_CERT_FILE"}},
		{"untrusted CA behind a proxy", func(t *testing.T) http.RoundTripper {
			box, _ := newBox(t, azuretest.Options{})
			return proxied(t, box.ProxyURL(), x509.NewCertPool())
		}, fault.TLSUntrusted, true, []string{"unknown authority", "SSL_CERT_FILE"}},
		{"certificate of another host", spoiled(func(c *x509.Certificate) { c.DNSNames = []string{"other.vault.azure.net"} }),
			fault.TLSUntrusted, true, []string{"another name", "SSL_CERT_FILE"}},
		{"expired certificate", spoiled(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }),
			fault.TLSUntrusted, true, []string{"expired", "clock"}},
		{"certificate not valid yet", spoiled(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }),
			fault.TLSUntrusted, true, []string{"not yet valid", "clock"}},
		{"certificate of a client", spoiled(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }),
			fault.TLSUntrusted, true, []string{"not valid for a server"}},
		{"TLS 1.1 only", func(t *testing.T) http.RoundTripper {
			ca := newAuthority(t)
			return serveTLS(t, noAnswer, false, ca.roots(), &tls.Config{
				Certificates: []tls.Certificate{ca.issue(nil)}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
			})
		}, fault.ServiceUnavailable, false, []string{"TLS"}},
		{"no TLS", func(t *testing.T) http.RoundTripper {
			return dialling(t, accepting(t, func(c net.Conn) {
				_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			}), nil)
		}, fault.ServiceUnavailable, false, nil},
		{"proxy not listening", func(t *testing.T) http.RoundTripper { return named(t, "http://proxy.corp:3128", closedPort(t)) },
			fault.ProxyRefused, false, []string{"proxy.corp:3128", "connection refused", "HTTPS_PROXY"}},
		{"proxy unknown to DNS", func(t *testing.T) http.RoundTripper {
			pool := proxied(t, "http://proxy.corp:3128", nil)
			pool.DialContext = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "proxy.corp", Server: "10.0.0.10:53", IsNotFound: true}}
			}
			return pool
		}, fault.ProxyRefused, false, []string{"proxy.corp:3128", "cannot be resolved", "HTTPS_PROXY"}},
		{"proxy that does not answer", func(t *testing.T) http.RoundTripper {
			pool := proxied(t, "http://proxy.corp:3128", nil)
			pool.DialContext = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: timedOut{}}
			}
			return pool
		}, fault.ProxyRefused, false, []string{"proxy.corp:3128", "timed out"}},
		{"proxy closes", func(t *testing.T) http.RoundTripper {
			return named(t, "http://proxy.corp:3128", accepting(t, func(net.Conn) {}))
		}, fault.ServiceUnavailable, false, []string{"proxy"}},
		{"connection refused", func(t *testing.T) http.RoundTripper { return dialling(t, closedPort(t), nil) },
			fault.ServiceUnavailable, false, []string{"connection refused", "firewall"}},
		{"reset during the handshake", func(t *testing.T) http.RoundTripper {
			box, roots := newBox(t, azuretest.Options{})
			box.SetOutage(true)
			pool := box.Transport()
			pool.TLSClientConfig.RootCAs = roots
			return pool
		}, fault.ServiceUnavailable, false, []string{"connection reset"}},
		{"reset, HTTP/1.1", resetting(azuretest.Options{DisableHTTP2: true}),
			fault.ServiceUnavailable, false, []string{"connection reset"}},
		{"reset, HTTP/2", resetting(azuretest.Options{}),
			fault.ServiceUnavailable, false, []string{"connection reset"}},
		{"cut in the answer", func(t *testing.T) http.RoundTripper { return serve(t, cutShort, false) },
			fault.ServiceUnavailable, false, []string{"connection reset"}},
		{"name does not exist", failing(&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: host, Server: "10.0.0.10:53", IsNotFound: true}}),
			fault.ServiceUnavailable, true, []string{"DNS has no " + host, "the node's DNS"}},
		{"bare name error", failing(&net.DNSError{Err: "no such host", Name: host, IsNotFound: true}),
			fault.ServiceUnavailable, true, []string{"DNS has no " + host}},
		{"SERVFAIL", failing(&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "server misbehaving", Name: host, Server: "10.0.0.10:53", IsTemporary: true}}),
			fault.ServiceUnavailable, false, []string{"cannot be resolved"}},
		{"name server does not answer", failing(&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "i/o timeout", Name: host, Server: "10.0.0.10:53", IsTimeout: true}}),
			fault.Timeout, false, []string{"timed out connecting to"}},
		{"dial timeout", failing(&net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443}, Err: timedOut{}}),
			fault.Timeout, false, []string{"timed out connecting to"}},
		{"anything else", failing(errors.New("read tcp 127.0.0.1:50000: \n\tsecret of the other side")),
			fault.ServiceUnavailable, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			first := get(t.Context(), reader(c.pool(t)), secretURL)
			e := failure(t, first)
			if e.Reason != c.reason {
				t.Errorf("got reason %s, want %s", e.Reason, c.reason)
			}
			if got := transport.IsHostNotFound(first); got != strings.HasPrefix(e.Cause, "DNS has no ") {
				t.Errorf("host not found: got %t", got)
			}
			if isPermanent(first) != c.permanent {
				t.Errorf("permanent: got %t, want %t", !c.permanent, c.permanent)
			}
			if errors.Unwrap(e) == nil {
				t.Error("what the network said is lost")
			}
			checkText(t, first, c.says...)
			if second := get(t.Context(), reader(c.pool(t)), secretURL); second.Error() != first.Error() {
				t.Errorf("two attempts read differently:\n%s\n%s", first, second)
			}
		})
	}
}

var addressText = regexp.MustCompile(`\d+\.\d+\.\d+\.\d+|\[::|:\d{4,5}\b`)

// checkText checks a message: it is one line, with the host and a fix, without
// addresses but a proxy's.
func checkText(t *testing.T, err error, says ...string) {
	t.Helper()
	text := err.Error()
	if strings.ContainsAny(text, "\n\r\t") || !strings.Contains(text, host) || strings.Contains(text, "  ") || strings.Contains(text, " ;") {
		t.Errorf("not one line with the host: %q", text)
	}
	if cause, fix, ok := strings.Cut(text, "; "); !ok || cause == "" || fix == "" {
		t.Errorf("no cause and fix: %q", text)
	}
	if addressText.MatchString(strings.ReplaceAll(text, "proxy.corp:3128", "")) {
		t.Errorf("an address: %q", text)
	}
	for _, s := range says {
		if !strings.Contains(text, s) {
			t.Errorf("got %q, want it to say %q", text, s)
		}
	}
}

func spoiled(change func(*x509.Certificate)) func(*testing.T) http.RoundTripper {
	return func(t *testing.T) http.RoundTripper {
		ca := newAuthority(t)
		return serveTLS(t, noAnswer, true, ca.roots(), &tls.Config{Certificates: []tls.Certificate{ca.issue(change)}})
	}
}

// named is the plugin's pool behind a proxy whose name leads to the address.
func named(t *testing.T, proxy, address string) http.RoundTripper {
	pool := proxied(t, proxy, nil)
	dial := pool.DialContext
	pool.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) { return dial(ctx, network, address) }
	return pool
}

func resetting(o azuretest.Options) func(*testing.T) http.RoundTripper {
	return func(t *testing.T) http.RoundTripper {
		box, roots := newBox(t, o)
		box.SetFault(azuretest.Challenge, azuretest.Fault{Reset: true})
		return proxied(t, box.ProxyURL(), roots)
	}
}

func failing(err error) func(*testing.T) http.RoundTripper {
	return func(*testing.T) http.RoundTripper {
		return roundTripper(func(*http.Request) (*http.Response, error) { return nil, err })
	}
}

func noAnswer(http.ResponseWriter, *http.Request) { panic("a request came through") }

func cutShort(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "100")
	_, _ = io.WriteString(w, "half an answer")
	panic(http.ErrAbortHandler)
}

// hang never answers: not even a client that has said good-bye over TLS and reads
// on for a moment.
func hang(r *http.Request) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// timedOut is the error of a system call that took too long.
type timedOut struct{}

func (timedOut) Error() string   { return "i/o timeout" }
func (timedOut) Timeout() bool   { return true }
func (timedOut) Temporary() bool { return true }

// The message of a refusal names the proxy and the status, never its password.
func TestProxyRefuses(t *testing.T) {
	box, roots := newBox(t, azuretest.Options{})
	address := strings.TrimPrefix(box.ProxyURL(), "http://")
	for status, words := range map[int]string{
		403: "403 Forbidden", 407: "407 Proxy Authentication Required", 502: "502 Bad Gateway", 503: "503 Service Unavailable", 499: "499", 204: "204 No Content",
	} {
		box.RefuseProxy(status)
		err := get(t.Context(), reader(proxied(t, "http://user:hunter2@"+address, roots)), secretURL)
		e := failure(t, err)
		if e.Reason != fault.ProxyRefused || isPermanent(err) == (status >= 500) {
			t.Errorf("%d: got %s, permanent %t", status, e.Reason, isPermanent(err))
		}
		want := fmt.Sprintf("the proxy %s rejected the connection to %s: %s; check the host's name; if it is right, cluster operator: allow it in the proxy, or add it to NO_PROXY", address, host, words)
		if e.Error() != want {
			t.Errorf("got  %s\nwant %s", e, want)
		}
	}
}

// A name that does not exist is recognized in every phase, and not retried.
func TestHostNotFound(t *testing.T) {
	box, _ := newBox(t, azuretest.Options{})
	pool := box.Transport()
	t.Cleanup(pool.CloseIdleConnections)
	client := transport.New(pool, "test/1")
	for _, phase := range []transport.Phase{transport.PhaseRead, transport.PhaseSignIn} {
		err := get(t.Context(), client.For(phase), "https://nobody.vault.azure.net/")
		if e := failure(t, err); e.Reason != fault.ServiceUnavailable || !transport.IsHostNotFound(err) || !isPermanent(err) {
			t.Errorf("%s: got %s (permanent %t)", phase, err, isPermanent(err))
		}
	}
}

// A timeout names the connection while there is none, and the phase after that.
func TestTimeoutPhase(t *testing.T) {
	t.Run("dialling", func(t *testing.T) {
		ctx := newDeadline(t)
		pool := dialling(t, "", nil)
		released := make(chan struct{})
		t.Cleanup(func() { close(released) })
		pool.DialContext = func(context.Context, string, string) (net.Conn, error) {
			ctx.expire()
			<-released
			return nil, net.ErrClosed
		}
		checkTimeout(t, get(ctx, reader(pool), secretURL), transport.PhaseConnect)
	})
	t.Run("handshake", func(t *testing.T) {
		ctx := newDeadline(t)
		address := accepting(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1)) // the ClientHello has come
			ctx.expire()
			_, _ = io.Copy(io.Discard, c)
		})
		checkTimeout(t, get(ctx, reader(dialling(t, address, nil)), secretURL), transport.PhaseConnect)
	})
	t.Run("proxy", func(t *testing.T) {
		ctx := newDeadline(t)
		address := accepting(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1)) // the CONNECT has come
			ctx.expire()
			_, _ = io.Copy(io.Discard, c)
		})
		checkTimeout(t, get(ctx, reader(proxied(t, "http://"+address, nil)), secretURL), transport.PhaseConnect)
	})
	for _, http2 := range []bool{false, true} {
		for _, phase := range []transport.Phase{transport.PhaseRead, transport.PhaseSignIn} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %t", phase, http2), func(t *testing.T) {
				ctx := newDeadline(t)
				pool := serve(t, func(_ http.ResponseWriter, r *http.Request) {
					ctx.expire()
					hang(r)
				}, http2)
				checkTimeout(t, get(ctx, reader(pool).For(phase), secretURL), phase)
			})
		}
		t.Run(fmt.Sprintf("body, HTTP/2 %t", http2), func(t *testing.T) {
			ctx := newDeadline(t)
			pool := serve(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, "half")
				_ = http.NewResponseController(w).Flush()
				hang(r)
			}, http2)
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, secretURL, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := reader(pool).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			if _, err := io.ReadFull(resp.Body, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			ctx.expire()
			_, err = io.ReadAll(resp.Body)
			checkTimeout(t, err, transport.PhaseRead)
		})
	}
}

func checkTimeout(t *testing.T, err error, phase transport.Phase) {
	t.Helper()
	e := failure(t, err)
	if e.Reason != fault.Timeout || isPermanent(err) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %s (permanent %t): %v, want a timeout", e.Reason, isPermanent(err), errors.Unwrap(e))
	}
	doing := map[transport.Phase]string{transport.PhaseConnect: "connecting to", transport.PhaseSignIn: "signing in to", transport.PhaseRead: "reading from"}
	checkText(t, err, "timed out "+doing[phase]+" "+host)
}

// An idle connection that turns out dead is replaced for the same request. A failure
// after that is one while connecting.
func TestTimeoutWhileReplacingConnection(t *testing.T) {
	requests := 0 // on one connection: one at a time
	pool := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if requests++; requests > 1 {
			panic(http.ErrAbortHandler)
		}
	}, false)
	client := reader(pool)
	if err := get(t.Context(), client, secretURL); err != nil {
		t.Fatal(err)
	}
	ctx := newDeadline(t)
	released := make(chan struct{})
	t.Cleanup(func() { close(released) })
	pool.DialContext = func(context.Context, string, string) (net.Conn, error) {
		ctx.expire()
		<-released
		return nil, net.ErrClosed
	}
	checkTimeout(t, get(ctx, client, secretURL), transport.PhaseConnect)
}

// A caller that cancels gets its own error, whatever it sets as the cause.
func TestCallerGivesUp(t *testing.T) {
	for _, cause := range []error{nil, errors.New("another object of the mount failed")} {
		for _, http2 := range []bool{false, true} {
			ctx, cancel := context.WithCancelCause(t.Context())
			pool := serve(t, func(_ http.ResponseWriter, r *http.Request) {
				cancel(cause)
				hang(r)
			}, http2)
			err := get(ctx, reader(pool), secretURL)
			if !errors.Is(err, context.Canceled) || errors.As(err, new(*fault.Error)) {
				t.Errorf("cause %v, HTTP/2 %t: got %T %v, want context.Canceled", cause, http2, err, err)
			}
			if err := get(ctx, reader(pool), secretURL); !errors.Is(err, context.Canceled) || errors.As(err, new(*fault.Error)) {
				t.Errorf("cancelled before: got %T %v, want context.Canceled", err, err)
			}
		}
	}
}

// A cancellation that is not the caller's is a failure of the connection.
func TestNotTheCallersCancellation(t *testing.T) {
	err := get(t.Context(), reader(failing(fmt.Errorf("stream: %w", context.Canceled))(t)), secretURL)
	if e := failure(t, err); e.Reason != fault.ServiceUnavailable || isPermanent(err) || errors.Is(err, context.Canceled) {
		t.Errorf("got %s (permanent %t), canceled %t", e.Reason, isPermanent(err), errors.Is(err, context.Canceled))
	}
}

// Timeout is for callers that waited elsewhere.
func TestTimeoutError(t *testing.T) {
	err := transport.Timeout(host, transport.PhaseSignIn)
	if err.Reason != fault.Timeout || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %s, %v", err.Reason, err.Unwrap())
	}
	checkText(t, err, "timed out signing in to")
}

// Go's HTTP/2 client takes any number for a status; nothing behind this package
// should have to.
func TestStatusThatHTTPDoesNotHave(t *testing.T) {
	for _, status := range []int{-5, 0, 99, 600, 99999} {
		pool := roundTripper(func(*http.Request) (*http.Response, error) {
			resp := answer("")
			resp.StatusCode = status
			return resp, nil
		})
		err := get(t.Context(), reader(pool), secretURL)
		if e := failure(t, err); e.Reason != fault.ServiceUnavailable || !isPermanent(err) || strings.Contains(e.Error(), "99999") {
			t.Errorf("%d: got %v, permanent %t", status, err, isPermanent(err))
		}
	}
}

// A message names the type of a content only from a closed set: what came may be from anywhere.
func TestDescribe(t *testing.T) {
	for content, want := range map[string]string{
		"": "403 Forbidden", "text/html; charset=utf-8": "403 Forbidden, HTML", " Text/HTML ": "403 Forbidden, HTML",
		"application/json": "403 Forbidden, JSON", "x/hunter2": "403 Forbidden", "hunter2": "403 Forbidden",
	} {
		if got := transport.Describe(http.StatusForbidden, http.Header{"Content-Type": {content}}); got != want {
			t.Errorf("%q: got %q, want %q", content, got, want)
		}
	}
	if got := transport.Describe(499, nil); got != "499" {
		t.Errorf("got %q", got)
	}
}
