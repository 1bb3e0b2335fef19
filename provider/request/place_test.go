package request_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"akv-csi-provider/provider/request"
)

// What the replaced provider ignores while it mounts the rest is a warning, and an error in
// strict mode; where it mounts nothing, it is an error. Both say where.
func TestIgnoredText(t *testing.T) {
	base := newAttributes(t)
	const (
		text    = "array:\n  - |\n    objectName: a\n    objectType: secret\n"
		mapping = "array:\n  - {objectName: a, objectType: secret}\n"
		json    = `{"array":["{\"objectName\":\"a\",\"objectType\":\"secret\"}"]}`
		list    = "- {objectName: a, objectType: secret}\n"
	)
	for _, c := range []struct {
		name, objects string
		kind          request.WarningKind // "" for an error
		field         string
		line, column  int
		says          []string
	}{
		{"second document", text + "---\n- {objectName: b, objectName: b}\n", request.WarnIgnoredText, "objects", 6, 1, []string{"line 6, column 1", "objectName: b"}},
		{"third document", text + "---\n# c\n---\n\n  b\n", request.WarnIgnoredText, "objects", 9, 3, []string{`"b"`}},
		{"second document that is not YAML", text + "--- # b\nb: [\n", request.WarnIgnoredText, "objects", 5, 1, []string{`"--- # b"`}},
		{"behind the end of the document", text + "...\nb: c\n", request.WarnIgnoredText, "objects", 5, 1, nil},
		{"further left", "---\n  array:\n  - |\n    objectName: a\n    objectType: secret\n\n# c\n - b\n", request.WarnIgnoredText, "objects", 8, 2, []string{`"- b"`}},
		{"JSON behind JSON", json + json, request.WarnIgnoredText, "objects", 1, len(json) + 1, nil},
		{"JSON on the next line", "\n\n" + json + " # c\n\n  " + json, request.WarnIgnoredText, "objects", 5, 3, nil},
		{"word behind JSON", json + " é", request.WarnIgnoredText, "objects", 1, len(json) + 2, []string{`"é"`}},
		{"brackets in quotes", `{"array": ['{"objectName": "a", "objectAlias": "}''\"]", "objectType": "secret"}'], <<: {c: it's, d: "it\"s]}\\" } } # [d` + "\n[d]", request.WarnIgnoredText, "objects", 2, 1, nil},
		{"document in a text", "array:\n  - |\n    objectName: a\n    objectType: secret\n    ---\n    objectName: b\n", request.WarnIgnoredText, "objects[0]", 6, 5, nil},
		{"fields behind braces", "array:\n  - |\n    {objectName: a, objectType: secret}\n    objectAlias: b\n", request.WarnIgnoredText, "objects[0]", 4, 5, []string{`"objectAlias: b"`}},
		{"two objects in a text", `array: ['{"objectName": "a", "objectType": "secret"}, {"objectName": "b"}']`, request.WarnIgnoredText, "objects[0]", 1, 53, nil},
		{"document behind mappings", mapping + "---\n- b\n", "", "objects", 4, 1, []string{"outside the first YAML document", "one list"}},
		{"document behind a bare list", list + "---\n- b\n", "", "objects", 3, 1, nil},
		{"list behind a flow list", "[{objectName: a, objectType: secret}] [b]", "", "objects", 1, 39, []string{`"[b]"`}},
		{"bullet further left", "  - objectName: a\n    objectType: secret\n- b\n", "", "objects", 3, 1, []string{`"- b"`}},
		{"document in a text beside a mapping", text + "    ---\n    b\n  - {objectName: b, objectType: secret}\n", "", "objects[0]", 6, 5, nil},

		{"list in another case", "Array: [{objectName: b}]\n" + text, request.WarnUnknownField, "objects: Array", 1, 1, []string{"array?"}},
		{"list in another case, of mappings", mapping + "Array: [{objectName: b}]\n", "", "objects: Array", 3, 1, []string{"array?", "below array"}},
		{"key without objects", "x: [1, {y: z}]\n" + mapping, request.WarnUnknownField, "objects: x", 1, 1, []string{"only the list below array"}},
		{"key with more than is used", "x:\n - &a |\n   objectName: a\n   objectType: secret\n - objectName: b\narray: [*a]\n", request.WarnUnknownField, "objects: x", 1, 1, nil},
		{"key that another key uses", text + "x: &x {objectName: b}\n", request.WarnUnknownField, "objects: x", 5, 1, nil},
		{"list in merged keys besides", "<<: {array: [{objectName: b}]}\n" + text, request.WarnUnknownField, "objects: <<", 1, 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := base.with(map[string]string{"objects": c.objects}).parse(t)
			checkReplaced(t, c.objects, m, err)
			line, column := 0, 0
			if c.kind == "" {
				problems := refused(t, m, err)
				if len(problems) != 1 {
					t.Errorf("%d problems: %v", len(problems), err)
				}
				names(t, problems, err, c.field, c.says...)
				line, column = problems[0].Line, problems[0].Column
			} else {
				if err != nil || len(m.Objects) != 1 || len(m.Warnings) != 1 || m.Warnings[0].Kind != c.kind {
					t.Fatalf("%v, %+v", err, m)
				}
				err = request.Strict(m.Warnings)
				names(t, problemsOf(t, err), err, c.field, c.says...)
				line, column = problemsOf(t, err)[0].Line, problemsOf(t, err)[0].Column
			}
			if line != c.line || column != c.column {
				t.Errorf("line %d, column %d; want %d, %d", line, column, c.line, c.column)
			}
		})
	}
	for name, objects := range map[string]string{
		"all used": "x: &x\n - objectName: a\n   objectType: secret\narray: *x\n", "a part used": "x: {y: &y {objectType: secret}, z: 1}\narray: [{<<: *y, objectName: a}]",
		"a text used": "x: &x |\n  objectName: a\n  objectType: secret\narray: [*x]", "merged": "<<: {array: [{objectName: a, objectType: secret}]}",
	} {
		if m, err := base.with(map[string]string{"objects": objects}).parse(t); err != nil || len(m.Warnings) > 0 {
			t.Errorf("%s: %v, %v", name, err, m.Warnings)
		}
	}
}

