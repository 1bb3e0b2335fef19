package keyvault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/throttle"
	"akv-csi-provider/provider/transport"
)

const host = "contoso.vault.azure.net"

// vault answers requests as a test says.
type vault func(*http.Request) (*http.Response, error)

func (v vault) RoundTrip(req *http.Request) (*http.Response, error) { return v(req) }

func answer(status int, body string) (*http.Response, error) {
	return &http.Response{
		StatusCode: status, Body: io.NopCloser(strings.NewReader(body)),
		Header: http.Header{"Content-Type": {"application/json"}, "Www-Authenticate": {`Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net"`}},
	}, nil
}

// secret is Key Vault's answer for the requested secret.
func secret(req *http.Request, value string) (*http.Response, error) {
	name := strings.Split(req.URL.Path, "/")[2]
	return answer(http.StatusOK, fmt.Sprintf(`{"value":%q,"id":"https://%s/secrets/%s/0123456789abcdef0123456789abcdef"}`, value, req.URL.Host, name))
}

func reader(t *testing.T, concurrency int, v vault) *keyvault.Reader {
	t.Helper()
	return configured(t, v, func(c *keyvault.Config) { c.Throttle.Max = concurrency })
}

func configured(t *testing.T, v vault, change func(*keyvault.Config)) *keyvault.Reader {
	t.Helper()
	cfg := keyvault.Config{
		Transport:  transport.New(v, "test").For(transport.PhaseRead),
		Throttle:   throttle.Config{Max: 32, Retries: 2},
		Timeout:    50 * time.Second,
		CacheBytes: 16 << 20,
	}
	if change != nil {
		change(&cfg)
	}
	r, err := keyvault.NewReader(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fresh is the need of a pod that starts now.
func fresh() keyvault.Freshness { return keyvault.Freshness{NotBefore: time.Now(), Urgent: true} }

func caller(name string) keyvault.Caller {
	return keyvault.Caller{Principal: keyvault.Principal{TenantID: "tenant", ClientID: name}, Token: "token of x", Expires: time.Now().Add(time.Hour)}
}

func TestSecret(t *testing.T) {
	r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
		if got := req.Header.Get("Authorization"); got != "Bearer token of x" {
			t.Errorf("authorization %q", got)
		}
		if got := req.URL.Path; got != "/secrets/my-secret/0123456789abcdef0123456789abcdef" {
			t.Errorf("path %s", got)
		}
		return answer(http.StatusOK, `{"value":"v","contentType":"text/plain","kid":"https://contoso.vault.azure.net/keys/my-secret/1",`+
			`"id":"https://contoso.vault.azure.net/secrets/My-Secret/0123456789abcdef0123456789abcdef","attributes":{"enabled":true,"nbf":1,"exp":2}}`)
	})
	got, err := r.Get(t.Context(), caller("a"), keyvault.Object{Host: host, Type: request.TypeSecret, Name: "my-secret", Version: "0123456789abcdef0123456789abcdef"}, fresh())()
	if err != nil {
		t.Fatal(err)
	}
	if got.Text != "v" || got.Version != "0123456789abcdef0123456789abcdef" || got.ContentType != "text/plain" || !got.Managed ||
		got.NotBefore.Unix() != 1 || got.Expires.Unix() != 2 {
		t.Errorf("got %+v", got)
	}
}

