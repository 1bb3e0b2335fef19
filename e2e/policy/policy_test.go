package policy_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/request"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/cel/environment"
	"sigs.k8s.io/yaml"
)

const list = "[{objectName: db-password, objectType: secret}]"

// sound is a class that mounts.
var sound = map[string]string{"keyvaultName": "kv-contoso", "tenantID": "contoso.example", "clientID": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "objects": list}

// remove is a value that takes a parameter out of the sound ones.
const remove = "\x00"

func with(base map[string]string, changes ...string) map[string]string {
	m := maps.Clone(base)
	for i := 0; i < len(changes); i += 2 {
		if m[changes[i]] = changes[i+1]; changes[i+1] == remove {
			delete(m, changes[i])
		}
	}
	return m
}

func class(provider string, parameters map[string]string) *unstructured.Unstructured {
	texts := make(map[string]any)
	for name, value := range parameters {
		texts[name] = value
	}
	u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"provider": provider, "parameters": texts}}}
	u.SetGroupVersionKind(classKind)
	u.SetNamespace(namespace)
	u.SetName("web")
	return u
}

func pod(driver string, attributes map[string]string) *unstructured.Unstructured {
	texts := make(map[string]any)
	for name, value := range attributes {
		texts[name] = value
	}
	u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"volumes": []any{
		map[string]any{"name": "tmp", "emptyDir": map[string]any{}},
		map[string]any{"name": "secrets", "csi": map[string]any{"driver": driver, "readOnly": true, "volumeAttributes": texts}},
	}}}}
	u.SetGroupVersionKind(podKind)
	u.SetNamespace(namespace)
	u.SetName("web-0")
	return u
}

// mount says what the provider finds wrong with a class and the attributes of a volume.
func mount(t *testing.T, c *unstructured.Unstructured, attributes map[string]string) error {
	t.Helper()
	m, err := parse(t, c, attributes)
	if err == nil && m.Cloud.Name != "" {
		return cloud.CheckName(m.Cloud.Name)
	}
	return err
}