// Every problem and warning of objects knows where it is, whatever stands before it.
func TestPlaces(t *testing.T) {
	// § marks where, and is cut out.
	for name, text := range map[string]string{
		"mapping":                   "array:\n  - objectName: §a_\n    objectType: secret\n",
		"flow mapping":              "- {objectName: b, objectType: secret, objectAlias: é, objectVersion: §a/}\n",
		"bare list":                 "- objectName: b\n  objectType: §Secret\n",
		"missing field":             "- {objectName: b, objectType: key}\n- §objectName: a\n",
		"unknown field":             "- {objectName: b, objectType: key, objectTypes: §{x: y}}",
		"literal text":              "array:\n  - |\n    # é\n\n    objectName: §a_\n    objectType: secret\n",
		"literal text, indented":    "array:\n  - |2-\n\n      objectType: secret\n      objectName: §a_\n",
		"field missing in a text":   "array:\n- |\n\n  §objectName: a\n",
		"flow mapping in a text":    "array:\n  - |\n    {objectType: secret,\n        objectName: §a_}\n",
		"single quotes":             "array:\n  - 'objectName: §a_'\n  - {objectName: b, objectType: key}\n",
		"double quotes":             "array: [\"{objectType: key, objectName: §a_}\"]",
		"escapes":                   "array: [§\"objectType: key\\nobjectName: a_\"]",
		"folded":                    "array:\n  - §>\n    {objectType: key,\n    objectName: a_}\n",
		"anchor":                    "array:\n  - &a |\n    objectType: key\n    objectName: §a_\n",
		"alias":                     "x: &x a_\narray:\n  - objectName: b\n    objectType: secret\n    objectVersion: §*x\n",
		"not a list":                "array: §{objectName: b}",
		"empty list":                "array: §[]",
		"list of nothing":           "array: §[~]",
		"not a mapping":             "array: [§[]]",
		"not YAML, by the scanner":  "- objectName: b\n§  objectType: @\n",
		"not YAML, by the parser":   "- {objectName: b, objectType: key}\n§b: c\n",
		"not YAML, in a text":       "array:\n- |\n  objectName: b\n  §objectType: @\n",
		"template that is not YAML": "- {objectName: b, objectType: key}\n- {objectName: §{{- .Values.b }}, objectType: key}\n",
		"field twice":               "- objectName: b\n  objectType: key\n§  objectType: key\n",
		"duplicate path":            "- {objectName: b, objectType: key}\n- {objectName: c, objectType: key, objectAlias: §b}",
		"nested path":               "- {objectName: b, objectType: key}\n- {objectName: c, objectType: key, objectAlias: §b/c}",
		"placeholder":               "- {objectName: b, objectType: key, objectAlias: §'{{ .Values.b }}'}",
		"ignored format":            "- {objectName: b, objectType: key, objectFormat: §PFX}",
	} {
		for _, before := range []string{"", "\n\n", "\n  ", "\t", "\ufeff", " \n\u00a0 "} {
			marked := before + text
			at := strings.Index(marked, "§")
			lead := marked[:at]
			line := 1 + strings.Count(lead, "\n")
			column := 1 + utf8.RuneCountInString(lead[strings.LastIndex(lead, "\n")+1:])
			objects := strings.Replace(marked, "§", "", 1)
			m, problems := new(request.Parser).ParseClass(map[string]string{"keyvaultName": "contoso", "objects": objects}, 0o644)
			want, got := fmt.Sprintf("%d:%d", line, column), []string(nil)
			for _, p := range problems {
				got = append(got, fmt.Sprintf("%d:%d", p.Line, p.Column))
			}
			for _, w := range m.Warnings {
				got = append(got, fmt.Sprintf("%d:%d", w.Line, w.Column))
			}
			if !slices.Contains(got, want) {
				t.Errorf("%s behind %q: at %v, want %s: %v %v", name, before, got, want, problems, m.Warnings)
			}
		}
	}
}
