package migrate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/cmd/kubectl-akv/kubetest"
)

const (
	all  = "/apis/secrets-store.csi.x-k8s.io/v1/secretproviderclasses"
	shop = "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/shop/secretproviderclasses"
	ops  = "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/ops/secretproviderclasses"
)

// said is what the command has printed, and its error.
type said struct {
	out, errOut string
	err         error
}

func migrate(t *testing.T, stdin string, args ...string) said {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := New(cli.NewEnv(genericiooptions.IOStreams{In: strings.NewReader(stdin), Out: &out, ErrOut: &errOut}))
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return said{out.String(), errOut.String(), err}
}

// class is a class as the API server returns it. Synced are files of its secretObjects.
func class(namespace, name, provider string, parameters map[string]string, synced ...string) map[string]any {
	spec := map[string]any{"provider": provider, "parameters": parameters}
	var data []map[string]string
	for _, file := range synced {
		data = append(data, map[string]string{"objectName": file, "key": "k"})
	}
	if data != nil {
		spec["secretObjects"] = []any{map[string]any{"secretName": "s", "data": data}}
	}
	return map[string]any{"apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass",
		"metadata": map[string]any{"name": name, "namespace": namespace}, "spec": spec}
}

func list(classes ...map[string]any) map[string]any {
	return map[string]any{"apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClassList", "metadata": map[string]any{}, "items": classes}
}

