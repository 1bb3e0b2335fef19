package transport_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/transport"

	"golang.org/x/net/http/httpproxy" // which net/http contains a copy of, for the variable that it reads once
)

// FuzzProxy starts with any HTTPS_PROXY, and has the proxy answer anything. A request through it
// ends with an error of one line, which never shows the proxy's password.
func FuzzProxy(f *testing.F) {
	const canary = "CANARY"
	for _, proxy := range []string{
		"http://proxy.corp:3128", "proxy.corp:3128", "https://user:CANARY@proxy.corp", "http://user:CANARY@proxy.corp:3128/path?query#fragment",
		"socks5://user:CANARY@proxy.corp:1080", "socks5h://proxy.corp", "http://user:CANARY@[::1", "http://user:CANARY@[::1]:x", "//user:CANARY@proxy",
		"http://CANARY", "user:CANARY@proxy.corp:3128", "http://user:CANARY@proxy corp", "://CANARY", "ftp://user:CANARY@proxy", "http://%zz:CANARY@proxy", "http://", "\x00CANARY",
	} {
		for _, answer := range []string{"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nnot TLS", "\x05\xff", "SSH-2.0\r\n", ""} {
			f.Add(proxy, answer)
		}
	}
	f.Fuzz(func(t *testing.T, proxy, answer string) {
		find := (&httpproxy.Config{HTTPSProxy: proxy}).ProxyFunc()
		pool := transport.Base(1)
		pool.Proxy = func(req *http.Request) (*url.URL, error) { return find(req.URL) }
		pool.DialContext = func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				defer func() { _ = far.Close() }()
				_, _ = bufio.NewReader(far).ReadByte() // the request
				_, _ = io.WriteString(far, answer)
			}()
			return near, nil
		}
		defer pool.CloseIdleConnections()
		err := get(t.Context(), transport.New(pool, "test").For(transport.PhaseRead), secretURL)
		if err == nil {
			t.Fatal("an answer of a vault that is not there")
		}
		text := failure(t, err).Error()
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || len(text) > 2<<10 {
			t.Errorf("not one line: %q", text)
		}
		u, broken := url.Parse(proxy)
		if inHost := broken == nil && strings.Contains(u.Host, canary) || !strings.Contains(proxy, "@"); !inHost && strings.Contains(text, canary) {
			t.Errorf("HTTPS_PROXY=%q: %s", proxy, text)
		}
		if strings.HasPrefix(answer, "HTTP/1.1 407 ") && broken == nil && u.Scheme == "http" && u.Hostname() != "" && !fault.Is(err, fault.ProxyRefused, fault.ServiceUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}
