package kube_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"testing"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/kube"
	"akv-csi-provider/provider/transport"
)

// pool trusts the cluster's CA.
func (w *world) pool() *kube.Pool {
	return kube.NewPool(kube.PoolConfig{CAFile: filepath.Join(w.dir, "ca.crt"), MaxConns: 1, UserAgent: "test"})
}

// connect sends a request that has no answer but a refusal.
func (w *world) connect(t *testing.T, p *kube.Pool, serverName string) error {
	t.Helper()
	client, err := p.Client(serverName)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.For(transport.PhaseSignIn).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := kube.ParseURL(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// HTTPS_PROXY leads out of the cluster.
func TestPoolUsesNoProxy(t *testing.T) {
	var conns []*http.Transport
	p := kube.NewPool(kube.PoolConfig{CAFile: "/nonexistent", SystemRoots: true, MaxConns: 7, Measure: func(next http.RoundTripper) http.RoundTripper {
		conns = append(conns, next.(*http.Transport))
		return next
	}})
	var clients []*transport.Client
	for _, name := range []string{"name.example", "name.example", "other.example"} {
		client, err := p.Client(name)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, client)
	}
	if clients[0] != clients[1] || clients[1] == clients[2] || len(conns) != 2 {
		t.Errorf("%d pools; one for each name is due", len(conns))
	}
	for i, name := range []string{"name.example", "other.example"} {
		if c := conns[i]; c.Proxy != nil || c.MaxConnsPerHost != 7 || c.TLSClientConfig.InsecureSkipVerify || c.TLSClientConfig.RootCAs != nil || c.TLSClientConfig.ServerName != name {
			t.Errorf("got %+v", c)
		}
	}
}

// Without the file, the API server is not trusted for a certificate that anybody can buy.
func TestPoolWithoutCAFile(t *testing.T) {
	p := kube.NewPool(kube.PoolConfig{CAFile: "/nonexistent", MaxConns: 1})
	_, err := p.Client("")
	checkFault(t, err, fault.ServiceUnavailable, "/nonexistent", "automountServiceAccountToken")
	_, err = p.Certificate(t.Context(), parse(t, "https://127.0.0.1"))
	checkFault(t, err, fault.ServiceUnavailable, "/nonexistent", "automountServiceAccountToken")
}

// The cluster's CA rotates while the provider runs.
func TestCAFileIsReadAgain(t *testing.T) {
	w := newWorld(t)
	p, file := w.pool(), filepath.Join(w.dir, "ca.crt")
	right := readFile(t, file)
	certificate := func() error {
		_, err := p.Certificate(t.Context(), parse(t, w.url()))
		return err
	}
	for _, content := range [][]byte{[]byte("no certificate"), make([]byte, 1<<20+1)} {
		writeFile(t, file, content)
		checkFault(t, w.connect(t, p, ""), fault.ServiceUnavailable, file, "automountServiceAccountToken")
	}
	writeFile(t, file, w.CACert())
	checkFault(t, w.connect(t, p, ""), fault.TLSUntrusted, "127.0.0.1", "unknown authority")
	checkFault(t, certificate(), fault.TLSUntrusted, "127.0.0.1", "unknown authority")
	for _, content := range [][]byte{right, nil} { // the second is the middle of a rotation
		writeFile(t, file, content)
		if err := errors.Join(w.connect(t, p, ""), certificate(), w.connect(t, p, "kubernetes.default")); err != nil {
			t.Error(err)
		}
	}
	writeFile(t, file, w.CACert())
	// The change is noticed here first; it ends the connections of Client all the same.
	checkFault(t, certificate(), fault.TLSUntrusted, "unknown authority")
	checkFault(t, w.connect(t, p, "kubernetes.default"), fault.TLSUntrusted, "unknown authority")
}

// The name distinguishes the API server from the token proxy behind its address.
func TestServerName(t *testing.T) {
	w := newWorld(t)
	proxy, p := w.api.TokenProxy(clusterID), w.pool()
	for _, name := range []string{"", proxy.SNIName(), "kubernetes"} {
		if err := w.connect(t, p, name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	hosts := make([]string, 0, 3)
	for _, r := range w.Requests() {
		if r.UserAgent != "test" {
			t.Errorf("got %+v", r)
		}
		hosts = append(hosts, r.Host)
	}
	if len(hosts) != 3 || hosts[1] != proxy.SNIName() || hosts[0] == hosts[1] || hosts[2] != hosts[0] {
		t.Errorf("reached %q", hosts)
	}
	checkFault(t, w.connect(t, p, "other.ests.aks"), fault.TLSUntrusted, "127.0.0.1", "another name")
}

func TestCertificate(t *testing.T) {
	w := newWorld(t)
	w.api.TokenProxy(clusterID)
	p := w.pool()
	got, err := p.Certificate(t.Context(), parse(t, w.url()))
	if err != nil {
		t.Fatal(err)
	}
	if name := "hcp-kubernetes." + clusterID + ".svc.cluster.local"; !slices.Contains(got.DNSNames, name) {
		t.Errorf("made out to %q, not %s", got.DNSNames, name)
	}
	if n := len(w.Requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := parse(t, "https://"+silent.Addr().String())
	_, err = p.Certificate(outOfTime(t), u)
	checkFault(t, err, fault.Timeout, "127.0.0.1", "connect")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Certificate(ctx, u); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	_ = silent.Close()
	_, err = p.Certificate(t.Context(), u)
	checkFault(t, err, fault.ServiceUnavailable, "127.0.0.1", "connection refused")
}
