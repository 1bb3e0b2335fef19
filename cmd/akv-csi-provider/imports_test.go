package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "akv-csi-provider/"

func goList(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	return string(out)
}

// The binary contains nothing that is only for tests, nor what the design rules out.
func TestLinked(t *testing.T) {
	for _, path := range strings.Fields(goList(t, "-deps", ".")) {
		switch {
		case path == module+"provider/azuretest", path == module+"deploy",
			strings.Contains(path, "go-autorest"),
			// Traces are sent by one POST; these would cost each node half a megabyte.
			strings.Contains(path, "grpc-gateway"), strings.Contains(path, "otlptracehttp"), strings.Contains(path, "otelgrpc"),
			path == "testing", strings.HasPrefix(path, "testing/"), path == "net/http/httptest",
			strings.HasPrefix(path, "k8s.io/"):
			t.Errorf("links %s", path)
		}
	}
}

// siblings are the packages of the plugin: which of each other each may import. The order is
// that of a mount, from the outside in.
var siblings = map[string][]string{
	"cmd/akv-csi-provider": {"", "admin", "cloud", "entra", "keyvault", "kube", "plugin", "render", "server", "throttle", "tracing", "transport"},
	"provider/plugin": {"", "admin", "cloud", "entra", "fair", "fault", "keyvault", "kube", "metrics", "server", "stats", "throttle",
		"tracing", "transport"},
	"provider/server":   {"", "fair", "fault", "request", "stats"},
	"provider":          {"cloud", "coalesce", "document", "entra", "fair", "fault", "keyvault", "kube", "render", "request", "stats", "tree"},
	"provider/render":   {"bundle", "fault", "keystore", "keyvault", "pkcs12", "request", "tree"},
	"provider/keyvault": {"coalesce", "fault", "request", "throttle", "transport"},
	"provider/entra":    {"coalesce", "fair", "fault", "kube", "pkcs12", "request", "throttle", "transport"},
	"provider/kube":     {"coalesce", "fault", "transport"},

	"provider/transport": {"fair", "fault", "stats"}, // where all requests pass
	"provider/throttle":  {"fair"},
	"provider/coalesce":  {"fault"},
	"provider/request":   {"bundle", "document", "fault", "tree"},
	"provider/cloud":     {"fault"},
	"provider/fault":     {},
	"provider/fair":      {},
	"provider/pkcs12":    {},
	"provider/bundle":    {"tree"},
	"provider/keystore":  {},
	"provider/stats":     {},
	"provider/document":  {"tree"},
	"provider/tree":      {},

	"provider/metrics":   {},
	"provider/tracing":   {},
	"provider/admin":     {},
	"provider/azuretest": {},

	"deploy": {}, // for kubectl akv
}

// Imports go one way, and only tests import azuretest.
func TestImports(t *testing.T) {
	list := json.NewDecoder(strings.NewReader(goList(t, "-json=ImportPath,Imports", module+"...")))
	seen := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := list.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		allowed, known := siblings[name]
		if !known {
			t.Errorf("%s is a new package; say here what it may import", name)
			continue
		}
		seen++
		for _, path := range p.Imports {
			other, ours := strings.CutPrefix(path, module)
			if !ours {
				continue
			}
			if other = strings.TrimPrefix(strings.TrimPrefix(other, "provider"), "/"); !slices.Contains(allowed, other) {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
	if seen != len(siblings) {
		t.Errorf("checked %d of %d packages", seen, len(siblings))
	}
}
