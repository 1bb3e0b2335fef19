package keyvault_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

var versionOfVault = regexp.MustCompile(`^[0-9A-Za-z]{1,64}$`)

// FuzzVersions answers with two pages of anything. What comes of them is at most as many versions as were
// requested, each of the form that versions have, and the same in whichever order the pages come.
func FuzzVersions(f *testing.F) {
	page := func(items ...string) string { return `{"value":[` + strings.Join(items, ",") + `]}` }
	for _, seed := range [][2]string{
		{page(listed("secret", "a", 1, ""), listed("secret", "b", 9, `,"enabled":false`)), page(listed("secret", "c", 3, `,"enabled":true`))},
		{page(listed("secret", "a", 1, ""), "null", "{}"), page(listed("secret", "..", 3, ""), listed("secret", "a%ff", 4, ""), listed("secret", `a\n`, 5, ""))},
		{page(`{"id":"https://contoso.vault.azure.net/secrets/x/a"}`, `{"id":"x","attributes":{}}`, `{"attributes":{"created":-1}}`), `{"value":null}`},
		{page(`{"id":"https://contoso.vault.azure.net/secrets/x/a","attributes":{"created":99999999999999}}`), `{"nextLink":""}`},
		{`<html>`, `[]`}, {``, `{"value":{}}`},
	} {
		f.Add(seed[0], seed[1], uint8(2), "")
		f.Add(seed[0], seed[1], uint8(255), "c")
	}
	f.Fuzz(func(t *testing.T, first, second string, n uint8, start string) {
		read := func(pages ...string) ([]string, error) {
			at := 0
			r := configured(t, func(req *http.Request) (*http.Response, error) {
				body := pages[min(at, len(pages)-1)]
				var fields map[string]json.RawMessage
				if at++; at < len(pages) && json.Unmarshal([]byte(body), &fields) == nil && fields != nil {
					link, _ := json.Marshal("https://" + host + req.URL.Path + "?page=2")
					fields["nextLink"] = link
					whole, _ := json.Marshal(fields)
					body = string(whole)
				} else if fields != nil {
					delete(fields, "nextLink")
					whole, _ := json.Marshal(fields)
					body = string(whole)
				}
				return answer(http.StatusOK, body)
			}, func(c *keyvault.Config) { c.Throttle.Retries = 0 })
			o := object(request.TypeSecret, "x")
			o.Version = start
			return r.Versions(t.Context(), caller("a"), o, int(n), fresh())()
		}
		got, err := read(first, second)
		if err != nil {
			checkLine(t, err)
			return
		}
		if len(got) > int(n) {
			t.Errorf("%d versions of %d", len(got), n)
		}
		for i, id := range got {
			if !versionOfVault.MatchString(id) || i == 0 && start != "" && !strings.EqualFold(id, start) {
				t.Errorf("version %q", id)
			}
		}
		if other, err := read(second, first); err == nil && n == 255 && start == "" {
			slices.Sort(got)
			slices.Sort(other)
			if !slices.Equal(got, other) {
				t.Errorf("got %q, in another order %q", got, other)
			}
		}
	})
}

// checkLine checks that an error is typed and its text one short line.
func checkLine(t *testing.T, err error) {
	t.Helper()
	if !fault.Is(err, reasons...) {
		t.Fatalf("%T %v", err, err)
	}
	if text := err.Error(); len(text) > 1024 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("not one short line: %q", text)
	}
}

// FuzzNextLink leads a list anywhere: a request with a token goes to the vault and nowhere else.
func FuzzNextLink(f *testing.F) {
	for _, link := range []string{
		"https://contoso.vault.azure.net/secrets/x/versions?page=2", "https://contoso.vault.azure.net:443/a", "HTTPS://CONTOSO.vault.azure.net/", "//evil.example/", "/secrets",
		"https://contoso.vault.azure.net@evil.example/", "https://contoso.vault.azure.net.evil.example", "https://evil.example#contoso.vault.azure.net", "http://contoso.vault.azure.net/",
		"https://contoso.vault.azure.net:8443/", "https://user:pw@contoso.vault.azure.net/", `https://contoso.vault.azure.net\@evil.example/`, "https://contoso.vault.azure.net%2f@evil/", "https://[::1]/",
		"https://contoso.vault.azure.net./", "\thttps://evil.example", "https://ｃontoso.vault.azure.net/", "data:,x", "?page=2", ":", "%zz", "https://contoso.vault.azure.net:443:443/",
	} {
		f.Add(link)
	}
	f.Fuzz(func(t *testing.T, link string) {
		body, err := json.Marshal(map[string]any{"value": []any{}, "nextLink": link})
		if err != nil {
			t.Fatal(err)
		}
		requests := 0
		r := configured(t, func(req *http.Request) (*http.Response, error) {
			if u := req.URL; u.Scheme != "https" || !strings.EqualFold(u.Hostname(), host) || u.Port() != "" && u.Port() != "443" ||
				req.Host != "" && !strings.EqualFold((&url.URL{Host: req.Host}).Hostname(), host) {
				t.Errorf("link %q: a request to %s, Host %q", link, req.URL, req.Host)
			}
			if requests++; requests > 1 {
				return answer(http.StatusOK, `{"value":[]}`)
			}
			return answer(http.StatusOK, string(body))
		}, func(c *keyvault.Config) { c.Throttle.Retries = 0 })
		if _, err := r.Versions(t.Context(), caller("a"), object(request.TypeSecret, "x"), 2, fresh())(); err != nil {
			checkLine(t, err)
		}
	})
}

// FuzzChallenge answers a request without a token with any challenge: tokens are for what the caller
// knows, or for an https resource above the vault's own name.
func FuzzChallenge(f *testing.F) {
	const fallback = "https://vault.azure.net"
	for _, challenge := range []string{
		`Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net"`, `Bearer authorization="https://login", scope="https://azure.net/.default"`,
		`Bearer resource="https://evil.example"`, `Bearer resource="https://net"`, `Bearer resource="https://"`, `Bearer resource="https://.vault.azure.net"`, `Bearer scope=https://vault.azure.net/.default`,
		`Bearer resource="https://user@vault.azure.net"`, `Bearer resource="http://vault.azure.net"`, `Bearer resource="https://vault.azure.net:8443/x?y#z"`, `resource="https://t.vault.azure.net"`,
		`Bearer scope="https://evil/.default", resource="https://vault.azure.net"`, `Basic realm="x"`, "", "Bearer resource=\"https://VAULT.azure.net/\"",
	} {
		f.Add(401, challenge)
	}
	f.Add(200, `Bearer resource="https://azure.net"`)
	f.Fuzz(func(t *testing.T, status int, challenge string) {
		r := configured(t, func(req *http.Request) (*http.Response, error) {
			if req.Header.Get("Authorization") != "" {
				t.Error("the request has a token")
			}
			resp, err := answer(status, "{}")
			resp.Header = http.Header{"Www-Authenticate": {challenge}}
			return resp, err
		}, func(c *keyvault.Config) { c.Throttle.Retries, c.Timeout = 0, time.Minute })
		got, err := r.Resource(t.Context(), host, fallback)
		if err != nil {
			checkLine(t, err)
			return
		}
		if got == fallback {
			return
		}
		u, err := url.Parse(got)
		if err != nil || u.Scheme != "https" || u.User != nil || u.Hostname() == "" || !strings.HasSuffix(host, "."+strings.ToLower(u.Hostname())) || status != http.StatusUnauthorized {
			t.Errorf("status %d, challenge %q: tokens for %q", status, challenge, got)
		}
	})
}
