package policy_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const driver = "secrets-store.csi.k8s.io"

// allowing is the namespace with an annotation for each of the two, unless it is remove.
func allowing(vaults, modes string) *corev1.Namespace {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Annotations: map[string]string{}}}
	for name, value := range map[string]string{"akv-csi-provider/vaults": vaults, "akv-csi-provider/identity-modes": modes} {
		if value != remove {
			n.Annotations[name] = value
		}
	}
	return n
}

// refused fails the test unless the verdict is as expected: none, or one with the words.
func refused(t *testing.T, verdict error, want string) {
	t.Helper()
	switch {
	case want == "" && verdict != nil:
		t.Errorf("refused: %v", verdict)
	case want != "" && (verdict == nil || !strings.Contains(verdict.Error(), want)):
		t.Errorf("got %v, want %q", verdict, want)
	}
}

func TestEnforceClasses(t *testing.T) {
	const noVault, noMode = "is not allowed to use vault", "is not allowed to use identity mode"
	for _, test := range []struct {
		vaults, modes string
		change        []string
		want          string
	}{
		{"kv-contoso", remove, nil, ""},
		{"kv-fabrikam, KV-Contoso ,kv-x", remove, []string{"keyvaultName", " kv-CONTOSO\n"}, ""},
		{"*", remove, nil, ""},
		{remove, remove, nil, `namespace shop is not allowed to use vault "kv-contoso"; cluster operator: add it`},
		{"", remove, nil, noVault},
		{"*", remove, []string{"keyvaultName", remove}, "keyvaultName: missing"},
		{"*", remove, []string{"keyvaultName", remove, "objects", "[{objectName: a, objectType: secret, keyvaultName: kv-x}]"}, ""},
		{"kv-contoso", remove, []string{"keyvaultName", remove}, "keyvaultName: missing"},
		{"kv-contoso,", remove, []string{"keyvaultName", " "}, "keyvaultName: missing"},
		{"kv-contoso-2", remove, nil, noVault},
		{"kv-contoso", remove, []string{"keyvaultName", "kv-contoso,kv-fabrikam"}, noVault},
		{"kv-contoso", remove, []string{"keyvaultName", strings.Repeat("k", 200)}, strings.Repeat("k", 64) + "…"},

		{"kv-contoso, kv-west", remove, []string{"failoverKeyvaultName", " KV-West\n"}, ""},
		{"kv-contoso", remove, []string{"failoverKeyvaultName", " "}, ""},
		{"kv-contoso", remove, []string{"failoverKeyvaultName", "kv-west"}, `failoverKeyvaultName: namespace shop is not allowed to use vault "kv-west"; cluster operator: add it`},
		{"kv-contoso", remove, []string{"failoverKeyvaultName", strings.Repeat("w", 200)}, strings.Repeat("w", 64) + "…"},
		{"*", remove, []string{"failoverKeyvaultName", "kv-west"}, ""},

		{"*", remove, []string{"clientID", remove}, ""},
		{"*", remove, []string{"useAzureTokenProxy", "TRUE"}, ""},
		{"*", remove, []string{"useVMManagedIdentity", " t "}, noMode + " managed-identity; cluster operator: add it"},
		{"*", remove, []string{"useVMManagedIdentity", "0"}, ""},
		{"*", "workload-identity, managed-identity", []string{"useVMManagedIdentity", "1"}, ""},
		{"*", "managed-identity", nil, noMode + " workload-identity;"},
		{"*", "managed-identity", []string{"clientID", " "}, noMode + " workload-identity or service-principal;"},
		{"*", "service-principal", []string{"clientID", remove}, ""},
		{"*", "service-principal", nil, noMode + " workload-identity;"},
		{"*", "workload-identity", []string{"useAzureTokenProxy", "true"}, noMode + " identity-binding;"},
		{"*", "", nil, noMode},
	} {
		t.Run(fmt.Sprintf("%q, %q, %q", test.vaults, test.modes, test.change), func(t *testing.T) {
			s := startWith(t, enforce, allowing(test.vaults, test.modes))
			refused(t, s.apply(class("azure", with(sound, test.change...)), nil), test.want)
		})
	}
}

// The policy and the provider agree on the identity mode of a class, however its booleans are written.
func TestEnforceModes(t *testing.T) {
	s := startWith(t, enforce, allowing("*", "workload-identity"))
	agreed := 0
	for _, parameter := range []string{"useVMManagedIdentity", "useAzureTokenProxy"} {
		for _, value := range []string{
			"1", "t", "T", "true", "True", "TRUE", " true\n", "\u00a0T\u2003", "0", "f", "F", "false", "False", "FALSE", "", " ", "\v0\f",
		} {
			c := class("azure", with(sound, parameter, value))
			m, err := parse(t, c, nil)
			if err != nil {
				t.Errorf("%s: %q: %v", parameter, value, err)
				continue
			}
			want := ""
			switch {
			case m.Identity.UseVMManagedIdentity:
				want = "is not allowed to use identity mode managed-identity"
			case m.Identity.UseAzureTokenProxy:
				want = "is not allowed to use identity mode identity-binding"
			}
			if want != "" {
				agreed++
			}
			refused(t, s.apply(c, nil), want)
		}
	}
	if agreed != 16 {
		t.Errorf("%d spellings turn a mode on", agreed)
	}
}

