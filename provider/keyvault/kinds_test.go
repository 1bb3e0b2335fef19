package keyvault_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

const version = "0123456789abcdef0123456789abcdef"

func object(t request.Type, name string) keyvault.Object {
	return keyvault.Object{Host: host, Type: t, Name: name}
}

func TestKey(t *testing.T) {
	r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
		if req.URL.Path != "/keys/k/" || req.Header.Get("Authorization") != "Bearer token of x" {
			t.Errorf("%s with %q", req.URL.Path, req.Header.Get("Authorization"))
		}
		return answer(http.StatusOK, `{"key":{"kid":"https://contoso.vault.azure.net/keys/k/`+version+`","kty":"EC-HSM","crv":"P-256","x":"AQ","y":"Ag","n":"Aw","e":"BA"},"attributes":{"nbf":1,"exp":2}}`)
	})
	got, err := r.Get(t.Context(), caller("a"), object(request.TypeKey, "k"), fresh())()
	if err != nil {
		t.Fatal(err)
	}
	if k := got.Key; got.Version != version || k.Type != "EC-HSM" || k.Curve != "P-256" || k.X[0] != 1 || k.Y[0] != 2 || k.N[0] != 3 || k.E[0] != 4 ||
		got.NotBefore.Unix() != 1 || got.Expires.Unix() != 2 {
		t.Errorf("got %+v, %+v", got, k)
	}
}

func TestCertificate(t *testing.T) {
	r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
		if req.URL.Path != "/certificates/c/"+version {
			t.Errorf("path %s", req.URL.Path)
		}
		return answer(http.StatusOK, `{"id":"https://contoso.vault.azure.net/certificates/c/`+version+`","cer":"AQID","attributes":{"nbf":1,"exp":2}}`)
	})
	o := object(request.TypeCert, "c")
	o.Version = version
	got, err := r.Get(t.Context(), caller("a"), o, fresh())()
	if err != nil {
		t.Fatal(err)
	}
	if got.Version != version || string(got.CER) != "\x01\x02\x03" || got.NotBefore.Unix() != 1 || got.Expires.Unix() != 2 {
		t.Errorf("got %+v", got)
	}
}

// An answer for another object than the requested one must never become a file.
func TestForeignKeysAndCertificates(t *testing.T) {
	for name, c := range map[string]struct {
		kind request.Type
		body string
	}{
		"no key":            {request.TypeKey, `{}`},
		"key without ID":    {request.TypeKey, `{"key":{"kty":"RSA"}}`},
		"key without type":  {request.TypeKey, `{"key":{"kid":"https://contoso.vault.azure.net/keys/x/` + version + `"}}`},
		"other key":         {request.TypeKey, `{"key":{"kty":"RSA","kid":"https://contoso.vault.azure.net/keys/other/` + version + `"}}`},
		"certificate":       {request.TypeCert, `{}`},
		"empty certificate": {request.TypeCert, `{"cer":"","id":"https://contoso.vault.azure.net/certificates/x/` + version + `"}`},
		"other certificate": {request.TypeCert, `{"cer":"AQ","id":"https://contoso.vault.azure.net/certificates/other/` + version + `"}`},
		"odd ID":            {request.TypeCert, `{"cer":"AQ","id":"::"}`},
	} {
		t.Run(name, func(t *testing.T) {
			r := reader(t, 1, func(*http.Request) (*http.Response, error) { return answer(http.StatusOK, c.body) })
			got, err := r.Get(t.Context(), caller("a"), object(c.kind, "x"), fresh())()
			wantReason(t, err, fault.ServiceUnavailable)
			if got.Version != "" || got.Key != nil || got.CER != nil {
				t.Errorf("a value came with the error: %+v", got)
			}
		})
	}
}

func wantReason(t *testing.T, err error, want fault.Reason) {
	t.Helper()
	var typed *fault.Error
	if !errors.As(err, &typed) || typed.Reason != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// listed is an entry of a list of versions.
func listed(kind, id string, created int, rest string) string {
	return fmt.Sprintf(`{"id":"https://contoso.vault.azure.net/%[1]ss/x/%[2]s","kid":"https://contoso.vault.azure.net/%[1]ss/x/%[2]s","attributes":{"created":%[3]d%[4]s}}`,
		kind, id, created, rest)
}

func TestVersions(t *testing.T) {
	for _, c := range []struct {
		name, first string
		n           int
		want        string
	}{
		{"newest first", "", 9, "f d c b a"},
		{"as many as requested", "", 2, "f d"},
		{"from one in the middle on", "d", 2, "d c"},
		{"letter case of a version", "D", 2, "d c"},
		{"fewer than requested", "b", 5, "b a"},
		{"from one that is not there", "0", 5, ""},
		{"from one that is disabled", "e", 5, ""},
	} {
		for _, kind := range []request.Type{request.TypeSecret, request.TypeKey, request.TypeCert} {
			t.Run(c.name+"/"+string(kind), func(t *testing.T) {
				word := string(kind)
				if kind == request.TypeCert {
					word = "certificate"
				}
				r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
					if req.URL.Path != "/"+word+"s/x/versions" || req.Header.Get("Authorization") == "" {
						t.Errorf("path %s", req.URL.Path)
					}
					if req.URL.Query().Get("page") == "" {
						// c and d were made in the same second.
						return answer(http.StatusOK, `{"value":[null,`+listed(word, "a", 1, "")+","+listed(word, "f", 9, `,"enabled":true`)+","+listed(word, "d", 3, "")+
							`],"nextLink":"https://contoso.vault.azure.net:443`+req.URL.Path+`?page=2"}`)
					}
					return answer(http.StatusOK, `{"value":[`+listed(word, "c", 3, "")+","+listed(word, "e", 8, `,"enabled":false`)+","+listed(word, "b", 2, "")+
						`,{"id":"https://contoso.vault.azure.net/secrets/x/0"},{}]}`)
				})
				o := object(kind, "x")
				o.Version = c.first
				got, err := r.Versions(t.Context(), caller("a"), o, c.n, fresh())()
				if err != nil || strings.Join(got, " ") != c.want {
					t.Errorf("got %v, %v, want %s", got, err, c.want)
				}
			})
		}
	}
}

