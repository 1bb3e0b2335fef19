package chart_test

import (
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/provider/cloud"

	"sigs.k8s.io/yaml"
)

type alertFile struct {
	Groups []struct {
		Name  string
		Rules []alertRule
	}
}

type alertRule struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

// alerts are the rules that the chart renders.
func alerts(t *testing.T, args ...string) alertFile {
	t.Helper()
	text, err := helm(t, slices.Concat(operator, []string{"--values=testdata/plain.yaml", "--set=prometheusRule.enabled=true", "--show-only=templates/monitoring.yaml"}, args)...)
	if err != nil {
		t.Fatal(err)
	}
	var rule struct{ Spec alertFile }
	if err := yaml.Unmarshal([]byte(text), &rule); err != nil {
		t.Fatal(err)
	}
	return rule.Spec
}

// The chart's alerts are those of files/alerts.yaml, but for what the values change.
func TestAlerts(t *testing.T) {
	var want alertFile
	var runbooks [][]string
	const anyName, ownName = `daemonset=~".*akv-csi-provider.*"`, `daemonset=~"akv-csi-provider(-windows)?"`
	file := read(t, folder+"/files/alerts.yaml")
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(file, anyName, ownName)), &want); err != nil {
		t.Fatal(err)
	}
	for _, group := range want.Groups {
		var links []string
		for _, rule := range group.Rules {
			links = append(links, rule.Annotations["runbook_url"])
			delete(rule.Annotations, "runbook_url") // a relative link, which leads nowhere
		}
		runbooks = append(runbooks, links)
	}
	if got := alerts(t); !reflect.DeepEqual(got, want) {
		t.Errorf("by default:\n%+v\nwant\n%+v", got, want)
	}
	for _, base := range []string{"https://docs.example/akv", "https://docs.example/akv/"} {
		for g, group := range alerts(t, "--set=prometheusRule.runbookBaseURL="+base).Groups {
			for r, rule := range group.Rules {
				if got, want := rule.Annotations["runbook_url"], "https://docs.example/akv/"+runbooks[g][r]; got != want || !strings.Contains(got, ".md#") {
					t.Errorf("%s: runbook_url %q, want %q", rule.Alert, got, want)
				}
			}
		}
	}
	// Each alert with a threshold takes another one, and each can be turned off alone.
	ends := regexp.MustCompile(`> [0-9.]+$`)
	thresholds := 0
	change := func(name, key, value string) string {
		return "--set=prometheusRule.alerts." + name + "." + key + "=" + value
	}
	changes := []string{"--set=prometheusRule.alertLabels.team=platform,prometheusRule.alertLabels.severity=x"}
	var off [2][]string // every other one
	for g := range want.Groups {
		for r := range want.Groups[g].Rules {
			rule := &want.Groups[g].Rules[r]
			off[r%2] = append(off[r%2], change(rule.Alert, "enabled", "false"))
			changes = append(changes, change(rule.Alert, "for", "7m"), change(rule.Alert, "labels.severity", "page"))
			if ends.MatchString(rule.Expr) {
				thresholds++
				changes = append(changes, change(rule.Alert, "threshold", "0.125"))
			}
			rule.Expr = ends.ReplaceAllString(rule.Expr, "> 0.125")
			rule.For = "7m"
			rule.Labels = map[string]string{"severity": "page", "team": "platform"}
		}
	}
	if got := alerts(t, changes...); !reflect.DeepEqual(got, want) || thresholds < 5 {
		t.Errorf("with %d thresholds:\n%+v\nwant\n%+v", thresholds, got, want)
	}
	for half := range off {
		got := alerts(t, off[half]...)
		for g := range want.Groups {
			for r, rule := range want.Groups[g].Rules {
				is := slices.ContainsFunc(got.Groups[g].Rules, func(other alertRule) bool { return other.Alert == rule.Alert })
				if is != (r%2 != half) {
					t.Errorf("%s is there: %v", rule.Alert, is)
				}
			}
		}
	}
}

