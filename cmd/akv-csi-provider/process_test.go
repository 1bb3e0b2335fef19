//go:build !windows

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

const (
	tenantID = "11111111-2222-3333-4444-555555555555"
	clientID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	canary   = "canary-5ecre7"
)

// world is an Azure with one identity, one vault and one secret.
type world struct {
	*azuretest.Box
	cluster *azuretest.Cluster
	pod     azuretest.Pod
	class   []byte
}

func newWorld(t *testing.T) *world {
	t.Helper()
	box, err := azuretest.New(azuretest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Close() })
	cluster, err := box.Cluster("https://oidc.contoso.example/")
	if err != nil {
		t.Fatal(err)
	}
	class, err := os.ReadFile(filepath.Join("testdata", "class.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Box: box, cluster: cluster, class: class, pod: azuretest.Pod{Namespace: "shop", Name: "till", UID: "0b5a7d0e-0000-4000-8000-000000000001", ServiceAccount: "reader"}}
	box.Tenant(tenantID).Application(clientID).Federate(cluster.Issuer(), w.pod.Subject(), azuretest.TokenExchangeAudience)
	vault := box.Vault("contoso", box.Tenant(tenantID))
	vault.Grant(clientID, azuretest.SecretsGet)
	vault.SetSecret("db-password", azuretest.Secret{Value: canary, Version: "0123456789abcdef0123456789abcdef"})
	return w
}

// mount calls as the driver does.
func (w *world) mount(t *testing.T, driver v1alpha1.CSIDriverProviderClient, class []byte) (*v1alpha1.MountResponse, error) {
	t.Helper()
	req, err := w.cluster.MountRequest(class, w.pod, nil, "/var/lib/kubelet/pods/"+w.pod.UID+"/volumes/kubernetes.io~csi/secrets/mount")
	if err != nil {
		t.Fatal(err)
	}
	return driver.Mount(t.Context(), req)
}

// dial returns a client of the socket once it is served.
func dial(t *testing.T, socket string) v1alpha1.CSIDriverProviderClient {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1, MaxDelay: 5 * time.Millisecond},
			MinConnectTimeout: 5 * time.Second, // else a handshake has no more time than the back-off
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	driver := v1alpha1.NewCSIDriverProviderClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := driver.Version(ctx, &v1alpha1.VersionRequest{Version: "v1alpha1"}, grpc.WaitForReady(true))
	if err != nil || got.GetVersion() != "v1alpha1" || got.GetRuntimeName() == "" || got.GetRuntimeVersion() == "" {
		t.Fatalf("version: got %v, %v", got, err)
	}
	return driver
}

