package entra_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
)

// binding is a cluster whose proxy lets the world's pod use its application.
func binding(t testing.TB, changes ...func(*entra.Config)) (*world, *entra.Exchange, *azuretest.TokenProxy, string) {
	t.Helper()
	w := newWorld(t)
	api, dir := w.apiServer(t)
	proxy := api.TokenProxy(clusterID)
	proxy.Bind(w.app, w.pod.Namespace, w.pod.ServiceAccount)
	x := w.exchange(t, append(changes, with(tokenProxy(t, "https://"+api.Addr(), dir, "")), func(cfg *entra.Config) {
		cfg.Transport = transporter(func(req *http.Request) (*http.Response, error) {
			t.Errorf("a request to Entra: %s", req.URL)
			return nil, errors.New("no")
		})
	})...)
	return w, x, proxy, dir
}

func TestIdentityBindingSignsIn(t *testing.T) {
	w, x, proxy, dir := binding(t)
	token(t, x, w.bound(t, w.pod))
	token(t, x, w.bound(t, w.pod))
	for _, r := range w.Requests() {
		if r.Host != proxy.SNIName() || r.Status != http.StatusOK || !strings.HasPrefix(r.UserAgent, "test ") {
			t.Errorf("got %+v", r)
		}
	}
	if counts := w.Counts(); counts[azuretest.Token] != 2 || counts[azuretest.Metadata] != 1 || len(counts) != 2 {
		t.Errorf("got %v", counts)
	}
	// A name that is given is used as is, and the certificate is not read.
	api, err := w.cluster.APIServer()
	if err != nil {
		t.Fatal(err)
	}
	token(t, w.exchange(t, with(tokenProxy(t, "https://"+api.Addr()+"/", dir, proxy.SNIName()))), w.bound(t, w.pod))
	other := w.exchange(t, with(tokenProxy(t, "https://"+api.Addr(), dir, "other.ests.aks")))
	_, err = other.Token(t.Context(), w.bound(t, w.pod), scope)
	checkRefusal(t, err, fault.TLSUntrusted, "127.0.0.1", "another name", "--sni-name")
}

// What the proxy sends as metadata is the proxy's: it is not used at Entra, nor are the published
// endpoints of Entra used at the proxy.
func TestMetadataOfTheProxyIsItsOwn(t *testing.T) {
	w := newWorld(t)
	api, dir := w.apiServer(t)
	api.TokenProxy(clusterID).Bind(w.app, w.pod.Namespace, w.pod.ServiceAccount)
	proxy := with(tokenProxy(t, "https://"+api.Addr(), dir, ""))
	w.app.AddSecret("right", time.Time{})
	x := w.exchange(t, proxy)
	token(t, x, w.bound(t, w.pod))
	w.wantRequests(t, 1, 1)
	token(t, x, w.servicePrincipal("right"))
	w.wantRequests(t, 2, 2)
	proxy = with(tokenProxy(t, "https://"+api.Addr(), dir, ""))
	x = w.exchange(t, proxy, func(cfg *entra.Config) { cfg.KnownAuthority = func(string) bool { return true } })
	token(t, x, w.bound(t, w.pod))
	w.wantRequests(t, 3, 3)
	token(t, x, w.servicePrincipal("right"))
	w.wantRequests(t, 4, 3)
}

// counted is an address that leads to another and counts its connections.
func counted(t testing.TB, to string) (address string, count *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended); _ = l.Close(); running.Wait() })
	count = new(atomic.Int32)
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			running.Go(func() { <-ended; _, _ = in.Close(), out.Close() })
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				running.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					_, _ = pair[0].Close(), pair[1].Close()
				})
			}
		}
	})
	return l.Addr().String(), count
}

// The certificate is read once; the name that was found is cached.
func TestNameOfTheProxyIsCached(t *testing.T) {
	w, _, _, dir := binding(t)
	api, err := w.cluster.APIServer()
	if err != nil {
		t.Fatal(err)
	}
	address, connections := counted(t, api.Addr())
	x := w.exchange(t, with(tokenProxy(t, "https://"+address, dir, "")))
	for range 3 {
		token(t, x, w.bound(t, w.pod))
	}
	if n := connections.Load(); n != 2 {
		t.Errorf("%d connections, want one for the certificate and one for the requests", n)
	}
}

// The pods of one cluster share the connection to the proxy, and nothing else.
func TestBoundPodsShareNothing(t *testing.T) {
	w, x, _, _ := binding(t)
	other := azuretest.Pod{Namespace: "shop", Name: "other", ServiceAccount: "other"}
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() { token(t, x, w.bound(t, w.pod)) })
		group.Go(func() {
			_, err := x.Token(t.Context(), w.bound(t, other), scope)
			checkRefusal(t, err, fault.FederatedCredentialMissing)
		})
	}
	group.Wait()
}

func TestIdentityBindingRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		setup  func(*world, *entra.Identity)
		reason fault.Reason
		says   []string
	}{
		{"another service account", func(w *world, id *entra.Identity) {
			*id = w.bound(t, azuretest.Pod{Namespace: "shop", Name: "other", ServiceAccount: "other"})
		}, fault.FederatedCredentialMissing,
			[]string{"system:serviceaccount:shop:other", clientID, "AADSTS700213", "az aks identity-binding create", "cid.wi.aks.azure.com", "use-managed-identity"}},
		{"token of another audience", func(w *world, id *entra.Identity) {
			assertion, err := w.cluster.Token(w.pod, entra.Audience, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			id.Assertion = request.Secret(assertion)
		}, fault.FederatedCredentialMissing, []string{"use a token of the pod's ServiceAccount", `audience "` + entra.BindingAudience + `"`}},
		{"no such tenant", func(_ *world, id *entra.Identity) { id.TenantID = uuid() }, fault.TenantNotFound, []string{"(tenantID of the class)"}},
		{"forbidden", func(w *world, _ *entra.Identity) {
			w.SetFault(azuretest.Token, azuretest.Fault{Status: 403, HTML: true})
		}, fault.FederatedCredentialMissing, []string{"token proxy", "403 Forbidden", "use-managed-identity"}},
		{"not there", func(w *world, _ *entra.Identity) {
			w.SetFault(azuretest.Metadata, azuretest.Fault{Status: 404, HTML: true})
		}, fault.ServiceUnavailable, []string{"127.0.0.1", "404 Not Found", "--token-proxy-url"}},
		{"throttled", func(w *world, _ *entra.Identity) { w.SetFault(azuretest.Token, azuretest.Fault{Status: 429}) }, fault.Throttled, []string{"127.0.0.1"}},
		{"reset", func(w *world, _ *entra.Identity) { w.SetFault(azuretest.Token, azuretest.Fault{Reset: true}) }, fault.ServiceUnavailable, []string{"127.0.0.1", "connection reset"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, x, _, _ := binding(t)
			id := w.bound(t, w.pod)
			c.setup(w, &id)
			_, err := x.Token(t.Context(), id, scope)
			checkRefusal(t, err, c.reason, c.says...)
		})
	}
}

// The cluster's CA rotates while the provider runs.
func TestCAFileIsReadAgain(t *testing.T) {
	w, x, _, dir := binding(t)
	file := filepath.Join(dir, "ca.crt")
	right, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(content []byte) {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write([]byte("no certificate"))
	_, err = x.Token(t.Context(), w.bound(t, w.pod), scope)
	checkRefusal(t, err, fault.ServiceUnavailable, file, "automountServiceAccountToken")
	write(w.CACert())
	_, err = x.Token(t.Context(), w.bound(t, w.pod), scope)
	checkRefusal(t, err, fault.TLSUntrusted, "127.0.0.1", "unknown authority", "--sni-name")
	write(right)
	token(t, x, w.bound(t, w.pod))
	write(nil) // in the middle of a rotation
	token(t, x, w.bound(t, w.pod))
	write(w.CACert())
	_, err = x.Token(t.Context(), w.bound(t, w.pod), scope)
	checkRefusal(t, err, fault.TLSUntrusted, "unknown authority")
}

func TestNoClusterIDInTheCertificate(t *testing.T) {
	w := newWorld(t)
	api, dir := w.apiServer(t)
	x := w.exchange(t, with(tokenProxy(t, "https://"+api.Addr(), dir, "")))
	_, err := x.Token(t.Context(), w.bound(t, w.pod), scope)
	checkRefusal(t, err, fault.SignInFailed, "the API server's certificate", "--sni-name", "AKS")
	// After a failure the certificate is read again.
	api.TokenProxy(clusterID).Bind(w.app, w.pod.Namespace, w.pod.ServiceAccount)
	token(t, x, w.bound(t, w.pod))
}

func TestNoTokenProxy(t *testing.T) {
	w := newWorld(t)
	closed := httptest.NewServer(nil)
	closed.Close()
	_, dir := w.apiServer(t)
	for _, proxy := range []*entra.TokenProxy{nil, tokenProxy(t, "", "", "")} {
		_, err := w.exchange(t, with(proxy)).Token(t.Context(), w.bound(t, w.pod), scope)
		checkRefusal(t, err, fault.SignInFailed, "useAzureTokenProxy", "--token-proxy-url")
	}
	_, err := w.exchange(t, with(tokenProxy(t, strings.Replace(closed.URL, "http", "https", 1), dir, ""))).Token(t.Context(), w.bound(t, w.pod), scope)
	checkRefusal(t, err, fault.ServiceUnavailable, "127.0.0.1", "connection refused", "--token-proxy-url")
}

// A proxy that says nothing takes no longer than the caller has.
func TestMuteTokenProxy(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mute.Close() })
	w := newWorld(t)
	_, dir := w.apiServer(t)
	for name, phase := range map[string]string{"": "connecting to", "proxy.ests.aks": "signing in to"} {
		x := w.exchange(t, with(tokenProxy(t, "https://"+mute.Addr().String(), dir, name)))
		_, err = x.Token(outOfTime(t), w.bound(t, w.pod), scope)
		checkRefusal(t, err, fault.Timeout, "127.0.0.1", phase)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := x.Token(ctx, w.bound(t, w.pod), scope); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
}

func TestTokenProxySettings(t *testing.T) {
	for _, url := range []string{
		"http://kubernetes", "kubernetes", "https://", "https://u:CANARY@kubernetes", "https://kubernetes?q", "https://kubernetes?", "https://kubernetes#f", "https://a b", "://",
	} {
		if _, err := entra.NewTokenProxy(entra.TokenProxyConfig{URL: url, CAFile: "x"}); err == nil || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%q: got %v", url, err)
		}
	}
	if _, err := entra.NewTokenProxy(entra.TokenProxyConfig{URL: "https://kubernetes"}); err == nil {
		t.Error("no CA file, no error")
	}
}

// The retries of the exchange apply to the proxy too.
func TestTokenProxyRecovers(t *testing.T) {
	w, x, _, _ := binding(t, retryOnce)
	w.SetFault(azuretest.Token, azuretest.Fault{Status: 503, Times: 1})
	token(t, x, w.bound(t, w.pod))
}
