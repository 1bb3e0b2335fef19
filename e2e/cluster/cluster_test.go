package cluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/e2e/cluster/node"
	"akv-csi-provider/provider/azuretest"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// cluster is a Kubernetes with the driver and the plugin, and a fake Azure.
type cluster struct {
	node    *node.Node // nil for an existing cluster
	running *node.Running

	kubeconfig string
	config     *rest.Config
	client     kubernetes.Interface

	box    *azuretest.Box
	issuer string // of the cluster's service-account tokens, as Entra knows it

	mu   sync.Mutex // guards next
	next int        // number of the next vault or identity
}

const (
	system  = "kube-system"
	release = "akv-csi-provider"
	tenant  = "72f988bf-0000-4000-8000-00000000cafe"
)

// newCluster starts a node, or connects to the cluster that there is. The node is gone when
// the test ends.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{kubeconfig: setup.Existing}
	start := time.Now()
	switch setup.Existing {
	case "":
		c.startNode(t)
	case "kind":
		c.kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
		c.command(t, "kind", "export", "kubeconfig", "--name", setup.Kind, "--kubeconfig", c.kubeconfig)
		c.command(t, "kind", "load", "image-archive", "--name", setup.Kind, setup.Builder().PluginArchive())
	}
	var err error
	if c.config, err = clientcmd.BuildConfigFromFlags("", c.kubeconfig); err != nil {
		t.Fatal(err)
	}
	c.config.QPS, c.config.Burst = 200, 400
	if c.client, err = kubernetes.NewForConfig(c.config); err != nil {
		t.Fatal(err)
	}
	eventually(t, busy, "the API server is ready", func(ctx context.Context) error {
		return c.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
	c.startBox(t)
	t.Logf("API server after %.1f s", time.Since(start).Seconds())
	return c
}

func (c *cluster) startNode(t *testing.T) {
	t.Helper()
	c.node = &node.Node{
		Dir: node.Dir(), Programs: setup.Cache, Version: setup.Kubernetes,
		Images: append(setup.Builder().Images(), setup.Builder().PluginArchive()),
	}
	c.kubeconfig = c.node.Kubeconfig()
	t.Cleanup(func() { c.stopNode(t) })
	c.bootNode(t)
}

func (c *cluster) bootNode(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), busy)
	defer cancel()
	var err error
	if c.running, err = c.node.Start(ctx); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) stopNode(t *testing.T) {
	t.Helper()
	if c.running == nil {
		return
	}
	if err := c.running.Stop(); err != nil {
		t.Error(err)
	}
	c.running = nil
}

// hold lets users look around until they interrupt it.
func (c *cluster) hold() {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	defer signal.Stop(interrupted)
	enter := ""
	if c.node != nil {
		enter = fmt.Sprintf("nsenter --net=/proc/%d/ns/net ", os.Getpid())
	}
	fmt.Fprintf(os.Stderr, "\nThe cluster stays until interrupted (Ctrl-C):\n  %s%s --kubeconfig=%s get pods -A\n", enter, c.kubectlPath(), c.kubeconfig)
	<-interrupted
}