// parse is what the provider reads of a class and the attributes of a volume.
func parse(t *testing.T, c *unstructured.Unstructured, attributes map[string]string) (*request.Mount, error) {
	t.Helper()
	box, err := azuretest.New(azuretest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	cluster, err := box.Cluster("https://oidc.contoso.example/")
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(c.Object)
	if err != nil {
		t.Fatal(err)
	}
	req, err := cluster.MountRequest(text, azuretest.Pod{Namespace: namespace, Name: "web-0", VolumeAttributes: attributes}, nil, "/mnt")
	if err != nil {
		t.Fatal(err)
	}
	return new(request.Parser).Parse(req.GetAttributes(), req.GetSecrets(), req.GetPermission())
}

// check compares the policy's verdict with what is expected and with the provider's.
func check(t *testing.T, verdict, provider error, want []string) {
	t.Helper()
	if len(want) == 0 {
		if verdict != nil {
			t.Errorf("refused: %v", verdict)
		}
		if provider != nil {
			t.Errorf("not refused, but the provider says: %v", provider)
		}
		return
	}
	if verdict == nil {
		t.Error("not refused")
		return
	}
	if provider == nil {
		t.Error("refused, but the provider mounts it")
	}
	if n := strings.Count(verdict.Error(), " | ") + 1; n != len(want) {
		t.Errorf("%d problems, want %d: %v", n, len(want), verdict)
	}
	for _, words := range want {
		if !strings.Contains(verdict.Error(), words) {
			t.Errorf("no %q in: %v", words, verdict)
		}
	}
}

// byResource is a managed identity that is named by its resource.
func byResource(group, name string) []string {
	return []string{"useVMManagedIdentity", "true", "userAssignedIdentityID",
		"/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/" + group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + name}
}

// tests are changes to the sound class and what the policy says of it; none for no refusal.
var tests = []struct {
	name   string
	change []string
	want   []string
}{
	{"sound", nil, nil},
	{"unknown parameters", []string{"resourceGroup", "rg"}, nil},
	{"spaces around", []string{"keyvaultName", " kv-contoso\n", "useVMManagedIdentity", " false ", "tenantID", "\tadfs"}, nil},
	{"no vault", []string{"keyvaultName", remove}, []string{"keyvaultName: missing; use the vault's name"}},
	{"blank vault", []string{"keyvaultName", " \u00a0"}, []string{"keyvaultName: missing"}},
	{"URL of a vault", []string{"keyvaultName", "https://kv.vault.azure.net"}, []string{`keyvaultName: "https://kv.vault.azure.net" is not valid; use the vault's name`}},
	{"vault of two letters", []string{"keyvaultName", "kv"}, []string{`"kv" is not valid`}},
	{"vault of 24 letters", []string{"keyvaultName", strings.Repeat("K", 24)}, nil},
	{"vault of 25 letters", []string{"keyvaultName", strings.Repeat("k", 25)}, []string{"keyvaultName"}},
	{"vault of many letters", []string{"keyvaultName", strings.Repeat("ü", 300)}, []string{strings.Repeat("ü", 64) + `…" is not valid`}},
	{"vault on two lines", []string{"keyvaultName", "kv\nx"}, []string{`"kv\nx" is not valid`}},
	{"vault with an underscore", []string{"keyvaultName", "kv_contoso"}, []string{"keyvaultName"}},
	{"no vault but the objects'", []string{"keyvaultName", "", "objects", "[{objectName: a, objectType: secret, keyvaultName: kv-fabrikam}]"}, nil},
	{"failover vault", []string{"failoverKeyvaultName", " KV-West "}, nil},
	{"blank failover vault", []string{"failoverKeyvaultName", " "}, nil},
	{"bad failover vault", []string{"failoverKeyvaultName", "kv_west"}, []string{`failoverKeyvaultName: "kv_west" is not valid; use the vault's name`}},
	{"failover to the same vault", []string{"failoverKeyvaultName", "KV-contoso"}, []string{"failoverKeyvaultName: same vault as keyvaultName; use another vault"}},
	{"failover without a vault", []string{"keyvaultName", "", "failoverKeyvaultName", "kv-west"}, []string{"keyvaultName: missing", "failoverKeyvaultName: set without keyvaultName"}},
	{"failover without a vault but the objects'", []string{"keyvaultName", "", "failoverKeyvaultName", "kv-west", "objects", "[{objectName: a, objectType: secret, keyvaultName: kv-fabrikam}]"},
		[]string{"failoverKeyvaultName: set without keyvaultName; set keyvaultName too, or failoverKeyvaultName on the objects"}},
	{"no objects", []string{"objects", remove}, []string{"objects: missing"}},
	{"blank objects", []string{"objects", " \n\t"}, []string{"objects: missing"}},
	{"big objects", []string{"objects", list + strings.Repeat("\n# a comment", 40_000)}, nil},
	{"pod identity", []string{"usePodIdentity", "true"}, []string{"usePodIdentity: AAD Pod Identity is retired; use workload identity"}},
	{"pod identity, T", []string{"usePodIdentity", "T"}, []string{"usePodIdentity: AAD Pod Identity is retired"}},
	{"no pod identity", []string{"usePodIdentity", "FALSE"}, nil},
	{"two modes", []string{"useVMManagedIdentity", "true", "useAzureTokenProxy", "1"}, []string{"set together with useAzureTokenProxy; use"}},
	{"managed identity beside a client ID", []string{"useVMManagedIdentity", "true"}, nil},
	{"managed identity beside leftovers", []string{"useVMManagedIdentity", "True", "clientID", "<client ID>", "tenantID", "$TENANT", "tenantId", "?"}, nil},
	{"managed identity of a bad ID", []string{"useVMManagedIdentity", "true", "userAssignedIdentityID", "/subscriptions/x"}, []string{"userAssignedIdentityID: not valid; use a client ID or"}},
	{"managed identity by its resource", byResource("web(prod)", "web"), nil},
	{"managed identity by another resource", []string{"useVMManagedIdentity", "true", "userAssignedIdentityID", "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/web/providers/Microsoft.KeyVault/vaults/web"}, []string{"userAssignedIdentityID: not valid"}},
	{"managed identity by a long resource", byResource(strings.Repeat("ü", 90), strings.Repeat("w", 128)), nil},
	{"resource in capitals", []string{"useVMManagedIdentity", "true", "userAssignedIdentityID", strings.ToUpper(byResource("web", "web")[3])}, nil},
	{"resource of a long group", byResource(strings.Repeat("ü", 260), "web"), []string{"userAssignedIdentityID: not valid"}},
	{"resource of an invisible group", byResource("web\u200b", "web"), []string{"or /subscriptions/…/userAssignedIdentities/NAME"}},
	{"resource with a query", byResource("web", "web?x"), []string{"userAssignedIdentityID: not valid"}},
	{"resource on two lines", byResource("web", "web\nweb"), []string{"userAssignedIdentityID: not valid"}},
	{"client ID that is a resource", []string{"clientID", byResource("web", "web")[3]}, []string{"clientID: not valid; use the client ID, a GUID"}},
	{"new cloud", []string{"cloudName", "AzureBleuCloud"}, nil},
	{"an ID no mode uses", []string{"userAssignedIdentityID", "<none>"}, nil},
	{"identity binding", []string{"useAzureTokenProxy", "TRUE"}, nil},
	{"yes", []string{"useVMManagedIdentity", "yes"}, []string{`useVMManagedIdentity: not a boolean; use "true" or "false"`}},
	{"tRUE", []string{"useAzureTokenProxy", "tRUE"}, []string{"useAzureTokenProxy: not a boolean"}},
	{"empty booleans", []string{"useVMManagedIdentity", "", "usePodIdentity", " "}, nil},
	{"bad client ID", []string{"clientID", "${CLIENT_ID}"}, []string{"clientID: not valid"}},
	{"no client ID", []string{"clientID", remove, "tenantID", remove}, nil},
	{"bad tenant", []string{"tenantID", "https://contoso"}, []string{"tenantID: not valid; use the tenant's GUID or domain name"}},
	{"bad tenant, old spelling", []string{"tenantID", remove, "tenantId", "a/b"}, []string{"tenantId: not valid"}},
	{"bad tenant that is ignored", []string{"tenantId", "a/b"}, nil},
	{"cloud in any case", []string{"cloudName", "azureUSgovernmentCLOUD"}, nil},
	{"cloud, folded", []string{"cloudName", "AzureStac\u212aCloud"}, nil},
	{"old name of a cloud", []string{"cloudName", " AzureCloud "}, nil},
	{"closed cloud", []string{"cloudName", "azuregermancloud"}, []string{"AzureGermanCloud was closed in 2021; one of AzurePublicCloud"}},
	{"unknown cloud", []string{"cloudName", "AzureMoon"}, []string{"cloudName: not a cloud; one of AzurePublicCloud"}},
	{"everything", []string{"keyvaultName", "", "usePodIdentity", "true", "useVMManagedIdentity", "on", "clientID", "?", "tenantID", "?", "cloudName", "?", "objects", ""},
		[]string{"keyvaultName", "usePodIdentity", "useVMManagedIdentity", "clientID", "tenantID", "cloudName", "objects"}},
}

func TestClasses(t *testing.T) {
	s := start(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := class("azure", with(sound, test.change...))
			check(t, s.apply(c, nil), mount(t, c, nil), test.want)
		})
	}
}

