package chart_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// notes are the warnings after an installation. Helm shows notes only of a cluster, so they are
// rendered in a copy of the chart whose notes are a manifest.
func notes(t *testing.T, args ...string) []string {
	t.Helper()
	chart := copyChart(t)
	manifest := "notes: |-\n" + `{{ tpl (.Files.Get "notes") . | nindent 2 }}`
	if err := os.Rename(filepath.Join(chart, "templates", "NOTES.txt"), filepath.Join(chart, "notes")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(chart, "templates", "notes.yaml"), []byte(manifest), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := render(t, chart, append(args, "--show-only=templates/notes.yaml")...)
	if err != nil {
		t.Fatal(err)
	}
	var warnings []string
	for line := range strings.Lines(out) {
		if w, ok := strings.CutPrefix(strings.TrimSpace(line), "WARNING: "); ok {
			warnings = append(warnings, w)
		}
	}
	return warnings
}

// copyChart is a copy of the chart to change.
func copyChart(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "akv-csi-provider")
	if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A value that does not do what it says is a warning, and nothing else is.
func TestWarnings(t *testing.T) {
	driver := "secrets-store-csi-driver: ignored. "
	unreachable := "podMonitor: Prometheus cannot reach linux.bindAddress=127.0.0.1"
	arc := "enableArcExtension, arc, Azure, "
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"--values=testdata/plain.yaml"}, nil},
		{append(slices.Clone(operator), "--values=testdata/everything.yaml"), []string{"linux.resources.limits.cpu=1: ", unreachable}},
		{[]string{"--values=testdata/everything.yaml"}, []string{
			"linux.resources.limits.cpu=1: ", unreachable, "podMonitor: not created. The cluster does not have azmonitoring.coreos.com/v1 PodMonitor",
			"prometheusRule: not created. The cluster does not have monitoring.coreos.com/v1 PrometheusRule",
		}},
		{append(slices.Clone(operator), "--values=../../deploy/values-hardened.yaml", "--set=linux.image.repository=registry.example/akv-csi-provider,podMonitor.enabled=true"),
			[]string{unreachable}},
		{[]string{"--values=testdata/peer.yaml"}, []string{driver, arc, "linux.resources.limits.cpu=50m: ", "linux.resources.limits.memory=100Mi: "}},
		{[]string{"--values=testdata/plain.yaml", "--set=secrets-store-csi-driver.install=true"}, []string{driver}},
		{[]string{"--values=testdata/plain.yaml", "--set=secrets-store-csi-driver.install=false"}, nil},
		{[]string{"--values=testdata/plain.yaml", "--set=enableArcExtension=true"}, []string{arc}},
		{[]string{"--values=testdata/plain.yaml", "--set=enableArcExtension=false"}, nil},
		{[]string{"--values=testdata/plain.yaml", "--set=rbac.pspEnabled=true"}, []string{"rbac.pspEnabled: ignored. "}},
		{[]string{"--values=testdata/plain.yaml", "--set=linux.privileged=true"}, []string{"linux.privileged: ignored. "}},
		{[]string{"--values=testdata/plain.yaml", "--set=linux.privileged=false,rbac.pspEnabled=false"}, nil},
		{[]string{"--values=testdata/plain.yaml", "--set=linux.resources.limits.memory=383Mi"}, []string{"linux.resources.limits.memory=383Mi: "}},
		{[]string{"--values=testdata/plain.yaml", "--set=linux.resources.limits.memory=0.3Gi"}, []string{"linux.resources.limits.memory=0.3Gi: "}},
		{[]string{"--values=testdata/plain.yaml", "--set=linux.resources.limits.memory=500M"}, nil},
		{append(slices.Clone(operator), "--values=testdata/plain.yaml", "--set=podMonitor.enabled=true,linux.bindAddress=::1"), []string{"podMonitor: Prometheus cannot reach linux.bindAddress=::1"}},
		{append(slices.Clone(operator), "--values=testdata/plain.yaml", "--set=podMonitor.enabled=true,linux.bindAddress=0:0:0:0:0:0:0:1"), []string{"podMonitor: Prometheus cannot reach linux.bindAddress=0:0"}},
		{append(slices.Clone(operator), "--values=testdata/plain.yaml", "--set=podMonitor.enabled=true,linux.bindAddress=::ffff:127.0.0.1"), []string{"podMonitor: Prometheus cannot reach linux.bindAddress=::ffff"}},
		{append(slices.Clone(operator), "--values=testdata/plain.yaml", "--set=podMonitor.enabled=true,linux.bindAddress=fd00::1"), nil},
		{append(slices.Clone(operator), "--values=testdata/plain.yaml", "--set=podMonitor.enabled=true,linux.bindAddress=::"), nil},
		{append(slices.Clone(operator), "--values=testdata/windows.yaml", "--set=podMonitor.enabled=true,windows.bindAddress=127.0.0.1,windows.metricsAddr=8898"), []string{"podMonitor: Prometheus cannot reach windows.bindAddress=127.0.0.1"}},
		{append(slices.Clone(operator), "--values=testdata/plain.yaml", "--set=podMonitor.enabled=true,metricsAddr=0"), []string{"podMonitor: linux nodes serve no metrics"}},
		{append(slices.Clone(operator), "--values=testdata/plain.yaml", "--set=podMonitor.enabled=true,linux.metricsAddr=:0,linux.bindAddress=127.0.0.1"), []string{"podMonitor: linux nodes serve no metrics"}},
		{append(slices.Clone(operator), "--values=testdata/plain.yaml", "--set=prometheusRule.enabled=true,dashboard.enabled=true,linux.metricsAddr=0"), []string{"prometheusRule, dashboard: linux nodes serve no metrics"}},
		{append(slices.Clone(operator), "--values=testdata/windows.yaml", "--set=podMonitor.enabled=true"), []string{"podMonitor: windows nodes serve no metrics (metricsAddr=0); set windows.metricsAddr to a port"}},
		{append(slices.Clone(operator), "--values=testdata/plain.yaml", "--set=podMonitor.enabled=true,metricsAddr=0,linux.metricsAddr=8898"), nil},
		{[]string{"--values=testdata/plain.yaml", "--set=metricsAddr=0"}, nil},
		{[]string{"--values=testdata/plain.yaml", "--set=rbac.install=false"}, []string{`serviceAccount: none is created and none is named`}},
		{[]string{"--values=testdata/windows.yaml"}, nil},
		{[]string{"--values=testdata/windows.yaml", "--set=windows.resources.limits.memory=200Mi,windows.privileged=true"}, []string{"windows.privileged: ", "windows.resources.limits.memory=200Mi: "}},
	} {
		got := notes(t, test.args...)
		ok := len(got) == len(test.want)
		for i := range test.want {
			ok = ok && strings.HasPrefix(got[i], test.want[i])
		}
		if !ok {
			t.Errorf("%q:\n%s\nwant\n%s", test.args, strings.Join(got, "\n"), strings.Join(test.want, "\n"))
		}
	}
}
