// Package corpus has the classes of the project's test data, for tests.
package corpus

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Manifests are the files of the project, below its root, that have a SecretProviderClass. Those of
// Helm charts are templates.
func Manifests(t testing.TB, root string) (files []string) {
	t.Helper()
	for _, dir := range []string{"provider", "deploy", "e2e"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(name)) {
				return err
			}
			text, err := os.ReadFile(name)
			if strings.Contains(string(text), "kind: SecretProviderClass\n") && !strings.Contains(name, "chart") {
				files = append(files, name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(files) < 25 {
		t.Fatalf("only %d manifests: %q", len(files), files)
	}
	return files
}

// Blocks are the YAML blocks of the project's documents that have a SecretProviderClass.
func Blocks(t testing.TB, root string) (blocks []string) {
	t.Helper()
	for _, name := range []string{"provider/README.md", "deploy/README.md", "deploy/MOVING.md", "deploy/TROUBLESHOOTING.md", "deploy/examples/README.md"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(string(text), "\n```")
		for _, part := range parts {
			if block, isYAML := strings.CutPrefix(part, "yaml\n"); isYAML && strings.Contains(block, "kind: SecretProviderClass") {
				blocks = append(blocks, block+"\n")
			}
		}
	}
	if len(blocks) < 8 {
		t.Fatalf("only %d blocks of documents", len(blocks))
	}
	return blocks
}

// Objects are the texts of the provider's tests and fuzz targets that are, or are nearly, a
// parameter objects: what the provider accepts, accepts with a warning, and refuses.
func Objects(t testing.TB, root string) []string {
	t.Helper()
	seen := make(map[string]bool)
	files, err := filepath.Glob(filepath.Join(root, "provider/*/*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			expression, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			text, constant := value(expression)
			if !constant {
				return true
			}
			text = strings.Replace(text, "§", "", 1) // which marks a place
			if len(text) < 16<<10 && (strings.Contains(text, "object") || strings.Contains(text, "find:") || strings.Contains(text, "array")) {
				seen[text] = true
			}
			return false
		})
	}
	texts := make([]string, 0, len(seen))
	for text := range seen {
		texts = append(texts, text)
	}
	slices.Sort(texts)
	if len(texts) < 300 {
		t.Fatalf("only %d texts", len(texts))
	}
	return texts
}

// value is that of a text, or of several that are added.
func value(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		left, ok := value(e.X)
		right, also := value(e.Y)
		return left + right, ok && also && e.Op == token.ADD
	}
	return "", false
}
