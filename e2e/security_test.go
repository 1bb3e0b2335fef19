package e2e_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each test that the security document names, as `folder.Test`, exists in that folder, and
// each guarantee names one.
func TestSecurityNamesTests(t *testing.T) {
	text := read(t, "../.github/SECURITY.md")
	named := regexp.MustCompile("`([a-z0-9/-]+)\\.(Test[A-Za-z0-9]+)`")
	if len(named.FindAllString(text, -1)) < 30 {
		t.Error("hardly any test is named")
	}
	for _, m := range named.FindAllStringSubmatch(text, -1) {
		files, err := filepath.Glob(filepath.Join("..", m[1], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, file := range files {
			found = found || strings.Contains(read(t, file), "\nfunc "+m[2]+"(t *testing.T)")
		}
		if !found {
			t.Errorf("no test %s in %s", m[2], m[1])
		}
	}
	_, guarantees, _ := strings.Cut(text, "\n## Guarantees\n")
	guarantees, _, _ = strings.Cut(guarantees, "\n## ")
	entries := regexp.MustCompile(`(?m)^\d+\. `).Split(guarantees, -1)[1:]
	if len(entries) < 10 {
		t.Errorf("%d guarantees", len(entries))
	}
	for i, entry := range entries {
		if !named.MatchString(entry) {
			t.Errorf("guarantee %d has no test", i+1)
		}
	}
}
