package validate_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	kyaml "sigs.k8s.io/yaml"

	"akv-csi-provider/cmd/kubectl-akv/classes"
	"akv-csi-provider/cmd/kubectl-akv/classes/corpus"
	"akv-csi-provider/cmd/kubectl-akv/validate"
	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
)

const root = "../../.."

// said is what the provider says when a pod mounts a class, by the text that the driver sends.
func said(t *testing.T, parameters map[string]string) (problems []fault.Problem, warnings []request.Warning) {
	t.Helper()
	attributes := map[string]string{"csi.storage.k8s.io/pod.name": "web", "csi.storage.k8s.io/pod.namespace": "shop", "secretProviderClass": "web"}
	for name, value := range parameters {
		attributes[name] = value
	}
	sent, err := json.Marshal(attributes)
	if err != nil {
		t.Fatal(err)
	}
	m, err := request.NewParser().Parse(string(sent), "{}", "420")
	if e, ok := errors.AsType[*fault.Error](err); ok {
		// A Mount with problems has no warnings, which ParseClass has.
		m, _ = request.NewParser().ParseClass(parameters, 0o644)
		return e.Problems, m.Warnings
	}
	_, err = (&cloud.Resolver{Default: "AzurePublicCloud", Environment: new(cloud.Cloud)}).Resolve(m.Cloud.Name, "")
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e.Problems, m.Warnings
	}
	return nil, m.Warnings
}

// compare compares what the tool and the provider find in a class.
func compare(t *testing.T, c *classes.Class) {
	t.Helper()
	problems, warnings := said(t, c.Parameters)
	var want, got []string
	for _, p := range problems {
		want = append(want, fmt.Sprint("error ", p.Field, ": ", p.Cause, "; ", p.Fix))
	}
	for _, w := range warnings {
		want = append(want, fmt.Sprint("warning ", w.Field, ": ", w.Cause))
	}
	for _, f := range validate.Judge(c, nil) {
		if f.Rule != "unknown_parameter" {
			got = append(got, fmt.Sprint(f.Severity, " ", f.Message()))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("%s: kubectl akv validate finds\n%s\nthe provider finds\n%s", c.File, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// validate finds in the manifests and documents of the project what the provider finds, with the
// same words.
func TestManifests(t *testing.T) {
	paths := corpus.Manifests(t, root)
	for i, block := range corpus.Blocks(t, root) {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("block%d.yaml", i))
		if err := os.WriteFile(path, []byte(block), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	found, err := classes.Read(paths, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found.Problems {
		t.Errorf("%s:%d: %s", p.File, p.Line, p.Cause)
	}
	if len(found.Classes) < 45 {
		t.Errorf("only %d classes", len(found.Classes))
	}
	for _, c := range found.Classes {
		compare(t, c)
		if len(c.Problems) > 0 {
			t.Errorf("%+v", c.Problems)
		}
	}
}

// styles are the ways to write a text in YAML.
var styles = map[string]yaml.Style{"literal": yaml.LiteralStyle, "folded": yaml.FoldedStyle, "double": yaml.DoubleQuotedStyle, "single": yaml.SingleQuotedStyle, "plain": 0}

// manifest writes a class in a style; "" if YAML cannot write the text in it.
func manifest(t *testing.T, style yaml.Style, objects string) string {
	t.Helper()
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: style, Value: objects}
	text, err := yaml.Marshal(map[string]any{"apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass", "metadata": map[string]any{"name": "web"},
		"spec": map[string]any{"provider": "azure", "parameters": map[string]any{"keyvaultName": "contoso", "objects": node}}})
	if err != nil {
		return ""
	}
	var back struct {
		Spec struct{ Parameters map[string]string }
	}
	if err := kyaml.Unmarshal(text, &back); err != nil || back.Spec.Parameters["objects"] != objects {
		return ""
	}
	return string(text)
}

// In all texts of the provider's tests, validate finds what the provider finds, with the same
// words, whatever the YAML that the text is written in; and where the provider names a line and a
// column of objects, the file has the same character there.
func TestObjects(t *testing.T) {
	compared, placed := 0, 0
	written := make(map[string]int)
	for _, objects := range corpus.Objects(t, root) {
		for name, style := range styles {
			text := manifest(t, style, objects)
			if text == "" {
				continue
			}
			found, err := classes.Read([]string{"-"}, strings.NewReader(text))
			if err != nil || len(found.Classes) != 1 || found.Classes[0].Parameters["objects"] != objects {
				t.Fatalf("%v\n%s", err, text)
			}
			written[name]++
			compared++
			c := found.Classes[0]
			compare(t, c)
			problems, _ := said(t, c.Parameters)
			for _, p := range problems {
				if p.Line > 0 && checkPlace(t, text, objects, c, p.Line, p.Column) {
					placed++
				}
			}
		}
	}
	if compared < 1000 || placed < 500 || len(written) != len(styles) {
		t.Errorf("compared %d classes and %d places, written as %v", compared, placed, written)
	}
	t.Logf("compared %d classes and %d places, written as %v", compared, placed, written)
}

// checkPlace reports whether there is a character to compare.
func checkPlace(t *testing.T, text, objects string, c *classes.Class, line, column int) bool {
	t.Helper()
	character := func(text string, line, column int) string {
		lines := strings.Split(text, "\n")
		if line > len(lines) || column > len([]rune(lines[line-1])) {
			return ""
		}
		return string([]rune(lines[line-1])[column-1])
	}
	want := character(objects, line, column)
	fileLine, fileColumn := c.Place("objects", line, column)
	if want == "" {
		return false
	}
	if got := character(text, fileLine, fileColumn); got != want && got != `\` && (want != " " || got != "") {
		t.Errorf("line %d, column %d of objects is %q; line %d, column %d of the file is %q:\n%s", line, column, want, fileLine, fileColumn, got, text)
	}
	return true
}