func manifest(t *testing.T, classes ...map[string]any) string {
	t.Helper()
	text, err := json.Marshal(list(classes...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// with are the parameters of a class with these objects.
func with(objects string, more ...string) map[string]string {
	p := map[string]string{"keyvaultName": "kv-contoso", "objects": objects}
	for i := 0; i < len(more); i += 2 {
		p[more[i]] = more[i+1]
	}
	return p
}

const fine = `- {objectName: a, objectType: secret}`

// Each difference of the reference that a class shows is found, and nothing else.
func TestDifferences(t *testing.T) {
	history := "array:\n  - |\n    objectName: a\n    objectType: secret\n    objectAlias: one\n    objectVersionHistory: 3\n"
	for _, test := range []struct {
		name       string
		parameters map[string]string
		synced     []string
		want       []string // level, what and do; each a part
	}{
		{"fine", with(fine), []string{"a"}, nil},
		{"history of one", with("- {objectName: a, objectType: secret, objectVersionHistory: 1, objectAlias: x/1}"), []string{"x/1"}, nil},
		{"history, synced", with(history), []string{"one/0", "one/2", "one/3"},
			[]string{"changes|objectVersionHistory 3 makes 4 files there, and 3 here: there is no one/3, of which secretObjects make Secret s (key k)|set objectVersionHistory to 4"}},
		{"history in quotes", with(`- {"objectName": "b", "objectType": "secret", "objectVersionHistory": "10"}`), []string{"b/9", "b/10"},
			[]string{"changes|there is no b/10, of which|set objectVersionHistory to 11"}},
		{"history, not synced", with(history), []string{"one/0"}, []string{"changes|there is no one/3|if an application opens that file, set"}},
		{"pod identity", with(fine, "usePodIdentity", "True"), nil, []string{"refused|usePodIdentity: AAD Pod Identity is retired|use workload identity"}},
		{"no pod identity", with(fine, "usePodIdentity", "false"), nil, nil},
		{"german cloud", with(fine, "cloudName", "azuregermancloud"), nil, []string{"refused|AzureGermanCloud was closed in 2021|one of AzurePublicCloud"}},
		{"unknown cloud", with(fine, "cloudName", "Own"), nil, []string{`refused|cloudName: unknown cloud "Own"|one of`}},
		{"template of a cloud", with(fine, "cloudName", "{{ .Values.cloud }}"), nil, []string{"refused|cloudName: |"}},
		{"file elsewhere", with(fine, "cloudName", "AzureStackCloud", "cloudEnvFileName", "/tmp/env.json"), nil, []string{"refused|cloudEnvFileName: \"/tmp/env.json\" is not below|--cloud-env-dirs"}},
		{"file that leads out", with(fine, "cloudName", "azurestackcloud", "cloudEnvFileName", "/etc/akv/../passwd"), nil, []string{"refused|cloudEnvFileName|"}},
		{"file in place", with(fine, "cloudName", "AzureStackCloud", "cloudEnvFileName", "/etc/akv/env.json"), nil, nil},
		{"file of another cloud", with(fine, "cloudEnvFileName", "/tmp/env.json"), nil, nil}, // neither provider reads it
		{"mode", with("- {objectName: a, objectType: secret, filePermission: rw}"), nil, []string{"refused|filePermission|"}},
		{"dots in a name", with("- {objectName: a, objectType: secret, objectAlias: a..b}"), nil, nil},

		{"vault of an object", with("- {objectName: a, objectType: secret, keyvaultName: other}"), nil, []string{"changes|keyvaultName is ignored there; here the object is read from vault other|"}},
		{"same vault", with("- {objectName: a, objectType: secret, keyvaultName: KV-Contoso}"), nil, nil},
		{"failover", with(fine, "failoverKeyvaultName", "other"), nil, []string{"changes|failoverKeyvaultName is ignored there|"}},
		{"failover of an object", with("- {objectName: a, objectType: secret, failoverKeyvaultName: other}"), nil, []string{"changes|secret \"a\": failoverKeyvaultName is ignored there|"}},
		{"optional", with("- {objectName: a, objectType: secret, optional: true}"), nil, []string{"changes|optional is ignored|"}},
		{"pieces", with("- {objectName: a, objectType: secret, jmesPath: [{path: b, objectAlias: c}]}"), nil, []string{"changes|jmesPath is ignored there; here pieces|"}},
		{"expand", with("- {objectName: a, objectType: secret, expand: json}"), nil, []string{"changes|expand is ignored|"}},
		{"bundle", with("- {objectName: a, objectType: secret, expand: json, bundle: dotenv, objectAlias: .env}"), nil, []string{"changes|bundle is ignored|"}},
		{"parts", with("- {objectName: a, objectType: secret, files: [{part: leaf, objectAlias: c}]}"), nil, []string{"changes|files is ignored there; here parts|"}},
		{"search beside a name", with("- {objectName: a, objectType: secret, find: {name: b}}"), nil, []string{"refused|objectName|"}},
		{"search", with("- {objectType: secret, find: {name: b}, optional: true}"), nil, nil}, // never worked there
		{"document", with("- {template: x, objectAlias: b}"), nil, nil},

		{"unknown field", with("- {objectName: a, objectType: secret, objectVerson: latest}\n- {objectName: b, objecttype: key, objectType: key}"), nil,
			[]string{"warning|objectVerson|--strict-objects", "warning|objecttype|--strict-objects"}},
		{"ignored format", with("array:\n  - |\n    objectName: c\n    objectType: cert\n    objectFormat: PFX\n"), nil, []string{"warning|(ignored_format)|"}},
		{"twice", with("- {objectName: a, objectType: secret}\n- {objectName: a, objectType: key}"), nil, []string{"warning|(duplicate_path)|"}},
		{"two documents", with("array:\n  - |\n    objectName: e\n    objectType: key\n---\narray: []\n"), nil, []string{"warning|(ignored_text)|"}},
		{"template", with("- {objectName: f, objectType: key, objectAlias: \"${DIR}/f\"}"), nil, []string{"warning|(placeholder)|"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := migrate(t, manifest(t, class("shop", "c", "azure", test.parameters, test.synced...)), "-f", "-", "-o", "json")
			var r Report
			if err := json.Unmarshal([]byte(s.out), &r); err != nil || r.Classes != 1 {
				t.Fatal(err, s)
			}
			problem := false
			for i, d := range r.Differences {
				problem = problem || d.Level != Warning
				if i >= len(test.want) {
					t.Errorf("%+v", d)
					continue
				}
				parts := strings.Split(test.want[i], "|")
				if d.Namespace != "shop" || d.Class != "c" || string(d.Level) != parts[0] || !strings.Contains(d.What, parts[1]) || !strings.Contains(d.Do, parts[2]) || d.Do == "" {
					t.Errorf("%+v, want %s", d, test.want[i])
				}
			}
			if len(r.Differences) < len(test.want) {
				t.Errorf("%+v, want %q", r.Differences, test.want)
			}
			if problem != errors.Is(s.err, cli.ErrProblems) {
				t.Error(s.err)
			}
			s = migrate(t, manifest(t, class("shop", "c", "azure", test.parameters, test.synced...)), "-f", "-", "--strict")
			if (len(test.want) > 0) != errors.Is(s.err, cli.ErrProblems) {
				t.Errorf("strict: %v", s.err)
			}
		})
	}
}

// The table has a row for each difference; other providers' classes are skipped.
func TestTable(t *testing.T) {
	api := kubetest.New(t)
	api.Put(all, list(class("shop", "b", "azure", with("- {objectName: a, objectType: secret, x: y}")), class("ops", "a", "azure", with(fine, "usePodIdentity", "1")),
		class("ops", "other", "aws", with(fine, "usePodIdentity", "1"))))
	s := migrate(t, "", "--kubeconfig="+api.Kubeconfig)
	lines := strings.Split(strings.TrimSpace(s.out), "\n")
	if !errors.Is(s.err, cli.ErrProblems) || len(lines) != 3 || lines[0] != "NAMESPACE\tCLASS\tLEVEL\tWHAT CHANGES\tWHAT TO DO" ||
		!strings.HasPrefix(lines[1], "ops\ta\trefused\tusePodIdentity: ") || !strings.HasPrefix(lines[2], "shop\tb\twarning\t") {
		t.Errorf("%+v", s)
	}
	if s.errOut != "2 classes read; refused: 1, warning: 1\n" {
		t.Error(s.errOut)
	}
	api.Put(all, list(class("shop", "b", "azure", with(fine))))
	if s := migrate(t, "", "--kubeconfig="+api.Kubeconfig); s.err != nil || s.out != "" || s.errOut != "1 class read; nothing changes\n" {
		t.Errorf("%+v", s)
	}
}

// All pages of a list are read.
func TestPages(t *testing.T) {
	api := kubetest.New(t)
	api.Handle(all, func(w http.ResponseWriter, r *http.Request) {
		n := 0
		fmt.Sscan(r.URL.Query().Get("continue"), &n)
		page := list(class("shop", fmt.Sprint("c", n), "azure", with(fine)))
		if n < 2 {
			page["metadata"] = map[string]any{"continue": fmt.Sprint(n + 1)}
		}
		kubetest.Write(w, http.StatusOK, page)
	})
	if s := migrate(t, "", "--kubeconfig="+api.Kubeconfig); s.err != nil || !strings.HasPrefix(s.errOut, "3 classes read") {
		t.Errorf("%+v", s)
	}
}

// With restricted rights, what can be read is judged, and the rest is named.
func TestRestrictedRights(t *testing.T) {
	for _, test := range []struct {
		name      string
		forbidden []string
		args      []string
		read      int
		missing   string
		err       string
	}{
		{"all", nil, nil, 3, "", ""},
		{"one namespace", nil, []string{"-n", "ops"}, 1, "", ""},
		{"each namespace", []string{"GET " + all}, nil, 2, "", ""},
		{"some namespaces", []string{"GET " + all, "GET " + ops}, nil, 1, "not read: namespace ops: you are not allowed to list its SecretProviderClasses\n", "not all classes could be read"},
		{"own namespace", []string{"GET " + all, "GET /api/v1/namespaces"}, nil, 1, "not read: all namespaces but shop: ", "not all classes could be read"},
		{"nothing", []string{"GET " + all, "GET /api/v1/namespaces", "GET " + shop}, nil, 0, "not read: namespace shop: ", "not all classes could be read"},
		{"a namespace without the right", []string{"GET " + ops}, []string{"-n", "ops"}, -1, "", "cannot do this"},
	} {
		t.Run(test.name, func(t *testing.T) {
			api := kubetest.New(t)
			one := func(namespace string) map[string]any { return class(namespace, "c", "azure", with(fine)) }
			api.Put(all, list(one("ops"), one("shop"), one("web")))
			api.Put(shop, list(one("shop")))
			api.Put(ops, list(one("ops")))
			api.Put("/api/v1/namespaces", corev1.NamespaceList{TypeMeta: metav1.TypeMeta{Kind: "NamespaceList", APIVersion: "v1"},
				Items: []corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "ops"}}, {ObjectMeta: metav1.ObjectMeta{Name: "shop"}}}})
			api.Forbid(test.forbidden...)
			s := migrate(t, "", append(test.args, "--kubeconfig="+api.Kubeconfig)...)
			if got := fmt.Sprint(s.err); test.err == "" && s.err != nil || !strings.Contains(got, test.err) || errors.Is(s.err, cli.ErrProblems) {
				t.Error(s.err)
			}
			if test.read >= 0 && !strings.HasPrefix(s.errOut, fmt.Sprint(test.read)+" class") || !strings.Contains(s.errOut, test.missing) {
				t.Error(s.errOut)
			}
		})
	}
	s := migrate(t, "", "--kubeconfig="+kubetest.New(t).Kubeconfig)
	if s.err == nil || !strings.Contains(s.err.Error(), "driver is not installed") {
		t.Error(s.err)
	}
}

