package build

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// The page of dependencies lists every module that is linked into the plugin and no other, with its
// license, and separates those that the plugin's go.mod requires by choice.
func TestDependencies(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, ".github/DEPENDENCIES.md"))
	if err != nil {
		t.Fatal(err)
	}
	chosen, others, _ := strings.Cut(string(page), "\n## Linked by these\n")
	listed := append(rows(t, chosen, "false"), rows(t, others, "true")...)

	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags=grpcnotrace", "-f",
		"{{with .Module}}{{if .Version}}{{.Path}} {{.Version}} {{.Indirect}}{{end}}{{end}}", "./cmd/"+Binary)
	list.Dir, list.Env = root, append(os.Environ(), "GOOS=linux", "GOARCH="+runtime.GOARCH, "GOFLAGS=")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := slices.Compact(slices.Sorted(strings.Lines(string(out))))
	versions := map[string]string{}
	for _, line := range linked {
		if f := strings.Fields(line); len(f) == 3 {
			versions[f[0]] = f[1]
		}
	}
	folders, err := download(t.Context(), root, versions)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, line := range linked {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue // the project's own
		}
		terms, err := readLicenses(f[0]+"@"+f[1], folders[f[0]])
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, f[0]+" "+f[2]+" "+strings.Join(licenseNames(terms, f[0]+"@"+f[1]), " AND "))
	}
	slices.Sort(want)
	slices.Sort(listed)
	for _, row := range listed {
		if !slices.Contains(want, row) {
			t.Errorf("DEPENDENCIES.md has, but should not: %s", row)
		}
	}
	for _, row := range want {
		if !slices.Contains(listed, row) {
			t.Errorf("DEPENDENCIES.md lacks (module, indirect, license): %s", row)
		}
	}
	if len(want) < 20 {
		t.Errorf("only %d modules", len(want))
	}
}

// rows are the modules of a table with their licenses; each has a reason and a maintainer.
func rows(t *testing.T, table, indirect string) (found []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?m)^\\| `(.*)` \\|(.*)\\| (.*) \\|(.*)\\|$").FindAllStringSubmatch(table, -1) {
		if strings.TrimSpace(m[2]) == "" || strings.TrimSpace(m[4]) == "" {
			t.Errorf("%s: no reason, or no maintainer", m[1])
		}
		found = append(found, m[1]+" "+indirect+" "+m[3])
	}
	return found
}
