package chart_test

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"sigs.k8s.io/yaml"
)

// documentedKeys is how many values the replaced chart documents.
const documentedKeys = 96

// The table of MOVING.md has every value that the replaced chart documents, and no other, and
// the chart renders them all.
func TestPeerValues(t *testing.T) {
	var values map[string]any
	if err := yaml.Unmarshal([]byte(read(t, "testdata/peer.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	keys := flatten("", values)
	if len(keys) != documentedKeys {
		t.Errorf("%d keys, want %d", len(keys), documentedKeys)
	}
	_, table, _ := strings.Cut(read(t, "../../deploy/MOVING.md"), "\n| key of the other chart |")
	table, _, _ = strings.Cut(table, "\n\n")
	var patterns []string
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		if len(cells) < 4 || strings.HasPrefix(cells[1], "-") || strings.HasPrefix(cells[1], " not documented") {
			continue
		}
		if len(strings.TrimSpace(cells[2])) < 8 {
			t.Errorf("hardly a meaning: %s", row)
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			patterns = append(patterns, m[1])
		}
	}
	used := make(map[string]bool)
	for _, key := range keys {
		found := slices.IndexFunc(patterns, func(p string) bool { ok, err := path.Match(p, key); return ok && err == nil })
		if found < 0 {
			t.Errorf("MOVING.md does not have %s", key)
			continue
		}
		used[patterns[found]] = true
	}
	for _, p := range patterns {
		if !used[p] {
			t.Errorf("MOVING.md has %s, which the other chart does not", p)
		}
	}
}

// flatten lists the keys of values as the replaced chart documents them: objects of Kubernetes
// are one value.
func flatten(above string, values map[string]any) []string {
	var keys []string
	for name, value := range values {
		below, ok := value.(map[string]any)
		if ok && len(below) > 0 && !slices.Contains(free, name) {
			keys = append(keys, flatten(above+name+".", below)...)
		} else {
			keys = append(keys, above+name)
		}
	}
	return keys
}

// With its defaults, nothing of the replaced chart changes what the provider does.
func TestPeerRendering(t *testing.T) {
	sets, kinds := objects(t, "testdata/peer.golden")
	plain, _ := objects(t, "testdata/plain.golden")
	if len(sets) != 1 || kinds["ServiceAccount"] != 1 {
		t.Fatalf("%v", kinds)
	}
	pod, want := sets["akv-csi-provider"].Spec.Template.Spec, plain["akv-csi-provider"].Spec.Template.Spec
	if got := pod.Containers[0]; !slices.Equal(got.Args, want.Containers[0].Args) || got.SecurityContext.Privileged == nil || *got.SecurityContext.Privileged {
		t.Errorf("%q, %v", got.Args, got.SecurityContext)
	}
	if pod.DNSPolicy != want.DNSPolicy || pod.Volumes[0].HostPath.Path != want.Volumes[0].HostPath.Path {
		t.Errorf("DNS %s, %v", pod.DNSPolicy, pod.Volumes)
	}
}

// Those of its values that have a meaning here are not only accepted.
func TestPeerMeaning(t *testing.T) {
	for _, test := range []struct {
		set  string
		want []string
	}{
		{"metricsAddr=9898", []string{`"--prometheus-port=9898"`, "containerPort: 9898"}},
		{"metricsAddr=:9898,linux.metricsAddr=:9797", []string{`"--prometheus-port=9797"`, "containerPort: 9797"}},
		{"metricsAddr=0", []string{`"--prometheus-port=0"`}},
		{"linux.healthzPort=9898", []string{`"--healthz-port=9898"`, "containerPort: 9898"}},
		{"linux.dnsPolicy=Default", []string{"dnsPolicy: " + string(corev1.DNSDefault) + "\n"}},
		{"logVerbosity=5", []string{`"--v=5"`}},
		{"linux.privileged=true", []string{"privileged: false"}},
		{"rbac.install=false", []string{"serviceAccountName: default\n"}},
		{"rbac.install=false,serviceAccount.name=csi-secrets-store-provider-azure", []string{"serviceAccountName: csi-secrets-store-provider-azure\n"}},
		{"enableArcExtension=true,arc.enableMonitoring=true,Azure.proxySettings.isProxyEnabled=true", nil},
	} {
		for _, set := range []string{"--set=", "--set-string="} { // their documentation quotes some numbers
			if set == "--set-string=" && strings.Contains(test.set, "=true") || set == "--set-string=" && strings.Contains(test.set, "=false") {
				continue
			}
			text, err := helm(t, "--values=testdata/peer.yaml", set+test.set)
			if err != nil {
				t.Errorf("%s%s: %v", set, test.set, err)
			}
			for _, want := range test.want {
				if !strings.Contains(text, want) {
					t.Errorf("%s%s: no %q", set, test.set, want)
				}
			}
			if strings.Contains(test.set, "rbac.install=false") && strings.Contains(text, "kind: ServiceAccount\nmetadata") {
				t.Errorf("%s: creates a ServiceAccount", test.set)
			}
		}
	}
}
