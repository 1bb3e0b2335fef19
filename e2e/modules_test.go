package e2e_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// modules are the folders with a go.mod, from the project's root.
func modules(t *testing.T) (found []string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == ".git" || d.Name() == "bin" || d.Name() == "dist") {
			return filepath.SkipDir
		}
		if err == nil && d.Name() == "go.mod" {
			module, err := filepath.Rel("..", filepath.Dir(path))
			found = append(found, filepath.ToSlash(module))
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// The section of README.md on the modules lists every module, and no other.
func TestModules(t *testing.T) {
	found := modules(t)
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## The modules\n")
	var listed []string
	for _, m := range regexp.MustCompile(`(?m)^ {6}(\S+)  `).FindAllStringSubmatch(section, -1) {
		listed = append(listed, m[1])
	}
	slices.Sort(found)
	slices.Sort(listed)
	if !slices.Equal(listed, found) {
		t.Errorf("README.md lists\n%q\nthere are\n%q", listed, found)
	}
}
