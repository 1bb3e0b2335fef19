package policy_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/component-base/metrics/legacyregistry"
	"sigs.k8s.io/yaml"
)

// audited records what the admission plugin writes into the audit log.
type audited struct {
	admission.Attributes
	annotations map[string]string
}

func (a audited) AddAnnotation(key, value string) error {
	a.annotations[key] = value
	return nil
}

// The overlay changes only the actions of all bindings. With these, nothing is rejected, and what
// would be is where the README says.
func TestAudit(t *testing.T) {
	text, err := os.ReadFile("../../deploy/policy/audit/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var overlay struct {
		APIVersion, Kind string
		Resources        []string
		Patches          []struct {
			Target struct{ Kind string }
			Patch  string
		}
	}
	if err := yaml.UnmarshalStrict(text, &overlay); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(overlay.Resources, []string{"../enforce"}) || len(overlay.Patches) != 1 || overlay.Patches[0].Target.Kind != "ValidatingAdmissionPolicyBinding" {
		t.Fatalf("%+v", overlay)
	}
	var changes []struct {
		Op, Path string
		Value    []admissionv1.ValidationAction
	}
	if err := yaml.UnmarshalStrict([]byte(overlay.Patches[0].Patch), &changes); err != nil {
		t.Fatal(err)
	}
	if len(changes) != 1 || changes[0].Op != "replace" || changes[0].Path != "/spec/validationActions" {
		t.Fatalf("%+v", changes)
	}
	s := startActing(t, changes[0].Value, enforce, allowing(remove, remove))
	object := pod(driver, map[string]string{"secretProviderClass": "web", "keyvaultName": "kv-x"})
	a := audited{admission.NewAttributesRecord(object, nil, podKind, namespace, "web", resources[podKind], "",
		admission.Create, nil, false, &user.DefaultInfo{Name: "replicaset-controller"}), map[string]string{}}
	if err := s.plugin.Validate(t.Context(), a, admission.NewObjectInterfacesFromScheme(scheme.Scheme)); err != nil {
		t.Errorf("rejected: %v", err)
	}
	readme, err := os.ReadFile("../../deploy/policy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	if len(a.annotations) != 1 {
		t.Errorf("annotations %v", a.annotations)
	}
	for key, value := range a.annotations {
		if !strings.Contains(string(readme), "`"+key+"`") || !strings.Contains(value, "remove keyvaultName from volumeAttributes") {
			t.Errorf("%s: %s", key, value)
		}
	}
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := false
	for _, family := range families {
		if !strings.Contains(string(readme), "grep "+family.GetName()+" ") {
			continue
		}
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range metric.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			counted = counted || labels["enforcement_action"] == "audit" && strings.HasSuffix(labels["policy"], "akv-csi-provider-enforce-pods")
		}
	}
	if !counted {
		t.Error("the API server does not count it as the README says")
	}
}
