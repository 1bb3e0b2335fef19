package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/itchyny/gojq"
)

// query is a jq program of a document.
var query = regexp.MustCompile(`(?s)\| jq -r '(.*?)'\n`)

// listed is what "kubectl get secretproviderclasses -A -o json" might say.
func listed(t *testing.T, classes ...map[string]any) any {
	t.Helper()
	text, err := json.Marshal(map[string]any{"items": classes})
	if err != nil {
		t.Fatal(err)
	}
	var list any
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func listedClass(name, provider string, parameters map[string]string, synced ...string) map[string]any {
	var data []map[string]string
	for _, object := range synced {
		data = append(data, map[string]string{"objectName": object, "key": "k"})
	}
	spec := map[string]any{"provider": provider, "parameters": parameters}
	if data != nil {
		spec["secretObjects"] = []any{map[string]any{"secretName": "s", "data": data}}
	}
	return map[string]any{"metadata": map[string]any{"namespace": "shop", "name": name}, "spec": spec}
}

// The queries of the page on moving over find what they are to find, and nothing in
// the examples.
func TestMovingQueries(t *testing.T) {
	page, err := os.ReadFile("../deploy/MOVING.md")
	if err != nil {
		t.Fatal(err)
	}
	found := query.FindAllStringSubmatch(string(page), -1)
	if len(found) != 3 {
		t.Fatalf("%d queries", len(found))
	}
	objects := func(text string) map[string]string { return map[string]string{"keyvaultName": "kv", "objects": text} }
	old := "array:\n  - |\n    objectName: a\n    objectType: secret\n    objectAlias: one\n    objectVersionHistory: 3\n"
	list := listed(t,
		listedClass("aws", "aws", objects(`- {objectName: a, objectVersionHistory: 2, foo: bar}`), "a/2"),
		listedClass("past-the-end", "azure", objects(old), "one/0", "one/2", "one/3"),
		listedClass("quoted", "azure", objects(`- {"objectName": "b", "objectType": "secret", "objectVersionHistory": "10"}`), "b/9", "b/10"),
		listedClass("one-version", "azure", objects("- objectName: a\n  objectType: secret\n  objectVersionHistory: 1\n  objectAlias: x/1"), "x/1"),
		listedClass("unknown-field", "azure", objects("- objectName: a\n  objectType: secret\n  objectVerson: latest\n- {objectName: b, objecttype: key, objectType: key}")),
		listedClass("ignored-format", "azure", objects("array:\n  - |\n    objectName: c\n    objectType: cert\n    objectFormat: PFX\n  - |\n    objectName: d\n    objectType: secret\n    objectFormat: PFX\n")),
		listedClass("twice", "azure", objects("- objectName: a\n  objectType: secret\n- objectName: a\n  objectType: key\n- objectName: b\n  objectType: key\n  objectAlias: \"\"\n")),
		listedClass("twice-aliased", "azure", objects("- {objectName: a, objectType: secret, objectAlias: dir/x}\n- {objectName: b, objectType: key, objectAlias: \"dir/x\"}\n")),
		listedClass("two-documents", "azure", objects("array:\n  - |\n    objectName: e\n    objectType: key\n---\narray: []\n")),
		listedClass("template", "azure", objects("- objectName: f\n  objectType: key\n  objectAlias: ${DIR}/f\n")),
		listedClass("pod-identity", "azure", map[string]string{"usePodIdentity": "True", "objects": "- {objectName: a, objectType: key}"}),
		listedClass("german", "azure", map[string]string{"usePodIdentity": "false", "cloudName": "azuregermancloud"}),
		listedClass("elsewhere", "azure", map[string]string{"cloudEnvFileName": "/tmp/env.json"}),
		listedClass("stack", "azure", map[string]string{"cloudEnvFileName": "/etc/kubernetes/env.json", "cloudName": ""}),
		map[string]any{"metadata": map[string]any{"namespace": "shop", "name": "bare"}, "spec": map[string]any{"provider": "azure"}},
	)
	for i, want := range [][]string{
		{"shop/past-the-end: one/3", "shop/quoted: b/10"},
		{"shop/ignored-format: ignored_format c", "shop/template: placeholder", "shop/twice-aliased: duplicate_path dir/x", "shop/twice: duplicate_path a", "shop/two-documents: ignored_text",
			"shop/unknown-field: unknown_field objectVerson", "shop/unknown-field: unknown_field objecttype"},
		{"shop/elsewhere", "shop/german", "shop/pod-identity"},
	} {
		got := run(t, found[i][1], list)
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("query %d:\n%s\nwant\n%s", i, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func run(t *testing.T, program string, input any) []string {
	t.Helper()
	parsed, err := gojq.Parse(program)
	if err != nil {
		t.Fatalf("%v in %s", err, program)
	}
	var lines []string
	iter := parsed.Run(input)
	for {
		v, ok := iter.Next()
		if !ok {
			return lines
		}
		if err, ok := v.(error); ok {
			t.Fatalf("%v in %s", err, program)
		}
		lines = append(lines, fmt.Sprint(v))
	}
}
