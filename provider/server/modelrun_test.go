package server_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/kube"
	"akv-csi-provider/provider/metrics"
	"akv-csi-provider/provider/plugin"
	"akv-csi-provider/provider/server"
	"akv-csi-provider/provider/throttle"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// simulation runs a sequence against the plugin, in a bubble of testing/synctest: time is not
// waited for, and what happens at the same time in the bubble overlaps as the sequence says.
type simulation struct {
	t       *testing.T
	dir     string // with the plugin's credentials for the API server
	box     *azuretest.Box
	tenants [2]*azuretest.Tenant
	vaults  [modelVaults]*azuretest.Vault
	imds    *azuretest.IMDS
	cluster *azuretest.Cluster
	api     *azuretest.APIServer
	skew    atomic.Int64
	out     atomic.Bool // of everything

	mu      sync.Mutex // guards what follows
	history history

	state    state
	pods     [modelPods]modelPod
	classes  [modelPods][modelVolumes]modelClass
	created  int // versions, for their times
	ended    map[string]time.Time
	server   *server.Server
	current  int // incarnation
	kill     context.CancelFunc
	life     context.Context
	attempts sync.WaitGroup
}

type modelPod struct {
	azuretest.Pod
	recreated int
	tokens    [4]modelToken // see presented
}

type modelToken struct {
	sign    func() string // nil for none
	expires time.Time     // by the cluster's clock
}

type modelClass struct {
	spec spec
	pin  string
}

func secretName(n int) string  { return fmt.Sprint("s", n) }
func vaultName(v int) string   { return fmt.Sprint("vault", v) }
func modelClient(c int) string { return fmt.Sprintf("aaaaaaaa-0000-0000-0000-00000000000%d", c) }
func tenantName(foreign bool) string {
	if foreign {
		return "22222222-2222-3333-4444-555555555555"
	}
	return tenantID
}

// simulate runs the sequence and returns what happened.
func simulate(t *testing.T, dir string, s sequence) *history {
	w := &simulation{t: t, dir: dir, ended: map[string]time.Time{}, history: history{sequence: s}}
	w.build()
	start := time.Now()
	for i, o := range s.ops {
		time.Sleep(time.Until(start.Add(o.at)))
		w.apply(i, o)
		w.note()
	}
	w.attempts.Wait()
	time.Sleep(2 * time.Minute) // until abandoned work has ended
	if err := w.box.Close(); err != nil {
		t.Error(err)
	}
	return &w.history
}

func (w *simulation) must(err error) {
	if err != nil {
		w.t.Fatal(err)
	}
}

// build makes Azure, the cluster and the first plugin.
func (w *simulation) build() {
	var err error
	w.box, err = azuretest.New(azuretest.Options{
		Clock:  func() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) },
		Listen: func(string, string) (net.Listener, error) { return newNoListener(), nil },
	})
	w.must(err)
	w.box.SetTokenLifetime(w.history.lifetime)
	w.cluster, err = w.box.Cluster(issuer)
	w.must(err)
	w.api, err = w.cluster.APIServer()
	w.must(err)
	w.must(w.api.WriteCredentials(w.dir))
	w.imds = w.box.IMDS()
	w.tenants = [2]*azuretest.Tenant{w.box.Tenant(tenantName(false)), w.box.Tenant(tenantName(true))}
	for v := range w.vaults {
		w.vaults[v] = w.box.Vault(vaultName(v), w.tenants[0])
	}
	for c := range modelClients {
		w.tenants[1].Application(modelClient(c)).Federate(issuer, subject(attacker), entra.Audience)
	}
	w.app(password).AddSecret("right", time.Time{})
	w.imds.Assign(w.app(onNode))
	for a := range modelAccounts {
		w.annotate(a, -1)
	}
	w.heal()
	for p := range w.pods {
		account := modelAccounts[p%len(modelAccounts)]
		w.pods[p].Pod = azuretest.Pod{Namespace: account.namespace, Name: fmt.Sprint("pod-", p), ServiceAccount: account.name}
		w.recreate(p)
	}
	w.start()
	w.note()
}

// start starts a plugin with nothing in memory.
func (w *simulation) start() {
	w.mu.Lock()
	w.current++ // which mounts that end read
	w.mu.Unlock()
	w.life, w.kill = context.WithCancel(context.Background())
	h := &w.history
	m := metrics.New("1.2.3")
	wire := &modelWire{w: w, incarnation: w.current}
	cfg := plugin.Config{
		Version: "1.2.3", Azure: wire, IMDS: wire, Throttle: throttle.Config{Max: 80, Retries: 3},
		Mounter: provider.Mounter{RotationTTL: h.ttl, Clouds: &cloud.Resolver{Default: "AzurePublicCloud"}, MaxConcurrency: 8, MaxBytes: 4 << 20, NodeNamespaces: []string{"infra"}},
		Reads:   keyvault.Config{Timeout: 50 * time.Second, CacheTTL: h.ttl, CacheBytes: 16 << 20, StaleIfError: h.stale, Unshared: h.unshared},
	}
	mounter, err := plugin.NewMounter(cfg, m)
	w.must(err)
	mounter.Accounts, err = kube.NewAccounts(kube.AccountsConfig{
		Host: "https://" + apiHost, TokenFile: w.dir + "/token", CAFile: w.dir + "/ca.crt",
		Measure: func(http.RoundTripper) http.RoundTripper { return wire },
	})
	w.must(err)
	w.server, err = server.New(server.Config{
		Socket: "/unused", Version: "1.2.3", Mounter: mounter, Log: slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError + 1})), Observe: m,
		MountTimeout: 50 * time.Second, ShutdownGrace: time.Second, MaxResponseBytes: 4 << 20, SocketCheck: time.Hour,
	})
	w.must(err)
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.ended)
}

