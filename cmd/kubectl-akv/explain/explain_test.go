package explain_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/cmd/kubectl-akv/explain"
	"akv-csi-provider/provider/fault"
)

func run(args ...string) (string, error) {
	var out bytes.Buffer
	cmd := explain.New(cli.NewEnv(genericiooptions.IOStreams{In: new(bytes.Buffer), Out: &out, ErrOut: new(bytes.Buffer)}))
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err := cmd.Execute()
	return out.String(), err
}

func TestExplain(t *testing.T) {
	for _, test := range []struct {
		args []string
		want []string // in this order
	}{
		{[]string{"VaultFirewall"}, []string{"VaultFirewall\n", "network rules", "    az keyvault network-rule add"}},
		{[]string{"[vaultfirewall]"}, []string{"VaultFirewall\n"}},
		{[]string{`a; b [ObjectNotFound] | c; d [AccessDenied]`}, []string{"AccessDenied\n", "\n\nObjectNotFound\n"}},
		{[]string{"mount", "failed:", "x", "[Throttled]"}, []string{"Throttled\n"}},
		{[]string{`rpc error: provider not found: provider "azure"`}, []string{"Not from the provider\n", "does not run on that node"}},
		{[]string{"-o", "yaml", "Timeout"}, []string{"- meaning: ", "  reason: Timeout\n"}},
	} {
		out, err := run(test.args...)
		rest, found := out, true
		for _, want := range test.want {
			_, rest, found = strings.Cut(rest, want)
			if !found || err != nil {
				t.Errorf("%q: no %q: %v\n%s", test.args, want, err, out)
			}
		}
	}
}

func TestUnknown(t *testing.T) {
	for text, want := range map[string]string{"VaultFirewal": "did you mean VaultFirewall?", "xyz": "kubectl akv explain lists all", "": "lists all"} {
		if out, err := run(text); err == nil || out != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v %q", text, err, out)
		}
	}
}

func TestList(t *testing.T) {
	out, err := run()
	if err != nil || strings.Count(out, "\n") != len(fault.Reasons)+1 || !strings.Contains(out, "\nVaultFirewall\tThe vault's network rules") {
		t.Errorf("%v\n%s", err, out)
	}
	out, _ = run("-o", "json")
	var entries []struct{ Reason, Meaning, Text string }
	if err := json.Unmarshal([]byte(out), &entries); err != nil || len(entries) != len(fault.Reasons) || entries[0].Text == "" {
		t.Errorf("%v\n%s", err, out)
	}
}
