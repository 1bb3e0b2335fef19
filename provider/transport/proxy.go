package transport

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// proxySchemes are those that net/http can use.
var proxySchemes = []string{"http", "https", "socks5", "socks5h"}

// CheckProxy refuses a proxy that net/http would not use, or would use otherwise than it is meant.
// net/http ignores what it cannot parse, and connects past the proxy. Where the password contains
// a "/", "?" or "#" that is not encoded, it takes a part of the password for the host, and
// messages would show that. The error never contains the value.
func CheckProxy(getenv func(string) string) error {
	name := "HTTPS_PROXY"
	text := getenv(name)
	if text == "" {
		name = "https_proxy"
		text = getenv(name)
	}
	if text == "" || usable(text) {
		return nil
	}
	return errors.New(name + " is not a valid proxy URL (value hidden: it may contain a password);" +
		" use http://host:port, or http://user:password@host:port with %XX for special characters in the password")
}

// usable reports whether net/http uses the proxy, and for a host that is what is meant.
func usable(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" { // without a scheme, as net/http reads it
		if u, err = url.Parse("http://" + text); err != nil {
			return false
		}
	}
	rest := u.Path + u.RawQuery + u.Fragment
	return slices.Contains(proxySchemes, u.Scheme) && u.Hostname() != "" && !strings.HasSuffix(u.Host, ":") && !strings.Contains(rest, "@")
}

// checkProxy types a proxy's refusal, which net/http reports as bare text.
func checkProxy(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &proxyRefusal{proxy: proxy.Host, status: resp.StatusCode}
}