// The classes of the test data and of the examples are judged as their own tests say.
func TestRepository(t *testing.T) {
	s := migrate(t, "", "-f", "../../../provider/request/testdata/warnings.yaml", "-o", "json")
	var r Report
	if err := json.Unmarshal([]byte(s.out), &r); err != nil || r.Classes == 0 || len(r.Differences) == 0 {
		t.Fatal(err, s)
	}
	for _, d := range r.Differences {
		if d.Level == Refused {
			t.Errorf("%+v", d)
		}
	}
	files, err := filepath.Glob("../../../provider/request/testdata/*.yaml")
	if err != nil || len(files) < 8 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		s := migrate(t, "", "-f", file)
		if s.err != nil && !errors.Is(s.err, cli.ErrProblems) || !strings.Contains(s.errOut, "read; ") || strings.Contains(s.out, "\trefused\t") {
			t.Errorf("%s: %+v", file, s)
		}
	}
	folders, err := filepath.Glob("../../../deploy/examples/*/secretproviderclass.yaml")
	if err != nil || len(folders) < 14 {
		t.Fatal(folders, err)
	}
	for _, file := range folders {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]string{"KEYVAULT_NAME": "kv-contoso", "OTHER_KEYVAULT_NAME": "kv-west", "NAMESPACE": "shop", "CERTIFICATE_NAME": "tls",
			"TENANT_ID": "11111111-2222-3333-4444-555555555555", "CLIENT_ID": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"}
		s := migrate(t, os.Expand(string(text), func(name string) string { return values[name] }), "-f", "-")
		if strings.Contains(s.out, "\trefused\t") || strings.Contains(s.out, "\twarning\t") {
			t.Errorf("%s: %+v", file, s)
		}
	}
}

