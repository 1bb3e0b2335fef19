// Package chart_test checks the Helm chart against the plugin: its flags, its ports, and
// what it says of trust and proxies.
//
// The renderings in testdata are compared with the chart by make chart, which has Helm;
// all other tests read them and need no Helm.
package chart_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/e2e/plugin"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

const folder = "../../deploy/chart"

var (
	update = flag.Bool("update", false, "write what Helm renders instead of comparing it")
	binary string // the plugin
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(plugin.Built(func(built string) int {
		binary = built
		return m.Run()
	}))
}

// golden compares the text with the file's, or writes it there.
func golden(t *testing.T, file, text, fix string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text == string(want) {
		return
	}
	got, old := strings.Split(text, "\n"), strings.Split(string(want), "\n")
	for i := range got {
		if i >= len(old) || got[i] != old[i] {
			t.Errorf("%s is stale from line %d on, %q; %s", file, i+1, got[i], fix)
			return
		}
	}
	t.Errorf("%s is longer than what Helm renders; %s", file, fix)
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRenderings(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files of values, %v", len(files), err)
	}
	for _, values := range files {
		t.Run(strings.TrimSuffix(filepath.Base(values), ".yaml"), func(t *testing.T) {
			text, err := helm(t, append(operator, "--values="+values)...)
			if err != nil {
				t.Fatal(err)
			}
			// Alerts and dashboard have separate tests, and are left out of what is
			// compared. Grafana's templates must come through as they are.
			if named := regexp.MustCompile(`\n  name: (\S+)-dashboard\n`).FindStringSubmatch(text); named != nil {
				file := strings.ReplaceAll(read(t, folder+"/files/dashboard.json"), ".*akv-csi-provider.*", named[1]+"(-windows)?")
				lines := strings.Split(strings.TrimSpace(file), "\n")
				content := "    " + strings.Join(lines, "\n    ")
				if strings.Count(text, content) != 1 {
					t.Error("files/dashboard.json is there with other changes than the names of the DaemonSets")
				}
				text = strings.Replace(text, content, "    # files/dashboard.json", 1)
			}
			text = rules.ReplaceAllString(text, "$1  # files/alerts.yaml\n$2")
			golden(t, strings.TrimSuffix(values, ".yaml")+".golden", text,
				"if this is meant: cd e2e && HELM=$PWD/../bin/helm go test ./chart -update")
		})
	}
}

var (
	// operator has Helm assume the Prometheus operator's kinds, in the API of either vendor.
	operator = []string{
		"--api-versions=monitoring.coreos.com/v1/PrometheusRule", "--api-versions=monitoring.coreos.com/v1/PodMonitor",
		"--api-versions=azmonitoring.coreos.com/v1/PodMonitor",
	}
	rules = regexp.MustCompile(`(?s)(\nkind: PrometheusRule\n.*?\nspec:\n).*?\n(---\n|$)`)
	// helms are labels that only Helm's own objects should have: it adopts objects by them.
	helms = regexp.MustCompile(`(?m)^ +(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n`)
)

// manifests are the files of deploy/manifests and how they are rendered.
var manifests = map[string][]string{
	"rbac.yaml":              {"--show-only=templates/rbac.yaml"},
	"daemonset.yaml":         {"--show-only=templates/daemonset.yaml"},
	"windows/daemonset.yaml": {"--show-only=templates/daemonset-windows.yaml", "--set=windows.enabled=true,windows.image.repository=akv-csi-provider"},
}

func TestManifests(t *testing.T) {
	for file, args := range manifests {
		t.Run(file, func(t *testing.T) {
			text, err := helm(t, append(args, "--set=linux.image.repository=akv-csi-provider")...)
			if err != nil {
				t.Fatal(err)
			}
			text = regexp.MustCompile(`\n*---\n# Source: .*\n`).ReplaceAllString("\n"+text, "\n---\n")
			text = helms.ReplaceAllString(text, "")
			text = "# Rendered from deploy/chart by make manifests; do not edit." + strings.TrimRight(text, "\n") + "\n"
			golden(t, "../../deploy/manifests/"+file, text, "run make manifests")
		})
	}
}

// The kustomization has all of them but those for Windows.
func TestKustomization(t *testing.T) {
	var k struct{ Resources []string }
	if err := yaml.Unmarshal([]byte(read(t, "../../deploy/manifests/kustomization.yaml")), &k); err != nil {
		t.Fatal(err)
	}
	for file := range manifests {
		read(t, "../../deploy/manifests/"+file)
		if want := !strings.HasPrefix(file, "windows/"); slices.Contains(k.Resources, file) != want {
			t.Errorf("%s: there: %v", file, !want)
		}
	}
	if len(k.Resources) != len(manifests)-1 {
		t.Errorf("resources %v", k.Resources)
	}
}