// The same changes as attributes of a pod's volume over the sound class, and over an
// empty one that leaves everything to its pods.
func TestPods(t *testing.T) {
	whole, empty, vault := class("azure", sound), class("azure", map[string]string{"note": "see the pods"}), class("vault", map[string]string{})
	empty.SetName("empty")
	vault.SetName("vault")
	s := start(t, whole, empty, vault)
	for _, test := range tests {
		if slices.Contains(test.change, remove) {
			continue // attributes add and overwrite, but remove nothing
		}
		t.Run(test.name, func(t *testing.T) {
			over := with(map[string]string{"secretProviderClass": "web"}, test.change...)
			check(t, s.apply(pod("secrets-store.csi.k8s.io", over), nil), mount(t, whole, over), test.want)
			all := with(with(sound, test.change...), "secretProviderClass", "empty")
			check(t, s.apply(pod("secrets-store.csi.k8s.io", all), nil), mount(t, empty, all), test.want)
		})
	}
}

// A pod fixes a class, or breaks it only together with it.
func TestPodAndClass(t *testing.T) {
	broken := class("azure", with(sound, "keyvaultName", "k"))
	node := class("azure", with(sound, "useVMManagedIdentity", "true"))
	node.SetName("node")
	s := start(t, broken, node)
	for _, test := range []struct {
		name       string
		class      *unstructured.Unstructured
		attributes map[string]string
		want       []string
	}{
		{"fixed", broken, map[string]string{"keyvaultName": "kv-fabrikam"}, nil},
		{"second mode", node, map[string]string{"useAzureTokenProxy": "true"}, []string{"volume of class node: useVMManagedIdentity: set together"}},
		{"other mode", node, map[string]string{"useVMManagedIdentity": "false", "useAzureTokenProxy": "true"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := with(test.attributes, "secretProviderClass", test.class.GetName())
			check(t, s.apply(pod("secrets-store.csi.k8s.io", a), nil), mount(t, test.class, a), test.want)
		})
	}
}