// An answer for another object than the requested one must never become a file.
func TestForeignAnswer(t *testing.T) {
	for name, body := range map[string]string{
		"no value":     `{"id":"https://contoso.vault.azure.net/secrets/my-secret/1"}`,
		"no version":   `{"value":"v","id":"https://contoso.vault.azure.net/secrets/my-secret"}`,
		"no ID":        `{"value":"v"}`,
		"odd ID":       `{"value":"v","id":"::"}`,
		"short ID":     `{"value":"v","id":"https://contoso.vault.azure.net"}`,
		"older one":    `{"value":"v","id":"https://contoso.vault.azure.net/secrets/my-secret/2"}`,
		"other secret": `{"value":"v","id":"https://contoso.vault.azure.net/secrets/other/1"}`,
		"empty":        `{}`,
		"no JSON":      `ok`,
	} {
		t.Run(name, func(t *testing.T) {
			r := reader(t, 1, func(*http.Request) (*http.Response, error) { return answer(http.StatusOK, body) })
			_, err := r.Get(t.Context(), caller("a"), keyvault.Object{Host: host, Type: request.TypeSecret, Name: "my-secret", Version: "1"}, fresh())()
			var typed *fault.Error
			if !errors.As(err, &typed) || typed.Reason != fault.ServiceUnavailable {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Tokens never mix, and the SDK never requests another one, whatever 401s
// other callers of the vault get.
func TestTokensDoNotMix(t *testing.T) {
	r := reader(t, 8, func(req *http.Request) (*http.Response, error) {
		name := strings.Split(req.URL.Path, "/")[2]
		switch got := req.Header.Get("Authorization"); {
		case got != "Bearer "+name:
			t.Errorf("secret of %s read with %q", name, got)
		case strings.HasPrefix(name, "refused"):
			return answer(http.StatusUnauthorized, `{"error":{"code":"Unauthorized","message":"AKV10032: Invalid issuer."}}`)
		}
		return secret(req, name)
	})
	var group sync.WaitGroup
	for i := range 200 {
		group.Go(func() {
			name := []string{"good", "refused"}[i%2] + fmt.Sprint(i)
			got, err := r.Get(t.Context(), keyvault.Caller{Principal: keyvault.Principal{ClientID: name}, Token: request.Secret(name), Expires: time.Now().Add(time.Hour)}, keyvault.Object{Host: host, Type: request.TypeSecret, Name: name, Version: ""}, fresh())()
			var typed *fault.Error
			switch {
			case i%2 == 0 && (err != nil || got.Text != name):
				t.Errorf("%s: got %q, %v", name, got.Text, err)
			case i%2 == 1 && (!errors.As(err, &typed) || typed.Reason != fault.WrongTenant):
				t.Errorf("%s: got %v", name, err)
			}
		})
	}
	group.Wait()
}

// inBubble runs a test under its own clock (package synctest).
func inBubble(t *testing.T, name string, test func(*testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

func TestNoRequestWithoutAToken(t *testing.T) {
	r := reader(t, 1, func(*http.Request) (*http.Response, error) {
		t.Error("a request left")
		return answer(http.StatusOK, "{}")
	})
	if _, err := r.Get(t.Context(), keyvault.Caller{}, keyvault.Object{Host: host, Type: request.TypeSecret, Name: "my-secret", Version: ""}, fresh())(); err == nil {
		t.Error("no error")
	}
}

func TestAttempts(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		want   int32
	}{
		"access denied":          {403, `{"error":{"code":"Forbidden","innererror":{"code":"ForbiddenByRbac"}}}`, 1},
		"not found":              {404, `{"error":{"code":"SecretNotFound"}}`, 1},
		"token rejected":         {401, `{"error":{"code":"Unauthorized","message":"AKV10022: Invalid audience."}}`, 1},
		"signing key not known":  {401, `{"error":{"code":"Unauthorized","message":"AKV10046: Unable to resolve the key"}}`, 3},
		"throttled":              {429, `{"error":{"code":"Throttled"}}`, 3},
		"unavailable":            {503, `<html>`, 3},
		"claims challenge (CAE)": {401, `{"error":{"code":"Unauthorized"}}`, 1},
	} {
		inBubble(t, name, func(t *testing.T) {
			var attempts atomic.Int32
			r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
				if strings.HasPrefix(req.URL.Path, "/secrets/") { // others look for the name under another type
					attempts.Add(1)
				}
				resp, err := answer(c.status, c.body)
				if strings.Contains(name, "CAE") {
					resp.Header.Set("WWW-Authenticate", `Bearer realm="", error="insufficient_claims", claims="e30="`)
				}
				return resp, err
			})
			_, err := r.Get(t.Context(), caller("a"), keyvault.Object{Host: host, Type: request.TypeSecret, Name: "my-secret", Version: ""}, fresh())()
			if err == nil || attempts.Load() != c.want {
				t.Errorf("%d attempts, want %d; %v", attempts.Load(), c.want, err)
			}
		})
	}
}

// At most so many requests are under way to one vault; who waits for a place goes when
// its time is up.
func TestConcurrencyIsBounded(t *testing.T) {
	const bound = 3
	var now, most atomic.Int32
	full, release := make(chan struct{}, 64), make(chan struct{})
	r := reader(t, bound, func(req *http.Request) (*http.Response, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		full <- struct{}{}
		<-release
		return secret(req, "v")
	})
	var group sync.WaitGroup
	for i := range 10 {
		group.Go(func() {
			if _, err := r.Get(fair.WithTenant(t.Context(), fmt.Sprint(i)), caller("a"), object(request.TypeSecret, fmt.Sprint("s", i)), fresh())(); err != nil {
				t.Error(err)
			}
		})
	}
	for range bound {
		<-full
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := r.Get(ctx, caller("a"), object(request.TypeSecret, "late"), fresh())()
	var typed *fault.Error
	if !errors.As(err, &typed) || typed.Reason != fault.Timeout || !strings.Contains(err.Error(), `"late"`) {
		t.Errorf("got %v", err)
	}
	close(release)
	group.Wait()
	if got := most.Load(); got != bound {
		t.Errorf("%d requests at once, want %d", got, bound)
	}
}

// A single attempt may not take all of the time.
func TestAttemptsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts atomic.Int32
		r := configured(t, func(req *http.Request) (*http.Response, error) {
			if attempts.Add(1) == 1 {
				<-req.Context().Done() // a stall
				return nil, req.Context().Err()
			}
			return secret(req, "v")
		}, func(c *keyvault.Config) { c.Throttle.Retries = 1 })
		if got, err := r.Get(t.Context(), caller("a"), object(request.TypeSecret, "my-secret"), fresh())(); err != nil || got.Text != "v" || attempts.Load() != 2 {
			t.Errorf("got %v after %d attempts, %v", got, attempts.Load(), err)
		}
	})
}

// A vault that never answers is a time-out also to a caller whose time ends after an attempt's.
func TestEveryAttemptStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := configured(t, func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}, func(c *keyvault.Config) { c.Throttle.Retries = 100 })
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		_, err := r.Get(ctx, caller("a"), object(request.TypeSecret, "my-secret"), fresh())()
		var typed *fault.Error
		if !errors.As(err, &typed) || typed.Reason != fault.Timeout || !strings.Contains(err.Error(), `"my-secret"`) {
			t.Errorf("got %v", err)
		}
	})
}

