package main

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// write writes files below a new folder, which becomes the working directory.
func write(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const head = "apiVersion: secrets-store.csi.x-k8s.io/v1\nkind: SecretProviderClass\nmetadata:\n  name: web\n  namespace: shop\nspec:\n  provider: azure\n  parameters:\n"

const good = head + "    keyvaultName: contoso\n    objects: |\n      - {objectName: a, objectType: secret}\n"

// What stands where, in every form that a manifest can have: the first line of the output.
func TestValidate(t *testing.T) {
	const objects = "    keyvaultName: contoso\n    objects: "
	for _, test := range []struct {
		name, text string
		code       int
		want       string // of standard output, or of standard error if that is empty
	}{
		{"valid", good, 0, "1 class checked, 0 problems\n"},
		{"list as literal", head + objects + "|\n      - objectName: a_\n        objectType: secret\n", 1, `<stdin>:11:21: error: objects[0]: objectName: "a_" is not valid; use 1 to 127 letters, digits and hyphens [InvalidParameter]`},
		{"URL of an object", head + objects + "|\n      - objectName: https://contoso.vault.azure.net/secrets/a/0123456789abcdef0123456789abcdef\n        objectType: secret\n", 1,
			`is not valid; use the object's name, not its URL: objectName: a, objectVersion: 0123456789abcdef0123456789abcdef [InvalidParameter]`},
		{"list as literal, stripped, indented", head + objects + "|2-\n       - objectName: a\n         objectType: secrets\n", 1, `<stdin>:12:22: error: objects[0] "a": objectType: "secrets" is not valid; did you mean secret?`},
		{"text in array", head + objects + "|\n      array:\n        - |\n          objectName: a\n          objectTyp: secret\n", 1, `<stdin>:13:11: error: objects[0] "a": objectType: missing (found unknown field "objectTyp", did you mean objectType?)`},
		{"quoted text in array", head + objects + "|\n      array: ['{objectName: a, objectType: secrets}']\n", 1, `<stdin>:11:44: error: objects[0] "a": objectType`},
		{"folded text in array", head + objects + "|\n      array:\n        - >\n          {objectName: a,\n          objectType: secrets}\n", 1, `<stdin>:12:11: error: objects[0] "a": objectType`},
		{"folded list", head + objects + ">\n      [{objectName: a,\n      objectType: secrets}]\n", 1, `<stdin>:12:19: error: objects[0] "a": objectType`},
		{"double quotes", head + objects + `"- objectName: é\n  objectType: key\n"` + "\n", 1, `<stdin>:10:29: error: objects[0]: objectName`},
		{"double quotes over lines", head + objects + "\"- objectName: a\n\n     \\  objectType: keys\\n\"\n", 1, `<stdin>:12:21: error: objects[0] "a": objectType`},
		{"single quotes", head + objects + "'[{objectName: ''a'', objectType: keys}]'\n", 1, `<stdin>:10:48: error: objects[0] "a": objectType`},
		{"alias", strings.Replace(head, "spec:", "x: &x |\n  - {objectName: a, objectType: keys}\nspec:", 1) + objects + "*x\n", 1, `<stdin>:7:33: error: objects[0] "a": objectType`},
		{"JSON", `{"apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass", "metadata": {"name": "web"},` + "\n" + `"spec": {"provider": "azure", "parameters": {"keyvaultName": "a\/b", "objects": "[{objectName: a,\nobjectType: keys}]"}}}`,
			1, `<stdin>:2:62: error: keyvaultName: "a/b" is not valid`},
		{"second JSON value", `{"kind": "A"} {"apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass", "metadata": {"name": "web"}, "spec": {"provider": "azure", "parameters": {"keyvaultName": "contoso", "objects": "[{objectName: a,\nobjectType: keys}]"}}}`,
			1, `<stdin>:1:237: error: objects[0] "a": objectType`},
		{"DOS", strings.ReplaceAll(head+objects+"|\n      - objectName: a\n        objectType: keys\n", "\n", "\r\n"), 1, `<stdin>:12:21: error: objects[0] "a": objectType`},
		{"second document", "# x\n---\n" + good + "--- # Source: y\n" + head + objects + "x\n", 1, `<stdin>:24:14: error: objects: not a list of objects`},
		{"list", "apiVersion: v1\nkind: List\nitems:\n- " + strings.ReplaceAll(strings.TrimSuffix(good, "\n"), "\n", "\n  ") + "\n- kind: Pod\n- " + strings.ReplaceAll(head+objects+"x", "\n", "\n  ") + "\n", 1, `<stdin>:25:16: error: objects: not a list of objects`},
		{"parameter", head + "    keyvaultName:   https://contoso.vault.azure.net\n    objects: '- {objectName: a, objectType: key}'\n", 1, `<stdin>:9:21: error: keyvaultName: "https://contoso.vault.azure.net" is not valid`},
		{"missing parameter", head + "    objects: '- {objectName: a, objectType: key}'\n", 1, `<stdin>:8:3: error: keyvaultName: missing`},
		{"no parameters", strings.TrimSuffix(head, "  parameters:\n"), 1, `<stdin>:7:3: error: keyvaultName: missing`},
		{"cloud", head + "    cloudName: AzureMoonCloud\n" + objects + "'- {objectName: a, objectType: key}'\n", 1, `<stdin>:9:16: error: cloudName: unknown cloud "AzureMoonCloud"; use one of AzurePublicCloud`},
		{"own cloud", head + "    cloudName: sky\n" + objects + "'- {objectName: a, objectType: key}'\n", 0, `1 class checked`},
		{"boolean", head + "    usePodIdentity: false\n" + objects + "'- {objectName: a, objectType: key}'\n", 1, `<stdin>:9:21: error: usePodIdentity: a boolean, and the API server accepts only text; put it in quotes: "false" [InvalidManifest]`},
		{"boolean of YAML 1.1", head + "    usePodIdentity: no\n" + objects + "'- {objectName: a, objectType: key}'\n", 1, `<stdin>:9:21: error: usePodIdentity: a boolean, and the API server accepts only text; write it as text: "false"`},
		{"name that is a boolean of YAML 1.1", head + "    clientID: on\n" + objects + "'- {objectName: a, objectType: key}'\n", 1, `<stdin>:9:15: error: clientID: a boolean, and the API server accepts only text; put it in quotes: "on"`},
		{"tab", strings.Replace(good, "- {objectName", "- {objectName: b, objectType: secret}\n \t    - {objectName", 1), 1, `<stdin>:12:2: error: not valid YAML: found a tab character`},
		{"file of a Secret", good + "  secretObjects:\n    - secretName: s\n      type: Opaque\n      data:\n        - {objectName: b-c, key: k}\n", 0, `<stdin>:16:24: warning: secretObjects[0] "s": objectName: the volume has no file "b-c"; use the path of a file: a [unknown_file]`},
		{"alias of a Secret", strings.Replace(good, "secret}", "secret, objectAlias: db/password}", 1) + "  secretObjects: [{secretName: s, data: [{objectName: db-password, key: k}, {objectName: db/password, key: l}]}]\n", 0, `"db-password"; did you mean db/password? [unknown_file]`},
		{"pieces of a Secret", strings.Replace(good, "secret}", "secret, jmesPath: [{path: x, objectAlias: y}]}\n      - {objectName: c, objectType: secret, files: [{part: key, objectAlias: z}]}\n      - {objectName: d, objectType: secret, objectVersionHistory: 2}", 1) +
			"  secretObjects: [{secretName: s, data: [{objectName: y, key: k}, {objectName: z, key: l}, {objectName: d/1, key: m}]}]\n", 0, "1 class checked, 0 problems\n"},
		{"search for a Secret", strings.Replace(good, "objectName: a,", "find: {name: x},", 1) + "  secretObjects: [{secretName: s, data: [{objectName: y, key: k}]}]\n", 0, "1 class checked, 0 problems\n"},
		{"near provider", strings.Replace(good, "azure", "Azure", 1), 1, `<stdin>:7:13: error: spec.provider: "Azure" is no provider that the driver finds; did you mean azure? [InvalidManifest]`},
		{"number", head + "    clientID: 123\n" + objects + "'- {objectName: a, objectType: key}'\n", 1, `<stdin>:9:15: error: clientID: a number`},
		{"list that is no text", head + "    keyvaultName: contoso\n    objects:\n    - {objectName: a, objectType: key}\n", 1, `<stdin>:11:5: error: objects: a list or mapping, and the API server accepts only text; write objects: | before it`},
		{"field of spec", strings.Replace(good, "parameters:", "parametres:", 1), 1, `<stdin>:8:3: error: spec.parametres: not a field of a SecretProviderClass; did you mean parameters?`},
		{"parameter twice", head + "    keyvaultName: a_\n" + objects + "'- {objectName: a, objectType: key}'\n", 1, `<stdin>:10:5: error: keyvaultName: defined twice`},
		{"no provider", strings.Replace(good, "  provider: azure\n", "", 1), 1, `<stdin>:7:3: error: spec.provider: missing; set provider: azure`},
		{"other API", strings.Replace(good, "secrets-store.csi.x-k8s.io", "example.com", 1), 1, `<stdin>:1:1: error: apiVersion: "example.com/v1" is not the API`},
		{"other provider", strings.Replace(good, "azure", "vault", 1), 0, "<stdin>:7:13: skipped: the class is for the provider \"vault\"\n0 classes checked"},
		{"other kind", "kind: Pod\nspec: {parameters: 1}\n", 0, "0 classes checked, 0 problems\n"},
		{"near parameter", strings.Replace(good, "    objects", "    tenant_id: a\n    objects", 1), 0, `<stdin>:10:5: warning: tenant_id: is not a parameter and is ignored (did you mean tenantID?) [unknown_parameter]`},
		{"Helm, unquoted", head + "    keyvaultName: {{ .Values.vault }}\n    objects: ''\n", 1, `<stdin>:9:19: error: "{{ .Values.vault }}" is an unrendered Helm template; render it first`},
		{"Helm, around lines", "{{- if .Values.x }}\n" + good + "{{- end }}\n", 1, `<stdin>:1:1: error: "{{- if .Values.x }}" is an unrendered Helm template; render it first`},
		{"Helm, in the name", strings.Replace(good, "name: web", "name: {{ .Release.Name }}-web", 1), 1, `<stdin>:4:9: error: "{{ .Release.Name }}" is an unrendered Helm template`},
		{"Helm, of which YAML is made", strings.Replace(good, "keyvaultName: contoso", "keyvaultName: {{ vault }}", 1), 1, `<stdin>:9:19: error: "{{ vault }}" is an unrendered Helm template`},
		{"Helm, in quotes", strings.Replace(good, "keyvaultName: contoso", "keyvaultName: '{{ .Values.vault }}'", 1), 1, `<stdin>:9:19: error: keyvaultName: "{{ .Values.vault }}" is an unrendered Helm template`},
		{"Helm, in objects", strings.Replace(good, "objectName: a", "objectName: {{ .Values.a }}", 1), 1, `<stdin>:11:22: error: objects[0]: objectName: "{{ .Values.a }}" is an unrendered Helm template`},
		{"variable", strings.Replace(good, "keyvaultName: contoso", "keyvaultName: ${VAULT}", 1), 1, `<stdin>:9:19: error: keyvaultName: "${VAULT}" is an unreplaced placeholder`},
		{"no value", strings.Replace(good, "keyvaultName: contoso", "keyvaultName: <no value>", 1), 1, `<stdin>:9:19: error: keyvaultName: "<no value>" is what a template writes for an unset value`},
		{"broken behind a template of a document", head + "    objects: |\n      - objectAlias: a\n        template: |\n          {{ secret \"b\" }}\n   x: [\n", 1, `error: not valid YAML: `},
		{"broken", head + "    keyvaultName: 'contoso\n", 1, `error: not valid YAML: `},
		{"broken, of no class", "a: [\n", 1, `<stdin>:1:1: error: not valid YAML`},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, out, errOut := akv(t, test.text, "validate", "-f", "-", "--cloud", "Sky")
			if out == "" {
				out = errOut
			}
			// What the manifest has wrong is not reported again as the provider's.
			again := strings.Contains(out, "[InvalidManifest]") && strings.Contains(out, ": missing;") && !strings.Contains(test.want, "spec.")
			if code != test.code || !strings.Contains(out, test.want) || again {
				t.Errorf("exit code %d\n%s%s\nwant %d\n%s\n%s", code, out, errOut, test.code, test.want, test.text)
			}
		})
	}
}

