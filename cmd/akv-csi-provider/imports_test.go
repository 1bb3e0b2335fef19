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

// The binary holds nothing that is only for tests, nor what the design rules out.
func TestLinked(t *testing.T) {
	for _, path := range strings.Fields(goList(t, "-deps", ".")) {
		switch {
		case path == module+"provider/azuretest",
			strings.Contains(path, "go-autorest"),
			// Traces are sent by one POST; these would cost each node half a megabyte.
			strings.Contains(path, "grpc-gateway"), strings.Contains(path, "otlptracehttp"), strings.Contains(path, "otelgrpc"),
			path == "testing", strings.HasPrefix(path, "testing/"), path == "net/http/httptest",
			strings.HasPrefix(path, "k8s.io/"):
			t.Errorf("links %s", path)
		}
	}
}

// siblings are the rooms of the house and the doors between them: who imports
// whom, and nobody else.
var siblings = map[string][]string{
	"provider/request":   {},
	"provider/cloud":     {},
	"provider/coalesce":  {},
	"provider/throttle":  {},
	"provider/fault":     {},
	"provider/tally":     {},
	"provider/transport": {"tally"}, // where all requests pass
	"provider/gate":      {},
	"provider/metrics":   {},
	"provider/tracing":   {},
	"provider/admin":     {},
	"provider/azuretest": {},
	"provider/entra":     {"cloud", "gate", "request", "tally", "transport"},
	"provider/keyvault":  {"gate", "request", "tally", "transport"},
	"provider/pkcs12":    {},
	"provider/render":    {"keyvault", "pkcs12", "request"},
	"provider":           {"cloud", "entra", "keyvault", "render", "request", "transport"},
	"provider/server":    {"", "entra", "keyvault", "render", "request", "tally", "transport"},
	"cmd/akv-csi-provider": {"", "admin", "cloud", "entra", "gate", "keyvault", "metrics", "render", "request", "server",
		"tracing", "transport"},
}

// Imports go one way, and only tests import the box.
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
		room := strings.TrimPrefix(p.ImportPath, module)
		allowed, known := siblings[room]
		if !known {
			t.Errorf("%s is no room of the house; say here what it may import", room)
			continue
		}
		seen++
		for _, path := range p.Imports {
			other, ours := strings.CutPrefix(path, module)
			if !ours {
				continue
			}
			if other = strings.TrimPrefix(strings.TrimPrefix(other, "provider"), "/"); !slices.Contains(allowed, other) {
				t.Errorf("%s imports %s", room, path)
			}
		}
	}
	if seen != len(siblings) {
		t.Errorf("looked at %d of %d packages", seen, len(siblings))
	}
}
