package e2e_test

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The table of what the memory limit consists of has the bounds of the code, and their sum is
// below what the chart sets for Go's garbage collector.
func TestMemory(t *testing.T) {
	server := constants(t, "../provider/server/admit.go")
	plugin := constants(t, "../provider/plugin/plugin.go")
	var values struct {
		CacheMaxBytes int64 `yaml:"cacheMaxBytes"`
		Linux         struct {
			Resources struct{ Limits struct{ Memory string } }
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "../deploy/chart/values.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(read(t, "../deploy/README.md"), "\n### Memory\n")
	section, _, _ = strings.Cut(section, "\n### ")

	waiting := server["maxCalls"] * server["maxRequest"]
	for _, want := range []string{
		fmt.Sprintf("| %d MiB | `requestMemory`", server["requestMemory"]>>20),
		fmt.Sprintf("| %d MiB | %d × %d KiB, `maxCalls` × `maxRequest`", waiting>>20, server["maxCalls"], server["maxRequest"]>>10),
		fmt.Sprintf("| %d MiB | `volumeMemory`", plugin["volumeMemory"]>>20),
		fmt.Sprintf("| %d MiB | `keystoreMemory`", plugin["keystoreMemory"]>>20),
		fmt.Sprintf("| %d MiB | `--cache-max-bytes`", values.CacheMaxBytes>>20),
	} {
		if !strings.Contains(section, want) {
			t.Errorf("the section on memory does not have %q", want)
		}
	}

	var sum, total int64
	for _, m := range regexp.MustCompile(`(?m)^\| (.*) \| (?:about )?\**(\d+) MiB\** \|`).FindAllStringSubmatch(section, -1) {
		size, err := strconv.ParseInt(m[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if m[1] == "**sum**" {
			total = size
		} else {
			sum += size
		}
	}
	limit, err := strconv.ParseInt(strings.TrimSuffix(values.Linux.Resources.Limits.Memory, "Mi"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if sum != total || sum == 0 {
		t.Errorf("the sum is %d MiB, but the rows are %d MiB", total, sum)
	}
	if share := limit * 4 / 5; sum > share {
		t.Errorf("%d MiB is above GOMEMLIMIT, which is %d MiB of %d MiB", sum, share, limit)
	}
	for _, want := range []string{fmt.Sprintf("limit of %d MiB", limit), fmt.Sprintf("GOMEMLIMIT of %d MiB", limit*4/5)} {
		if !strings.Contains(strings.ReplaceAll(section, "\n", " "), want) {
			t.Errorf("the section on memory does not have %q", want)
		}
	}
}

// constants evaluates the integer constants of a file.
func constants(t *testing.T, file string) map[string]int64 {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]int64)
	for _, decl := range parsed.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, spec := range group.Specs {
			spec, ok := spec.(*ast.ValueSpec)
			if !ok {
				continue
			}
			for i, value := range spec.Values {
				v, err := types.Eval(token.NewFileSet(), nil, token.NoPos, types.ExprString(value))
				if err != nil || v.Value == nil || v.Value.Kind() != constant.Int {
					continue // of another constant or package
				}
				found[spec.Names[i].Name], _ = constant.Int64Val(v.Value)
			}
		}
	}
	return found
}
