package e2e_test

import (
	"testing"

	"go.yaml.in/yaml/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	classv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
	strictyaml "sigs.k8s.io/yaml"
)

// checkFields checks that a manifest has only fields that the API server knows, where it is
// of a kind that the examples use.
func checkFields(t *testing.T, where string, doc *yaml.Node) {
	t.Helper()
	var kind struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
	}
	if doc.Decode(&kind) != nil {
		return // not a manifest
	}
	into := map[string]any{
		"v1/Pod": new(corev1.Pod), "v1/ServiceAccount": new(corev1.ServiceAccount),
		"v1/Secret": new(corev1.Secret), "v1/Service": new(corev1.Service),
		"apps/v1/Deployment":                                new(appsv1.Deployment),
		"apps/v1/DaemonSet":                                 new(appsv1.DaemonSet),
		"networking.k8s.io/v1/Ingress":                      new(networkingv1.Ingress),
		"rbac.authorization.k8s.io/v1/ClusterRole":          new(rbacv1.ClusterRole),
		"storage.k8s.io/v1/CSIDriver":                       new(storagev1.CSIDriver),
		"rbac.authorization.k8s.io/v1/ClusterRoleBinding":   new(rbacv1.ClusterRoleBinding),
		"secrets-store.csi.x-k8s.io/v1/SecretProviderClass": new(classv1.SecretProviderClass),
	}[kind.APIVersion+"/"+kind.Kind]
	if into == nil {
		return
	}
	text, err := yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	if err := strictyaml.UnmarshalStrict(text, into); err != nil {
		t.Errorf("%s: %s: %v", where, kind.Kind, err)
	}
}
