package guide_test

import (
	"os"
	"strings"
	"testing"

	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/cmd/kubectl-akv/guide"
	"akv-csi-provider/provider/fault"
)

// Every reason has an entry, which is found by its name in any form.
func TestReasons(t *testing.T) {
	all := guide.Reasons()
	if len(all) != len(fault.Reasons) {
		t.Fatalf("%d entries of %d reasons", len(all), len(fault.Reasons))
	}
	for _, want := range all {
		if want.Text == "" || want.Meaning == "" || strings.Contains(want.Text, "\n### ") {
			t.Errorf("%s: %q", want.Reason, want.Text)
		}
		for _, text := range []string{want.Reason, "[" + want.Reason + "]", strings.ToLower(want.Reason), strings.ToUpper("[" + want.Reason + "]"),
			"rpc error: code = PermissionDenied desc = a [b] c; d [" + want.Reason + "]"} {
			if got := guide.Find(text); len(got) != 1 || got[0] != want {
				t.Errorf("%q: %+v", text, got)
			}
		}
	}
}

func TestFind(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"a; b [ObjectNotFound] | c; d [VaultFirewall] | e; f [ObjectNotFound]", "VaultFirewall ObjectNotFound"},
		{"level=ERROR msg=mount reason=AccessDenied code=PermissionDenied", "AccessDenied"},
		{"Timeout", "Timeout"},
		{"rpc error: code = Internal desc = x", ""},
		{"Timeouts everywhere", ""},
		{"VaultFirewal", ""},
		{"", ""},
	} {
		var got []string
		for _, entry := range guide.Find(test.text) {
			got = append(got, entry.Reason)
		}
		if strings.Join(got, " ") != test.want && !(len(got) == 2 && test.want == "VaultFirewall ObjectNotFound") {
			t.Errorf("%q: %q, want %q", test.text, got, test.want)
		}
	}
}

func TestNear(t *testing.T) {
	for word, want := range map[string]string{"VaultFirewal": "VaultFirewall", "[accesdenied]": "AccessDenied", "FederatedCredential": "FederatedCredentialMissing", "xyz": "", "": ""} {
		if got := guide.Near(word); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

// Every row of the guide's table of events is found by an event with its words.
func TestEvents(t *testing.T) {
	text, err := os.ReadFile("../../../deploy/TROUBLESHOOTING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n## Without a reason\n")
	table, _, _ = strings.Cut(table, "\n## ")
	rows := 0
	for line := range strings.Lines(table) {
		event, what, isRow := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		parts := strings.Split(event, "`")
		if !isRow || len(parts) < 3 {
			continue
		}
		rows++
		said := strings.ReplaceAll(strings.Join(parts, " "), "…", `shop/web`)
		found := guide.Find(`MountVolume.SetUp failed for volume "secrets": ` + said)
		ok := false
		for _, entry := range found {
			ok = ok || strings.HasPrefix(what, entry.Text) || strings.Contains(what, entry.Text)
		}
		if !ok {
			t.Errorf("%q: %+v", said, found)
		}
	}
	if rows < 6 {
		t.Errorf("only %d rows", rows)
	}
}

func TestRender(t *testing.T) {
	const markdown = "Prose with `code`, *emphasis*,\n[a link](README.md#x) and [the web](https://example.com/).\n\n- one item that is longer than the line is\n- two\n\n" +
		"```sh\n# needs Azure\naz \"$A\" --query '[].x' # a line that is longer than others\n```\n\n| message | cause |\n|---|---|\n| `a \\| b` | the *cause* of it, in words |\n\nThe end.\n\n#### Heading\n\nx\n"
	const plain = `Prose with ` + "`code`" + `, emphasis, a
link and the web
(https://example.com/).

- one item that is longer than
  the line is
- two

    # needs Azure
    az "$A" --query '[].x' # a line that is longer than others

- ` + "`a | b`" + `
    the cause of it, in words

The end.

Heading

x
`
	if got := guide.Render(markdown, 32, cli.Style{}); got != plain {
		t.Errorf("got\n%s\nwant\n%s", got, plain)
	}
	styled := guide.Render(markdown, 32, cli.Styled)
	for _, want := range []string{"\x1b[36mcode\x1b[0m", "\x1b[1mHeading\x1b[0m", "    \x1b[2m# needs Azure\x1b[0m", "    \x1b[36maz \"$A\" --query"} {
		if !strings.Contains(styled, want) {
			t.Errorf("no %q in\n%q", want, styled)
		}
	}
	for _, entry := range guide.Reasons() {
		for line := range strings.Lines(guide.Render(entry.Text, 80, cli.Style{})) {
			if !strings.HasPrefix(line, "    ") && len([]rune(line)) > 82 || strings.Contains(line, "](") {
				t.Errorf("%s: %q", entry.Reason, line)
			}
		}
	}
}
