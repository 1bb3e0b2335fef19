package watch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// inCluster are the samples of a cluster among those of others, without the line with the interval.
func inCluster(cluster string, nodes []node) string {
	_, samples, _ := strings.Cut(series(nodes), "\n")
	return strings.ReplaceAll(samples, "{", fmt.Sprintf("{cluster=%q,", cluster))
}

// One Prometheus of many clusters, such as Azure Monitor's, judges each cluster separately, and the
// alert says which.
func TestAlertsByCluster(t *testing.T) {
	broken := healthy()
	broken.starts = map[string]float64{"Timeout": 5}
	broken.requests = map[string]float64{"429": 1}
	broken.open = 30
	dark := healthy()
	dark.dark = true
	got := firing(t, "load 1m\n"+inCluster("small", []node{broken, {never: true}})+inCluster("large", slices.Repeat([]node{healthy()}, 40))+
		// Its nodes run, and kube-state-metrics says so, but nothing scrapes them.
		inCluster("dark", []node{dark, dark})+
		// Nor are those of a new cluster scraped, which no PodMonitor selects.
		inCluster("new", []node{{never: true}}))
	want := []string{
		"AkvCsiAbsent dark", "AkvCsiAbsent new",
		"AkvCsiMountsFail small Timeout", "AkvCsiMountsRefused small Timeout",
		"AkvCsiNodeDown dark node-0", "AkvCsiNodeDown dark node-1",
		"AkvCsiNodesWithoutProvider new akv-csi-provider", "AkvCsiNodesWithoutProvider small akv-csi-provider",
		"AkvCsiServiceUnavailable small keyvault", "AkvCsiThrottled small keyvault",
	}
	if !slices.Equal(got, want) {
		t.Errorf("fires\n%q, want\n%q", got, want)
	}
}

// The alert about missing pods knows the DaemonSets by their names: in the file by the chart's, and
// in what the chart renders, which e2e/chart tests, by those of the release.
func TestNamesOfDaemonSets(t *testing.T) {
	missing := series([]node{healthy(), {never: true}})
	for _, c := range []struct {
		rendered, daemonset string
		fires               bool
	}{
		{"", "akv-csi-provider-windows", true},
		{"", "prod-akv-csi-provider", true},
		{"", "secrets.azure", false},
		{"secrets[.]azure(-windows)?", "secrets.azure", true},
		{"secrets[.]azure(-windows)?", "secrets.azure-windows", true},
		{"secrets[.]azure(-windows)?", "akv-csi-provider", false},
	} {
		all := alertRules(t)
		for i := range all {
			if c.rendered != "" {
				all[i].Expr = strings.ReplaceAll(all[i].Expr, ".*akv-csi-provider.*", c.rendered)
			}
		}
		var want []string
		if c.fires {
			want = []string{"AkvCsiNodesWithoutProvider " + c.daemonset}
		}
		got := firingOf(t, all, strings.ReplaceAll(missing, `daemonset="akv-csi-provider"`, fmt.Sprintf("daemonset=%q", c.daemonset)))
		if !slices.Equal(got, want) {
			t.Errorf("%+v: fires %q", c, got)
		}
	}
}

// A rolling update takes longer in a cluster of many nodes than a provider may be missing, and is no
// fault while it makes progress. Azure's managed Prometheus does not collect how many nodes are
// updated, unless it is configured to: then "updated" is empty.
func TestRollout(t *testing.T) {
	const nodes = 10
	for name, c := range map[string]struct {
		updated, ready string
		want           bool
	}{
		"one node after the other, two hours long": {"10x20 1+0.08x112 10x50", "10x20 9x112 10x50", false},
		"three at a time":                          {"10x20 3+0.08x80 10x80", "10x20 7x80 10x80", false},
		"stuck at its first node":                  {"10x20 1x160", "10x20 9x160", true},
		"stuck at its fifth node":                  {"10x20 1+0.4x10 5x150", "10x20 9x160", true},
		"a node without provider after it":         {"10x20 1+0.8x10 10x150", "10x20 9x160", true},
		"nodes come and go, one is broken":         {strings.Repeat("10x4 11x4 ", 18), strings.Repeat("9x4 10x4 ", 18), true},

		"not counted, 33 minutes":              {"", "10x20 9x33 10x126", false},
		"not counted, stuck at its first node": {"", "10x20 9x160", true},
		"not counted, stuck at its fifth node": {"", "10x20 9x160", true},
	} {
		all := slices.Repeat([]node{healthy()}, nodes)
		for i := range all {
			switch {
			case strings.HasSuffix(name, "33 minutes"), strings.HasSuffix(name, "fifth node") && i < 4:
				all[i].updated = 21 + 3*i
			}
		}
		data := series(all)
		change := func(metric, samples string) {
			old := fmt.Sprintf("  kube_daemonset_status_%s{namespace=\"kube-system\",daemonset=\"akv-csi-provider\"} 10x180\n", metric)
			changed := ""
			if samples != "" {
				changed = strings.TrimSuffix(old, "10x180\n") + samples + "\n"
			}
			if !strings.Contains(data, old) {
				t.Fatalf("no samples of %s", metric)
			}
			data = strings.Replace(data, old, changed, 1)
		}
		change("updated_number_scheduled", c.updated)
		change("number_ready", c.ready)
		if strings.HasPrefix(name, "nodes come") {
			change("desired_number_scheduled", c.updated)
		}
		var want []string
		if c.want {
			want = []string{"AkvCsiNodesWithoutProvider akv-csi-provider"}
		}
		if got := firing(t, data); !slices.Equal(got, want) {
			t.Errorf("%s: fires %q, want %q", name, got, want)
		}
	}
}