func TestCallerThatLeaves(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
		cancel()
		<-req.Context().Done()
		return nil, req.Context().Err()
	})
	if _, err := r.Get(ctx, caller("a"), object(request.TypeSecret, "my-secret"), fresh())(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// The failures of many objects with one cause are one error that names them.
func TestErrorOfManyObjects(t *testing.T) {
	r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
		if strings.Contains(req.URL.Path, "off") {
			return answer(http.StatusForbidden, `{"error":{"code":"Forbidden","innererror":{"code":"SecretDisabled"}}}`)
		}
		return answer(http.StatusNotFound, `{"error":{"code":"SecretNotFound"}}`)
	})
	failure := func(name string) error {
		_, err := r.Get(t.Context(), caller("a"), keyvault.Object{Host: host, Type: request.TypeSecret, Name: name}, fresh())()
		return err
	}
	errs := []error{failure("off")}
	for i := range 60 {
		errs = append(errs, failure(fmt.Sprintf("s%d", i)))
	}
	several, ok := errors.AsType[fault.Errors](fault.Join(errs))
	if !ok || len(several) != 2 {
		t.Fatalf("got %v", fault.Join(errs))
	}
	if text := several[1].Error(); !strings.Contains(text, `secret "s49", and 10 more;`) || strings.Contains(text, "s50") {
		t.Errorf("got %s", text)
	}
}

func TestNewReaderChecks(t *testing.T) {
	if _, err := keyvault.NewReader(keyvault.Config{}); err == nil {
		t.Error("an empty configuration passes")
	}
}

// A message reads well for each status, also for those that have no standard phrase.
func TestStatusWithoutPhrase(t *testing.T) {
	for status := 400; status < 600; status++ {
		for _, body := range []string{"", `{"error":{"code":"Failed"}}`} {
			r := configured(t, func(*http.Request) (*http.Response, error) { return answer(status, body) },
				func(c *keyvault.Config) { c.Throttle.Retries = 0 })
			_, err := r.Get(t.Context(), caller("a"), object(request.TypeSecret, "s"), fresh())()
			if err == nil || strings.Contains(err.Error(), "  ") || strings.Contains(err.Error(), " ;") {
				t.Errorf("%d: %v", status, err)
			}
		}
	}
}
