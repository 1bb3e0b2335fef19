package chart_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/itchyny/gojq"
	"sigs.k8s.io/yaml"
)

// block is the block of commands of a document that has the text.
func block(t *testing.T, document, text string) string {
	t.Helper()
	for _, m := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(read(t, document), -1) {
		if strings.Contains(m[1], text) {
			return m[1]
		}
	}
	t.Fatalf("%s has no commands with %q", document, text)
	return ""
}

// runBlock runs the commands in a folder that has the project's deploy, with Helm and, as scripts, the other
// programs. It returns what they print.
func runBlock(t *testing.T, dir, commands string, programs map[string]string) string {
	t.Helper()
	_, environ := helmSetup(t)
	deploy, err := filepath.Abs("../../deploy")
	if err == nil {
		err = os.Symlink(deploy, filepath.Join(dir, "deploy"))
	}
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	all := map[string]string{"helm": `exec "$HELM" "$@" ` + kubeVersion}
	for name, script := range programs {
		all[name] = script
	}
	for name, script := range all {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", commands)
	cmd.Dir, cmd.Env = dir, append(environ, "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// The commands of the chart's README make the hardened values those of this chart below a parent. As a
// file of the parent they would be ignored.
func TestHardenedBelowParent(t *testing.T) {
	commands, dir := block(t, folder+"/README.md", "hardened.yaml"), t.TempDir()
	parent := umbrella(t, chartYAML(t))
	values := "akv-csi-provider: {linux: {image: {repository: registry.example/akv-csi-provider}}}\n"
	err := os.WriteFile(filepath.Join(parent, "values.yaml"), []byte(values), 0o644)
	if err == nil {
		err = os.Symlink(parent, filepath.Join(dir, "platform"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if out := runBlock(t, dir, commands, nil); strings.TrimSpace(out) != `- "--identity-modes=workload-identity,identity-binding"` {
		t.Errorf("the check prints %q", out)
	}
	const only = "--show-only=charts/akv-csi-provider/templates/daemonset.yaml"
	text, err := render(t, parent, only, "--values="+filepath.Join(dir, "hardened.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rendered.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	got, _ := objects(t, file)
	want, _ := objects(t, hardened)
	below, alone := got["akv-csi-provider"].Spec.Template.Spec.Containers[0], want["akv-csi-provider"].Spec.Template.Spec.Containers[0]
	if !slices.Equal(below.Args, alone.Args) || !reflect.DeepEqual(below.Resources, alone.Resources) {
		t.Errorf("%q, %+v; want %q, %+v", below.Args, below.Resources, alone.Args, alone.Resources)
	}
	if text, err = render(t, parent, only, "--values=../../deploy/values-hardened.yaml"); err != nil || strings.Contains(text, "--identity-modes") {
		t.Errorf("the parent's own keys have an effect: %v", err)
	}
}

// The commands for Azure's managed Prometheus convert the chart's rules with the user's values, and nothing
// else, and give each alert the severity that its label says.
func TestAzureRules(t *testing.T) {
	commands, dir := block(t, "../../deploy/METRICS.md", "az-prom-rules-converter"), t.TempDir()
	values := `
linux: {image: {repository: registry.example/akv-csi-provider}}
podMonitor: {enabled: true, apiVersion: azmonitoring.coreos.com/v1}
dashboard: {enabled: true}
prometheusRule: {alerts: {AkvCsiMountsSlow: {threshold: 20}}}
`
	if err := os.WriteFile(filepath.Join(dir, "values.yaml"), []byte(values), 0o644); err != nil {
		t.Fatal(err)
	}
	out := runBlock(t, dir, commands, map[string]string{
		"az":                      `case "$*" in *"--query location"*) echo westeurope ;; *"--query id"*) echo /workspace ;; *) echo "az $*" ;; esac`,
		"az-prom-rules-converter": `echo "converter $*"; cp rules.yaml rules.json`,
		"jq":                      `cat "$2"`,
	})
	for _, want := range []string{
		"converter --azure-monitor-workspace /workspace --location westeurope --cluster-name aks-contoso --action-group-id /subscriptions/",
		" --output rules.json rules.yaml\n",
		"az deployment group create --resource-group monitoring --template-file rule-group.json\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	var got alertFile
	if err := yaml.UnmarshalStrict([]byte(read(t, filepath.Join(dir, "rules.yaml"))), &got); err != nil {
		t.Fatal(err)
	}
	if want := alerts(t, "--set=prometheusRule.alerts.AkvCsiMountsSlow.threshold=20"); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	// What the converter writes: each rule with severity 3, and its labels.
	converted := []any{}
	for _, r := range got.Groups[0].Rules {
		converted = append(converted, map[string]any{"alert": r.Alert, "severity": 3, "labels": map[string]any{"severity": r.Labels["severity"]}})
	}
	program := regexp.MustCompile(`jq '([^']+)'`).FindStringSubmatch(commands)
	query, err := gojq.Parse(program[1])
	if err != nil {
		t.Fatal(err)
	}
	result, _ := query.Run(map[string]any{"resources": []any{map[string]any{"properties": map[string]any{"rules": converted}}}}).Next()
	var template struct {
		Resources []struct {
			Properties struct {
				Rules []struct {
					Severity int
					Labels   map[string]string
				}
			}
		}
	}
	text, err := json.Marshal(result)
	if err == nil {
		err = json.Unmarshal(text, &template)
	}
	if err != nil {
		t.Fatal(err)
	}
	severities := map[string]int{"critical": 0, "warning": 2, "info": 3} // as Azure numbers them
	for _, r := range template.Resources[0].Properties.Rules {
		if want, known := severities[r.Labels["severity"]]; !known || r.Severity != want {
			t.Errorf("%v has severity %d", r.Labels, r.Severity)
		}
	}
	// Limits of Azure's schema.
	if n := len(got.Groups[0].Rules); len(got.Groups) != 1 || n > 20 || len(template.Resources[0].Properties.Rules) != n {
		t.Errorf("%d groups, %d rules", len(got.Groups), n)
	}
	for _, r := range got.Groups[0].Rules {
		for name, value := range r.Annotations {
			if len(value) > 1024 {
				t.Errorf("%s: %s has %d characters", r.Alert, name, len(value))
			}
		}
	}
}