// mount mounts a volume of a pod, in its own goroutine.
func (w *simulation) mount(op int, p, v int, patience time.Duration) {
	class := w.classes[p][v]
	if class.spec.names == nil {
		return // of a sequence that was shortened
	}
	token, pod := w.presented(p, class.spec.token), w.pods[p]
	m := &attempt{op: op, spec: class.spec, pin: class.pin, account: p % len(modelAccounts), incarnation: w.current, start: time.Now(), impatient: patience > 0}
	if federated := class.spec.mode == byClient || class.spec.mode == byAnnotation; federated && token.sign != nil {
		m.token, m.expires = token.sign(), token.expires
	}
	req := w.request(pod, v, class, m)
	volume := fmt.Sprint(pod.UID, pod.recreated, v)
	w.mu.Lock()
	m.previous = w.ended[volume]
	w.mu.Unlock()
	w.history.attempts = append(w.history.attempts, m)
	life, s, incarnation := w.life, w.server, w.current
	ctx, cancel := life, func() {}
	if patience > 0 {
		ctx, cancel = context.WithTimeout(life, patience)
	}
	w.attempts.Go(func() {
		defer cancel()
		resp, err := s.Call(ctx, req)
		w.mu.Lock()
		defer w.mu.Unlock()
		m.end, m.err, m.files, m.versions = time.Now(), err, files(resp), map[string]string{}
		for _, v := range resp.GetObjectVersion() {
			m.versions[v.GetId()] = v.GetVersion()
		}
		m.killed = life.Err() != nil
		if err == nil && incarnation == w.current {
			w.ended[volume] = m.end
		}
	})
}

// request is what the driver sends for the volume.
func (w *simulation) request(pod modelPod, volume int, class modelClass, m *attempt) *v1alpha1.MountRequest {
	s := class.spec
	var objects []string
	for i, n := range s.names {
		object := "objectName: " + secretName(n) + ", objectType: secret"
		if i == 0 && s.history > 0 {
			object += fmt.Sprint(", objectVersionHistory: ", s.history)
		}
		if i == 0 && class.pin != "" {
			object += ", objectVersion: " + class.pin
		}
		object += fmt.Sprint(", optional: ", s.optional)
		objects = append(objects, "{"+object+"}")
	}
	pod.VolumeAttributes = map[string]string{"keyvaultName": vaultName(s.vault), "tenantID": tenantName(s.foreign), "objects": "[" + strings.Join(objects, ", ") + "]"}
	switch s.mode {
	case byClient:
		pod.VolumeAttributes["clientID"] = modelClient(s.client)
	case byNode:
		pod.VolumeAttributes["useVMManagedIdentity"], pod.VolumeAttributes["userAssignedIdentityID"] = "true", modelClient(s.client)
	case byPassword:
		pod.NodePublishSecret = map[string]string{"clientid": modelClient(s.client), "clientsecret": "right"}
		if s.wrongPassword {
			pod.NodePublishSecret["clientsecret"] = "wrong"
		}
	}
	text := fmt.Sprintf("{kind: SecretProviderClass, metadata: {name: class-%d}, spec: {provider: azure}}", volume)
	tokens := map[string]string{}
	if m.token != "" {
		tokens[entra.Audience] = m.token
	}
	req, err := w.cluster.MountRequest([]byte(text), pod.Pod, tokens, fmt.Sprintf("/pods/%s/%d", pod.Name, volume))
	w.must(err)
	return req
}

// note adds the state of now to the history.
func (w *simulation) note() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history.moments = append(w.history.moments, moment{time.Now(), w.state})
}

func (w *simulation) app(c int) *azuretest.Application {
	return w.tenants[0].Application(modelClient(c))
}

func subject(a int) string {
	return "system:serviceaccount:" + modelAccounts[a].namespace + ":" + modelAccounts[a].name
}

// set adds a version of a secret, or a disabled one.
func (w *simulation) set(v, n int, disabled bool) {
	w.created++
	one := secretVersion{
		id:    fmt.Sprintf("%032x", uint64(w.created)*0x9e3779b97f4a7c15), // in an order that says nothing
		value: fmt.Sprintf("vault %d secret %d number %d", v, n, w.created), disabled: disabled,
	}
	w.vaults[v].SetSecret(secretName(n), azuretest.Secret{Value: one.value, Version: one.id, Disabled: disabled,
		Created: time.Date(1999, 1, 1, 0, 0, w.created, 0, time.UTC)})
	w.state.secrets[v][n] = append(slices.Clone(w.state.secrets[v][n]), one)
}