// What the policies have no say in, bad as it is.
func TestNotMatched(t *testing.T) {
	bad := with(sound, "keyvaultName", "k")
	other, broken := class("vault", bad), class("azure", bad)
	other.SetName("other")
	s := start(t, other, broken)
	labelled := class("azure", bad)
	labelled.SetLabels(map[string]string{"akv-csi-provider/incomplete": ""})
	finalized := broken.DeepCopy()
	finalized.SetFinalizers([]string{"contoso.example/keep"})
	for name, err := range map[string]error{
		"class of another provider":   s.apply(other, nil),
		"class that pods complete":    s.apply(labelled, nil),
		"old class with a new label":  s.apply(finalized, broken),
		"pod of another provider":     s.apply(pod("secrets-store.csi.k8s.io", with(bad, "secretProviderClass", "other")), nil),
		"pod of another driver":       s.apply(pod("disk.csi.azure.com", with(bad, "secretProviderClass", "web")), nil),
		"pod of a class not there":    s.apply(pod("secrets-store.csi.k8s.io", with(bad, "secretProviderClass", "later")), nil),
		"pod that overrides nothing":  s.apply(pod("secrets-store.csi.k8s.io", map[string]string{"secretProviderClass": "web", "note": "x"}), nil),
		"pod that names only a class": s.apply(pod("secrets-store.csi.k8s.io", map[string]string{"secretProviderClass": "web"}), nil),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.apply(class("azure", with(bad, "keyvaultName", "x")), broken); err == nil {
		t.Error("a change of an old class to another broken one passes")
	}
}

// A pod with many volumes stays within the API server's cost budget.
func TestCost(t *testing.T) {
	s := start(t, class("azure", sound))
	big := with(sound, "secretProviderClass", "web", "objects", list+strings.Repeat("\n# a comment", 5_000), "cloudName", "AzureMoon")
	p := pod("secrets-store.csi.k8s.io", big)
	volumes, _, err := unstructured.NestedSlice(p.Object, "spec", "volumes")
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		volumes = append(volumes, volumes[1])
	}
	if err := unstructured.SetNestedSlice(p.Object, volumes, "spec", "volumes"); err != nil {
		t.Fatal(err)
	}
	if err := s.apply(p, nil); err == nil || !strings.Contains(err.Error(), "cloudName: not a cloud") {
		t.Errorf("got %v", err)
	}
}

func TestPolicies(t *testing.T) {
	var problems []string
	for _, file := range slices.Concat(advice, enforce) {
		policy, binding := policies(t, file)
		want := admissionv1.Ignore
		if slices.Contains(enforce, file) {
			want = admissionv1.Fail
		}
		if *policy.Spec.FailurePolicy != want {
			t.Errorf("%s: failurePolicy %s, want %s", file, *policy.Spec.FailurePolicy, want)
		}
		if want == admissionv1.Fail && policy.Spec.ParamKind != nil {
			t.Errorf("%s: if the CRD of its parameters is missing, it refuses every object", file)
		}
		if binding.Spec.PolicyName != policy.Name || !slices.Equal(binding.Spec.ValidationActions, []admissionv1.ValidationAction{admissionv1.Deny}) {
			t.Errorf("%s: the binding is %+v", file, binding.Spec)
		}
		checker := validating.TypeChecker{SchemaResolver: schemas{}, RestMapper: mapper()}
		for _, warning := range checker.Check(policy) {
			t.Errorf("%s: %s: %s", file, warning.FieldRef, warning.Warning)
		}
		// The library drops what it finds in variables and leaves out conditions.
		var parts []string
		for _, v := range policy.Spec.Variables {
			parts = append(parts, v.Expression)
		}
		for _, c := range policy.Spec.MatchConditions {
			parts = append(parts, c.Expression)
		}
		types := checker.CreateContext(policy)
		for _, part := range parts {
			for _, result := range checker.CheckExpression(types, part) {
				t.Errorf("%s: %s: %s", file, part, result)
			}
		}
		wrong := []string{"object.spec.nonsense == 1", "variables." + policy.Spec.Variables[0].Name + " == 1", "variables.nonsense"}
		if policy.Spec.ParamKind != nil {
			wrong = append(wrong, "params.spec.nonsense == 1")
		}
		for _, part := range wrong {
			if len(checker.CheckExpression(types, part)) == 0 {
				t.Errorf("%s: the type check accepts %s", file, part)
			}
		}
		for _, v := range policy.Spec.Variables {
			if v.Name == "problems" {
				problems = append(problems, v.Expression)
			}
		}
	}
	if len(problems) != 2 || problems[0] != problems[1] {
		t.Error("the two policies have different rules")
	}
}

