package cli_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"akv-csi-provider/cmd/kubectl-akv/cli"
)

func newEnv() (*cli.Env, *bytes.Buffer, *bytes.Buffer) {
	streams, _, out, errOut := genericiooptions.NewTestIOStreams()
	return cli.NewEnv(streams), out, errOut
}

func TestBuffersAreNoTerminal(t *testing.T) {
	env, _, _ := newEnv()
	if env.Terminal || env.TerminalErr || env.Interactive || env.Style.Red("x") != "x" || env.Width != 80 {
		t.Errorf("%+v", env)
	}
}

func TestTable(t *testing.T) {
	for _, test := range []struct {
		name     string
		terminal bool
		want     string
	}{
		{"terminal", true, "\x1b[1mPATH\x1b[0m      \x1b[1mSIZE\x1b[0m\ncafé      \x1b[31m12\x1b[0m\na b\uFFFD[2J   3\n"},
		{"pipe", false, "PATH\tSIZE\ncafé\t12\na b\uFFFD[2J\t3\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			env, out, _ := newEnv()
			if env.Terminal = test.terminal; test.terminal {
				env.Style = cli.Styled
			}
			table := env.NewTable("PATH", "SIZE")
			table.Row(cli.Cell{Text: "café"}, cli.Cell{Text: "12", Mark: env.Style.Red})
			table.Texts("a\nb\x1b[2J", "3")
			if err := table.Print(); err != nil || out.String() != test.want {
				t.Errorf("%v\n%q, want\n%q", err, out, test.want)
			}
		})
	}
}

func TestOutputFlag(t *testing.T) {
	cmd := &cobra.Command{Use: "x", SilenceErrors: true, SilenceUsage: true, Run: func(*cobra.Command, []string) {}}
	output := cli.AddOutputFlag(cmd, "text", "json")
	if *output != "text" {
		t.Errorf("default %q", *output)
	}
	cmd.SetArgs([]string{"-o", "json"})
	if err := cmd.Execute(); err != nil || *output != "json" {
		t.Errorf("%v %q", err, *output)
	}
	cmd.SetArgs([]string{"-o", "xml"})
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "must be text or json") {
		t.Error(err)
	}
}

func TestEncode(t *testing.T) {
	for format, want := range map[cli.Output]string{"json": "{\n  \"a\": \"<b>\"\n}\n", "yaml": "a: <b>\n"} {
		var out bytes.Buffer
		if err := cli.Encode(&out, format, map[string]string{"a": "<b>"}); err != nil || out.String() != want {
			t.Errorf("%s: %v %q", format, err, out.String())
		}
	}
}

func TestProgress(t *testing.T) {
	for _, test := range []struct {
		name     string
		terminal bool
		lasts    time.Duration
		want     string
	}{
		{"short", true, 900 * time.Millisecond, ""},
		{"long", true, 1100 * time.Millisecond, "reading pod a b ...\r\x1b[K"},
		{"no terminal", false, 1100 * time.Millisecond, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env, _, errOut := newEnv()
				env.TerminalErr = test.terminal
				done := env.Progress("reading pod %s", "a\nb")
				time.Sleep(test.lasts)
				done()
				done()
				if errOut.String() != test.want {
					t.Errorf("%q, want %q", errOut, test.want)
				}
			})
		})
	}
}