// objects reads a rendering; of kinds that Kubernetes has itself, every field must be
// one that it knows.
func objects(t *testing.T, file string) (sets map[string]*appsv1.DaemonSet, kinds map[string]int) {
	t.Helper()
	sets, kinds = make(map[string]*appsv1.DaemonSet), make(map[string]int)
	for _, text := range regexp.MustCompile(`(?m)^---\n`).Split(read(t, file), -1) {
		var head struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := yaml.Unmarshal([]byte(text), &head); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		var into any
		switch head.Kind {
		case "":
			continue // comments
		case "DaemonSet":
			set := new(appsv1.DaemonSet)
			sets[head.Metadata.Name], into = set, set
		case "ServiceAccount":
			into = new(corev1.ServiceAccount)
		case "ClusterRole":
			into = new(rbacv1.ClusterRole)
		case "ClusterRoleBinding":
			into = new(rbacv1.ClusterRoleBinding)
		case "ConfigMap":
			into = new(corev1.ConfigMap)
		case "NetworkPolicy":
			into = new(networkingv1.NetworkPolicy)
		case "PodMonitor", "PrometheusRule": // the operator's
			into = new(map[string]any)
		default:
			t.Fatalf("%s: what is a %s?", file, head.Kind)
		}
		kinds[head.Kind]++
		if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
			t.Errorf("%s: %s: %v", file, head.Kind, err)
		}
		if role, ok := into.(*rbacv1.ClusterRole); ok {
			if r := role.Rules; len(r) != 1 || fmt.Sprint(r[0].APIGroups, r[0].Resources, r[0].Verbs) != "[] [serviceaccounts] [get]" {
				t.Errorf("%s: more than get serviceaccounts: %v", file, r)
			}
		}
	}
	return sets, kinds
}

// rendered are all files with rendered objects.
func rendered(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d renderings, %v", len(files), err)
	}
	for file := range manifests {
		files = append(files, "../../deploy/manifests/"+file)
	}
	return files
}

// The plugin takes every argument list.
func TestArguments(t *testing.T) {
	lists := 0
	for _, file := range rendered(t) {
		sets, _ := objects(t, file)
		for name, set := range sets {
			lists++
			args := append(set.Spec.Template.Spec.Containers[0].Args, "--version")
			if out, err := exec.Command(binary, args...).CombinedOutput(); err != nil {
				t.Errorf("%s: %s: %v: %s", file, name, err, out)
			}
		}
	}
	if lists < 6 {
		t.Errorf("%d argument lists", lists)
	}
}

func TestContainer(t *testing.T) {
	for _, file := range []string{"testdata/plain.golden", "../../deploy/manifests/daemonset.yaml"} {
		sets, _ := objects(t, file)
		pod := sets["akv-csi-provider"].Spec.Template.Spec
		c := pod.Containers[0]
		checkSecurityContext(t, file, c.SecurityContext)
		if !pod.HostNetwork || pod.DNSPolicy != corev1.DNSClusterFirstWithHostNet || pod.PriorityClassName != "system-node-critical" {
			t.Errorf("%s: network %v, DNS %s, priority %s", file, pod.HostNetwork, pod.DNSPolicy, pod.PriorityClassName)
		}
		if l, r := c.LivenessProbe.HTTPGet, c.ReadinessProbe.HTTPGet; l.Path != "/healthz" || r.Path != "/readyz" || l.Port.StrVal != "healthz" || r.Port != l.Port {
			t.Errorf("%s: probes %v, %v", file, l, r)
		}
		if len(pod.Volumes) != 1 || pod.Volumes[0].HostPath.Path != "/var/run/secrets-store-csi-providers" || c.VolumeMounts[0].MountPath != "/provider" {
			t.Errorf("%s: volumes %v at %v", file, pod.Volumes, c.VolumeMounts)
		}
	}
}

// Where the plugin listens on one address, the probes go there.
func TestProbeHost(t *testing.T) {
	for file, want := range map[string]string{"testdata/plain.golden": "", "testdata/everything.golden": "127.0.0.1"} {
		sets, _ := objects(t, file)
		for name, set := range sets {
			c := set.Spec.Template.Spec.Containers[0]
			if l, r := c.LivenessProbe.HTTPGet.Host, c.ReadinessProbe.HTTPGet.Host; l != want || r != want {
				t.Errorf("%s: %s: probes of %q and %q, want %q", file, name, l, r, want)
			}
		}
	}
}

// Each system's DaemonSet has its own pods, and each switch makes its objects.
func TestSwitches(t *testing.T) {
	sets, kinds := objects(t, "testdata/windows.golden")
	linux, windows := sets["akv-csi-provider"], sets["akv-csi-provider-windows"]
	if fmt.Sprint(linux.Spec.Selector) == fmt.Sprint(windows.Spec.Selector) {
		t.Error("both DaemonSets select the same pods")
	}
	if c := windows.Spec.Template.Spec.Containers[0]; c.LivenessProbe != nil || c.ReadinessProbe != nil || len(c.Ports) > 0 || c.SecurityContext != nil {
		t.Errorf("Windows, where no port is open: %v", c)
	}
	if p := linux.Spec.Template.Spec; p.HostNetwork || p.DNSPolicy != "" || p.ServiceAccountName != "created-elsewhere" {
		t.Errorf("network %v, DNS %q, account %s", p.HostNetwork, p.DNSPolicy, p.ServiceAccountName)
	}
	if fmt.Sprint(kinds) != "map[DaemonSet:2 NetworkPolicy:1]" {
		t.Errorf("of two systems: %v", kinds)
	}
	_, kinds = objects(t, "testdata/plain.golden")
	if fmt.Sprint(kinds) != "map[ClusterRole:1 ClusterRoleBinding:1 DaemonSet:1 ServiceAccount:1]" {
		t.Errorf("by default: %v", kinds)
	}
	_, kinds = objects(t, "testdata/everything.golden")
	if fmt.Sprint(kinds) != "map[ClusterRole:1 ClusterRoleBinding:1 ConfigMap:1 DaemonSet:1 PodMonitor:1 PrometheusRule:1 ServiceAccount:1]" {
		t.Errorf("everything: %v", kinds)
	}
}
