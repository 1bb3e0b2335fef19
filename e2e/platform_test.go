package e2e_test

import (
	"encoding/json"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/itchyny/gojq"
)

// chartWord is a chart as the commands of the documents name it: of a repository, or a file.
var chartWord = regexp.MustCompile(`(?m)\bhelm (?:upgrade --install|install|pull|template) (?:\S+ )??(([a-z][-a-z0-9]*)/[a-z][-a-z0-9]*|\S+\.tgz)(?: |$)`)

// chartMistakes are the charts of a document's commands that cannot be found when they are needed:
// of a repository that was not added before, a file that was not pulled, and after a removal of the
// driver any chart that is not on this machine yet.
func chartMistakes(text string) (mistakes []string, charts int) {
	added, pulled, removed := map[string]bool{"deploy": true}, map[string]bool{}, false
	for _, m := range shell.FindAllStringSubmatch(text, -1) {
		block := regexp.MustCompile(`\\\n *`).ReplaceAllString(m[2], "")
		for line := range strings.Lines(block) {
			line = strings.TrimSpace(line)
			if repo := regexp.MustCompile(`^helm repo add (\S+) `).FindStringSubmatch(line); repo != nil {
				added[repo[1]] = true
			}
			if strings.HasPrefix(line, "helm uninstall ") || strings.Contains(line, " disable-addons ") {
				removed = true
			}
			if pull := regexp.MustCompile(`^helm pull (\S+) --version (\S+)`).FindStringSubmatch(line); pull != nil {
				pulled[path.Base(pull[1])+"-"+pull[2]+".tgz"] = true
			}
			found := chartWord.FindStringSubmatch(line)
			if found == nil {
				continue
			}
			charts++
			switch chart, repo := found[1], found[2]; {
			case repo == "" && !pulled[chart]:
				mistakes = append(mistakes, chart+" was not pulled")
			case repo != "" && !added[repo]:
				mistakes = append(mistakes, repo+" was not added")
			case repo != "" && repo != "deploy" && removed:
				mistakes = append(mistakes, chart+" is fetched after the removal")
			}
		}
	}
	return mistakes, charts
}

// A command that needs a chart comes after those that fetch it, and no driver is removed before
// everything that replaces it has been fetched.
func TestChartsAreFetchedBefore(t *testing.T) {
	charts := 0
	for where, text := range documents(t) {
		mistakes, n := chartMistakes(text)
		charts += n
		for _, m := range mistakes {
			t.Errorf("%s: %s", where, m)
		}
	}
	if charts < 10 {
		t.Errorf("%d charts", charts)
	}
	for text, want := range map[string]int{
		"helm upgrade --install d repo/driver -n x":                                                                      1,
		"helm repo add repo https://x\nhelm upgrade --install d repo/driver -n x":                                        0,
		"helm repo add repo https://x\nhelm uninstall d\nhelm upgrade --install d \\\n  repo/driver -n x":                1,
		"helm uninstall d\nhelm upgrade --install d driver-1.0.0.tgz -n x":                                               1,
		"helm repo add repo https://x\nhelm pull repo/driver --version 1.0.0\nhelm upgrade --install d driver-1.0.0.tgz": 0,
	} {
		if mistakes, _ := chartMistakes("```sh\n" + text + "\n```\n"); len(mistakes) != want {
			t.Errorf("%q: %q", text, mistakes)
		}
	}
}

// The commands that show what a chart warns of, for those who never see its notes, and the page of
// migration renders the chart before it removes anything.
func TestDryRunIsDocumented(t *testing.T) {
	for _, page := range []string{"README.md", "MOVING.md", "gitops/README.md"} {
		text := read(t, "../deploy/"+page)
		dry := strings.Index(text, "--dry-run=client")
		if dry < 0 {
			t.Errorf("%s: no dry run", page)
		}
		if page == "MOVING.md" && dry > strings.Index(text, "\n   helm uninstall ") {
			t.Errorf("%s: removes the old release before the dry run", page)
		}
	}
}

