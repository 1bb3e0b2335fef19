package e2e_test

import (
	"cmp"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
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
	switch object := into.(type) {
	case *corev1.Pod:
		checkRestricted(t, where, object.Spec)
	case *appsv1.Deployment:
		checkRestricted(t, where, object.Spec.Template.Spec)
	}
}

// checkRestricted checks that a namespace with the Pod Security level "restricted" accepts a pod. The
// README shows only what a volume needs.
func checkRestricted(t *testing.T, where string, pod corev1.PodSpec) {
	t.Helper()
	if where == "../README.md" {
		return
	}
	shared := cmp.Or(pod.SecurityContext, new(corev1.PodSecurityContext))
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		own := cmp.Or(c.SecurityContext, new(corev1.SecurityContext))
		root := cmp.Or(own.RunAsNonRoot, shared.RunAsNonRoot)
		seccomp := cmp.Or(own.SeccompProfile, shared.SeccompProfile)
		escalation, capabilities := own.AllowPrivilegeEscalation, own.Capabilities
		if root == nil || !*root || seccomp == nil || seccomp.Type != corev1.SeccompProfileTypeRuntimeDefault ||
			escalation == nil || *escalation || capabilities == nil || !slices.Contains(capabilities.Drop, "ALL") {
			t.Errorf("%s: container %s is rejected where Pod Security is restricted", where, c.Name)
		}
	}
}

// A file that only root reads, or its group, says so: containers that are not root cannot open it.
func TestFileModes(t *testing.T) {
	texts := documents(t)
	files, err := filepath.Glob("../deploy/examples/*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		texts[file] = read(t, file)
	}
	mode := regexp.MustCompile(`filePermission: "?0?[0-7][0-7]([0-7])\b`)
	found := 0
	for where, text := range texts {
		for line := range strings.Lines(text) {
			if m := mode.FindStringSubmatch(line); m != nil && m[1] < "4" {
				found++
				if _, comment, _ := strings.Cut(line, " #"); !strings.Contains(comment, "root") {
					t.Errorf("%s: does not say who can read it: %s", where, line)
				}
			}
		}
	}
	if found == 0 {
		t.Error("no file has a mode")
	}
}
