package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the released program must not have: the parts of tests, and packages that call methods by
// their names, because of which the linker keeps every method of every type: with them, the program
// is half as big again.
var unwanted = regexp.MustCompile(`^(testing|akv-csi-provider/.*(azuretest|kubetest|corpus)|html/template|golang\.org/x/net/trace)\.|^text/template\.\(\*state\)\.`)

func TestLinked(t *testing.T) {
	program := filepath.Join(t.TempDir(), "kubectl-akv")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags=grpcnotrace", "-ldflags=-w", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as the Makefile has it, like the tag
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	symbols, err := exec.CommandContext(t.Context(), "go", "tool", "nm", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for line := range strings.Lines(string(symbols)) {
		if fields := strings.Fields(line); len(fields) > 2 {
			found[strings.Join(fields[2:], " ")] = true
		}
	}
	for name := range found {
		if unwanted.MatchString(name) {
			t.Errorf("the program has %s", name)
		}
	}
	if !found["main.newRoot"] {
		t.Errorf("%d symbols, without the program's own", len(found))
	}
}
