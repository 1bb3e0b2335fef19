package chart_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const hardened = "testdata/hardened.golden"

func TestHardenedRendering(t *testing.T) {
	text, err := helm(t, "--values=../../deploy/values-hardened.yaml", "--set=linux.image.repository=registry.example/akv-csi-provider")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, hardened, text, "if this is meant: cd e2e && HELM=$PWD/../bin/helm go test ./chart -update")
}

// The hardened values close what the default leaves open.
func TestHardened(t *testing.T) {
	sets, _ := objects(t, hardened)
	c := sets["akv-csi-provider"].Spec.Template.Spec.Containers[0]
	for _, want := range []string{
		"--identity-modes=workload-identity,identity-binding",
		"--managed-identity-namespaces=kube-system",
		"--strict-objects=true",
		"--audit-log=stdout",
		"--log-format-json=true",
		"--bind-address=127.0.0.1",
	} {
		if !slices.Contains(c.Args, want) {
			t.Errorf("no %s in %q", want, c.Args)
		}
	}
	if slices.Contains(c.Args, "--enable-pprof=true") {
		t.Error("profiles are on")
	}
	plain, _ := objects(t, "testdata/plain.golden")
	for _, arg := range plain["akv-csi-provider"].Spec.Template.Spec.Containers[0].Args {
		for _, flag := range []string{"--identity-modes", "--managed-identity-namespaces", "--bind-address", "--audit-log"} {
			if strings.HasPrefix(arg, flag) {
				t.Errorf("%s is the default: say so in the values and in SECURITY.md", arg)
			}
		}
	}
	checkSecurityContext(t, hardened, c.SecurityContext)
	if limit, request := c.Resources.Limits.Memory(), c.Resources.Requests.Memory(); limit.IsZero() || !limit.Equal(*request) {
		t.Errorf("memory: limit %s, request %s", limit, request)
	}
}

// After the values of the replaced chart, the hardened ones leave nothing of what they set.
func TestHardenedAfterPeer(t *testing.T) {
	image := "--set=linux.image.repository=registry.example/akv-csi-provider,linux.image.tag=dev"
	text, err := helm(t, "--values=testdata/peer.yaml", "--values=../../deploy/values-hardened.yaml", image)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "after-peer.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	sets, _ := objects(t, file)
	want, _ := objects(t, hardened)
	got, alone := sets["akv-csi-provider"].Spec.Template.Spec.Containers[0], want["akv-csi-provider"].Spec.Template.Spec.Containers[0]
	if !reflect.DeepEqual(got.Resources, alone.Resources) || !slices.Equal(got.Args, alone.Args) {
		t.Errorf("%+v, %q", got.Resources, got.Args)
	}
}

// Flux makes the files of valuesFiles the values of the chart. What is null there stays.
func TestHardenedAsChartValues(t *testing.T) {
	chart := copyChart(t)
	if err := os.WriteFile(filepath.Join(chart, "values.yaml"), []byte(read(t, "../../deploy/values-hardened.yaml")), 0o644); err != nil {
		t.Fatal(err)
	}
	text, err := render(t, chart, "--set=linux.image.repository=registry.example/akv-csi-provider")
	if err != nil || text != read(t, hardened) {
		t.Errorf("%v, another rendering than with Helm:\n%s", err, text)
	}
}

// checkSecurityContext fails the test if the container may do more than it needs.
func checkSecurityContext(t *testing.T, file string, s *corev1.SecurityContext) {
	t.Helper()
	if s == nil || *s.Privileged || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || *s.RunAsUser != 0 ||
		len(s.Capabilities.Add) > 0 || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) ||
		s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s: may do more than it needs: %+v", file, s)
	}
}