// startBox starts Azure and makes Entra trust the cluster's tokens as in production: by its
// discovery document and its keys, here fetched from the API server itself.
func (c *cluster) startBox(t *testing.T) {
	t.Helper()
	transport, err := rest.TransportFor(c.config)
	if err != nil {
		t.Fatal(err)
	}
	server, err := url.Parse(c.config.Host)
	if err != nil {
		t.Fatal(err)
	}
	c.box, err = azuretest.New(azuretest.Options{
		Address:      setup.BoxAddress.String(),
		IssuerClient: &http.Client{Transport: issuerTransport{server, transport}, Timeout: 10 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.box.Close(); err != nil {
			t.Error(err)
		}
	})
	c.box.IMDS()
	text, err := c.client.Discovery().RESTClient().Get().AbsPath(discoveryPath).DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var document struct{ Issuer string }
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	c.issuer = document.Issuer
}

const discoveryPath = "/.well-known/openid-configuration"

// issuerTransport reaches the issuer that a token names, which may be a host on the
// internet, at the API server.
type issuerTransport struct {
	server *url.URL
	next   http.RoundTripper
}

func (i issuerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	path := "/openid/v1/jwks"
	if strings.HasSuffix(r.URL.Path, discoveryPath) {
		path = discoveryPath
	}
	r.URL.Scheme, r.URL.Host, r.Host = i.server.Scheme, i.server.Host, ""
	r.URL.Path = strings.TrimSuffix(i.server.Path, "/") + path
	return i.next.RoundTrip(r)
}

// command runs a program and returns its output; the test fails with it.
func (c *cluster) command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := c.run(context.WithoutCancel(t.Context()), "", name, args...) // also when the test is over
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// run runs a program with that input, and with the cluster's administrator for kubectl and
// helm.
func (c *cluster) run(ctx context.Context, input, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*busy)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(input)
	// What helm stores is not the user's.
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.kubeconfig, "HELM_CACHE_HOME="+filepath.Join(setup.Cache, "helm-home"),
		"HELM_CONFIG_HOME="+filepath.Join(setup.Cache, "helm-home"), "HELM_DATA_HOME="+filepath.Join(setup.Cache, "helm-home"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func (c *cluster) kubectlPath() string {
	return filepath.Join(setup.Cache, "kubernetes-"+setup.Kubernetes, "kubectl")
}

func (c *cluster) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return c.command(t, c.kubectlPath(), args...)
}

func (c *cluster) helm(t *testing.T, args ...string) string {
	t.Helper()
	return c.command(t, setup.Helm, args...)
}

// apply applies manifests as a user does.
func (c *cluster) apply(t *testing.T, manifests ...string) {
	t.Helper()
	if err := c.tryApply(context.WithoutCancel(t.Context()), manifests...); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) tryApply(ctx context.Context, manifests ...string) error {
	_, err := c.run(ctx, strings.Join(manifests, "\n---\n"), c.kubectlPath(), "apply", "--server-side", "-f", "-")
	return err
}

// remove deletes what the manifests name, if it is there.
func (c *cluster) remove(t *testing.T, manifests ...string) {
	t.Helper()
	_, err := c.run(context.Background(), strings.Join(manifests, "\n---\n"), c.kubectlPath(), "delete", "--ignore-not-found", "-f", "-")
	if err != nil {
		t.Error(err)
	}
}

// tryCreate is what the API server would say to a new object.
func (c *cluster) tryCreate(ctx context.Context, manifest string) error {
	_, err := c.run(ctx, manifest, c.kubectlPath(), "create", "--dry-run=server", "-f", "-")
	return err
}

// installDriver applies the driver's own manifests, with what deploy/README.md requires:
// tokens, Secrets and rotation. Where the node cannot pull them, our images have the
// names of the driver's.
func (c *cluster) installDriver(t *testing.T) {
	t.Helper()
	manifests := c.driverManifests(t)
	if c.node == nil { // the cluster is left as it was
		t.Cleanup(func() { c.clear(t, manifests) })
	}
	c.applyDriver(t)
}

func (c *cluster) driverManifests(t *testing.T) []string {
	t.Helper()
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(setup.Builder().Manifests(), name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const crd = "secrets-store.csi.x-k8s.io_secretproviderclass"
	return []string{
		read(crd + "es.yaml"), read(crd + "podstatuses.yaml"), read("rbac-secretproviderclass.yaml"), read("rbac-secretprovidersyncing.yaml"),
		c.csiDriver(t, true),
		replace(t, read("secrets-store-csi-driver.yaml"),
			"--enable-secret-rotation=false", "--enable-secret-rotation=true",
			"--rotation-poll-interval=2m", "--rotation-poll-interval="+pollInterval.String()),
	}
}

// applyDriver installs the driver, or puts back what a test changed of it.
func (c *cluster) applyDriver(t *testing.T) {
	t.Helper()
	c.apply(t, c.driverManifests(t)...)
	c.kubectl(t, "wait", "--for=condition=Established", "--timeout="+busy.String(),
		"crd/secretproviderclasses.secrets-store.csi.x-k8s.io", "crd/secretproviderclasspodstatuses.secrets-store.csi.x-k8s.io")
	c.rolledOut(t, "csi-secrets-store")
}

// clear uninstalls the plugin, if it is still there, and the driver.
func (c *cluster) clear(t *testing.T, driver []string) {
	t.Helper()
	c.noNamespaces(t)
	c.helm(t, "uninstall", release, "-n", system, "--ignore-not-found", "--wait")
	c.kubectl(t, "-n", system, "delete", "--ignore-not-found", "configmap", "azure-ca")
	c.remove(t, driver...)
}

// csiDriver is the driver's CSIDriver object, with or without tokens of pods.
func (c *cluster) csiDriver(t *testing.T, tokens bool) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(setup.Builder().Manifests(), "csidriver.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !tokens {
		return string(text) + "  tokenRequests: []\n"
	}
	manifest := string(text) + "  tokenRequests:\n  - audience: api://AzureADTokenExchange\n"
	if setup.Tokens == "secrets" {
		manifest += "  serviceAccountTokenInSecrets: true\n"
	}
	return manifest
}

// pollInterval is how often the driver lets a volume be mounted again, sharedFor the
// plugin's --rotation-cache-ttl.
const (
	pollInterval = 5 * time.Second
	sharedFor    = 5 * time.Second
)

// busy is the limit of what takes seconds where nothing else runs, but has taken a minute on
// two cores with a load of 48. Where the time itself is tested there is its own limit.
const busy = 3 * time.Minute

// rotates is when a change must have reached a running pod: kubelet's own period, the
// driver's, the plugin's, and some for a busy machine.
const rotates = 5*time.Second + pollInterval + sharedFor + 20*time.Second

// replace replaces texts that must be there, in pairs.
func replace(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("no %q in\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// rolledOut waits for all pods of a DaemonSet, and of its last version.
func (c *cluster) rolledOut(t *testing.T, daemonSet string) {
	t.Helper()
	c.kubectl(t, "-n", system, "rollout", "status", "daemonset/"+daemonSet, "--timeout="+busy.String())
}

// Why tests are skipped.
const (
	noNode            = "needs the node that the suite starts: run make e2e without E2E_CLUSTER"
	noManagedIdentity = "the plugin asks only loopback and link-local addresses for managed identities, not E2E_BOX_ADDRESS"
)

// installPlugin installs the chart, or upgrades it with more values.
func (c *cluster) installPlugin(t *testing.T, values ...string) {
	t.Helper()
	c.apply(t, fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: azure-ca, namespace: %s}\ndata: {ca.crt: %q}\n", system, c.box.CACert()))
	at := strings.LastIndexByte(setup.Image, ':')
	args := append([]string{"upgrade", "--install", release, "../../deploy/chart", "--namespace", system,
		"--set", "linux.image.repository=" + setup.Image[:at], "--set", "linux.image.tag=" + setup.Image[at+1:]}, c.azureValues()...)
	for _, v := range values {
		args = append(args, "--set", v)
	}
	c.helm(t, args...)
	c.rolledOut(t, release)
}

// azureValues are Helm's arguments for the values that connect the plugin to the fake Azure.
func (c *cluster) azureValues() []string {
	args := []string{"--set", "proxy.httpsProxy=" + c.box.ProxyURL(), "--set", "extraCABundle.configMapName=azure-ca",
		"--set", "rotationCacheTTL=" + sharedFor.String()}
	if setup.ManagedIdentity() {
		args = append(args, "--set", "linux.env[0].name=AZURE_POD_IDENTITY_AUTHORITY_HOST", "--set", "linux.env[0].value="+c.box.IMDS().URL())
	}
	return args
}

// eventually polls until f succeeds, whose error says what is missing.
func eventually(t *testing.T, within time.Duration, what string, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), within) // also when the test is over
	defer cancel()
	start, last := time.Now(), error(nil)
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil || last == nil { // a call that the deadline cut says nothing
			last = err
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %.0f s: %s: %v", time.Since(start).Seconds(), what, last)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// metric reads a sum of the plugin's metrics whose line begins so, through the API server.
func (c *cluster) metric(ctx context.Context, prefix string) (float64, error) {
	pod, err := c.pluginPod(ctx)
	if err != nil {
		return 0, err
	}
	text, err := c.client.CoreV1().RESTClient().Get().Namespace(system).Resource("pods").Name(pod + ":8898").SubResource("proxy").Suffix("metrics").DoRaw(ctx)
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for line := range strings.SplitSeq(string(text), "\n") {
		if strings.HasPrefix(line, prefix) {
			var v float64
			if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &v); err != nil {
				return 0, fmt.Errorf("%q: %w", line, err)
			}
			sum += v
		}
	}
	return sum, nil
}