func fetch(t *testing.T, port int, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// The whole plugin as a node runs it, from start to SIGTERM.
func TestProcess(t *testing.T) {
	w := newWorld(t)
	dir := socketDir(t)
	env, err := w.Environ(dir)
	if err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 3)
	socket := filepath.Join(dir, "azure.sock")
	p := startProcess(t, env, "--endpoint=unix://"+socket,
		fmt.Sprintf("--healthz-port=%d", ports[0]), fmt.Sprintf("--prometheus-port=%d", ports[1]), fmt.Sprintf("--pprof-port=%d", ports[2]),
		"--custom-user-agent='kubernetes.azure.com/managedby: aks'\r\n", "-v=5", "--logtostderr", "--logtostderr=true", "--stderrthreshold=2")
	driver := dial(t, socket)

	info, err := os.Lstat(socket)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("socket: got %v, %v, want mode 0600", info, err)
	}
	resp, err := w.mount(t, driver, w.class)
	if err != nil {
		t.Fatal(err)
	}
	if f := resp.GetFiles(); len(f) != 1 || f[0].GetPath() != "db-password" || string(f[0].GetContents()) != canary || f[0].GetMode() != 0o644 {
		t.Errorf("files: got %v", f)
	}
	if v := resp.GetObjectVersion(); len(v) != 1 || v[0].GetId() != "secret/db-password" || v[0].GetVersion() != "0123456789abcdef0123456789abcdef" {
		t.Errorf("versions: got %v", v)
	}
	for _, r := range w.Requests() {
		if r.Kind != azuretest.Issuer && (!strings.HasPrefix(r.UserAgent, "akv-csi-provider/") ||
			!strings.Contains(r.UserAgent, ") 'kubernetes.azure.com/managedby: aks' azsdk-go-")) {
			t.Errorf("%s: user agent %q", r.Kind, r.UserAgent)
		}
	}
	missing := []byte(strings.Replace(string(w.class), "db-password", "no-such-secret", 1))
	_, err = w.mount(t, driver, missing)
	if text := status.Convert(err).Message(); status.Code(err) != codes.NotFound || !strings.HasSuffix(text, "[ObjectNotFound]") || strings.Contains(text, "\n") {
		t.Errorf("missing secret: got %v", err)
	}
	w.RefuseProxy(http.StatusProxyAuthRequired)
	w.SetOutage(true) // cuts the tunnels that are open
	w.SetOutage(false)
	_, err = w.mount(t, driver, w.class)
	if text := status.Convert(err).Message(); status.Code(err) != codes.FailedPrecondition || !strings.Contains(text, "407 Proxy Authentication Required") ||
		!strings.Contains(text, strings.TrimPrefix(w.ProxyURL(), "http://")) || !strings.HasSuffix(text, "[ProxyRefused]") {
		t.Errorf("proxy refuses: got %v", err)
	}

	if code, body := fetch(t, ports[0], "/healthz"); code != 200 || strings.TrimSpace(body) != "ok" {
		t.Errorf("healthz: got %d %q", code, body)
	}
	if code, body := fetch(t, ports[0], "/readyz"); code != 200 || strings.TrimSpace(body) != "ok" {
		t.Errorf("readyz: got %d %q", code, body)
	}
	checkMetrics(t, ports[1])
	for _, path := range []string{"/metrics", "/debug/pprof/"} {
		if code, _ := fetch(t, ports[0], path); code != 404 {
			t.Errorf("%s of the health port: got %d", path, code)
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/", ports[2])); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("pprof without --enable-pprof: got %v, %v", resp, err)
	}

	code, output := p.end(syscall.SIGTERM)
	if code != 0 {
		t.Errorf("after SIGTERM: exit code %d\n%s", code, output)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after SIGTERM the socket is there: %v", err)
	}
	if n := strings.Count(output, "have no effect"); n != 1 || strings.Count(output, "logtostderr") != 1 || !strings.Contains(output, "stderrthreshold") {
		t.Errorf("%d warnings of flags without effect in\n%s", n, output)
	}
	if strings.Contains(output, canary) || strings.Contains(output, "eyJ") {
		t.Errorf("the log contains the secret or a token:\n%s", output)
	}
}

