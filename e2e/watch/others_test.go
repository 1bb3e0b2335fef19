package watch

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"go.yaml.in/yaml/v3"
)

// section returns what is below a heading of the second level.
func section(t *testing.T, text, heading string) string {
	t.Helper()
	_, after, ok := strings.Cut(text, "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("no section %s", heading)
	}
	found, _, _ := strings.Cut(after, "\n## ")
	return found
}

// selectors are the metrics of a query.
func selectors(t *testing.T, query string) (names []string) {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		t.Fatal(err)
	}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			names = append(names, s.Name)
		}
		return nil
	})
	return names
}

// The document lists each metric that the alerts and the dashboard need and the plugin does not serve,
// with what needs it, and the keep list of Azure's agent has those that it does not collect by default.
func TestMetricsOfOthers(t *testing.T) {
	needed := map[string]map[string]bool{}
	need := func(by, query string) {
		for _, name := range selectors(t, query) {
			if family(name) != nil {
				continue
			}
			if needed[name] == nil {
				needed[name] = map[string]bool{}
			}
			needed[name][by] = true
		}
	}
	for _, r := range alertRules(t) {
		need(r.Alert, r.Expr)
	}
	for _, query := range panels(t) {
		need("dashboard", strings.ReplaceAll(query, "$__rate_interval", "5m"))
	}
	text, err := os.ReadFile(filepath.Join(root, "deploy/METRICS.md"))
	if err != nil {
		t.Fatal(err)
	}
	listed, keep := map[string]string{}, []string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| [^|]+ \\| ([^|]+) \\| (yes|no) \\|$").FindAllStringSubmatch(section(t, string(text), "Metrics of others"), -1) {
		listed[row[1]] = strings.ReplaceAll(row[2], "`", "")
		if row[3] == "no" {
			keep = append(keep, row[1])
		}
	}
	want := map[string]string{}
	for name, by := range needed {
		want[name] = strings.Join(slices.Sorted(maps.Keys(by)), ", ")
	}
	if !maps.Equal(listed, want) || len(want) < 4 {
		t.Errorf("listed are\n%q, want\n%q", listed, want)
	}
	if line := fmt.Sprintf("\nkubestate = %q\n", strings.Join(keep, "|")); !strings.Contains(string(text), line) {
		t.Errorf("no line %s", line)
	}
}

// panels are the queries of the dashboard, with variables that match everything.
func panels(t *testing.T) (queries []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy/chart/files/dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			queries = append(queries, target.Expr)
		}
	}
	return queries
}

// The inhibition rules name alerts that exist, and labels that both alerts have with equal values
// where they report the same.
func TestInhibition(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "deploy/TROUBLESHOOTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(inhibit_rules:\n.*?)```").FindStringSubmatch(string(text))
	if block == nil {
		t.Fatal("no inhibition rules")
	}
	var config struct {
		Rules []struct {
			Source []string `yaml:"source_matchers"`
			Target []string `yaml:"target_matchers"`
			Equal  []string
		} `yaml:"inhibit_rules"`
	}
	if err := yaml.Unmarshal([]byte(block[1]), &config); err != nil || len(config.Rules) != 2 {
		t.Fatalf("%d rules, %v", len(config.Rules), err)
	}
	down, fails := healthy(), healthy()
	down.gone = true
	fails.starts = map[string]float64{"Timeout": 5}
	broken := healthy()
	broken.starts = map[string]float64{"AccessDenied": 5}
	data := "load 1m\n" + inCluster("down", []node{down, healthy()}) + inCluster("fails", []node{fails, fails}) + inCluster("broken", []node{broken})
	for i, rule := range config.Rules {
		sources, targets := activeOf(t, data, rule.Source), activeOf(t, data, rule.Target)
		if len(targets) == 0 {
			t.Errorf("rule %d: no alert %s", i, rule.Target)
		}
		for _, target := range targets {
			if !slices.ContainsFunc(sources, func(source labels.Labels) bool {
				for _, name := range rule.Equal {
					if source.Get(name) == "" || source.Get(name) != target.Get(name) {
						return false
					}
				}
				return true
			}) {
				t.Errorf("rule %d: no source of %v has equal %q: %v", i, target, rule.Equal, sources)
			}
		}
	}
}

// activeOf are the labels of the alerts that an Alertmanager's matcher of their names selects, at the end
// of two hours.
func activeOf(t *testing.T, data string, matchers []string) (found []labels.Labels) {
	t.Helper()
	names := regexp.MustCompile(`^alertname=~?"([A-Za-z|]+)"$`).FindStringSubmatch(strings.Join(matchers, " "))
	if names == nil {
		t.Fatalf("%q", matchers)
	}
	storage, known := promqltest.LoadedStorage(t, data), 0
	engine := promqltest.NewTestEngine(t, false, 0, 1_000_000)
	for _, r := range alertRules(t) {
		if !slices.Contains(strings.Split(names[1], "|"), r.Alert) {
			continue
		}
		known++
		query, err := engine.NewInstantQuery(t.Context(), storage, nil, r.Expr, time.Unix(2*60*60, 0))
		if err != nil {
			t.Fatal(err)
		}
		result, err := query.Exec(t.Context()).Vector()
		if err != nil {
			t.Fatal(err)
		}
		for _, sample := range result {
			found = append(found, sample.Metric)
		}
		query.Close()
	}
	if known != strings.Count(names[1], "|")+1 {
		t.Errorf("%d of the alerts %s exist", known, names[1])
	}
	return found
}