// The token goes to no other host, whatever a list says of its next page.
func TestNextPageElsewhere(t *testing.T) {
	for _, link := range []string{"https://evil.example/secrets", "https://contoso.vault.azure.net.evil.example/", "http://contoso.vault.azure.net/",
		"https://contoso.vault.azure.net:8443/", "https://other.vault.azure.net/"} {
		r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
			if req.URL.Host != host || req.URL.Scheme != "https" {
				t.Errorf("a request to %s", req.URL)
			}
			return answer(http.StatusOK, `{"value":[],"nextLink":"`+link+`"}`)
		})
		_, err := r.Versions(t.Context(), caller("a"), object(request.TypeSecret, "x"), 2, fresh())()
		wantReason(t, err, fault.ServiceUnavailable)
	}
}

func TestEndlessList(t *testing.T) {
	var pages atomic.Int32
	r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
		pages.Add(1)
		return answer(http.StatusOK, `{"value":[],"nextLink":"https://contoso.vault.azure.net/secrets/x/versions?a=b"}`)
	})
	_, err := r.Versions(t.Context(), caller("a"), object(request.TypeSecret, "x"), 2, fresh())()
	wantReason(t, err, fault.VaultRefused)
	if pages.Load() != 400 {
		t.Errorf("%d pages", pages.Load())
	}
}

// What may not be listed says which right is missing, for each type its own.
func TestListDenied(t *testing.T) {
	for kind, says := range map[request.Type][]string{
		request.TypeSecret: {`"Key Vault Secrets User"`, `)/secrets/x"` + "` (takes minutes)", "--secret-permissions get list", "replaces its secret permissions"},
		request.TypeKey:    {`"Key Vault Reader"`, `)/keys/x"` + "` (takes minutes)", "--key-permissions get list", "replaces its key permissions"},
		request.TypeCert:   {`"Key Vault Reader"`, `)/certificates/x"` + "` (takes minutes)", "--certificate-permissions get list", "replaces its certificate permissions"},
	} {
		r := reader(t, 1, func(*http.Request) (*http.Response, error) {
			return answer(http.StatusForbidden, `{"error":{"code":"Forbidden","innererror":{"code":"Odd"}}}`)
		})
		_, err := r.Versions(t.Context(), caller("a"), object(kind, "x"), 2, fresh())()
		wantReason(t, err, fault.AccessDenied)
		for _, s := range append(says, "list the versions", "objectVersionHistory") {
			if err == nil || !strings.Contains(err.Error(), s) {
				t.Errorf("does not say %q: %v", s, err)
			}
		}
	}
}

// A missing object's name is looked for under the other types, once in a while and
// for each principal.
func TestOtherType(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var paths []string
	r := configured(t, func(req *http.Request) (*http.Response, error) {
		paths = append(paths, req.URL.Path)
		if strings.HasPrefix(req.URL.Path, "/certificates/tls") {
			return answer(http.StatusOK, `{"id":"https://contoso.vault.azure.net/certificates/tls/`+version+`","cer":"AQID"}`)
		}
		return answer(http.StatusNotFound, `{"error":{"code":"SecretNotFound"}}`)
	}, func(c *keyvault.Config) { c.Now = func() time.Time { return now } })
	get := func(who, name string, want ...string) error {
		t.Helper()
		paths = nil
		_, err := r.Get(t.Context(), caller(who), object(request.TypeKey, name), fresh())()
		err = r.Suggest(t.Context(), caller(who), object(request.TypeKey, name), err)()
		wantReason(t, err, fault.ObjectNotFound)
		if !slices.Equal(paths, want) {
			t.Errorf("requested %v, want %v", paths, want)
		}
		return err
	}
	says := "a certificate of that name exists: set objectType to cert"
	if err := get("a", "tls", "/keys/tls/", "/certificates/tls/"); !strings.Contains(err.Error(), says) {
		t.Errorf("got %v", err)
	}
	if err := get("a", "tls", "/keys/tls/"); !strings.Contains(err.Error(), says) {
		t.Errorf("got %v", err)
	}
	_ = get("b", "tls", "/keys/tls/", "/certificates/tls/")
	if err := get("a", "none", "/keys/none/", "/certificates/none/", "/secrets/none/"); strings.Contains(err.Error(), "of that name") {
		t.Errorf("got %v", err)
	}
	_ = get("a", "none", "/keys/none/")
	now = now.Add(10 * time.Minute)
	_ = get("a", "none", "/keys/none/", "/certificates/none/", "/secrets/none/")
}

