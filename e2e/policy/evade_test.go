package policy_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"akv-csi-provider/provider/request"
)

const (
	otherVaults = "objects: may name other vaults, which this policy cannot check; use one class per vault"
	field       = "keyvaultName"
)

// elsewhere reports whether the provider reads another vault for the objects than the class's.
func elsewhere(objects string) bool {
	m, wrong := new(request.Parser).ParseClass(with(sound, "objects", objects), 0o644)
	if len(wrong) > 0 {
		return false
	}
	for _, o := range m.Objects {
		if o.Vault != "" || o.Failover != "" {
			return true
		}
	}
	return false
}

var dash = strings.NewReplacer("\n", "\n  ")

// layers are places for the text of an entry. Those below array have it as a text in the text.
var layers = map[string]func(string) string{
	"list":          func(s string) string { return "- " + dash.Replace(s) },
	"array":         func(s string) string { return "array:\n- " + dash.Replace(s) },
	"literal":       func(s string) string { return "array:\n- |\n  " + dash.Replace(s) },
	"folded":        func(s string) string { return "array:\n- >\n  " + strings.ReplaceAll(s, "\n", "\n\n  ") },
	"quoted":        func(s string) string { return "array:\n- '" + dash.Replace(strings.ReplaceAll(s, "'", "''")) + "'" },
	"quoted lines":  func(s string) string { return "array:\n- '" + fold(strings.ReplaceAll(s, "'", "''")) + "'" },
	"escaped":       func(s string) string { return "array:\n- \"" + escaped.Replace(s) + `"` },
	"escaped lines": func(s string) string { return "array:\n- \"" + fold(quotes.Replace(s)) + `"` },
	"numbers": func(s string) string {
		var b strings.Builder
		for _, r := range s {
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		return "array:\n- \"" + b.String() + `"`
	},
}

var (
	quotes  = strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	escaped = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\u0085", `\N`, "\u2028", `\L`, "\u2029", `\P`)
)

// fold writes line breaks of a quoted text as empty lines, after blanks that are ignored.
func fold(s string) string { return strings.ReplaceAll(s, "\n", " \t\n\n  ") }

// However an entry spells the field of its vault: where the provider reads it, the policy refuses it.
func TestEnforceSpellings(t *testing.T) {
	s := startWith(t, enforce, allowing("kv-contoso", remove))
	const rest = "\nobjectName: db-password\nobjectType: secret\n"
	secret := base64.StdEncoding.EncodeToString([]byte(field))
	for name, text := range map[string]string{
		"plain":             field + ": kv-fabrikam" + rest,
		"failover":          "failoverKeyvaultName: kv-fabrikam" + rest,
		"single quotes":     "'keyvaultName': kv-fabrikam" + rest,
		"double quotes":     `"keyvaultName": kv-fabrikam` + rest,
		"explicit key":      "? keyvaultName\n: kv-fabrikam" + rest,
		"block as key":      "? |-\n  keyvaultName\n: kv-fabrikam" + rest,
		"flow":              "{keyvaultName: kv-fabrikam, objectName: db-password, objectType: secret}",
		"alias as key":      "objectAlias: &k keyvaultName\n*k : kv-fabrikam" + rest,
		"merged":            "<<: {keyvaultName: kv-fabrikam}" + rest,
		"byte":              `"keyvault\x4eame": kv-fabrikam` + rest,
		"UTF-16":            `"keyvault\u004eame": kv-fabrikam` + rest,
		"UTF-32":            `"keyvault\U0000004eame": kv-fabrikam` + rest,
		"line break":        "? \"keyvault\\\n  Name\"\n: kv-fabrikam" + rest,
		"carriage return":   "? \"keyvault\\\r  Name\"\n: kv-fabrikam" + rest,
		"next line":         "? \"keyvault\\\u0085  Name\"\n: kv-fabrikam" + rest,
		"line separator":    "? \"keyvault\\\u2028  Name\"\n: kv-fabrikam" + rest,
		"paragraph":         "? \"keyvault\\\u2029  Name\"\n: kv-fabrikam" + rest,
		"binary":            "!!binary " + secret + ": kv-fabrikam" + rest,
		"binary, anchored":  "&k !!binary " + secret + ": kv-fabrikam" + rest,
		"binary, verbatim":  "!<tag:yaml.org,2002:binary> " + secret + ": kv-fabrikam" + rest,
		"binary, percent":   "!!bin%61ry " + secret + ": kv-fabrikam" + rest,
		"binary, percent !": "!%21binary " + secret + ": kv-fabrikam" + rest,
	} {
		evasions(t, s, name, text, layers)
	}
	// The policy relies on the provider here.
	for _, handle := range []string{"!e!", "!"} {
		for _, format := range []string{"%%TAG %s tag:yaml.org,2002:\n---\n- {%sbinary %s: kv-fabrikam, objectName: a, objectType: secret}",
			"- |\n  %%TAG %s tag:yaml.org,2002:\n  ---\n  {%sbinary %s: kv-fabrikam, objectName: a, objectType: secret}"} {
			if objects := fmt.Sprintf(format, handle, handle, secret); elsewhere(objects) {
				if err := s.apply(class("azure", with(sound, "objects", objects)), nil); err == nil {
					t.Errorf("the provider reads directives, and the policy does not refuse %q", objects)
				}
			}
		}
	}
}

// evasions fails the test if the text names another vault nowhere, or somewhere and is not refused.
func evasions(t *testing.T, s server, name, text string, layers map[string]func(string) string) {
	t.Helper()
	read := 0
	for layer, write := range layers {
		objects := write(text)
		if !elsewhere(objects) {
			continue
		}
		read++
		if err := s.apply(class("azure", with(sound, "objects", objects)), nil); err == nil || !strings.Contains(err.Error(), otherVaults) {
			t.Errorf("%s, %s: got %v for\n%s", name, layer, err, objects)
		}
	}
	if read == 0 {
		t.Errorf("%s: the provider reads it nowhere", name)
	}
}

// The same with every short sequence of what means something to YAML, in the middle of the name
// and in front of a name in base64.
func TestEnforceSequences(t *testing.T) {
	s := startWith(t, enforce, allowing("kv-contoso", remove))
	read := 0
	middle := []string{"", `\`, `\\`, "\n", "\r", "\t", " ", "\u0085", "\u2028", "\u2029", "\ufeff", "\n\n", " \t\n\n  ", "x", "4e", `\n`, `\r`, `\N`, `\L`, `\P`, `\_`, `\t`, `"`, `'`, "''"}
	front := []string{"", "!", "!!", "%21", "<", "> ", "tag:yaml.org,2002:", "binary ", "%21binary ", "<tag:yaml.org,2002:binary> ", "&a ", "? ", `\`, "\n", `\n`, " ", "'"}
	for _, test := range []struct {
		parts         []string
		before, after string
	}{
		{middle, "keyvault", "Name"},
		{middle, `"keyvault`, `Name"`},
		{middle, `? "keyvault`, "Name\"\n"},
		{middle, `\"keyvault`, `Name\"`},
		{middle, `? \"keyvault`, `Name\"\n`},
		{front, "", base64.StdEncoding.EncodeToString([]byte(field))},
	} {
		for _, write := range []string{
			"- objectName: a\n  objectType: secret\n  %s: kv-fabrikam",
			"- |\n  objectName: a\n  objectType: secret\n  %s: kv-fabrikam",
			"- >\n  objectName: a\n\n  objectType: secret\n\n  %s: kv-fabrikam",
			"- 'objectName: a\n\n  objectType: secret\n\n  %s: kv-fabrikam'",
			`- "objectName: a\nobjectType: secret\n%s: kv-fabrikam"`,
		} {
			for _, a := range test.parts {
				for _, b := range test.parts {
					objects := fmt.Sprintf(write, test.before+a+b+test.after)
					if !elsewhere(objects) {
						continue
					}
					read++
					if err := s.apply(class("azure", with(sound, "objects", objects)), nil); err == nil {
						t.Errorf("not refused: %q", objects)
					}
				}
			}
		}
	}
	t.Logf("%d name another vault", read)
	if read < 50 {
		t.Error("too few that the provider reads")
	}
}

// What cannot name a vault is not refused, also if it is as long as the provider reads. Where
// every vault is allowed, and in a namespace that is exempt, nothing is.
func TestEnforceObjects(t *testing.T) {
	const other = "[{objectName: a, objectType: secret, keyvaultName: kv-fabrikam}]"
	one, all, exempt := allowing("kv-contoso", remove), allowing("*", remove), allowing(remove, remove)
	exempt.Labels = map[string]string{exempted: "exempt"}
	free := []server{startWith(t, enforce, all), startWith(t, enforce, exempt)}
	s := startWith(t, enforce, one)
	for _, test := range []struct{ objects, want string }{
		{list, ""},
		{"array:\n- |\n  objectName: a\n  objectType: secret\n  objectAlias: \"a\\\"b\\\\c\"", ""},
		{"array: [\"objectName: a\\nobjectType: secret\\n\"]", ""},
		{"- {objectAlias: c.env, template: 'A={{ if ne 1 2 }}hello! 100%{{ end }}{{ secret \"a\" }}\\n'}", ""},
		{list + strings.Repeat("\n# a comment", (512<<10-len(list))/len("\n# a comment")), ""},
		{other, otherVaults},
		{strings.ToUpper(other), otherVaults},
		{"[{objectName: a, objectType: secret, failoverKeyvaultName: kv-fabrikam}]", otherVaults},
		{"[{objectName: !!str a, objectType: secret}]", otherVaults},
	} {
		c := class("azure", with(sound, "objects", test.objects))
		refused(t, s.apply(c, nil), test.want)
		for _, s := range free {
			refused(t, s.apply(c, nil), "")
		}
	}
}