func TestEnforcePods(t *testing.T) {
	bare := map[string]string{"secretProviderClass": "web"}
	ref := func(p *unstructured.Unstructured) *unstructured.Unstructured {
		volumes, _, err := unstructured.NestedSlice(p.Object, "spec", "volumes")
		if err != nil {
			t.Fatal(err)
		}
		volumes[1].(map[string]any)["csi"].(map[string]any)["nodePublishSecretRef"] = map[string]any{"name": "creds"}
		if err := unstructured.SetNestedSlice(p.Object, volumes, "spec", "volumes"); err != nil {
			t.Fatal(err)
		}
		return p
	}
	const noOverride, noPrincipal = "may not override parameters", "is not allowed to use identity mode service-principal"
	for _, test := range []struct {
		name, modes string
		pod         *unstructured.Unstructured
		want        string
	}{
		{"names a class", remove, pod(driver, bare), ""},
		{"overrides a vault", remove, pod(driver, with(bare, "keyvaultName", "kv-fabrikam")), "volume secrets: remove keyvaultName from volumeAttributes; pods " + noOverride},
		{"overrides the objects", "service-principal", pod(driver, with(bare, "objects", list)), noOverride},
		{"overrides with nothing", remove, pod(driver, with(bare, "clientID", "")), noOverride},
		{"something unknown", remove, pod(driver, with(bare, "note", "x")), noOverride},
		{"a secret", remove, ref(pod(driver, bare)), "nodePublishSecretRef: namespace shop " + noPrincipal},
		{"a secret, where it is allowed", "workload-identity, service-principal", ref(pod(driver, bare)), ""},
		{"a secret and overrides", "service-principal", ref(pod(driver, with(bare, "tenantID", "adfs"))), noOverride},
		{"another driver", remove, ref(pod("disk.csi.azure.com", with(bare, "keyvaultName", "x"))), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Without a vault: the classes' business.
			refused(t, startWith(t, enforce, allowing(remove, test.modes)).apply(test.pod, nil), test.want)
		})
	}
}

// Everything that is not the policies' business passes, in a namespace that allows nothing.
func TestEnforceLeavesOthers(t *testing.T) {
	nothing := allowing(remove, remove)
	nothing.Annotations = nil
	broken := class("azure", with(sound, "keyvaultName", "k"))
	labelled := broken.DeepCopy()
	labelled.SetFinalizers([]string{"contoso.example/keep"})
	noVolumes := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"containers": []any{}}}}
	noVolumes.SetGroupVersionKind(podKind)
	noVolumes.SetNamespace(namespace)
	noVolumes.SetName("bare")
	many := noVolumes.DeepCopy()
	var volumes []any
	for i := range 5_000 {
		volumes = append(volumes, map[string]any{"name": fmt.Sprintf("v%d", i), "emptyDir": map[string]any{}})
	}
	if err := unstructured.SetNestedSlice(many.Object, volumes, "spec", "volumes"); err != nil {
		t.Fatal(err)
	}
	s := startWith(t, enforce, nothing)
	for name, object := range map[string]*unstructured.Unstructured{
		"class of another provider": class("vault", with(sound, "keyvaultName", "k")),
		"pod without volumes":       noVolumes,
		"pod with many volumes":     many,
		"pod of another driver":     pod("disk.csi.azure.com", map[string]string{"keyvaultName": "x"}),
		"pod without attributes":    pod(driver, nil),
	} {
		if err := s.apply(object, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.apply(labelled, broken); err != nil {
		t.Errorf("old class with a new finalizer: %v", err)
	}
	if err := s.apply(class("azure", with(sound, "keyvaultName", "x")), broken); err == nil {
		t.Error("a change of an old class passes")
	}

	nothing.Labels = map[string]string{exempted: "exempt"}
	s = startWith(t, enforce, nothing)
	for _, object := range []*unstructured.Unstructured{class("azure", sound), pod(driver, map[string]string{"keyvaultName": "x"})} {
		if err := s.apply(object, nil); err != nil {
			t.Errorf("%s of an exempt namespace: %v", object.GetKind(), err)
		}
	}
}

// The namespaces of the GitOps examples may use their vault, with the annotations that the examples give them.
func TestEnforceGitOps(t *testing.T) {
	for file, fields := range map[string][]string{
		"argocd/apps/classes.yaml": {"spec", "syncPolicy", "managedNamespaceMetadata", "annotations"},
		"flux/kustomizations.yaml": {"metadata", "annotations"},
	} {
		text, err := os.ReadFile("../../deploy/gitops/" + file)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for document := range strings.SplitSeq(string(text), "\n---\n") {
			var object map[string]any
			if err := yaml.Unmarshal([]byte(document), &object); err != nil {
				t.Fatal(err)
			}
			annotations, ok, err := unstructured.NestedStringMap(object, fields...)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				continue
			}
			found++
			s := startWith(t, enforce, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Annotations: annotations}})
			refused(t, s.apply(class("azure", with(sound, "keyvaultName", "kv-shop")), nil), "")
			refused(t, s.apply(class("azure", sound), nil), "is not allowed to use vault")
		}
		if found != 1 {
			t.Errorf("%s: %d namespaces with annotations", file, found)
		}
	}
}