// However many objects are missing, each is looked for at most once in ten minutes: what is found is
// not evicted, and of the others the error stays as it is. Callers that ask at the same time count too.
func TestSuggestionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 1024
		var requests atomic.Int64
		r := configured(t, func(*http.Request) (*http.Response, error) {
			requests.Add(1)
			time.Sleep(time.Millisecond)
			return answer(http.StatusNotFound, `{"error":{"code":"SecretNotFound"}}`)
		}, nil)
		missing := &fault.Error{Reason: fault.ObjectNotFound}
		for i, want := range []int64{2 * most, 0, 2 * most} {
			requests.Store(0)
			var waits []func() error
			for n := range most + 100 {
				waits = append(waits, r.Suggest(t.Context(), caller("a"), object(request.TypeKey, fmt.Sprint("k", n)), missing))
			}
			for _, wait := range waits {
				if err := wait(); err != missing {
					t.Fatalf("got %v", err)
				}
			}
			if n := requests.Load(); n != want {
				t.Errorf("round %d: %d requests, want %d", i, n, want)
			}
			if i > 0 {
				time.Sleep(11 * time.Minute)
			}
		}
	})
}

func TestResource(t *testing.T) {
	const stackHost, fallback = "kv.vault.stack.example", "https://from.the.file.example"
	for challenge, want := range map[string]string{
		`Bearer authorization="https://login.example/t", resource="https://vault.stack.example"`:           "https://vault.stack.example",
		`Bearer authorization="https://login.example/t", resource="https://stack.example/"`:                "https://stack.example",
		`Bearer authorization="https://login.example/t" scope="https://vault.stack.example/.default" x=""`: "https://vault.stack.example",
		`Bearer authorization="https://login.example/t", resource="https://vault.azure.net"`:               fallback,
		`Bearer authorization="https://login.example/t", resource="https://kv.vault.stack.example"`:        fallback, // not above it
		`Bearer authorization="https://login.example/t", resource="http://stack.example"`:                  fallback,
		`Bearer authorization="https://login.example/t", resource="https://a@stack.example"`:               fallback,
		`Bearer authorization="https://login.example/t", resource="https://xstack.example"`:                fallback,
		`Bearer`: fallback,
		``:       fallback,
	} {
		t.Run(challenge, func(t *testing.T) {
			asked := 0
			r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
				asked++
				if req.Header.Get("Authorization") != "" || req.URL.Host != stackHost {
					t.Errorf("requested %s with %q", req.URL, req.Header.Get("Authorization"))
				}
				resp, err := answer(http.StatusUnauthorized, `{}`)
				resp.Header.Set("WWW-Authenticate", challenge)
				return resp, err
			})
			for range 2 {
				if got, err := r.Resource(t.Context(), stackHost, fallback); err != nil || got != want {
					t.Errorf("got %q, %v, want %q", got, err, want)
				}
			}
			// What the vault did not say is not cached.
			if once := want != fallback; once && asked != 1 || !once && asked != 2 {
				t.Errorf("%d requests", asked)
			}
		})
	}
}

// A vault that is unavailable does not decide the audience of tokens from then on.
func TestResourceOfAnUnavailableVault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stackHost, fallback, own = "kv.vault.stack.example", "https://from.the.file.example", "https://vault.stack.example"
		down := true
		r := reader(t, 1, func(*http.Request) (*http.Response, error) {
			if down {
				return answer(http.StatusServiceUnavailable, "")
			}
			resp, err := answer(http.StatusUnauthorized, `{}`)
			resp.Header.Set("WWW-Authenticate", `Bearer resource="`+own+`"`)
			return resp, err
		})
		_, err := r.Resource(t.Context(), stackHost, fallback)
		wantReason(t, err, fault.ServiceUnavailable)
		if err == nil || !strings.Contains(err.Error(), "503") || strings.Contains(err.Error(), "{") {
			t.Errorf("got %v", err)
		}
		down = false
		if got, err := r.Resource(t.Context(), stackHost, fallback); err != nil || got != own {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestResourceOfAVaultThatIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := reader(t, 1, func(*http.Request) (*http.Response, error) { return nil, errors.New("broken") })
		_, err := r.Resource(t.Context(), host, "https://x.example")
		wantReason(t, err, fault.ServiceUnavailable)
		if err == nil || strings.Contains(err.Error(), "{") || !strings.Contains(err.Error(), host) {
			t.Errorf("got %v", err)
		}
	})
}