// checkMetrics checks what the mounts of TestProcess left.
func checkMetrics(t *testing.T, port int) {
	t.Helper()
	code, body := fetch(t, port, "/metrics")
	if code != 200 {
		t.Fatalf("metrics: got %d %q", code, body)
	}
	for _, want := range []string{
		`akv_csi_mount_duration_seconds_count{operation="start",reason="ok"} 1`,
		`akv_csi_mount_duration_seconds_count{operation="rotate",reason="ObjectNotFound"} 1`,
		`akv_csi_mount_duration_seconds_count{operation="rotate",reason="ProxyRefused"} 1`,
		`akv_csi_azure_request_duration_seconds_count{code="200",operation="get_secret",service="keyvault"} 1`,
		`akv_csi_azure_request_duration_seconds_count{code="404",operation="get_secret",service="keyvault"} 1`,
		`akv_csi_rotations_total{result="unchanged"} 0`,
		`akv_csi_rotations_total{result="failed"} 2`,
		"akv_csi_build_info{",
		"go_goroutines ",
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	for _, never := range []string{canary, "db-password", "no-such-secret", "contoso", tenantID, clientID, "shop", "till", "vault.azure.net"} {
		if strings.Contains(body, never) {
			t.Errorf("metrics contain %q", never)
		}
	}
}

// Profiles are served on request, and an interrupt ends the plugin as SIGTERM does.
func TestProcessPprof(t *testing.T) {
	socket := filepath.Join(socketDir(t), "azure.sock")
	port := freePorts(t, 1)[0]
	p := startProcess(t, nil, "--endpoint=unix://"+socket, "--healthz-port=0", "--prometheus-port=0", "--enable-pprof",
		fmt.Sprintf("--pprof-port=%d", port), "--log-format-json")
	dial(t, socket)
	if code, body := fetch(t, port, "/debug/pprof/goroutine?debug=1"); code != 200 || !strings.Contains(body, "goroutine profile") || strings.Contains(body, "opentelemetry") {
		t.Errorf("got %d %q", code, body)
	}
	code, output := p.end(os.Interrupt)
	if code != 0 {
		t.Errorf("after an interrupt: exit code %d", code)
	}
	for line := range strings.Lines(output) {
		if !strings.HasPrefix(line, `{"time":`) || !strings.HasSuffix(line, "}\n") {
			t.Errorf("no JSON: %q", line)
		}
	}
}

// A standard error that is not read blocks neither mounts nor the exit.
func TestProcessLogNotRead(t *testing.T) {
	socket := filepath.Join(socketDir(t), "azure.sock")
	port := freePorts(t, 1)[0]
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	cmd := exec.CommandContext(t.Context(), binary, "--endpoint=unix://"+socket, "--healthz-port=0", fmt.Sprintf("--prometheus-port=%d", port))
	cmd.Stderr = writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	driver := dial(t, socket)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	attributes := `{"keyvaultName":"` + strings.Repeat("x", 10_000) + `","csi.storage.k8s.io/pod.name":"` + strings.Repeat("p", 2000) + `"}`
	for i := range 1000 {
		_, err := driver.Mount(ctx, &v1alpha1.MountRequest{Attributes: attributes, Secrets: "null", Permission: "420", TargetPath: "/t"})
		if code := status.Code(err); code != codes.InvalidArgument {
			t.Fatalf("mount %d: %.500v", i, err)
		}
	}
	if _, body := fetch(t, port, "/metrics"); !strings.Contains(body, "\nakv_csi_log_lines_dropped_total{log=\"provider\"} ") || strings.Contains(body, "\nakv_csi_log_lines_dropped_total{log=\"provider\"} 0\n") {
		t.Error("the metrics do not count the lines that were dropped")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// The ballast counts as live heap for the garbage collector, but takes no memory.
func TestProcessMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a process's memory is read from /proc")
	}
	socket := filepath.Join(socketDir(t), "azure.sock")
	port := freePorts(t, 1)[0]
	p := startProcess(t, []string{"HOME=" + t.TempDir()}, "--endpoint=unix://"+socket, "--healthz-port=0", fmt.Sprintf("--prometheus-port=%d", port))
	dial(t, socket)
	_, metrics := fetch(t, port, "/metrics")
	var heap, resident float64 // bytes
	for line := range strings.Lines(metrics) {
		_, _ = fmt.Sscanf(line, "go_memstats_heap_alloc_bytes %g", &heap)
		_, _ = fmt.Sscanf(line, "process_resident_memory_bytes %g", &resident)
	}
	const ballast = 12 << 20
	if heap < ballast || resident == 0 || resident > 28<<20 {
		t.Errorf("%.1f MiB of heap, %.1f MiB resident", heap/(1<<20), resident/(1<<20))
	}
	if code, output := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, output)
	}
}

// A second plugin that cannot have the health port leaves the first alone.
func TestProcessPortTaken(t *testing.T) {
	dir := socketDir(t)
	socket := filepath.Join(dir, "azure.sock")
	port := freePorts(t, 1)[0]
	args := []string{"--endpoint=unix://" + socket, fmt.Sprintf("--healthz-port=%d", port), "--prometheus-port=0"}
	first := startProcess(t, nil, args...)
	dial(t, socket)
	if r := execute(t, args...); r.code != 1 || lines(r.stderr) != 1 || !strings.Contains(r.stderr, fmt.Sprint(port)) {
		t.Errorf("the second: got %+v", r)
	}
	if code, body := fetch(t, port, "/healthz"); code != 200 {
		t.Errorf("the first: got %d %q", code, body)
	}
	dial(t, socket)
	if code, output := first.end(syscall.SIGTERM); code != 0 {
		t.Errorf("the first: exit code %d\n%s", code, output)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
