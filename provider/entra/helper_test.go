package entra_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/throttle"
	"akv-csi-provider/provider/transport"
)

const (
	tenantID  = "11111111-2222-3333-4444-555555555555"
	clientID  = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	issuer    = "https://westeurope.oic.prod-aks.azure.com/11111111-2222-3333-4444-555555555555/abc/"
	clusterID = "696995ccb303450001b31a18"
)

// world is an Azure with one application, a cluster and a pod in it.
type world struct {
	*azuretest.Box
	tenant  *azuretest.Tenant
	app     *azuretest.Application
	cluster *azuretest.Cluster
	pod     azuretest.Pod
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
	w := &world{Box: box, tenant: box.Tenant(tenantID), cluster: cluster, pod: azuretest.Pod{Namespace: "shop", Name: "pod", ServiceAccount: "reader"}}
	w.app = w.tenant.Application(clientID)
	return w
}

// transport leads to the world's fake Azure.
func (w *world) transport(t testing.TB) *transport.Client {
	t.Helper()
	pool := w.Transport()
	t.Cleanup(pool.CloseIdleConnections)
	return transport.New(pool, "test").For(transport.PhaseSignIn)
}

// exchange signs in to the world's fake Azure and retries nothing, unless a change says so.
func (w *world) exchange(t testing.TB, changes ...func(*entra.Config)) *entra.Exchange {
	t.Helper()
	client := w.transport(t)
	return newExchange(t, entra.Config{Transport: client, IMDS: client}, changes...)
}

func newExchange(t testing.TB, cfg entra.Config, changes ...func(*entra.Config)) *entra.Exchange {
	t.Helper()
	cfg.Throttle = throttle.Config{Max: 100}
	for _, change := range changes {
		change(&cfg)
	}
	x, err := entra.NewExchange(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// retryOnce is a change of an exchange.
func retryOnce(cfg *entra.Config) { cfg.Throttle.Retries = 1 }

// with is a change of an exchange.
func with(proxy *entra.TokenProxy) func(*entra.Config) {
	return func(cfg *entra.Config) { cfg.Proxy = proxy }
}

func (w *world) identity(mode entra.Mode) entra.Identity {
	return entra.Identity{
		Mode: mode, Authority: authority,
		TenantID: tenantID, TenantIDFrom: "tenantID of the class",
		ClientID: clientID, ClientIDFrom: "clientID of the class",
		ServiceAccount: w.pod.Subject(), Audience: entra.Audience,
	}
}

// servicePrincipal is the world's application with a client secret.
func (w *world) servicePrincipal(secret string) entra.Identity {
	id := w.identity(entra.ServicePrincipal)
	id.ClientIDFrom, id.ClientSecret = "clientid of the nodePublishSecretRef", request.Secret(secret)
	return id
}

// bound is the world's application, for a service account of the cluster.
func (w *world) bound(t testing.TB, pod azuretest.Pod) entra.Identity {
	t.Helper()
	token, err := w.cluster.Token(pod, entra.BindingAudience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	id := w.identity(entra.IdentityBinding)
	id.ServiceAccount, id.Assertion, id.Audience = pod.Subject(), request.Secret(token), entra.BindingAudience
	return id
}

// apiServer starts the cluster's API server and writes the provider's credentials.
func (w *world) apiServer(t testing.TB) (*azuretest.APIServer, string) {
	t.Helper()
	api, err := w.cluster.APIServer()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := api.WriteCredentials(dir); err != nil {
		t.Fatal(err)
	}
	return api, dir
}

func tokenProxy(t testing.TB, url, dir, sniName string) *entra.TokenProxy {
	t.Helper()
	proxy, err := entra.NewTokenProxy(entra.TokenProxyConfig{URL: url, SNIName: sniName, CAFile: filepath.Join(dir, "ca.crt"), UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return proxy
}

// uuid is an ID that no other test has.
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// checkRefusal checks an error: its reason, its form, and what it says.
func checkRefusal(t testing.TB, err error, reason fault.Reason, says ...string) {
	t.Helper()
	var typed *fault.Error
	if !errors.As(err, &typed) {
		t.Fatalf("got %T %v, want %s", err, err, reason)
	}
	text := err.Error()
	if typed.Reason != reason {
		t.Errorf("got %s (%s), want %s", typed.Reason, text, reason)
	}
	if strings.ContainsAny(text, "\n\r\x1b") || !strings.Contains(text, "; ") || strings.Contains(text, "eyJ") || strings.Contains(text, "Trace ID") || len(text) > 1000 {
		t.Errorf("text of %d bytes: %q", len(text), text)
	}
	for _, want := range says {
		if !strings.Contains(text, want) {
			t.Errorf("got %q, which lacks %q", text, want)
		}
	}
}

func token(t testing.TB, x *entra.Exchange, id entra.Identity) entra.Token {
	t.Helper()
	got, err := x.Token(t.Context(), id, scope)
	if err != nil {
		t.Fatal(err)
	}
	if got.Value == "" || !got.ExpiresOn.After(time.Now()) {
		t.Fatalf("got a token of %d bytes until %s", len(got.Value), got.ExpiresOn)
	}
	return got
}

// outOfTime is a context that ends while the other side does not answer.
func outOfTime(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

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
