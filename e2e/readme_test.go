package e2e_test

import (
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Each figure of the README's comparison is in the table of the benchmarks.
func TestReadmeFigures(t *testing.T) {
	_, table, _ := strings.Cut(read(t, "../README.md"), "\n## Why not the Azure provider\n")
	table, _, _ = strings.Cut(table, "\n## ")
	_, measured, _ := strings.Cut(read(t, "README.md"), "\n## Benchmarks\n")
	measured, _, _ = strings.Cut(measured, "\n## ")
	figures := regexp.MustCompile(`\| ((?:p99 )?[0-9.]+ (?:ms|s|requests)(?:, [0-9]+ requests)?) \|`)
	found := figures.FindAllStringSubmatch(strings.ReplaceAll(table, " |", " | |"), -1)
	if len(found) < 10 {
		t.Fatalf("%d figures", len(found))
	}
	for _, m := range found {
		if !strings.Contains(measured, m[1]) {
			t.Errorf("%q is not in the benchmarks", m[1])
		}
	}
}

// The README's first screen has the two commands that need nothing.
func TestReadmeFirstScreen(t *testing.T) {
	first := strings.Join(strings.Split(read(t, "../README.md"), "\n")[:12], "\n")
	for _, command := range []string{"    make demo ", "    make test "} {
		if !strings.Contains(first, "\n"+command) {
			t.Errorf("no %q in %s", command, first)
		}
	}
}

// The form for bugs requires what a bug is found by, and warns of secrets before anything else.
func TestBugReport(t *testing.T) {
	var form struct {
		Body []struct {
			Type, ID    string
			Attributes  struct{ Value string }
			Validations struct{ Required bool }
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "../.github/ISSUE_TEMPLATE/bug_report.yml")), &form); err != nil {
		t.Fatal(err)
	}
	if len(form.Body) == 0 || !strings.HasPrefix(form.Body[0].Attributes.Value, "**Never paste values of secrets") {
		t.Error("no warning of secrets")
	}
	required := make(map[string]bool)
	for _, field := range form.Body {
		required[field.ID] = field.Validations.Required
	}
	for _, id := range []string{"reason", "event", "log", "versions"} {
		if !required[id] {
			t.Errorf("%s is not required", id)
		}
	}
}