// Files of folders are read if they are YAML or JSON; manifests of other kinds are ignored.
func TestValidateFolders(t *testing.T) {
	bad := strings.Replace(good, "contoso", "a_", 1)
	write(t, map[string]string{"x/a.yaml": bad, "x/y/b.yml": bad, "x/y/z/c.json": "{}", "x/d.txt": bad, "x/.git/e.yaml": bad, "x/broken.yaml": "a: [\n{{ x }}\n",
		"x/templates/f.yaml": "{{ if x }}\n" + good, "named.txt": bad})
	code, out, _ := akv(t, "", "validate", "-f", "x", "-f", "named.txt")
	var places []string
	for line := range strings.Lines(out) {
		place, _, _ := strings.Cut(line, " ")
		places = append(places, place)
	}
	const want = "x/a.yaml:9:19: x/templates/f.yaml:1:1: x/y/b.yml:9:19: named.txt:9:19:"
	if got := strings.Join(places, " "); code != 1 || got != want {
		t.Errorf("exit code %d, %s\nwant %s", code, got, want)
	}
	for _, args := range [][]string{{"-f", "nowhere.yaml"}, {"-f", "named.txt", "-f", "nowhere"}, {}, {"named.txt"}, {"-f", "x", "-o", "xml"}} {
		if code, out, errOut := akv(t, "", append([]string{"validate"}, args...)...); code != 2 || out != "" || !strings.HasPrefix(errOut, "error: ") {
			t.Errorf("%q: exit code %d, %q, %q", args, code, out, errOut)
		}
	}
}