// The examples pass unchanged after envsubst.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../deploy/examples/*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var objects, classes []*unstructured.Unstructured
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		expanded := os.Expand(string(text), func(name string) string {
			if name == "NAMESPACE" {
				return namespace
			}
			if strings.HasPrefix(name, "OTHER_") {
				return "fabrikam"
			}
			return "contoso"
		})
		for _, document := range strings.Split(expanded, "\n---\n") {
			u := new(unstructured.Unstructured)
			if err := yaml.Unmarshal([]byte(document), &u.Object); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			switch kind := u.GroupVersionKind(); {
			case kind == classKind:
				classes = append(classes, u)
				objects = append(objects, u)
			case kind == podKind:
				objects = append(objects, u)
			case u.GetKind() == "Deployment":
				spec, _, err := unstructured.NestedMap(u.Object, "spec", "template", "spec")
				if err != nil {
					t.Fatalf("%s: %v", file, err)
				}
				p := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
				p.SetGroupVersionKind(podKind)
				p.SetNamespace(u.GetNamespace())
				p.SetName(u.GetName() + "-0")
				objects = append(objects, p)
			}
		}
	}
	if len(classes) == 0 || len(objects) < 2*len(classes) {
		t.Fatalf("%d classes, %d objects", len(classes), len(objects))
	}
	s := start(t, classes...)
	for _, o := range objects {
		if err := s.apply(o, nil); err != nil {
			t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
}

// The expressions compile with what the oldest supported API server knows, 1.30.
func TestOldServer(t *testing.T) {
	for _, file := range slices.Concat(advice, enforce) {
		policy, _ := policies(t, file)
		compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(version.MajorMinor(1, 30)))
		if err != nil {
			t.Fatal(err)
		}
		options := cel.OptionalVariableDeclarations{HasParams: policy.Spec.ParamKind != nil, HasAuthorizer: true}
		for _, v := range policy.Spec.Variables {
			if r := compiler.CompileAndStoreVariable(&validating.Variable{Name: v.Name, Expression: v.Expression}, options, environment.NewExpressions); r.Error != nil {
				t.Errorf("%s: %s: %v", file, v.Name, r.Error)
			}
		}
		for _, c := range policy.Spec.MatchConditions {
			if r := compiler.CompileCELExpression(&validating.ValidationCondition{Expression: c.Expression}, options, environment.NewExpressions); r.Error != nil {
				t.Errorf("%s: %s: %v", file, c.Name, r.Error)
			}
		}
		for _, v := range policy.Spec.Validations {
			for _, accessor := range []cel.ExpressionAccessor{
				&validating.ValidationCondition{Expression: v.Expression},
				&validating.MessageExpressionCondition{MessageExpression: v.MessageExpression},
			} {
				if r := compiler.CompileCELExpression(accessor, options, environment.NewExpressions); r.Error != nil {
					t.Errorf("%s: %v", file, r.Error)
				}
			}
		}
	}
}

// The kustomizations apply every file of their folder.
func TestKustomization(t *testing.T) {
	for _, folder := range []string{"../../deploy/policy", "../../deploy/policy/enforce"} {
		text, err := os.ReadFile(folder + "/kustomization.yaml")
		if err != nil {
			t.Fatal(err)
		}
		var k struct{ Resources []string }
		if err := yaml.Unmarshal(text, &k); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(folder + "/*.yaml")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if name := filepath.Base(file); name != "kustomization.yaml" && !slices.Contains(k.Resources, name) {
				t.Errorf("%s is not applied", file)
			}
		}
		if len(files) != len(k.Resources)+1 {
			t.Errorf("%s: %d resources of %d files", folder, len(k.Resources), len(files))
		}
	}
}
