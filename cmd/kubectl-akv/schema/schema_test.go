package schema_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"akv-csi-provider/cmd/kubectl-akv/classes"
	"akv-csi-provider/cmd/kubectl-akv/classes/corpus"
	"akv-csi-provider/cmd/kubectl-akv/schema"
	"akv-csi-provider/cmd/kubectl-akv/validate"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
)

const root = "../../.."

func compile(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	text, err := schema.Text(name)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(name+".json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile(name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// instance is what an editor checks: the value of a YAML text. It is nil if that is none.
func instance(text string) any {
	var node yaml.Node
	if yaml.Unmarshal([]byte(text), &node) != nil {
		return nil
	}
	withoutTimestamps(&node)
	var value any
	if node.Decode(&value) != nil {
		return nil
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil // keys that are no texts
	}
	decoded, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	if err != nil {
		return nil
	}
	return decoded
}

// withoutTimestamps makes texts of dates, which only YAML 1.1 knows; editors read 1.2.
func withoutTimestamps(n *yaml.Node) {
	if n.Tag == "!!timestamp" {
		n.Tag = "!!str"
	}
	for _, c := range n.Content {
		withoutTimestamps(c)
	}
}

// entries replaces the texts of a list by what they contain, as a schema sees a list of mappings. It
// fails if one of them is no YAML, or has no JSON.
func entries(value any) (_ any, ok bool) {
	list, isList := value.([]any)
	if mapping, ok := value.(map[string]any); ok {
		copied := maps.Clone(mapping)
		copied["array"], ok = entries(mapping["array"])
		return copied, ok
	}
	if !isList {
		return value, true
	}
	list = slices.Clone(list)
	for i, entry := range list {
		if text, isText := entry.(string); isText {
			if list[i] = instance(text); list[i] == nil {
				return nil, false
			}
		}
	}
	return list, true
}

// beyondSchema are the causes of the provider that a schema does not describe, with the reason.
var beyondSchema = []struct {
	cause *regexp.Regexp
	why   string
}{
	{regexp.MustCompile(`not valid YAML|outside the first YAML document|lines and commas`), "is about the text, not its value"},
	{regexp.MustCompile(`also the path of|is below the file`), "compares entries"},
	{regexp.MustCompile(`template: line`), "another language"},
	{regexp.MustCompile(`not a valid regular expression|states|groups|JMESPath`), "another language"},
	{regexp.MustCompile(`not a mapping of fields`), "YAML in a string"},
}

// The schema of objects accepts what the provider accepts, also with a warning. It refuses what the
// provider refuses, but for the causes of beyondSchema.
func TestObjects(t *testing.T) {
	compiled := compile(t, "objects")
	accepted, refused, excepted := 0, 0, 0
	used := make(map[int]bool) // of beyondSchema
	for _, text := range corpus.Objects(t, root) {
		value := instance(text)
		if value == nil {
			continue
		}
		_, problems := new(request.Parser).ParseClass(map[string]string{"keyvaultName": "contoso", "objects": text}, 0o644)
		values := []any{value}
		if expanded, ok := entries(value); ok {
			values = append(values, expanded)
		}
		for i, value := range values {
			err := compiled.Validate(value)
			switch {
			case len(problems) == 0 && strings.Contains(text, "\u00a0"):
				// White space in patterns of JavaScript, which editors use, but not in those of Go.
			case len(problems) == 0 && err != nil:
				t.Errorf("the provider accepts\n%s\nand the schema does not: %v", text, err)
			case len(problems) == 0:
				accepted++
			case err != nil:
				refused++
			case i == 1 && !slices.ContainsFunc(problems, func(p fault.Problem) bool { return beyond(p) < 0 }):
				excepted++
				for _, p := range problems {
					used[beyond(p)] = true
				}
			case i == 1:
				t.Errorf("the schema accepts\n%s\nand the provider does not: %v", text, problems)
			}
		}
	}
	for i, b := range beyondSchema {
		if !used[i] {
			t.Errorf("no text needs the exception %s (%s)", b.cause, b.why)
		}
	}
	t.Logf("%d accepted, %d refused by both, %d refused by the provider only", accepted, refused, excepted)
	if accepted < 300 || refused < 300 || excepted > refused {
		t.Error("the texts are not what they were")
	}
}

// beyond returns the index in beyondSchema of a problem, or -1.
func beyond(p fault.Problem) int {
	for i, b := range beyondSchema {
		if b.cause.MatchString(p.Field + ": " + p.Cause) {
			return i
		}
	}
	return -1
}

// The schemas accept every class of the project, but for the placeholders of the examples.
func TestManifests(t *testing.T) {
	class, parameters, objects := compile(t, "class"), compile(t, "parameters"), compile(t, "objects")
	found, err := classes.Read(corpus.Manifests(t, root), nil)
	if err != nil {
		t.Fatal(err)
	}
	placeholder := regexp.MustCompile(`\$\{[A-Z_]+\}`)
	for _, c := range found.Classes {
		filled := make(map[string]any)
		texts := make(map[string]string)
		for name, value := range c.Parameters {
			texts[name] = placeholder.ReplaceAllStringFunc(value, func(name string) string {
				return strings.ToLower("a" + regexp.MustCompile(`[^A-Z]`).ReplaceAllString(name, ""))
			})
			filled[name] = texts[name]
		}
		c.Parameters = texts
		for _, f := range validate.Judge(c, nil) {
			if f.Severity == validate.Error {
				t.Errorf("%s: %s", c.File, f.Message())
			}
		}
		manifest := map[string]any{"apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass", "metadata": map[string]any{"name": c.Name},
			"spec": map[string]any{"provider": "azure", "parameters": filled}}
		for schema, value := range map[*jsonschema.Schema]any{class: manifest, parameters: filled, objects: instance(texts["objects"])} {
			if err := schema.Validate(value); err != nil {
				t.Errorf("%s: %v", c.File, err)
			}
		}
	}
}

// The schema of parameters judges as the provider does.
func TestParameters(t *testing.T) {
	compiled := compile(t, "parameters")
	const objects = "- {objectName: a, objectType: secret}"
	for _, c := range []map[string]string{
		{}, {"objects": ""}, {"objects": objects}, {"keyvaultName": ""}, {"keyvaultName": "", "objects": "- {objectName: a, objectType: secret, keyvaultName: b-c}"},
		{"keyvaultName": "contoso.vault.azure.net"}, {"keyvaultName": "ab"}, {"keyvaultName": " contoso "}, {"keyvaultName": "{{ .Values.vault }}"},
		{"failoverKeyvaultName": "west"}, {"failoverKeyvaultName": "https://west"}, {"keyvaultName": "", "failoverKeyvaultName": "west"},
		{"tenantID": "11111111-2222-3333-4444-555555555555"}, {"tenantID": "contoso.com"}, {"tenantID": "a b"}, {"tenantId": "<tenant>", "tenantID": "a"}, {"tenantID": "${TENANT}"},
		{"clientID": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"}, {"clientID": "a/b"}, {"clientID": ""}, {"clientID": "<unused>", "useVMManagedIdentity": "true"},
		{"useVMManagedIdentity": "True"}, {"useVMManagedIdentity": "yes"}, {"useVMManagedIdentity": "1", "userAssignedIdentityID": "a b"}, {"useVMManagedIdentity": "t", "userAssignedIdentityID": "a"},
		{"userAssignedIdentityID": "a b"}, {"useAzureTokenProxy": "true"}, {"useAzureTokenProxy": "true", "useVMManagedIdentity": "true"}, {"useAzureTokenProxy": "on"},
		{"usePodIdentity": "false"}, {"usePodIdentity": "true"}, {"usePodIdentity": "0"}, {"usePodIdentity": "no"}, {"resourceGroup": "x"}, {"cloudName": ""}, {"cloudEnvFileName": "x"},
	} {
		parameters := map[string]string{"keyvaultName": "contoso", "objects": objects}
		maps.Copy(parameters, c)
		value := make(map[string]any)
		for name, text := range parameters {
			value[name] = text
		}
		_, problems := new(request.Parser).ParseClass(parameters, 0o644)
		if err := compiled.Validate(value); (err == nil) != (len(problems) == 0) {
			t.Errorf("%v: the schema says %v, the provider %v", parameters, err, problems)
		}
	}
}

// The schemas have the parameters and fields of the reference, and no other.
func TestReference(t *testing.T) {
	page, err := os.ReadFile(root + "/provider/README.md")
	if err != nil {
		t.Fatal(err)
	}
	names := func(section string) (found []string) {
		var table string
		for _, block := range strings.Split(section, "\n\n") {
			if strings.HasPrefix(block, "| field |") || strings.HasPrefix(block, "| parameter |") {
				table += block + "\n"
			}
		}
		for _, m := range regexp.MustCompile("(?m)^\\| `([A-Za-z]+)` \\|").FindAllStringSubmatch(table, -1) {
			if !slices.Contains(found, m[1]) {
				found = append(found, m[1])
			}
		}
		slices.Sort(found)
		return found
	}
	_, rest, _ := strings.Cut(string(page), "\n## Parameters\n")
	parameterTable, rest, _ := strings.Cut(rest, "\n## Objects\n")
	rest, _, _ = strings.Cut(rest, "\n## Authentication\n")
	fields := names(rest)
	var schemaOfParameters, schemaOfObjects struct {
		Properties  map[string]any
		Definitions struct {
			Entry struct{ Properties map[string]any }
		}
	}
	for name, into := range map[string]any{"parameters": &schemaOfParameters, "objects": &schemaOfObjects} {
		text, err := schema.Text(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := slices.Sorted(maps.Keys(schemaOfParameters.Properties)), names(parameterTable); !slices.Equal(got, want) {
		t.Errorf("parameters of the schema %q, of the reference %q", got, want)
	}
	if got := slices.Sorted(slices.Values(validate.Parameters)); !slices.Equal(got, names(parameterTable)) {
		t.Errorf("validate knows the parameters %q", got)
	}
	if got := slices.Sorted(maps.Keys(schemaOfObjects.Definitions.Entry.Properties)); !slices.Equal(got, fields) {
		t.Errorf("fields of the schema %q, of the reference %q", got, fields)
	}
}
