package chart_test

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	helpFlag    = regexp.MustCompile(`(?m)^  --(\S+).*\n +.*`)
	leftOut     = regexp.MustCompile(`(?m)^  "(\S+)" \(list .* "(.*)"\)$`)
	helpDefault = regexp.MustCompile(`\(default (.*)\)$`)
)

// Every flag is in reach of a value: where every value is another, every argument is.
func TestEveryFlag(t *testing.T) {
	help, err := exec.Command(binary, "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	sets, _ := objects(t, "testdata/everything.golden")
	given := make(map[string]string)
	for _, arg := range sets["akv-csi"].Spec.Template.Spec.Containers[0].Args {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		given[name] = value
	}
	// What a user does not set is left to the provider.
	sets, _ = objects(t, "testdata/plain.golden")
	if args := sets["akv-csi-provider"].Spec.Template.Spec.Containers[0].Args; !slices.Equal(args, []string{"--endpoint=unix:///provider/azure.sock"}) {
		t.Errorf("by default, the chart writes out %q", args)
	}
	left := make(map[string]string) // the values that are left out, by flag
	for _, m := range leftOut.FindAllStringSubmatch(read(t, folder+"/templates/_args.tpl"), -1) {
		left[m[1]] = m[2]
	}
	flags := helpFlag.FindAllStringSubmatch(string(help), -1)
	if len(flags) < 30 {
		t.Fatalf("%d flags in the help", len(flags))
	}
	for _, m := range flags {
		name := m[1]
		if name == "version" {
			continue
		}
		byItself := ""
		if d := helpDefault.FindStringSubmatch(m[0]); d != nil {
			byItself = d[1]
		} else if strings.HasPrefix(m[0], "  --"+name+"\n") {
			byItself = "false" // a switch
		}
		value, ok := given[name]
		switch {
		case name == "metrics-backend": // there is only one
		case !ok:
			t.Errorf("no value of the chart sets --%s", name)
		case value == byItself:
			t.Errorf("--%s=%s is the plugin's default", name, value)
		}
		if other, ok := left[name]; !ok || other != byItself {
			t.Errorf("--%s=%s is left out, but the provider's default is %q", name, left[name], byItself)
		}
	}
}
