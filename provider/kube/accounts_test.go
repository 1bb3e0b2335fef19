package kube_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/kube"
)

func TestLookup(t *testing.T) {
	w := newWorld(t)
	a := w.accounts(t)
	want := kube.Annotations{ClientID: clientID, TenantID: tenantID}
	lookup := func(name string, want kube.Annotations, requests int) {
		t.Helper()
		got, err := a.Lookup(t.Context(), "shop", name)
		if err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if n := w.Count(azuretest.Lookup); n != requests {
			t.Errorf("%d requests, want %d", n, requests)
		}
	}
	lookup("reader", want, 1)
	if r := w.Requests()[0]; r.Path != "/api/v1/namespaces/shop/serviceaccounts/reader" || r.UserAgent != "test" {
		t.Errorf("got %+v", r)
	}
	w.api.SetServiceAccount("shop", "reader", map[string]string{kube.ClientIDAnnotation: "new"})
	w.clock.add(time.Minute - 1)
	lookup("reader", want, 1)
	w.clock.add(1)
	lookup("reader", kube.Annotations{ClientID: "new"}, 2)

	// An answer without annotations is cached for a moment only.
	w.api.SetServiceAccount("shop", "bare", nil)
	lookup("bare", kube.Annotations{}, 3)
	w.clock.add(2*time.Second - 1)
	lookup("bare", kube.Annotations{}, 3)
	w.api.SetServiceAccount("shop", "bare", map[string]string{kube.TenantIDAnnotation: "added"})
	w.clock.add(1)
	lookup("bare", kube.Annotations{TenantID: "added"}, 4)

	// One account's name is never another's.
	w.api.SetServiceAccount("shop", "my-account.v2", map[string]string{kube.ClientIDAnnotation: strings.Repeat("é\n", 10000)})
	lookup("my-account.v2", kube.Annotations{ClientID: strings.Repeat("é", 256)}, 5)
	lookup("reader", kube.Annotations{ClientID: "new"}, 5)
}

// A failure is not cached, and what was cached before is not used.
func TestLookupFailures(t *testing.T) {
	const rule = `allow get on serviceaccounts`
	with := func(f azuretest.Fault) func(*world) { return func(w *world) { w.SetFault(azuretest.Lookup, f) } }
	for _, c := range []struct {
		name   string
		setup  func(*world)
		reason fault.Reason
		says   []string
	}{
		{"forbidden", func(w *world) { w.api.Forbid(true) }, fault.ServiceAccountLookupForbidden, []string{"shop/reader", rule, "clientID"}},
		{"unauthorized", with(azuretest.Fault{Status: 401}), fault.ServiceAccountLookupForbidden, []string{"own token", "clientID"}},
		{"deleted", func(w *world) { w.api.DeleteServiceAccount("shop", "reader") }, fault.ServiceAccountLookupForbidden, []string{"ServiceAccount shop/reader does not exist"}},
		{"throttled", with(azuretest.Fault{Status: 429, RetryAfter: "1"}), fault.ServiceUnavailable, []string{"Kubernetes API server", "429 Too Many Requests"}},
		{"broken", with(azuretest.Fault{Status: 500}), fault.ServiceUnavailable, []string{"500 Internal Server Error"}},
		{"page", with(azuretest.Fault{HTML: true}), fault.ServiceUnavailable, []string{"not a ServiceAccount"}},
		{"reset", with(azuretest.Fault{Reset: true}), fault.ServiceUnavailable, []string{"Kubernetes API server", "127.0.0.1", "connection reset"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a := w.accounts(t)
			if _, err := a.Lookup(t.Context(), "shop", "reader"); err != nil {
				t.Fatal(err)
			}
			w.clock.add(time.Hour)
			c.setup(w)
			w.ResetCounts()
			for range 2 {
				_, err := a.Lookup(t.Context(), "shop", "reader")
				checkFault(t, err, c.reason, c.says...)
			}
			if n := w.Count(azuretest.Lookup); n < 2 || n > 3 { // net/http repeats what an old connection lost
				t.Errorf("%d requests for two mounts", n)
			}
			w.ClearFaults()
			w.api.Forbid(false)
			w.api.SetServiceAccount("shop", "reader", map[string]string{kube.ClientIDAnnotation: clientID})
			if got, err := a.Lookup(t.Context(), "shop", "reader"); err != nil || got.ClientID != clientID {
				t.Errorf("after it: %+v, %v", got, err)
			}
		})
	}
}