// queryOf runs a page's jq program for the output of one kubectl command.
func queryOf(t *testing.T, page, kinds, contains, input string) []string {
	t.Helper()
	var program string
	for _, m := range regexp.MustCompile(`(?s)kubectl get `+kinds+` -A -o json \| jq -r '(.*?)'\n`).FindAllStringSubmatch(read(t, page), -1) {
		if strings.Contains(m[1], contains) {
			program = m[1]
		}
	}
	parsed, err := gojq.Parse(program)
	if program == "" || err != nil {
		t.Fatalf("%s: no query: %v", page, err)
	}
	var value any
	if err := json.Unmarshal([]byte(input), &value); err != nil {
		t.Fatal(err)
	}
	var got []string
	for iter := parsed.Run(value); ; {
		v, ok := iter.Next()
		if !ok {
			return got
		}
		line, ok := v.(string)
		if !ok {
			t.Fatalf("%s: %v", page, v)
		}
		got = append(got, line)
	}
}

const workloadKinds = "pods,deployments,statefulsets,daemonsets,jobs,cronjobs"

// workloads are objects with a volume of each kind, in the depth of their kind.
const workloads = `{"kind": "List", "items": [
 {"kind": "Pod", "metadata": {"namespace": "shop", "name": "plain"}, "spec": {"volumes": [{"emptyDir": {}},
  {"csi": {"driver": "secrets-store.csi.k8s.io", "volumeAttributes": {"secretProviderClass": "web"}}}]}},
 {"kind": "Deployment", "metadata": {"namespace": "shop", "name": "overrides"}, "spec": {"template": {"spec": {"volumes": [
  {"csi": {"driver": "secrets-store.csi.k8s.io", "volumeAttributes": {"secretProviderClass": "web", "keyvaultName": "kv-x", "clientID": ""}}}]}}}},
 {"kind": "CronJob", "metadata": {"namespace": "shop", "name": "principal"}, "spec": {"jobTemplate": {"spec": {"template": {"spec": {"volumes": [
  {"csi": {"driver": "secrets-store.csi.k8s.io", "volumeAttributes": {"secretProviderClass": "web"}, "nodePublishSecretRef": {"name": "creds"}}}]}}}}}},
 {"kind": "StatefulSet", "metadata": {"namespace": "shop", "name": "node"}, "spec": {"template": {"spec": {"volumes": [
  {"csi": {"driver": "secrets-store.csi.k8s.io", "volumeAttributes": {"secretProviderClass": "web", "useVMManagedIdentity": "true"}}}]}}}},
 {"kind": "Pod", "metadata": {"namespace": "shop", "name": "disk"}, "spec": {"volumes": [
  {"csi": {"driver": "disk.csi.azure.com", "volumeAttributes": {"a": "b"}, "nodePublishSecretRef": {"name": "creds"}}}]}},
 {"kind": "Pod", "metadata": {"namespace": "shop", "name": "bare"}, "spec": {}}]}`

