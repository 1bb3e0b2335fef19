package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"akv-csi-provider/cmd/kubectl-akv/cli"
)

// akv runs a command line and returns what it printed.
func akv(t *testing.T, stdin string, args ...string) (code int, out, errOut string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	streams := genericiooptions.IOStreams{In: strings.NewReader(stdin), Out: &stdout, ErrOut: &stderr}
	code = run(t.Context(), args, streams)
	return code, stdout.String(), stderr.String()
}

func TestUsageErrors(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"valdate"}, `error: unknown command "valdate" for "kubectl akv"`},
		{[]string{"version", "--nope"}, "error: unknown flag: --nope\nSee 'kubectl akv version --help'\n"},
		{[]string{"version", "-o", "xml"}, "must be text, json or yaml"},
		{[]string{"version", "now"}, `unknown command "now" for "kubectl akv version"`},
	} {
		code, out, errOut := akv(t, "", test.args...)
		if code != 2 || out != "" || !strings.Contains(errOut, test.want) {
			t.Errorf("%q: exit code %d, printed %q and %q", test.args, code, out, errOut)
		}
	}
}

func TestVersion(t *testing.T) {
	code, out, errOut := akv(t, "", "version")
	if code != 0 || !strings.HasPrefix(out, "kubectl-akv ") || errOut != "" {
		t.Errorf("%d %q %q", code, out, errOut)
	}
}

// Every command is in a group, has examples with the name that users type, completes its
// arguments on purpose, and reports errors rather than printing them.
func TestCommandsAreComplete(t *testing.T) {
	streams := genericiooptions.NewTestIOStreamsDiscard()
	for _, cmd := range newRoot(cli.NewEnv(streams)).Commands() {
		if cmd.Example == "" || cmd.Short == "" || cmd.RunE == nil || cmd.Args == nil {
			t.Errorf("%s: no Example, Short, RunE or Args", cmd.Name())
		}
		if cmd.ValidArgsFunction == nil && cmd.ValidArgs == nil {
			t.Errorf("%s: no ValidArgsFunction", cmd.Name())
		}
		for _, line := range strings.Split(strings.ReplaceAll(strings.TrimSpace(cmd.Example), "\\\n", ""), "\n") {
			line = strings.TrimSpace(line)
			if line != "" && !strings.HasPrefix(line, "#") && !strings.Contains(line, "kubectl akv "+cmd.Name()) {
				t.Errorf("%s: example %q does not name it", cmd.Name(), line)
			}
		}
	}
}

func TestCompletion(t *testing.T) {
	for _, test := range []struct{ args, want []string }{
		{[]string{"/usr/bin/kubectl-akv", "version"}, []string{"version"}},
		{[]string{`kubectl_complete-akv`, "version", "-o", ""}, []string{"__complete", "version", "-o", ""}},
	} {
		if got := strings.Join(arguments(test.args), "|"); got != strings.Join(test.want, "|") {
			t.Errorf("%q: %s", test.args, got)
		}
	}
	_, out, _ := akv(t, "", "__complete", "version", "-o", "")
	if !strings.HasPrefix(out, "text\njson\nyaml\n:4") {
		t.Errorf("%q", out)
	}
}

// The page lists every command.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range newRoot(cli.NewEnv(genericiooptions.NewTestIOStreamsDiscard())).Commands() {
		if !regexp.MustCompile("(?m)^\\| \\[?`kubectl akv " + cmd.Name() + "`").Match(page) {
			t.Errorf("README.md has no row for %s", cmd.Name())
		}
	}
}