// The provider's token is read with every request and never shown.
func TestOwnToken(t *testing.T) {
	w := newWorld(t)
	a, file := w.accounts(t), filepath.Join(w.dir, "token")
	right := readFile(t, file)
	for _, c := range []struct{ content, says string }{
		{"CANARY", "rejected the provider's own token"}, {" \n", "the provider has no service account token"},
		{strings.Repeat("CANARY", 11000), "the provider has no service account token"},
	} {
		writeFile(t, file, []byte(c.content))
		_, err := a.Lookup(t.Context(), "shop", "reader")
		checkFault(t, err, fault.ServiceAccountLookupForbidden, c.says)
	}
	writeFile(t, file, append(right, '\n'))
	if _, err := a.Lookup(t.Context(), "shop", "reader"); err != nil {
		t.Error(err)
	}
}

// Names come from kubelet; one that would lead to another path is not requested.
func TestLookupOfInvalidName(t *testing.T) {
	w := newWorld(t)
	a := w.accounts(t)
	for _, c := range [][2]string{
		{"shop", ""}, {"", "reader"}, {"shop", "../secrets/x"}, {"shop/secrets", "x"}, {"..", "x"}, {"shop", "."}, {"shop", "a..b"},
		{"shop", "a?b"}, {"shop", "a%2fb"}, {"Shop", "x"}, {"shop", strings.Repeat("a", 254)},
	} {
		_, err := a.Lookup(t.Context(), c[0], c[1])
		checkFault(t, err, fault.ServiceAccountLookupForbidden, "podInfoOnMount")
	}
	if n := w.Count(azuretest.Lookup); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestAccountsConfig(t *testing.T) {
	for _, c := range []kube.AccountsConfig{
		{}, {Host: "http://10.0.0.1", TokenFile: "x", CAFile: "x"}, {Host: "https://10.0.0.1", TokenFile: "x"}, {Host: "https://10.0.0.1", CAFile: "x"},
	} {
		if _, err := kube.NewAccounts(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

func TestSilentAPIServer(t *testing.T) {
	w := newWorld(t)
	a := w.accounts(t)
	w.SetFault(azuretest.Lookup, azuretest.Fault{Stall: true})
	_, err := a.Lookup(outOfTime(t), "shop", "reader")
	checkFault(t, err, fault.Timeout, "Kubernetes API server", "shop/reader", "127.0.0.1", "clientID")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Lookup(ctx, "shop", "reader"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// The abandoned request has ended, and delays no caller.
	w.ClearFaults()
	if _, err := a.Lookup(t.Context(), "shop", "reader"); err != nil {
		t.Error(err)
	}
}

func TestAPIServerOfAnotherCA(t *testing.T) {
	w := newWorld(t)
	writeFile(t, filepath.Join(w.dir, "ca.crt"), w.CACert())
	_, err := w.accounts(t).Lookup(t.Context(), "shop", "reader")
	checkFault(t, err, fault.TLSUntrusted, "Kubernetes API server", "unknown authority", "clientID")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// Callers that come while a request is under way share it; one of them gives up.
func TestLookupIsShared(t *testing.T) {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		requests, answer := 0, make(chan struct{})
		a := measured(t, w.dir, func(req *http.Request) (*http.Response, error) {
			requests++
			select {
			case <-answer:
				body := fmt.Sprintf(`{"kind":"PartialObjectMetadata","metadata":{"name":"reader","annotations":{%q:%q}}}`, kube.ClientIDAnnotation, clientID)
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body))}, nil
			case <-req.Context().Done():
				return nil, req.Context().Err()
			}
		})
		first, leave := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		callers.Go(func() {
			if _, err := a.Lookup(first, "shop", "reader"); !errors.Is(err, context.Canceled) {
				t.Errorf("the caller that gave up got %v", err)
			}
		})
		synctest.Wait()
		for range 20 {
			callers.Go(func() {
				if got, err := a.Lookup(t.Context(), "shop", "reader"); err != nil || got.ClientID != clientID {
					t.Errorf("got %+v, %v", got, err)
				}
			})
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		close(answer)
		callers.Wait()
		if requests != 1 {
			t.Errorf("%d requests", requests)
		}
	})
}

// A request ends even if no caller has a deadline.
func TestLookupIsBounded(t *testing.T) {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		a := measured(t, w.dir, func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		})
		start := time.Now()
		_, err := a.Lookup(t.Context(), "shop", "reader")
		checkFault(t, err, fault.Timeout, "Kubernetes API server", "shop/reader", "10.0.0.1", "clientID")
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// measured are accounts of an API server that is a function.
func measured(t *testing.T, dir string, server roundTripper) *kube.Accounts {
	t.Helper()
	a, err := kube.NewAccounts(kube.AccountsConfig{
		Host: "https://10.0.0.1", TokenFile: filepath.Join(dir, "token"), CAFile: filepath.Join(dir, "ca.crt"),
		Measure: func(http.RoundTripper) http.RoundTripper { return server },
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// serve starts an API server that is trusted, and writes the provider's credentials for it.
func serve(t *testing.T, h http.HandlerFunc) (address, dir string) {
	t.Helper()
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	dir = t.TempDir()
	writePEM(t, filepath.Join(dir, "ca.crt"), server.Certificate().Raw)
	writeFile(t, filepath.Join(dir, "token"), []byte("CANARY"))
	return server.URL, dir
}

// The token is sent to the API server only, whatever redirect that answers, and nothing of an
// answer is shown.
func TestNoRedirectsAndNoServerText(t *testing.T) {
	var requested sync.Map
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a request with %d bytes of Authorization", len(r.Header.Get("Authorization")))
	}))
	t.Cleanup(elsewhere.Close)
	address, dir := serve(t, func(w http.ResponseWriter, r *http.Request) {
		requested.Store(r.URL.Path, true)
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
		case strings.HasSuffix(r.URL.Path, "/other"):
			_, _ = io.WriteString(w, `{"kind":"ServiceAccount","apiVersion":"v1","metadata":{"name":"CANARY"}}`)
		default:
			_, _ = io.WriteString(w, `{"kind":"CANARY","apiVersion":"v1","metadata":"CANARY"}`)
		}
	})
	a := newAccounts(t, address, dir, nil)
	stderr := captureStderr(t)
	for _, name := range []string{"moved", "teapot", "cut", "other", "odd"} {
		_, err := a.Lookup(t.Context(), "shop", name)
		checkFault(t, err, fault.ServiceUnavailable)
		if _, ok := requested.Load("/api/v1/namespaces/shop/serviceaccounts/" + name); !ok {
			t.Errorf("%s was not requested", name)
		}
	}
	if out := stderr(); out != "" {
		t.Errorf("printed %q", out)
	}
}

// What may be meant as an annotation is found: by another spelling, as a label, without a value.
func TestNearAnnotations(t *testing.T) {
	w := newWorld(t)
	a := w.accounts(t)
	const prefix = "azure.workload.identity/"
	for i, c := range []struct {
		annotations, labels map[string]string
		client, tenant      string
	}{
		{map[string]string{prefix + "client_id": "x"}, nil, `annotation "azure.workload.identity/client_id"`, ""},
		{map[string]string{prefix + "clientId": "x"}, nil, `annotation "azure.workload.identity/clientId"`, ""},
		{map[string]string{prefix + "ClientID": "x"}, nil, `annotation "azure.workload.identity/ClientID"`, ""},
		{map[string]string{"azure-workload-identity/client-id": "x"}, nil, `annotation "azure-workload-identity/client-id"`, ""},
		{map[string]string{"azure.workload.identity.io/client-id": "x"}, nil, `annotation "azure.workload.identity.io/client-id"`, ""},
		{map[string]string{prefix + "client-id": " "}, map[string]string{prefix + "client-id": "x"}, `empty annotation "azure.workload.identity/client-id"`, ""},
		{nil, map[string]string{prefix + "client-id": "x", prefix + "use": "true"}, `label "azure.workload.identity/client-id"`, ""},
		{map[string]string{prefix + "client-id": "x", prefix + "tenant_id": "y"}, nil, "", `annotation "azure.workload.identity/tenant_id"`},
		{map[string]string{prefix + "client-id": "x", prefix + "client_id": "y"}, nil, "", ""},
		{map[string]string{prefix + "service-account-token-expiration": "x", "client-id": "y"}, map[string]string{prefix + "use": "true"}, "", ""},
	} {
		name := fmt.Sprint("near-", i)
		w.api.SetServiceAccount("shop", name, c.annotations)
		w.api.SetLabels("shop", name, c.labels)
		got, err := a.Lookup(t.Context(), "shop", name)
		if err != nil || got.NearClientID != c.client || got.NearTenantID != c.tenant {
			t.Errorf("%v, %v: got %+v, %v", c.annotations, c.labels, got, err)
		}
	}
}

func TestReadToken(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	if token, err := kube.ReadToken(file); token != "" || err == nil {
		t.Errorf("got %q, %v", token, err)
	}
	for content, want := range map[string]string{" a.b.c\n": "a.b.c", "\n": "", strings.Repeat("x", 65<<10): ""} {
		writeFile(t, file, []byte(content))
		if token, _ := kube.ReadToken(file); token != want {
			t.Errorf("%.10q: got %.10q", content, token)
		}
	}
}