func TestValidateStrict(t *testing.T) {
	text := strings.Replace(good, "objectType: secret", "objectType: secret, x: y", 1)
	if code, out, errOut := akv(t, text, "validate", "-f", "-"); code != 0 || !strings.Contains(out, `:11:48: warning: objects[0] "a": x: is not a field [unknown_field]`) || !strings.Contains(errOut, "0 problems, 1 warning") {
		t.Errorf("%d %q %q", code, out, errOut)
	}
	if code, out, errOut := akv(t, text, "validate", "-f", "-", "--strict"); code != 1 || !strings.Contains(out, ":11:48: error: ") || !strings.Contains(errOut, "1 problem\n") {
		t.Errorf("%d %q %q", code, out, errOut)
	}
}

func TestValidateJSON(t *testing.T) {
	_, out, errOut := akv(t, strings.Replace(good, "contoso", "a_", 1), "validate", "-f", "-", "-o", "json")
	var result struct {
		Classes, Errors, Warnings int
		Findings                  []struct {
			Severity, Rule, File, Class, Field, Cause, Fix string
			Line, Column                                   int
		}
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil || errOut != "" {
		t.Fatal(err, errOut)
	}
	if len(result.Findings) != 1 || result.Classes != 1 || result.Errors != 1 {
		t.Fatalf("%+v", result)
	}
	if f := result.Findings[0]; f.Severity != "error" || f.Rule != "InvalidParameter" || f.Class != "shop/web" || f.Field != "keyvaultName" || f.Line != 9 || f.Column != 19 || f.Fix == "" {
		t.Errorf("%+v", f)
	}
	if _, out, _ := akv(t, good, "validate", "-f", "-", "-o", "json"); !strings.Contains(out, `"findings": []`) {
		t.Errorf("%s", out)
	}
}

func TestValidateGitHub(t *testing.T) {
	write(t, map[string]string{"a,b:100%.yaml": strings.Replace(good, "contoso", "'100%'", 1)})
	code, out, _ := akv(t, "", "validate", "-f", "a,b:100%.yaml", "-o", "github")
	const want = `::error file=a%2Cb%3A100%25.yaml,line=9,col=19,title=InvalidParameter::keyvaultName: "100%25" is not valid; use the vault's name (3-24 letters, digits, hyphens), not its URL` + "\n"
	if code != 1 || out != want {
		t.Errorf("%d\n%s\nwant\n%s", code, out, want)
	}
}

// sarifSchema is the schema of OASIS, which a library has in a source file.
func sarifSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif").Output()
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "schema.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var text string
	ast.Inspect(file, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING && len(literal.Value) > len(text) {
			text, _ = strconv.Unquote(literal.Value)
		}
		return true
	})
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("sarif.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("sarif.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// The SARIF is valid by the schema of OASIS.
func TestValidateSARIF(t *testing.T) {
	schema := sarifSchema(t)
	if err := schema.Validate(map[string]any{"version": "2.1.0"}); err == nil {
		t.Fatal("the schema accepts a report without runs")
	}
	bad := strings.Replace(good, "contoso", "a_", 1)
	write(t, map[string]string{"x/a b.yaml": bad + "---\n" + bad, "good.yaml": good})
	absolute, err := filepath.Abs("x/a b.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"x": 2, absolute: 2, "-": 1, "good.yaml": 0} {
		_, out, _ := akv(t, "{{ x }}\n"+good, "validate", "-f", path, "-o", "sarif")
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(document); err != nil {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
		report, err := sarif.FromString(out)
		if err != nil || len(report.Runs) != 1 || len(report.Runs[0].Results) != want {
			t.Errorf("%s: %v, want %d results:\n%s", path, err, want, out)
		}
		if path == "x" && (!strings.Contains(out, `"uri": "x/a%20b.yaml"`) || !strings.Contains(out, `"startColumn": 19`)) {
			t.Errorf("%s", out)
		}
	}
}

// A terminal shows no escape sequences of a file.
func TestValidateEscapes(t *testing.T) {
	_, out, _ := akv(t, strings.Replace(good, "contoso", `"a\e[2Jb"`, 1), "validate", "-f", "-")
	if strings.ContainsRune(out, 0x1b) || !strings.Contains(out, "keyvaultName") {
		t.Errorf("%q", out)
	}
}

// The page shows what the command prints.
func TestValidatePage(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := strings.Cut(string(page), "    $ kubectl akv validate -f deploy/\n")
	shown, _, _ = strings.Cut(shown, "\n\n")
	write(t, map[string]string{"deploy/web.yaml": strings.Replace(head, "  parameters:\n", "  parameters:\n    tenantID: contoso.com\n", 1) +
		"    keyvaultName: contoso\n    objects: |\n      - objectName: db\n        objectAlias: x\n        objectType: secrets\n        objectAliases: y\n"})
	_, out, errOut := akv(t, "", "validate", "-f", "deploy/")
	if got := strings.TrimSpace(out + errOut); got != strings.ReplaceAll(strings.TrimSpace(shown), "\n    ", "\n") {
		t.Errorf("the page shows\n%s\nthe command prints\n%s", shown, got)
	}
}

// A folder may be a link. A class with thousands of mistakes is judged in little time.
func TestValidateMany(t *testing.T) {
	text := head + "    keyvaultName: contoso\n    objects: |\n" + strings.Repeat("      - {objectName: a_, objectType: secret}\n", 4000)
	write(t, map[string]string{"x/a.yaml": text})
	if err := os.Symlink("x", "y"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, out, _ := akv(t, "", "validate", "-f", "y")
	if lines := strings.Count(out, "\n"); lines < 4000 || !strings.Contains(out, "y/a.yaml:4010:22: error: ") {
		t.Errorf("%d lines, %.300s", lines, out)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}
