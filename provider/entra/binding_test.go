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
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// binding is a cluster whose proxy lets the world's pod use its application.
func binding(t testing.TB) (*world, *entra.Exchange, *azuretest.TokenProxy, string) {
	t.Helper()
	w := newWorld(t)
	api, dir := w.apiServer(t)
	proxy := api.TokenProxy(clusterID)
	proxy.Bind(w.app, w.pod.Namespace, w.pod.ServiceAccount)
	x := w.exchange(t)
	x.Transport = transporter(func(req *http.Request) (*http.Response, error) {
		t.Errorf("a request to Entra: %s", req.URL)
		return nil, errors.New("no")
	})
	x.Proxy = tokenProxy(t, "https://"+api.Addr(), dir, "")
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
	// A name that is given is used as it is; nobody looks at the certificate.
	api, err := w.cluster.APIServer()
	if err != nil {
		t.Fatal(err)
	}
	x.Proxy = tokenProxy(t, "https://"+api.Addr()+"/", dir, proxy.SNIName())
	token(t, x, w.bound(t, w.pod))
	x.Proxy = tokenProxy(t, "https://"+api.Addr(), dir, "other.ests.aks")
	_, err = x.Token(t.Context(), w.bound(t, w.pod), scope)
	checkRefusal(t, err, transport.ReasonTLSUntrusted, "127.0.0.1", "another name", "--sni-name")
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
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				running.Go(func() {
					_, _ = io.Copy(way[0], way[1])
					_, _ = way[0].Close(), way[1].Close()
				})
			}
		}
	})
	return l.Addr().String(), count
}

// The certificate is looked at once; what was found is kept.
func TestNameOfTheProxyIsKept(t *testing.T) {
	w, x, _, dir := binding(t)
	api, err := w.cluster.APIServer()
	if err != nil {
		t.Fatal(err)
	}
	address, connections := counted(t, api.Addr())
	x.Proxy = tokenProxy(t, "https://"+address, dir, "")
	for range 3 {
		token(t, x, w.bound(t, w.pod))
	}
	if n := connections.Load(); n != 2 {
		t.Errorf("%d connections, want one to look and one to ask", n)
	}
}

// The pods of one cluster share the way to the proxy, and nothing else.
func TestBoundPodsShareNothing(t *testing.T) {
	w, x, _, _ := binding(t)
	other := azuretest.Pod{Namespace: "shop", Name: "other", ServiceAccount: "other"}
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() { token(t, x, w.bound(t, w.pod)) })
		group.Go(func() {
			_, err := x.Token(t.Context(), w.bound(t, other), scope)
			checkRefusal(t, err, entra.ReasonFederatedCredentialMissing)
		})
	}
	group.Wait()
}

func TestIdentityBindingRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		setup  func(*world, *entra.Identity)
		reason string
		says   []string
	}{
		{"another service account", func(w *world, id *entra.Identity) {
			*id = w.bound(t, azuretest.Pod{Namespace: "shop", Name: "other", ServiceAccount: "other"})
		}, entra.ReasonFederatedCredentialMissing,
			[]string{"system:serviceaccount:shop:other", clientID, "AADSTS700213", "az aks identity-binding create", "cid.wi.aks.azure.com", "use-managed-identity"}},
		{"token of another audience", func(w *world, id *entra.Identity) {
			assertion, err := w.cluster.Token(w.pod, entra.Audience, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			id.Assertion = request.Secret(assertion)
		}, entra.ReasonFederatedCredentialMissing, []string{"no token of the pod's service account", "audience " + entra.BindingAudience}},
		{"no such tenant", func(_ *world, id *entra.Identity) { id.TenantID = uuid() }, entra.ReasonTenantNotFound, []string{"tenantID of the class"}},
		{"forbidden", func(w *world, _ *entra.Identity) {
			w.SetFault(azuretest.Token, azuretest.Fault{Status: 403, HTML: true})
		}, entra.ReasonFederatedCredentialMissing, []string{"127.0.0.1", "403 Forbidden", "use-managed-identity"}},
		{"not there", func(w *world, _ *entra.Identity) {
			w.SetFault(azuretest.Metadata, azuretest.Fault{Status: 404, HTML: true})
		}, entra.ReasonServiceUnavailable, []string{"127.0.0.1", "404 Not Found", "--token-proxy-url"}},
		{"throttled", func(w *world, _ *entra.Identity) { w.SetFault(azuretest.Token, azuretest.Fault{Status: 429}) }, entra.ReasonThrottled, []string{"127.0.0.1"}},
		{"reset", func(w *world, _ *entra.Identity) { w.SetFault(azuretest.Token, azuretest.Fault{Reset: true}) }, entra.ReasonServiceUnavailable, []string{"127.0.0.1", "closed by the other side"}},
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
func TestCAFileIsReadAnew(t *testing.T) {
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
	checkRefusal(t, err, entra.ReasonServiceUnavailable, file, "automountServiceAccountToken")
	write(w.CACert())
	_, err = x.Token(t.Context(), w.bound(t, w.pod), scope)
	checkRefusal(t, err, transport.ReasonTLSUntrusted, "127.0.0.1", "unknown authority", "--sni-name")
	write(right)
	token(t, x, w.bound(t, w.pod))
	write(nil) // in the middle of a rotation
	token(t, x, w.bound(t, w.pod))
	write(w.CACert())
	_, err = x.Token(t.Context(), w.bound(t, w.pod), scope)
	checkRefusal(t, err, transport.ReasonTLSUntrusted, "unknown authority")
}

func TestNoClusterIDInTheCertificate(t *testing.T) {
	w := newWorld(t)
	api, dir := w.apiServer(t)
	x := w.exchange(t)
	x.Proxy = tokenProxy(t, "https://"+api.Addr(), dir, "")
	_, err := x.Token(t.Context(), w.bound(t, w.pod), scope)
	checkRefusal(t, err, entra.ReasonSignInFailed, "127.0.0.1", "--sni-name", "AKS")
	// What failed is looked at again.
	api.TokenProxy(clusterID).Bind(w.app, w.pod.Namespace, w.pod.ServiceAccount)
	token(t, x, w.bound(t, w.pod))
}

func TestNoTokenProxy(t *testing.T) {
	w := newWorld(t)
	closed := httptest.NewServer(nil)
	closed.Close()
	_, dir := w.apiServer(t)
	x := w.exchange(t)
	for _, proxy := range []*entra.TokenProxy{nil, tokenProxy(t, "", "", "")} {
		x.Proxy = proxy
		_, err := x.Token(t.Context(), w.bound(t, w.pod), scope)
		checkRefusal(t, err, entra.ReasonSignInFailed, "useAzureTokenProxy", "--token-proxy-url")
	}
	x.Proxy = tokenProxy(t, strings.Replace(closed.URL, "http", "https", 1), dir, "")
	_, err := x.Token(t.Context(), w.bound(t, w.pod), scope)
	checkRefusal(t, err, entra.ReasonServiceUnavailable, "127.0.0.1", "connection refused", "--token-proxy-url")
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
	x := w.exchange(t)
	for _, name := range []string{"", "proxy.ests.aks"} {
		x.Proxy = tokenProxy(t, "https://"+mute.Addr().String(), dir, name)
		_, err = x.Token(outOfTime(t), w.bound(t, w.pod), scope)
		checkRefusal(t, err, transport.ReasonTimeout, "127.0.0.1", "connect")
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
		if entra.CheckProxyURL(url) == nil {
			t.Errorf("%q was taken", url)
		}
	}
	if _, err := entra.NewTokenProxy(entra.TokenProxyConfig{URL: "https://kubernetes"}); err == nil {
		t.Error("no CA file, no error")
	}
	if err := entra.CheckProxyURL("https://kubernetes.default.svc.cluster.local:443/proxy"); err != nil {
		t.Error(err)
	}
}

// The retries of the exchange hold for the proxy too.
func TestTokenProxyRecovers(t *testing.T) {
	w, x, _, _ := binding(t)
	w.SetFault(azuretest.Token, azuretest.Fault{Status: 503, Times: 1})
	x.Retry = policy.RetryOptions{MaxRetries: 1, RetryDelay: time.Nanosecond, MaxRetryDelay: time.Nanosecond}
	token(t, x, w.bound(t, w.pod))
}
