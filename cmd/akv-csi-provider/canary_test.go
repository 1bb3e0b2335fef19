//go:build !windows

package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// profiles are all that the port of profiles serves. The goroutines with their stacks come in
// text, and the other profiles in both forms.
var profiles = []string{
	"", "cmdline", "symbol", "profile?seconds=1", "trace?seconds=1",
	"goroutine", "goroutine?debug=1", "goroutine?debug=2", "heap", "heap?debug=1", "allocs", "allocs?debug=1",
	"block", "block?debug=1", "mutex", "mutex?debug=1", "threadcreate", "threadcreate?debug=1",
}

// debugging are the settings of libraries that make them verbose.
var debugging = []string{
	"AZURE_SDK_GO_LOGGING=all", "GRPC_GO_LOG_SEVERITY_LEVEL=info", "GRPC_GO_LOG_VERBOSITY_LEVEL=99", "GRPC_BINARY_LOG_FILTER=*",
}

// No token, secret or password of a proxy or collector is in what the process shows of itself, however
// verbose it is: log, metrics, spans, profiles, command line and environment.
func TestProcessCanary(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a process's command line is read from /proc")
	}
	for _, format := range []string{"--log-format-json=false", "--log-format-json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			testCanary(t, format)
		})
	}
}

func testCanary(t *testing.T, format string) {
	w, c, dir := newWorld(t), newCollector(t), socketDir(t)
	value, proxyPassword, apiKey := `m"/+<& ?>%`+rand.Text(), "proxy-"+rand.Text(), "apikey-"+rand.Text()
	w.Vault("contoso", w.Tenant(tenantID)).SetSecret("db-password", azuretest.Secret{Value: value})
	env, err := w.Environ(dir)
	if err != nil {
		t.Fatal(err)
	}
	env = append(env, debugging...)
	env = append(env, "HTTPS_PROXY="+strings.Replace(w.ProxyURL(), "http://", "http://me:"+proxyPassword+"@", 1),
		"OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL, "OTEL_EXPORTER_OTLP_HEADERS=x-tenant=a%20b,x-api-key="+apiKey, "NO_PROXY=127.0.0.1")
	ports := freePorts(t, 3)
	socket := filepath.Join(dir, "azure.sock")
	p := startProcess(t, env, "--endpoint=unix://"+socket, fmt.Sprintf("--healthz-port=%d", ports[0]), fmt.Sprintf("--prometheus-port=%d", ports[1]),
		"--enable-pprof", fmt.Sprintf("--pprof-port=%d", ports[2]), "--retry-max=0", "-v=10", format, "--audit-log="+filepath.Join(dir, "audit.log"))
	driver := dial(t, socket)
	marks := mountCanaries(t, w, driver)
	marks = append(marks, value)

	shown := map[string]string{}
	endStalled := stall(t, w, driver)
	var group sync.WaitGroup
	var mu sync.Mutex // guards shown
	for _, name := range profiles {
		group.Go(func() {
			code, body := fetch(t, ports[2], "/debug/pprof/"+name)
			if code != 200 || body == "" && name != "cmdline" {
				t.Errorf("%s: got %d, %d bytes", name, code, len(body))
			}
			mu.Lock()
			defer mu.Unlock()
			shown["profile "+name] = unzip(t, body)
		})
	}
	group.Wait()
	endStalled()
	for _, name := range []string{"cmdline", "environ"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, name))
		if err != nil || len(text) == 0 {
			t.Errorf("%s: got %d bytes, %v", name, len(text), err)
		}
		shown[name] = string(text)
	}
	_, shown["metrics"] = fetch(t, ports[1], "/metrics")
	code, output := p.end(syscall.SIGTERM)
	if code != 0 || !strings.Contains(output, "ObjectNotFound") {
		t.Errorf("exit code %d, log\n%s", code, output)
	}
	shown["log"] = output
	audit, err := os.ReadFile(filepath.Join(dir, "audit.log"))
	if shown["audit"] = string(audit); err != nil || !strings.Contains(shown["audit"], "ObjectNotFound") || !strings.Contains(shown["audit"], "secret/db-password@") {
		t.Errorf("audit log: %v\n%s", err, audit)
	}
	for _, want := range []string{"audit-log", "vault.azure.net", "/secrets/", "durationSeconds"} {
		if !strings.Contains(output, want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if shown["spans"] = c.raw.String(); !strings.Contains(shown["spans"], "ObjectNotFound") {
		t.Error("the spans lack the mounts")
	}
	for where, text := range shown {
		all := append([]string{proxyPassword, apiKey}, marks...)
		if where == "environ" {
			all = marks // its settings are our own
		}
		for _, found := range azuretest.FindMarks([]byte(text), all) {
			t.Errorf("%s contains %s", where, found)
		}
	}
}

// mountCanaries mounts a secret, one that does not exist, and with a forged token. It returns the marks
// in the pod's tokens.
func mountCanaries(t *testing.T, w *world, driver v1alpha1.CSIDriverProviderClient) (marks []string) {
	t.Helper()
	claims, err := w.cluster.Claims(w.pod, azuretest.TokenExchangeAudience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	claims["canary"] = "claim-" + rand.Text()
	token, err := w.cluster.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := w.cluster.ForgedToken(claims, false)
	if err != nil {
		t.Fatal(err)
	}
	marks = append(marks, claims["canary"].(string), strings.Split(token, ".")[2], strings.Split(forged, ".")[2], strings.Split(token, ".")[1], token)
	missing := []byte(strings.Replace(string(w.class), "db-password", "no-such-secret", 1))
	for _, m := range []struct {
		class []byte
		token string
		want  codes.Code
	}{{w.class, token, codes.OK}, {missing, token, codes.NotFound}, {w.class, forged, codes.Unauthenticated}} {
		pod := w.pod
		pod.NodePublishSecret = map[string]string{"clientsecret": "password-" + rand.Text()}
		marks = append(marks, pod.NodePublishSecret["clientsecret"])
		req, err := w.cluster.MountRequest(m.class, pod, map[string]string{azuretest.TokenExchangeAudience: m.token}, "/var/lib/kubelet/pods/1/mount")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := driver.Mount(t.Context(), req); status.Code(err) != m.want {
			t.Errorf("got %v, want %s", err, m.want)
		}
	}
	return marks
}

// stall begins a mount that stays in a read of the vault until the returned function is called.
func stall(t *testing.T, w *world, driver v1alpha1.CSIDriverProviderClient) (end func()) {
	t.Helper()
	w.SetFault(azuretest.GetSecret, azuretest.Fault{Stall: true})
	req, err := w.cluster.MountRequest(w.class, azuretest.Pod{Namespace: "shop", Name: "next", ServiceAccount: "reader"}, nil, "/var/lib/kubelet/pods/2/mount")
	if err != nil {
		t.Fatal(err)
	}
	before := w.Count(azuretest.GetSecret)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = driver.Mount(ctx, req)
	}()
	for w.Count(azuretest.GetSecret) == before {
		select {
		case <-done:
			t.Fatal("the mount ended")
		case <-time.After(10 * time.Millisecond):
		}
	}
	return func() {
		cancel()
		<-done
		w.ClearFaults()
	}
}

// unzip decompresses a profile; others are text.
func unzip(t *testing.T, body string) string {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader([]byte(body)))
	if err != nil {
		return body
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}
