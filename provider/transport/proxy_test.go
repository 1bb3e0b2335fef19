package transport_test

import (
	"math/rand/v2"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"akv-csi-provider/provider/transport"

	"golang.org/x/net/http/httpproxy"
)

// proxyOf is the host of the proxy that net/http uses with this environment; "" for none.
func proxyOf(value string) string {
	c := httpproxy.Config{HTTPSProxy: value}
	u, err := c.ProxyFunc()(&url.URL{Scheme: "https", Host: "contoso.vault.azure.net"})
	if err != nil || u == nil {
		return ""
	}
	return u.Hostname()
}

func check(value string) error {
	return transport.CheckProxy(func(name string) string {
		if name != "HTTPS_PROXY" {
			return ""
		}
		return value
	})
}

func TestCheckProxy(t *testing.T) {
	for value, host := range map[string]string{
		"http://proxy:3128": "proxy", "http://proxy:3128/": "proxy", "proxy:3128": "proxy", "proxy": "proxy", "10.0.0.1:3128": "10.0.0.1",
		"http://user:secret@proxy:3128": "proxy", "http://user:p%23ss@proxy": "proxy", "user:secret@proxy:3128": "proxy",
		"http://user:p@ss@proxy:3128": "proxy", "https://proxy.corp": "proxy.corp", "socks5://proxy:1080": "proxy", "http://[::1]:3128": "::1",
		"http://proxy:3128/path?q=1": "proxy",
	} {
		if err := check(value); err != nil || proxyOf(value) != host {
			t.Errorf("%s: %v, net/http uses %q", value, err, proxyOf(value))
		}
	}
	for _, value := range []string{
		"http://user:se%cret@proxy:3128", "http://user:secret/secret%x@proxy:3128", "http://proxy:3128\n", "proxy host:3128", " ", "http://", "http:/proxy:3128",
		"http://svc:1234/secret@proxy:3128", "http://svc:4711?secret@proxy:3128", "http://svc:se@cret/word@proxy:3128", "http://svc:1#secret@proxy:3128",
		"ftp://proxy:21", "http://proxy:port", "://secret",
	} {
		err := check(value)
		if err == nil {
			t.Errorf("%q is accepted; net/http uses %q", value, proxyOf(value))
			continue
		}
		if text := err.Error(); strings.Contains(text, "cret") || strings.Contains(text, "svc") || strings.Contains(text, "\n") || !strings.HasPrefix(text, "HTTPS_PROXY ") {
			t.Errorf("%q: %s", value, text)
		}
	}
	lower := func(name string) string { return map[string]string{"https_proxy": "http://%"}[name] }
	if err := transport.CheckProxy(lower); err == nil || !strings.HasPrefix(err.Error(), "https_proxy ") {
		t.Errorf("got %v", err)
	}
	if err := transport.CheckProxy(func(string) string { return "" }); err != nil {
		t.Error(err)
	}
}

var scheme = regexp.MustCompile(`^(https?|socks5h?)://`)

// Any proxy is used for what stands behind its last "@", or refused.
func TestAnyProxyIsUsedOrRefused(t *testing.T) {
	parts := []string{"http://", "https://", "socks5://", "http:", "//", "/", "@", ":", "?", "#", "%", "%41", "user", "p@ss", "proxy.corp", "3128", "[::1]", " ", "\n", "ü", "&", "\\", "10.0.0.1", "|"}
	random := rand.New(rand.NewPCG(1, 2))
	used := 0
	for range 50_000 {
		var b strings.Builder
		for range 1 + random.IntN(7) {
			b.WriteString(parts[random.IntN(len(parts))])
		}
		value := b.String()
		if check(value) != nil {
			continue
		}
		used++
		host := proxyOf(value)
		after := scheme.ReplaceAllString(value, "")
		after = after[strings.LastIndexByte(after, '@')+1:]
		if host == "" || !strings.HasPrefix(strings.TrimPrefix(after, "["), host) && !strings.Contains(after, "%") {
			t.Errorf("%q is accepted; net/http uses %q", value, host)
		}
	}
	if used < 1000 {
		t.Errorf("%d of the proxies are accepted: the test tests little", used)
	}
}
