package server_test

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/metrics"
	"akv-csi-provider/provider/plugin"
	"akv-csi-provider/provider/server"
	"akv-csi-provider/provider/throttle"
	"akv-csi-provider/provider/tracing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

const (
	tenantID = "11111111-2222-3333-4444-555555555555"
	clientID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	issuer   = "https://oidc.contoso.example/cluster/"
)

// world is a node with the plugin on it, a cluster and an Azure: an identity that
// is federated with the pod's service account and may read one vault's secrets.
type world struct {
	*azuretest.Box
	tenant  *azuretest.Tenant
	app     *azuretest.Application
	vault   *azuretest.Vault
	cluster *azuretest.Cluster
	api     *azuretest.APIServer
	proxy   *azuretest.TokenProxy
	pod     azuretest.Pod
	mounter *provider.Mounter

	client v1alpha1.CSIDriverProviderClient
	seen   *observer
	log    *buffer
	audit  *buffer
}

// setup changes the world before the plugin starts.
type setup struct {
	roundTripper func(http.RoundTripper) http.RoundTripper
	mounter      func(*provider.Mounter)
	config       func(*server.Config)
	throttle     throttle.Config
	reads        func(*keyvault.Config)
	issuer       string           // of the cluster; "" for the usual one
	plainCluster bool             // not of AKS: it has no token proxy
	metrics      *metrics.Metrics // nil: new ones
	tracing      *tracing.Tracing // nil traces nothing
}

