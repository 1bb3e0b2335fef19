//go:build !windows

package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"akv-csi-provider/provider/azuretest"

	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector receives spans by OTLP over HTTP.
type collector struct {
	*httptest.Server

	mu    sync.Mutex // guards what follows
	raw   bytes.Buffer
	spans []*spans.Span
	bad   []string
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := new(collector)
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var data spans.TracesData
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil || proto.Unmarshal(body, &data) != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/traces" ||
			r.Header.Get("Content-Type") != "application/x-protobuf" || r.Header.Get("X-Tenant") != "a b" {
			c.bad = append(c.bad, fmt.Sprint(r.Method, r.URL, r.Header))
		}
		c.raw.Write(body)
		for _, resource := range data.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// A mount is a trace: the call, the sign-in, the reads and their requests. It contains no
// secret, no token and no response of a service, even if a service fails.
func TestTraces(t *testing.T) {
	w, c, dir := newWorld(t), newCollector(t), socketDir(t)
	env, err := w.Environ(dir)
	if err != nil {
		t.Fatal(err)
	}
	env = append(env, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL+"/", "OTEL_EXPORTER_OTLP_HEADERS=x-tenant=a%20b",
		"OTEL_RESOURCE_ATTRIBUTES=k8s.node.name=node-7", "NO_PROXY=127.0.0.1")
	socket := filepath.Join(dir, "azure.sock")
	p := startProcess(t, env, "--endpoint=unix://"+socket, "--healthz-port=0", "--prometheus-port=0", "--retry-max=0", "-v=10", "--log-format-json")
	driver := dial(t, socket)
	if _, err := w.mount(t, driver, w.class); err != nil {
		t.Fatal(err)
	}
	missing := []byte(strings.Replace(string(w.class), "db-password", "no-such-secret", 1))
	if _, err := w.mount(t, driver, missing); err == nil {
		t.Error("a secret that does not exist was mounted")
	}
	w.SetFault(azuretest.GetSecret, azuretest.Fault{Status: http.StatusInternalServerError})
	another := []byte(strings.Replace(string(w.class), "db-password", "another-secret", 1)) // of which nothing is cached
	if _, err := w.mount(t, driver, another); err == nil {
		t.Error("a secret was read in spite of the fault")
	}
	w.SetFault(azuretest.Token, azuretest.Fault{Status: http.StatusBadRequest, InnerCode: "70021"})
	if _, err := w.mount(t, driver, w.class); err == nil {
		t.Error("signed in in spite of the fault")
	}
	code, output := p.end(syscall.SIGTERM)
	if code != 0 || strings.Contains(output, canary) || strings.Contains(output, "eyJ") || strings.Contains(output, "traces are lost") {
		t.Errorf("exit code %d, log\n%s", code, output)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.bad) > 0 {
		t.Errorf("requests that collectors reject: %q", c.bad)
	}
	for _, never := range []string{canary, "eyJ", "Bearer", "client_assertion", "Authorization", "ResponseError", "RESPONSE", "AADSTS", "Trace ID"} {
		if bytes.Contains(c.raw.Bytes(), []byte(never)) {
			t.Errorf("the spans contain %q", never)
		}
	}
	if !bytes.Contains(c.raw.Bytes(), []byte("node-7")) {
		t.Error("the resource lacks what the environment says")
	}
	checkTree(t, c.spans)
}

// checkTree checks that the spans of each mount are one tree, with the expected names and reasons.
func checkTree(t *testing.T, all []*spans.Span) {
	t.Helper()
	var mounts int
	byID := map[string]*spans.Span{}
	names := map[string]int{}
	for _, s := range all {
		byID[string(s.GetSpanId())] = s
		names[s.GetName()]++
		if s.GetStatus().GetMessage() != "" || len(s.GetEvents()) > 0 {
			t.Errorf("%s has the status %v and %d events", s.GetName(), s.GetStatus(), len(s.GetEvents()))
		}
	}
	reasons := map[string]bool{}
	for _, s := range all {
		root := s
		for len(root.GetParentSpanId()) > 0 && byID[string(root.GetParentSpanId())] != nil {
			root = byID[string(root.GetParentSpanId())]
		}
		if root.GetName() != "v1alpha1.CSIDriverProvider/Mount" || string(root.GetTraceId()) != string(s.GetTraceId()) {
			t.Errorf("%s is not in the tree of a mount, but of %s", s.GetName(), root.GetName())
		}
		if root != s {
			continue
		}
		mounts++
		for _, a := range s.GetAttributes() {
			if a.GetKey() == "akv.reason" {
				reasons[a.GetValue().GetStringValue()] = true
			}
		}
	}
	if mounts != 4 || !reasons["ok"] || !reasons["ObjectNotFound"] || names["Client.GetSecret"] != 3 || names["ClientAssertionCredential.GetToken"] != 4 ||
		names["HTTP GET"] < 3 || names["HTTP POST"] < 4 {
		t.Errorf("%d mounts with reasons %v, of spans %v", mounts, reasons, names)
	}
}

// A collector that is unavailable costs one warning, which does not quote the API key in its
// URL, and no mount.
func TestTracesAreLost(t *testing.T) {
	w, dir := newWorld(t), socketDir(t)
	env, err := w.Environ(dir)
	if err != nil {
		t.Fatal(err)
	}
	env = append(env, fmt.Sprintf("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:%d/%s?key=%[2]s", freePorts(t, 1)[0], canary),
		"OTEL_EXPORTER_OTLP_HEADERS=authorization="+canary, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=1", "NO_PROXY=127.0.0.1")
	socket := filepath.Join(dir, "azure.sock")
	p := startProcess(t, env, "--endpoint=unix://"+socket, "--healthz-port=0", "--prometheus-port=0")
	if _, err := w.mount(t, dial(t, socket), w.class); err != nil {
		t.Error(err)
	}
	code, output := p.end(syscall.SIGTERM)
	if code != 0 || strings.Count(output, "traces are lost") != 1 || strings.Count(output, "refused") != 1 || strings.Contains(output, canary) {
		t.Errorf("exit code %d, log\n%s", code, output)
	}
}

// An invalid collector ends the start with one line that does not quote the setting.
func TestTracesMisconfigured(t *testing.T) {
	socket := filepath.Join(socketDir(t), "azure.sock")
	for _, c := range []struct {
		env  []string
		says string
	}{
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://me:" + canary + "@collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=collector:4317/" + canary}, "OTEL_EXPORTER_OTLP_ENDPOINT"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, "http/protobuf"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318", "OTEL_EXPORTER_OTLP_HEADERS=" + canary}, "OTEL_EXPORTER_OTLP_HEADERS"},
	} {
		p := startProcess(t, c.env, "--endpoint=unix://"+socket, "--healthz-port=0", "--prometheus-port=0")
		output := <-p.output
		_ = p.cmd.Wait()
		if code := p.cmd.ProcessState.ExitCode(); code != 1 || lines(output) != 1 || !strings.Contains(output, c.says) || strings.Contains(output, canary) {
			t.Errorf("%q: got exit code %d, %q", c.env, code, output)
		}
	}
}
