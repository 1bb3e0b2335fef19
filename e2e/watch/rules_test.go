package watch

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/fault"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
)

// alertRules are those of the chart.
func alertRules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy/chart/files/alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	groups, errs := rulefmt.Parse(text, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	var all []rulefmt.Rule
	for _, g := range groups.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// node is a node of a case: what its plugin counts in each minute. The zero value is a node with
// 50 pods that neither starts any nor serves anything.
type node struct {
	starts    map[string]float64 // by reason, each minute
	stuck     map[string]int     // pods that wait from the second hour on, by reason
	rotations map[string]float64 // by result
	slow      bool               // starts take 30 s, else 50 ms
	requests  map[string]float64 // to Key Vault, by code
	open      float64            // seconds of each minute in which the circuit of Key Vault is open
	stale     float64
	oldest    string  // age of the oldest rotation, in the notation of promtool; "" is 2 minutes
	expiring  string  // certificates that expire in 7 days, in the same notation; "" is none
	dropped   float64 // lines of the audit log
	gone      bool    // its provider stops after half an hour: the target is down
	dark      bool    // after half an hour Prometheus cannot reach its provider, which is ready
	never     bool    // it has no provider's pod that could be scraped
	updated   int     // the minute in which its provider is replaced; 0 is never
}

// healthy is a node on which pods start and secrets are rotated.
func healthy() node {
	return node{starts: map[string]float64{"ok": 2}, rotations: map[string]float64{"unchanged": 25, "changed": 0.1}, requests: map[string]float64{"200": 30}}
}

// series are the samples of a cluster, one a minute, as promtool's tests have them.
func series(nodes []node) string {
	var b strings.Builder
	b.WriteString("load 1m\n")
	ready := 0
	for i, n := range nodes {
		where := fmt.Sprintf(`job="monitoring/akv-csi-provider",namespace="kube-system",node="node-%d",instance="10.0.0.%d:8898"`, i, i)
		last := 180
		if n.gone || n.dark {
			last = 30
		}
		counter := func(name, labels string, each float64) {
			fmt.Fprintf(&b, "  %s{%s,%s} 0+%vx%d\n", name, where, labels, each, last)
		}
		if n.never {
			continue
		}
		up := "1x180"
		if last < 180 {
			up = "1x30 0x149"
		}
		if !n.gone {
			ready++
		}
		fmt.Fprintf(&b, "  up{%s} %s\n  akv_csi_build_info{%s,version=\"1\"} 1x%d\n", where, up, where, last)
		fmt.Fprintf(&b, "  process_start_time_seconds{%s} %s\n", where, starts(n.updated, last))
		fmt.Fprintf(&b, "  akv_csi_oldest_rotation_age_seconds{%s} %s\n", where, cmp.Or(n.oldest, "120x180"))
		fmt.Fprintf(&b, "  akv_csi_certificates_expiring{%s,within=\"7d\"} %s\n", where, cmp.Or(n.expiring, "0x180"))
		for reason, pods := range n.stuck {
			fmt.Fprintf(&b, "  akv_csi_mount_duration_seconds_count{%s,operation=\"start\",reason=%q} %s\n", where, reason, retries(pods))
		}
		for reason, each := range n.starts {
			mount := fmt.Sprintf(`operation="start",reason=%q`, reason)
			counter("akv_csi_mount_duration_seconds_count", mount, each)
			if reason != "ok" {
				continue // the alerts query no buckets of failures
			}
			for _, le := range []string{"0.1", "1", "10", "30", "60", "+Inf"} {
				fits := each
				if n.slow && (le == "0.1" || le == "1" || le == "10") {
					fits = 0
				}
				counter("akv_csi_mount_duration_seconds_bucket", mount+fmt.Sprintf(",le=%q", le), fits)
			}
		}
		for result, each := range n.rotations {
			counter("akv_csi_rotations_total", fmt.Sprintf("result=%q", result), each)
		}
		for code, each := range n.requests {
			counter("akv_csi_azure_request_duration_seconds_count", fmt.Sprintf(`service="keyvault",operation="get_secret",code=%q`, code), each)
		}
		counter("akv_csi_circuit_open_seconds_total", `service="keyvault"`, n.open)
		counter("akv_csi_object_reads_total", `source="stale"`, n.stale)
		counter("akv_csi_log_lines_dropped_total", `log="audit"`, n.dropped)
	}
	for name, n := range map[string]int{"desired_number_scheduled": len(nodes), "updated_number_scheduled": len(nodes), "number_ready": ready} {
		fmt.Fprintf(&b, "  kube_daemonset_status_%s{namespace=\"kube-system\",daemonset=\"akv-csi-provider\"} %dx180\n", name, n)
	}
	return b.String()
}

// starts are when a provider's process started: long ago, until it is replaced in a minute.
func starts(minute, last int) string {
	if minute == 0 {
		return fmt.Sprintf("-86400x%d", last)
	}
	return fmt.Sprintf("-86400x%d %dx%d", minute-1, 60*minute, last-minute)
}

// retries are the failed mounts of pods on one node since the second hour began, one sample a
// minute. kubelet retries each with back-off: after 0.5 s, then twice as long, up to 2m2s.
func retries(pods int) string {
	const longest = 122
	failures, next, pause := 0, 0.0, 0.5
	text := "_x60"
	for minute := range 120 {
		for next <= float64(minute*60) {
			failures += pods
			next += pause
			pause = min(2*pause, longest)
		}
		text += fmt.Sprintf(" %d", failures)
	}
	return text
}

// firing are the alerts that fire in three hours of the cluster, each with the labels that say
// where or why.
func firing(t *testing.T, data string) []string {
	t.Helper()
	return firingOf(t, alertRules(t), data)
}

func firingOf(t *testing.T, all []rulefmt.Rule, data string) []string {
	t.Helper()
	storage := promqltest.LoadedStorage(t, data)
	query := rules.EngineQueryFunc(promqltest.NewTestEngine(t, false, 0, 1_000_000), storage)
	found := map[string]bool{}
	for _, r := range all {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(r.Expr)
		if err != nil {
			t.Fatal(err)
		}
		rule := rules.NewAlertingRule(r.Alert, expr, time.Duration(r.For), 0, labels.FromMap(r.Labels), labels.FromMap(r.Annotations), labels.EmptyLabels(), "", true, slog.New(slog.DiscardHandler))
		for minute := 0; minute < 180; minute += 2 {
			if _, err := rule.Eval(t.Context(), 0, time.Unix(int64(minute)*60, 0), query, nil, 0); err != nil {
				t.Fatalf("%s: %v", r.Alert, err)
			}
			for _, a := range rule.ActiveAlerts() {
				if a.State != rules.StateFiring {
					continue
				}
				text := r.Alert
				for _, name := range []string{"cluster", "reason", "service", "node", "log", "daemonset"} {
					if value := a.Labels.Get(name); value != "" {
						text += " " + value
					}
				}
				found[text] = true
				a.Annotations.Range(func(l labels.Label) {
					if strings.Contains(l.Value, "error expanding") || strings.Contains(l.Value, "<no value>") {
						t.Errorf("%s: %s: %s", r.Alert, l.Name, l.Value)
					}
				})
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// Each case fires the alerts that it should, and no other.
func TestAlertCases(t *testing.T) {
	cluster := func(change ...func(*node)) []node {
		nodes := []node{healthy(), healthy(), healthy(), healthy()}
		for i, f := range change {
			f(&nodes[i])
		}
		return nodes
	}
	every := func(f func(*node)) []func(*node) { return []func(*node){f, f, f, f} }
	for name, c := range map[string]struct {
		nodes []node
		want  []string
	}{
		"healthy": {nodes: cluster()},
		// kubelet repeats the mount of one pod every two minutes.
		"one typo": {nodes: cluster(func(n *node) { n.starts["ObjectNotFound"] = 0.5 }), want: []string{"AkvCsiMountsRefused ObjectNotFound"}},
		"a role that is missing": {nodes: cluster(func(n *node) {
			n.rotations["failed"], n.oldest = 0.5, "120+60x180"
		}), want: []string{"AkvCsiRotationOverdue node-0"}},
		"one dead node":          {nodes: cluster(func(n *node) { n.gone = true }), want: []string{"AkvCsiNodesWithoutProvider akv-csi-provider", "AkvCsiNodeDown node-0"}},
		"a node without a pod":   {nodes: cluster(func(n *node) { n.never = true }), want: []string{"AkvCsiNodesWithoutProvider akv-csi-provider"}},
		"a typo on a quiet node": {nodes: []node{{starts: map[string]float64{"InvalidParameter": 0.5}}}, want: []string{"AkvCsiMountsRefused InvalidParameter"}},
		"vault down": {nodes: cluster(every(func(n *node) {
			n.starts = map[string]float64{"ServiceUnavailable": 1}
			n.rotations = map[string]float64{"failed": 25}
			n.requests = map[string]float64{"503": 5}
			n.open, n.oldest = 55, "120+60x180"
		})...), want: []string{"AkvCsiMountsFail ServiceUnavailable", "AkvCsiMountsRefused ServiceUnavailable", "AkvCsiRotationOverdue node-0", "AkvCsiRotationOverdue node-1", "AkvCsiRotationOverdue node-2", "AkvCsiRotationOverdue node-3",
			"AkvCsiRotationsFail node-0", "AkvCsiRotationsFail node-1", "AkvCsiRotationsFail node-2", "AkvCsiRotationsFail node-3", "AkvCsiServiceUnavailable keyvault"}},
		// The rotations of all pods fail from the start of the plugin on, which has mounted none of their volumes.
		"vault down when a node's plugin restarts": {nodes: cluster(func(n *node) {
			*n = node{starts: map[string]float64{"ServiceUnavailable": 25}, requests: map[string]float64{"503": 5}, open: 55, oldest: "0+60x180"}
		}), want: []string{"AkvCsiMountsFail ServiceUnavailable", "AkvCsiMountsRefused ServiceUnavailable", "AkvCsiRotationOverdue node-0"}},
		// The circuit of its vault is open for half of the time, that of the others is not.
		"one of many vaults throttles": {nodes: cluster(every(func(n *node) {
			n.starts["Throttled"], n.requests["429"], n.open = 0.1, 3, 30
		})...), want: []string{"AkvCsiMountsRefused Throttled", "AkvCsiThrottled keyvault"}},
		"one of many vaults is down": {nodes: cluster(every(func(n *node) {
			n.starts["Timeout"], n.requests["error"], n.rotations["failed"], n.open = 0.1, 3, 2, 50
		})...), want: []string{"AkvCsiMountsRefused Timeout"}},
		"vault down, with stale values": {nodes: cluster(every(func(n *node) {
			n.open, n.stale, n.requests = 55, 2, map[string]float64{"503": 5}
		})...), want: []string{"AkvCsiServiceUnavailable keyvault",
			"AkvCsiStaleValues node-0", "AkvCsiStaleValues node-1", "AkvCsiStaleValues node-2", "AkvCsiStaleValues node-3"}},
		"throttled":     {nodes: cluster(every(func(n *node) { n.requests["429"] = 3 })...), want: []string{"AkvCsiThrottled keyvault"}},
		"a few 429":     {nodes: cluster(func(n *node) { n.requests["429"] = 0.1 })},
		"slow":          {nodes: cluster(every(func(n *node) { n.slow = true })...), want: []string{"AkvCsiMountsSlow"}},
		"a bug":         {nodes: cluster(func(n *node) { n.starts["Internal"] = 0.01 }), want: []string{"AkvCsiBug node-0"}},
		"a certificate": {nodes: cluster(func(n *node) { n.expiring = "1x180" }), want: []string{"AkvCsiCertificatesExpire node-0"}},
		// Driver 1.5 calls for each volume once in its poll interval, here every 40 minutes.
		"a certificate between long intervals": {nodes: cluster(func(n *node) {
			n.expiring = strings.Repeat("0x24 1x14 ", 5)
		}), want: []string{"AkvCsiCertificatesExpire node-0"}},
		"full disk":   {nodes: cluster(func(n *node) { n.dropped = 2 }), want: []string{"AkvCsiLogLinesDropped node-0 audit"}},
		"no provider": {nodes: []node{{never: true}}, want: []string{"AkvCsiAbsent", "AkvCsiNodesWithoutProvider akv-csi-provider"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slices.Sort(c.want)
			if got := firing(t, series(c.nodes)); !slices.Equal(got, c.want) {
				t.Errorf("fires %q, want %q", got, c.want)
			}
		})
	}
}

// The alerts name no reason that does not exist. TestManyPodsPage has those that do.
func TestReasonsOfAlerts(t *testing.T) {
	list := regexp.MustCompile(`reason(?:=|!=|=~|!~)"([A-Za-z|]+)"`)
	known := []string{"ok"}
	for _, r := range fault.Reasons {
		known = append(known, string(r.Reason))
	}
	found := 0
	for _, r := range alertRules(t) {
		for _, m := range list.FindAllStringSubmatch(r.Expr, -1) {
			for reason := range strings.SplitSeq(m[1], "|") {
				if found++; !slices.Contains(known, reason) {
					t.Errorf("%s: unknown reason %s", r.Alert, reason)
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("%d reasons", found)
	}
}

// Each alert names its entry in TROUBLESHOOTING.md, and each entry has an alert.
func TestRunbooks(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "deploy/TROUBLESHOOTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Alerts\n")
	section, _, _ = strings.Cut(section, "\n## ")
	entries := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^### (\S+)$`).FindAllStringSubmatch(section, -1) {
		entries[m[1]] = true
	}
	for _, r := range alertRules(t) {
		if want := "TROUBLESHOOTING.md#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want || !entries[r.Alert] {
			t.Errorf("%s: runbook_url %q, want %q; its entry exists: %v", r.Alert, r.Annotations["runbook_url"], want, entries[r.Alert])
		}
		delete(entries, r.Alert)
	}
	if len(entries) > 0 {
		t.Errorf("entries of no alert: %v", entries)
	}
}