func newWorld(t *testing.T, s setup) *world {
	t.Helper()
	box, err := azuretest.New(azuretest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{
		Box: box, tenant: box.Tenant(tenantID), seen: new(observer), log: new(buffer), audit: new(buffer),
		pod: azuretest.Pod{Namespace: "shop", Name: "web-0", ServiceAccount: "reader"},
	}
	if w.cluster, err = box.Cluster(cmp.Or(s.issuer, issuer)); err != nil {
		t.Fatal(err)
	}
	w.app = w.tenant.Application(clientID)
	w.app.Federate(issuer, w.pod.Subject(), entra.Audience)
	w.vault = box.Vault("contoso", w.tenant)
	w.vault.Grant(clientID, azuretest.SecretsGet)
	w.vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello!"})

	if w.api, err = w.cluster.APIServer(); err != nil {
		t.Fatal(err)
	}
	w.api.SetServiceAccount("shop", "reader", nil)
	if !s.plainCluster {
		w.proxy = w.api.TokenProxy("0123456789abcdef01234567")
	}
	box.IMDS()

	cfg := plugin.Config{
		Version: "1.2.3", Azure: box.Transport(), IMDS: box.Transport(), Throttle: s.throttle, Cluster: w.credentials(t),
		Mounter: provider.Mounter{RotationTTL: 30 * time.Second, Clouds: &cloud.Resolver{Default: "AzurePublicCloud"}, MaxConcurrency: 8, MaxBytes: 4 << 20},
		Reads:   keyvault.Config{Timeout: 50 * time.Second, CacheTTL: 30 * time.Second, CacheBytes: 16 << 20},
	}
	if s.roundTripper != nil {
		cfg.Azure = s.roundTripper(cfg.Azure)
		cfg.IMDS = cfg.Azure
	}
	if cfg.Throttle.Max == 0 {
		cfg.Throttle.Max = 8 // without retries: a test of failures need not wait
	}
	if s.reads != nil {
		s.reads(&cfg.Reads)
	}
	if s.metrics == nil {
		s.metrics = metrics.New(cfg.Version)
	}
	cfg.Tracing = s.tracing
	cfg.Log = slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if w.mounter, err = plugin.NewMounter(cfg, s.metrics); err != nil {
		t.Fatal(err)
	}
	if s.mounter != nil {
		s.mounter(w.mounter)
	}
	edge := config(t, w.mounter)
	edge.Observe, edge.Log = w.seen, cfg.Log
	edge.Audit, edge.Node = slog.New(slog.NewJSONHandler(w.audit, nil)), "node-1"
	if s.config != nil {
		s.config(&edge)
	}
	start(t, edge)
	w.client = dial(t, edge.Socket)
	return w
}

// credentials are what the plugin has from being in a cluster.
func (w *world) credentials(t *testing.T) plugin.Cluster {
	t.Helper()
	dir := t.TempDir()
	if err := w.api.WriteCredentials(dir); err != nil {
		t.Fatal(err)
	}
	return plugin.Cluster{APIServer: "https://" + w.api.Addr(), TokenFile: filepath.Join(dir, "token"), CAFile: filepath.Join(dir, "ca.crt")}
}

// config is a complete configuration with its own socket.
func config(t *testing.T, m server.Mounter) server.Config {
	t.Helper()
	// A unix socket's path holds at most 107 bytes; the test's own folder may be longer.
	dir, err := os.MkdirTemp("", "akv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return server.Config{
		Socket: filepath.Join(dir, "azure.sock"), Version: "1.2.3", Mounter: m,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Observe: new(observer),
		MountTimeout: 20 * time.Second, ShutdownGrace: 10 * time.Second,
		MaxResponseBytes: 4 << 20, SocketCheck: time.Hour,
	}
}

// run serves until the test ends or the returned function is called, and then
// waits for an orderly stop.
func run(t *testing.T, cfg server.Config) (srv *server.Server, stop func()) {
	t.Helper()
	srv, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(runUntilEnd(t, srv))
	t.Cleanup(stop)
	return srv, stop
}

// runUntilEnd runs a server; what it returns ends it.
func runUntilEnd(t *testing.T, srv *server.Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

// start is run, and waits until the server answers.
func start(t *testing.T, cfg server.Config) (srv *server.Server, stop func()) {
	t.Helper()
	srv, stop = run(t, cfg)
	if err := healthy(t, srv); err != nil {
		t.Fatal(err)
	}
	return srv, stop
}

func healthy(t *testing.T, srv *server.Server) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return srv.Healthy(ctx)
}

func dial(t *testing.T, socket string, options ...grpc.DialOption) v1alpha1.CSIDriverProviderClient {
	t.Helper()
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	conn, err := grpc.NewClient("unix:"+socket, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return v1alpha1.NewCSIDriverProviderClient(conn)
}

// request is what the driver sends for a class of testdata.
func (w *world) request(t *testing.T, class string) *v1alpha1.MountRequest {
	t.Helper()
	return w.requestFor(t, class, w.pod, nil)
}

func (w *world) requestFor(t *testing.T, class string, pod azuretest.Pod, tokens map[string]string) *v1alpha1.MountRequest {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", class))
	if err != nil {
		t.Fatal(err)
	}
	req, err := w.cluster.MountRequest(text, pod, tokens, "/var/lib/kubelet/pods/"+pod.Name+"/mount")
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// with is the pod with some of the class's parameters overwritten, as a pod may.
func (w *world) with(parameters map[string]string) azuretest.Pod {
	pod := w.pod
	pod.VolumeAttributes = maps.Clone(parameters)
	return pod
}

// bindingToken is what kubelet sends where the CSIDriver asks for identity bindings.
func (w *world) bindingToken(t *testing.T, pod azuretest.Pod) map[string]string {
	t.Helper()
	token, err := w.cluster.Token(pod, azuretest.BindingAudience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{azuretest.BindingAudience: token}
}

func (w *world) mount(t *testing.T, req *v1alpha1.MountRequest, options ...grpc.CallOption) (*v1alpha1.MountResponse, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return w.client.Mount(ctx, req, options...)
}

// files are a response's files by path.
func files(resp *v1alpha1.MountResponse) map[string]string {
	out := make(map[string]string)
	for _, f := range resp.GetFiles() {
		out[f.GetPath()] = string(f.GetContents())
	}
	return out
}

// observer records what the server reports.
type observer struct {
	mu         sync.Mutex // guards what follows
	reasons    []string
	operations []string
	warnings   []string
	rotated    []string
}

func (o *observer) Mounted(operation, reason string, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reasons = append(o.reasons, reason)
	o.operations = append(o.operations, operation)
}

func (o *observer) ClassWarning(kind string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.warnings = append(o.warnings, kind)
}

func (o *observer) Rotated(result string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rotated = append(o.rotated, result)
}

// rotations are the reported results, in order.
func (o *observer) rotations() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.rotated, ",")
}

func (o *observer) observed() (reasons, warnings string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.reasons, ","), strings.Join(o.warnings, ",")
}

// buffer is a log that may be read while it is written.
type buffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
