package entra_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/transport"
)

// clock is set by hand.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// accounts is a cluster with one annotated account, shop/reader.
func accounts(t testing.TB) (*world, *azuretest.APIServer, *entra.Accounts, *clock, string) {
	t.Helper()
	w := newWorld(t)
	api, dir := w.apiServer(t)
	api.SetServiceAccount("shop", "reader", map[string]string{
		entra.ClientIDAnnotation: clientID, entra.TenantIDAnnotation: " " + tenantID + "\n", "other": "CANARY",
	})
	now := &clock{now: time.Unix(1700000000, 0)}
	return w, api, newAccounts(t, "https://"+api.Addr(), dir, now.Now), now, dir
}

func newAccounts(t testing.TB, host, dir string, now func() time.Time) *entra.Accounts {
	t.Helper()
	a, err := entra.NewAccounts(entra.AccountsConfig{
		Host: host, TokenFile: filepath.Join(dir, "token"), CAFile: filepath.Join(dir, "ca.crt"), UserAgent: "test", Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestLookup(t *testing.T) {
	w, api, a, now, _ := accounts(t)
	want := entra.Annotations{ClientID: clientID, TenantID: tenantID}
	look := func(name string, want entra.Annotations, requests int) {
		t.Helper()
		got, err := a.Lookup(t.Context(), "shop", name)
		if err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if n := w.Count(azuretest.Lookup); n != requests {
			t.Errorf("%d requests, want %d", n, requests)
		}
	}
	look("reader", want, 1)
	if r := w.Requests()[0]; r.Path != "/api/v1/namespaces/shop/serviceaccounts/reader" || r.UserAgent != "test" {
		t.Errorf("got %+v", r)
	}
	api.SetServiceAccount("shop", "reader", map[string]string{entra.ClientIDAnnotation: "new"})
	now.add(time.Minute - 1)
	look("reader", want, 1)
	now.add(1)
	look("reader", entra.Annotations{ClientID: "new"}, 2)

	// Without annotations, the answer is soon asked for again.
	api.SetServiceAccount("shop", "bare", nil)
	look("bare", entra.Annotations{}, 3)
	look("bare", entra.Annotations{}, 3)
	api.SetServiceAccount("shop", "bare", map[string]string{entra.TenantIDAnnotation: "added"})
	now.add(2 * time.Second)
	look("bare", entra.Annotations{TenantID: "added"}, 4)

	// One account's name is never another's.
	api.SetServiceAccount("shop", "long", map[string]string{entra.ClientIDAnnotation: strings.Repeat("é\n", 10000)})
	look("long", entra.Annotations{ClientID: strings.Repeat("é", 256)}, 5)
}

// A failure is not remembered, and what was known before is forgotten.
func TestLookupRefusals(t *testing.T) {
	const rule = `apiGroups: [""], resources: ["serviceaccounts"], verbs: ["get"]`
	for _, c := range []struct {
		name   string
		setup  func(*world, *azuretest.APIServer, string)
		undo   func(*world, *azuretest.APIServer)
		reason string
		says   []string
	}{
		{"forbidden", func(_ *world, api *azuretest.APIServer, _ string) { api.Forbid(true) }, func(_ *world, api *azuretest.APIServer) { api.Forbid(false) },
			entra.ReasonServiceAccountLookupForbidden, []string{"shop/reader", rule, "clientID"}},
		{"unauthorized", fault(azuretest.Fault{Status: 401}), nil, entra.ReasonServiceAccountLookupForbidden, []string{"own token", "clientID"}},
		{"deleted", func(_ *world, api *azuretest.APIServer, _ string) { api.DeleteServiceAccount("shop", "reader") },
			func(_ *world, api *azuretest.APIServer) {
				api.SetServiceAccount("shop", "reader", map[string]string{entra.ClientIDAnnotation: clientID})
			}, entra.ReasonServiceAccountLookupForbidden, []string{"no ServiceAccount shop/reader"}},
		{"throttled", fault(azuretest.Fault{Status: 429, RetryAfter: "1"}), nil, entra.ReasonServiceUnavailable, []string{"Kubernetes API server", "429 Too Many Requests"}},
		{"broken", fault(azuretest.Fault{Status: 500}), nil, entra.ReasonServiceUnavailable, []string{"500 Internal Server Error"}},
		{"page", fault(azuretest.Fault{HTML: true}), nil, entra.ReasonServiceUnavailable, []string{"no ServiceAccount"}},
		{"reset", fault(azuretest.Fault{Reset: true}), nil, entra.ReasonServiceUnavailable, []string{"Kubernetes API server", "127.0.0.1", "closed by the other side"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, api, a, now, dir := accounts(t)
			if _, err := a.Lookup(t.Context(), "shop", "reader"); err != nil {
				t.Fatal(err)
			}
			now.add(time.Hour)
			c.setup(w, api, dir)
			w.ResetCounts()
			for range 2 {
				_, err := a.Lookup(t.Context(), "shop", "reader")
				checkRefusal(t, err, c.reason, c.says...)
			}
			if n := w.Count(azuretest.Lookup); n > 3 { // net/http repeats what a kept connection lost
				t.Errorf("%d requests for two mounts", n)
			}
			w.ClearFaults()
			if c.undo != nil {
				c.undo(w, api)
			}
			if got, err := a.Lookup(t.Context(), "shop", "reader"); err != nil || got.ClientID != clientID {
				t.Errorf("after it: %+v, %v", got, err)
			}
		})
	}
}

func fault(f azuretest.Fault) func(*world, *azuretest.APIServer, string) {
	return func(w *world, _ *azuretest.APIServer, _ string) { w.SetFault(azuretest.Lookup, f) }
}

// The token of the provider is read with every request and shown to nobody.
func TestProvidersOwnToken(t *testing.T) {
	_, _, a, now, dir := accounts(t)
	file := filepath.Join(dir, "token")
	right, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ content, says string }{{"CANARY", "does not take the provider's own token"}, {" \n", "no service-account token of its own"}} {
		if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := a.Lookup(t.Context(), "shop", "reader")
		checkRefusal(t, err, entra.ReasonServiceAccountLookupForbidden, c.says)
		if strings.Contains(err.Error(), "CANARY") {
			t.Errorf("got %v", err)
		}
	}
	if err := os.WriteFile(file, append(right, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	now.add(time.Hour)
	if _, err := a.Lookup(t.Context(), "shop", "reader"); err != nil {
		t.Error(err)
	}
}

// Names come from kubelet; what would lead to another path is not asked for.
func TestLookupOfWhatIsNoName(t *testing.T) {
	w, _, a, _, _ := accounts(t)
	for _, c := range [][2]string{
		{"shop", ""}, {"", "reader"}, {"shop", "../secrets/x"}, {"shop/secrets", "x"}, {"..", "x"}, {"shop", "."}, {"shop", "a..b"},
		{"shop", "a?b"}, {"shop", "a%2fb"}, {"Shop", "x"}, {"shop", strings.Repeat("a", 254)},
	} {
		_, err := a.Lookup(t.Context(), c[0], c[1])
		checkRefusal(t, err, entra.ReasonServiceAccountLookupForbidden, "podInfoOnMount")
	}
	if n := w.Count(azuretest.Lookup); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestLookupOutsideACluster(t *testing.T) {
	none, err := entra.NewAccounts(entra.AccountsConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []*entra.Accounts{nil, none} {
		_, err := a.Lookup(t.Context(), "shop", "reader")
		checkRefusal(t, err, entra.ReasonServiceAccountLookupForbidden, "not run in a cluster", "clientID")
	}
	for _, c := range []entra.AccountsConfig{
		{Host: "http://10.0.0.1", TokenFile: "x", CAFile: "x"}, {Host: "https://10.0.0.1", TokenFile: "x"}, {Host: "https://10.0.0.1", CAFile: "x"},
	} {
		if _, err := entra.NewAccounts(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func TestMuteAPIServer(t *testing.T) {
	w, _, a, _, _ := accounts(t)
	w.SetFault(azuretest.Lookup, azuretest.Fault{Stall: true})
	_, err := a.Lookup(outOfTime(t), "shop", "reader")
	checkRefusal(t, err, transport.ReasonTimeout, "Kubernetes API server", "shop/reader", "127.0.0.1", "clientID")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Lookup(ctx, "shop", "reader"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAPIServerOfAnotherCA(t *testing.T) {
	w, api, _, _, dir := accounts(t)
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), w.CACert(), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := newAccounts(t, "https://"+api.Addr(), dir, nil).Lookup(t.Context(), "shop", "reader")
	checkRefusal(t, err, transport.ReasonTLSUntrusted, "Kubernetes API server", "unknown authority", "clientID")
}

// The token goes to the apiserver only, wherever that says to go.
func TestNoRedirectsAndNoServerText(t *testing.T) {
	var asked sync.Map
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a request with %d bytes of Authorization", len(r.Header.Get("Authorization")))
	}))
	t.Cleanup(elsewhere.Close)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.URL.Path, true)
		w.Header().Set("Warning", `299 - "CANARY"`)
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/moved"):
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		case strings.HasSuffix(r.URL.Path, "/teapot"):
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"CANARY\nCANARY","reason":"CANARY","code":418}`)
		case strings.HasSuffix(r.URL.Path, "/cut"):
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "CANARY")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		default:
			_, _ = io.WriteString(w, `{"kind":"CANARY","apiVersion":"v1","metadata":"CANARY"}`)
		}
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	writePEM(t, filepath.Join(dir, "ca.crt"), server.Certificate().Raw)
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("CANARY"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := newAccounts(t, server.URL, dir, nil)
	stderr := captureStderr(t)
	for _, name := range []string{"moved", "teapot", "cut", "odd"} {
		_, err := a.Lookup(t.Context(), "shop", name)
		checkRefusal(t, err, entra.ReasonServiceUnavailable)
		if strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: got %v", name, err)
		}
		if _, ok := asked.Load("/api/v1/namespaces/shop/serviceaccounts/" + name); !ok {
			t.Errorf("%s was not asked for", name)
		}
	}
	if out := stderr(); out != "" {
		t.Errorf("printed %q", out)
	}
}