// The alerts about missing pods, and the dashboard, are about the DaemonSets of the release, whatever
// they are called.
func TestAlertNamesDaemonSets(t *testing.T) {
	matcher := regexp.MustCompile(`daemonset=~"([^"\\]+)"`)
	for name, args := range map[string][]string{
		"akv-csi-provider":      nil,
		"secrets-azure":         {"--set=fullnameOverride=secrets-azure"},
		"secrets.azure":         {"--set=fullnameOverride=secrets.azure"},
		"akv-csi-provider-file": {"--set=nameOverride=file"},
		"azure-csi-provider-1":  {"--set=fullnameOverride=azure-csi-provider-1"},
	} {
		text, err := helm(t, append(args, "--set=windows.enabled=true,linux.image.repository=a,windows.image.repository=a")...)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range regexp.MustCompile(`\nkind: DaemonSet\nmetadata:\n  name: (\S+)\n`).FindAllStringSubmatch(text, -1) {
			names = append(names, m[1])
		}
		if !slices.Equal(names, []string{name + "-windows", name}) && !slices.Equal(names, []string{name, name + "-windows"}) {
			t.Fatalf("%s: DaemonSets %q", name, names)
		}
		found := 0
		for where, queries := range map[string][]string{"alerts": expressions(alerts(t, args...)), "dashboard": dashboard(t, args...)} {
			before := found
			for _, query := range queries {
				if strings.Count(query, "daemonset=~") != len(matcher.FindAllString(query, -1)) {
					t.Errorf("%s: %s: a matcher of another form in %s", name, where, query)
				}
				for _, m := range matcher.FindAllStringSubmatch(query, -1) {
					found++
					for other, want := range map[string]bool{names[0]: true, names[1]: true, "x-" + name: false, name + "-x": false, strings.Replace(name, ".", "x", 1) + "-windows": !strings.Contains(name, ".")} {
						if regexp.MustCompile("^(?:"+m[1]+")$").MatchString(other) != want { // as Prometheus anchors it
							t.Errorf("%s: %s: %s matches %s: %t", name, where, m[1], other, !want)
						}
					}
				}
			}
			if found-before < 2 {
				t.Errorf("%s: %d matchers in the %s", name, found-before, where)
			}
		}
	}
}

func expressions(file alertFile) (all []string) {
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			all = append(all, rule.Expr)
		}
	}
	return all
}

// dashboard are the queries of the dashboard that the chart renders.
func dashboard(t *testing.T, args ...string) (all []string) {
	t.Helper()
	text, err := helm(t, append(args, "--values=testdata/plain.yaml", "--set=dashboard.enabled=true", "--show-only=templates/monitoring.yaml")...)
	if err != nil {
		t.Fatal(err)
	}
	var object struct{ Data map[string]string }
	if err := yaml.Unmarshal([]byte(text), &object); err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal([]byte(object.Data["akv-csi-provider.json"]), &board); err != nil {
		t.Fatal(err)
	}
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			all = append(all, target.Expr)
		}
	}
	return all
}

// Without the operator's kinds, the rest is installed.
func TestWithoutOperator(t *testing.T) {
	args := []string{"--values=testdata/plain.yaml", "--set=podMonitor.enabled=true,prometheusRule.enabled=true"}
	for _, test := range []struct {
		known []string
		want  []string
	}{
		{nil, nil},
		{[]string{"--api-versions=monitoring.coreos.com/v1"}, nil},
		{[]string{"--api-versions=monitoring.coreos.com/v1/PodMonitor"}, []string{"PodMonitor"}},
		{[]string{"--api-versions=monitoring.coreos.com/v1/PrometheusRule"}, []string{"PrometheusRule"}},
		{[]string{"--api-versions=azmonitoring.coreos.com/v1/PodMonitor"}, nil},
		{[]string{"--api-versions=azmonitoring.coreos.com/v1/PodMonitor", "--set=podMonitor.apiVersion=azmonitoring.coreos.com/v1"}, []string{"PodMonitor"}},
	} {
		text, err := helm(t, slices.Concat(args, test.known)...)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, kind := range []string{"PodMonitor", "PrometheusRule"} {
			if strings.Contains(text, "\nkind: "+kind+"\n") {
				got = append(got, kind)
			}
		}
		if !slices.Equal(got, test.want) || !strings.Contains(text, "kind: DaemonSet") {
			t.Errorf("%q: %q, want %q", test.known, got, test.want)
		}
	}
}

// The chart takes a cloud's name if and only if the provider does.
func TestCloudNames(t *testing.T) {
	taken := 0
	for _, name := range append(cloud.Names(), "azurecloud", "AZUREUSGOVERNMENTCLOUD", "AzureUSGovernment", "azuredeloscloud",
		"Sky", "sea", "AzureGermanCloud", "AzureMoon", "public", " AzureCloud", "/sky.json") {
		_, err := helm(t, "--values=testdata/plain.yaml", "--set=cloudFiles={Sky=/sky.json,Sea=/a=b}", "--set-string=cloudName="+name)
		if provider := cloud.CheckName(name, "Sky", "Sea"); (err == nil) != (provider == nil) {
			t.Errorf("%q: the chart says %v, the provider %v", name, err, provider)
		}
		if err == nil {
			taken++
		}
	}
	if taken != len(cloud.Names())+6 {
		t.Errorf("%d names", taken)
	}
}