var migrateLine = regexp.MustCompile(`(?m)^kubectl akv migrate(.*?)(?: #.*)?$`)

// The page on moving over names commands that there are, and the fields that have a meaning here
// are those that the reference lists.
func TestDocuments(t *testing.T) {
	page, err := os.ReadFile("../../../deploy/MOVING.md")
	if err != nil {
		t.Fatal(err)
	}
	found := migrateLine.FindAllStringSubmatch(string(page), -1)
	if len(found) < 2 {
		t.Errorf("%d commands", len(found))
	}
	for _, m := range found {
		cmd := New(cli.NewEnv(genericiooptions.NewTestIOStreamsDiscard()))
		if err := cmd.ParseFlags(strings.Fields(m[1])); err != nil || len(cmd.Flags().Args()) > 0 {
			t.Errorf("%s: %v %q", m[0], err, cmd.Flags().Args())
		}
	}
	reference, err := os.ReadFile("../../../provider/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(reference), "may contain a field that is ignored there and has a meaning here: ")
	text, _, _ = strings.Cut(text, "\n\n")
	var fields []string
	for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(text, -1) {
		if !slices.Contains(fields, m[1]) {
			fields = append(fields, m[1])
		}
	}
	slices.Sort(fields)
	// find, maxObjects, includeCertificates and template are errors beside objectName.
	if want := []string{"bundle", "expand", "failoverKeyvaultName", "files", "find", "includeCertificates", "jmesPath", "keyvaultName", "maxObjects", "optional", "template"}; !slices.Equal(fields, want) {
		t.Errorf("the reference lists %q", fields)
	}
	for _, field := range []string{"find: {name: x}", "maxObjects: 2", "includeCertificates: true", "template: x"} {
		s := migrate(t, manifest(t, class("shop", "c", "azure", with("- {objectName: a, objectType: secret, "+field+"}"))), "-f", "-")
		if !strings.Contains(s.out, "\trefused\t") {
			t.Errorf("%s: %+v", field, s)
		}
	}
}