// The queries before the policies and the hardened values find what these reject, and nothing else.
func TestQueriesBeforeRestrictions(t *testing.T) {
	const policy, operator = "../deploy/policy/README.md", "../deploy/README.md"
	class := func(name, provider string, parameters map[string]string) string {
		text, err := json.Marshal(map[string]any{"metadata": map[string]any{"namespace": "shop", "name": name}, "spec": map[string]any{"provider": provider, "parameters": parameters}})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	classes := `{"items": [` + strings.Join([]string{
		class("plain", "azure", map[string]string{"keyvaultName": "kv-shop", "clientID": "c", "objects": "[{objectName: a}]"}),
		class("node", "azure", map[string]string{"keyvaultName": "kv-shop", "useVMManagedIdentity": " True\n"}),
		class("not-node", "azure", map[string]string{"keyvaultName": "kv-shop", "useVMManagedIdentity": "false"}),
		class("vaults", "azure", map[string]string{"failoverKeyvaultName": "kv-b", "objects": "- {objectName: a, KeyVaultName: kv-x}"}),
		class("escape", "azure", map[string]string{"keyvaultName": "kv-shop", "objects": `- {"keyv\x61ultName": kv-x}`}),
		class("tag", "azure", map[string]string{"keyvaultName": "kv-shop", "objects": `- !!binary a2V5`}),
		class("other", "vault", map[string]string{"useVMManagedIdentity": "true", "objects": "vaultName"}),
		class("bare", "azure", nil),
	}, ",") + `]}`
	for _, test := range []struct {
		page, kinds, contains, input string
		want                         []string
	}{
		{policy, workloadKinds, "$overrides", workloads, []string{
			"Deployment\tshop/overrides\tweb\tclientID,keyvaultName\t", "CronJob\tshop/principal\tweb\t\tcreds",
			"StatefulSet\tshop/node\tweb\tuseVMManagedIdentity\t",
		}},
		{operator, workloadKinds, "useVMManagedIdentity", workloads, []string{"CronJob\tshop/principal\tweb\tcreds", "StatefulSet\tshop/node\tweb\t"}},
		{policy, "secretproviderclasses", "$names", classes, []string{
			"shop/plain\tkv-shop\t\t\tc\t\t", "shop/node\tkv-shop\t\t\t\t True\\n\t", "shop/not-node\tkv-shop\t\t\t\tfalse\t",
			"shop/vaults\t\tkv-b\tnames vaults\t\t\t", "shop/escape\tkv-shop\t\tnames vaults\t\t\t", "shop/tag\tkv-shop\t\tnames vaults\t\t\t", "shop/bare\t\t\t\t\t\t",
		}},
		{operator, "secretproviderclasses", "useVMManagedIdentity", classes, []string{"shop/node"}},
	} {
		if got := queryOf(t, test.page, test.kinds, test.contains, test.input); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.page, got, test.want)
		}
	}
}

// The documented charts of the driver install on every version of Kubernetes that is supported.
func TestDriverCharts(t *testing.T) {
	minimum := func(chart string) string {
		m := regexp.MustCompile(`(?m)^kubeVersion: ">=(1\.\d+)\.`).FindStringSubmatch(read(t, chart))
		if m == nil {
			t.Fatalf("%s has no kubeVersion", chart)
		}
		return m[1]
	}
	of := func(module string) string {
		list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/secrets-store-csi-driver")
		list.Dir = module
		out, err := list.Output()
		if err != nil {
			t.Fatal(err)
		}
		return minimum(filepath.Join(strings.TrimSpace(string(out)), "charts", "secrets-store-csi-driver", "Chart.yaml"))
	}
	minor := func(version string) int {
		n, err := strconv.Atoi(strings.TrimPrefix(version, "1."))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	newest, older, ours := of("."), of("drivers/v1.5"), minimum("../deploy/chart/Chart.yaml")
	if minor(older) > minor(ours) {
		t.Errorf("the older driver needs Kubernetes %s, ours supports %s", older, ours)
	}
	for _, page := range []string{"README.md", "VERSIONS.md"} {
		text := read(t, "../deploy/"+page)
		if !strings.Contains(text, "requires Kubernetes "+newest+" or newer") || !strings.Contains(strings.ToLower(text), "below "+newest) {
			t.Errorf("%s does not say that the newest driver needs Kubernetes %s", page, newest)
		}
	}
	for _, v := range regexp.MustCompile(`--version (1\.5\.\d+) `).FindAllStringSubmatch(read(t, "../deploy/README.md"), -1) {
		if !slices.Contains(olderDrivers(t), v[1]) {
			t.Errorf("driver %s is not tested", v[1])
		}
	}
}
