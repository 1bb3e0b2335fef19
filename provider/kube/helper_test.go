package kube_test

import (
	"context"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/kube"
)

const (
	tenantID  = "11111111-2222-3333-4444-555555555555"
	clientID  = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	issuer    = "https://westeurope.oic.prod-aks.azure.com/11111111-2222-3333-4444-555555555555/abc/"
	clusterID = "696995ccb303450001b31a18"
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

// world is a cluster with one annotated account, shop/reader.
type world struct {
	*azuretest.Box
	api   *azuretest.APIServer
	dir   string // with the provider's credentials
	clock *clock
}

func newWorld(t testing.TB) *world {
	t.Helper()
	box, err := azuretest.New(azuretest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Close() })
	cluster, err := box.Cluster(issuer)
	if err != nil {
		t.Fatal(err)
	}
	api, err := cluster.APIServer()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Box: box, api: api, dir: t.TempDir(), clock: &clock{now: time.Unix(1700000000, 0)}}
	if err := api.WriteCredentials(w.dir); err != nil {
		t.Fatal(err)
	}
	api.SetServiceAccount("shop", "reader", map[string]string{
		kube.ClientIDAnnotation: clientID, kube.TenantIDAnnotation: " " + tenantID + "\n", "other": "CANARY",
	})
	return w
}

// url is the API server's.
func (w *world) url() string { return "https://" + w.api.Addr() }

func (w *world) accounts(t testing.TB) *kube.Accounts {
	t.Helper()
	return newAccounts(t, w.url(), w.dir, w.clock.Now)
}

func newAccounts(t testing.TB, host, dir string, now func() time.Time) *kube.Accounts {
	t.Helper()
	a, err := kube.NewAccounts(kube.AccountsConfig{
		Host: host, TokenFile: filepath.Join(dir, "token"), CAFile: filepath.Join(dir, "ca.crt"), UserAgent: "test", Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// checkFault checks an error of the package: its reason, its form, and what it says.
func checkFault(t testing.TB, err error, reason fault.Reason, says ...string) {
	t.Helper()
	e, ok := errors.AsType[*fault.Error](err)
	if !ok {
		t.Fatalf("got %T %v, want %s", err, err, reason)
	}
	text := err.Error()
	if e.Reason != reason {
		t.Errorf("got %s (%s), want %s", e.Reason, text, reason)
	}
	if e.Cause == "" || e.Fix == "" || strings.ContainsAny(text, "\n\r\x1b") || strings.Contains(text, "eyJ") || strings.Contains(text, "CANARY") || len(text) > 1000 {
		t.Errorf("text of %d bytes: %q", len(text), text)
	}
	for _, want := range says {
		if !strings.Contains(text, want) {
			t.Errorf("got %q, which lacks %q", text, want)
		}
	}
}

// outOfTime is a context that ends while the server does not answer.
func outOfTime(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func writeFile(t testing.TB, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func writePEM(t testing.TB, file string, certificate []byte) {
	t.Helper()
	writeFile(t, file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
}

// captureStderr collects what is printed to standard error until the function that it returns
// is called.
func captureStderr(t testing.TB) func() string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stderr
	os.Stderr = file
	t.Cleanup(func() { os.Stderr = before; _ = file.Close() })
	return func() string {
		os.Stderr = before
		return string(readFile(t, file.Name()))
	}
}
