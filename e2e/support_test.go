package e2e_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The table of tested versions has those that the tests name, and no other.
func TestSupportTable(t *testing.T) {
	_, table, _ := strings.Cut(read(t, "../deploy/README.md"), "\n| driver | Kubernetes |")
	table, _, _ = strings.Cut(table, "\n\n")
	all := func(pattern, text string) []string {
		var found []string
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			found = append(found, m[1])
		}
		slices.Sort(found)
		return slices.Compact(found)
	}
	builder := read(t, "cluster/build/build.go")
	for what, pair := range map[string][2][]string{
		"drivers":          {all(`\bv(1\.\d+\.\d+)`, table), all(`\{"v(1\.\d+\.\d+)", `, read(t, "../provider/server/drivers_test.go"))},
		"older driver run": {all(`\bv(1\.[0-5]\.\d+)`, table), olderDrivers(t)},
		"driver run":       {all(`v(1\.\d+\.\d+) in \[a real cluster`, table), all(`driverVersion = "v([^"]+)"`, builder)},
		"controller":       {all(`sync-controller/README.md\) (\S+) `, table), all(`syncVersion += "v([^"]+)"`, builder)},
		"Kubernetes":       {all(`\b(1\.3\d)\b`, table), all(`"(1\.\d+)": "1\.`, builder)},
	} {
		if documented, tested := pair[0], pair[1]; len(tested) == 0 || !slices.Equal(documented, tested) {
			t.Errorf("%s: documented %q, tested %q", what, documented, tested)
		}
	}
}

// olderDrivers are the versions of the modules below drivers.
func olderDrivers(t *testing.T) (versions []string) {
	t.Helper()
	for _, module := range modules(t) {
		if dir, ok := strings.CutPrefix(module, "e2e/"); ok && strings.HasPrefix(dir, "drivers/") {
			m := regexp.MustCompile(`sigs\.k8s\.io/secrets-store-csi-driver v(\S+)`).FindStringSubmatch(read(t, dir+"/go.mod"))
			if m == nil {
				t.Fatalf("%s has no driver", module)
			}
			versions = append(versions, m[1])
		}
	}
	slices.Sort(versions)
	return versions
}
