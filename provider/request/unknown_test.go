package request_test

import (
	"strings"
	"testing"

	"akv-csi-provider/provider/request"
)

// A misspelled field is one mistake: there is one problem, which says what is meant, and none about
// the field that is missing for it. Where unknown fields are warnings, there is no warning either.
func TestMisspelledFieldIsOneProblem(t *testing.T) {
	const object = "objectName: a, objectType: secret, "
	for _, c := range []struct{ entry, field, says string }{
		{"objectname: a, objectType: secret", "objects[0]: objectName", `(found unknown field "objectname", did you mean objectName?)`},
		{"objectName: a, objecttype: secret", `objects[0] "a": objectType`, `(found unknown field "objecttype", did you mean objectType?)`},
		{"objectName: a, objectTypes: secret, objectTyp: secret", `objects[0] "a": objectType`, `(found unknown field "objectTyp", did`},
		{"objecttype: secret, find: {name: a}", "objects[0]: objectType", "did you mean objectType?"},
		{"objectType: secret, find: {name: a}, bundle: json, objectalias: f", "objects[0]: objectAlias", "did you mean objectAlias?"},
		{"objectType: secret, Find: {name: a}", "objects[0]: find", `missing (found unknown field "Find", did you mean find?)`},
		{"objectAlias: f, Template: x", "objects[0]: template", `missing (found unknown field "Template", did you mean template?)`},
		{"objectalias: f, template: x", "objects[0]: objectAlias", "did you mean objectAlias?"},
		{"objectType: secret, find: {names: a}", "objects[0]: find: names", "is not a field (did you mean name?); use name, tags"},
		{"objectType: secret, find: {Tags: {a: b}}", "objects[0]: find: Tags", "is not a field (did you mean tags?); use name, tags"},
		{object + "jmesPath: [{path: a, alias: b}]", `objects[0] "a": jmesPath[0]: alias`, "is not a field (did you mean objectAlias?)"},
		{object + "jmesPath: [{paths: a, objectAlias: b}]", `objects[0] "a": jmesPath[0]: paths`, "is not a field (did you mean path?)"},
		{object + "files: [{parts: leaf, objectAlias: b}]", `objects[0] "a": files[0]: parts`, "is not a field (did you mean part?)"},
		{object + "files: [{part: leaf, objectalias: b}]", `objects[0] "a": files[0]: objectalias`, "is not a field (did you mean objectAlias?)"},
		{object + "files: [{part: jks, objectAlias: b, passwordfrom: c}]", `objects[0] "a": files[0]: passwordfrom`, "is not a field (did you mean passwordFrom?)"},
		// of two mistakes each is named
		{object + "jmesPath: [{path: a, alias: b, objectAlia: c}]", `objects[0] "a": jmesPath[0]: alias | objects[0] "a": jmesPath[0]: objectAlia`, "use path"},
		{object + "jmesPath: [{path: a, zone: b}]", `objects[0] "a": jmesPath[0]: objectAlias | objects[0] "a": jmesPath[0]: zone`, "missing"},
		{object + `jmesPath: [{path: a, objectAlias: "", alias: b}]`, `objects[0] "a": jmesPath[0]: objectAlias | objects[0] "a": jmesPath[0]: alias`, "empty"},
	} {
		m, problems := request.NewParser().ParseClass(map[string]string{"keyvaultName": "contoso", "objects": "- {" + c.entry + "}"}, 0o644)
		var fields []string
		for _, p := range problems {
			fields = append(fields, p.Field)
		}
		if got := strings.Join(fields, " | "); got != c.field {
			t.Errorf("%s: problems with %s, want %s", c.entry, got, c.field)
		} else if text := problems[0].Cause + "; " + problems[0].Fix; !strings.Contains(text, c.says) {
			t.Errorf("%s: %s, want %s", c.entry, text, c.says)
		}
		for _, w := range m.Warnings {
			if strings.Contains(w.Cause, "did you mean") && !strings.Contains(c.entry, "objectTypes") {
				t.Errorf("%s: also the warning %s: %s", c.entry, w.Field, w.Cause)
			}
		}
	}
	m, problems := request.NewParser().ParseClass(map[string]string{
		"objects": "- {" + object + "keyvaultName: contoso}\n- {objectName: b, objectType: secret, keyVaultName: contoso}"}, 0o644)
	if len(problems) != 1 || problems[0].Field != `objects[1] "b": keyvaultName` || len(m.Warnings) > 0 {
		t.Errorf("problems %v, warnings %v", problems, m.Warnings)
	}
}

// Warnings that use up their bound hide no unknown field of a mapping in an entry.
func TestUnknownFieldBeyondWarnings(t *testing.T) {
	many := strings.Repeat("- {objectName: a, objectType: key, objectFormat: PFX}\n", 600)
	inner := "- {objectName: a, objectType: secret, jmesPath: [{path: a, objectAlias: q, bogus: 1}]}\n"
	_, problems := new(request.Parser).ParseClass(map[string]string{"keyvaultName": "vault", "objects": many + inner}, 0o644)
	if len(problems) != 1 || !strings.HasSuffix(problems[0].Field, ": bogus") || problems[0].Cause != "is not a field" {
		t.Errorf("got %v", problems)
	}
}
