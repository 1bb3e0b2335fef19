package request_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/request"
)

// What the new fields contain costs the node no more than the rest, also where aliases repeat it.
func TestNewFieldsAreBounded(t *testing.T) {
	list := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	const object = "objectName: a, objectType: secret"
	aliases := func(entry string) string { return "- &a {" + entry + "}\n" + strings.Repeat("- *a\n", 300) }
	for name, c := range map[string]struct {
		objects, says string
	}{
		"pieces":               {list(20, "- {"+object+", jmesPath: ["+strings.Repeat("{path: a, objectAlias: x%[1]d}, ", 250)+"]}\n"), "more than 4096 objects, pieces"},
		"pieces by aliases":    {aliases(object + ", jmesPath: [" + list(250, "{path: a, objectAlias: x%d}, ") + "]"), "more than 4096 objects, pieces"},
		"parts by aliases":     {aliases(object + ", files: [" + list(60, "{part: leaf, objectAlias: x%d}, ") + "]"), "more than 4096 objects, pieces"},
		"references":           {aliases(`objectAlias: f, template: "` + list(50, `{{ secret \"s%d\" }}`) + `"`), "more than 4096 objects, pieces"},
		"templates":            {aliases("objectAlias: f, template: " + strings.Repeat("x", 20<<10)), "too long in total"},
		"expressions":          {aliases(object + ", jmesPath: [{objectAlias: x, path: '" + strings.Repeat("!", 1000) + "a'}]"), "too long in total"},
		"patterns":             {aliases("objectType: secret, find: {name: '" + strings.Repeat("[a-z]", 51) + "'}"), "too long in total"},
		"large patterns":       {aliases("objectType: secret, find: {name: '(a?){20}b{60}'}"), "too long in total"},
		"patterns of classes":  {list(1500, "- {objectType: secret, find: {name: '"+strings.Repeat(`\pL`, 80)+"'}} # %d\n"), "too long in total"},
		"patterns of find":     {aliases(`objectAlias: f, template: '{{ range find "(a?){20}b{60}" }}{{ end }}'`), "too long in total"},
		"unknown fields":       {aliases("objectType: secret, find: {name: a" + list(50, ", k%d: 1") + "}"), "is not a field"},
		"deep find":            {"- {objectType: secret, find: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}", "too complex"},
		"deep tags":            {"- {objectType: secret, find: {tags: {a: " + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + "}}}", "not a single value"},
		"find in itself":       {"- &a {objectType: secret, find: {name: a, tags: *a}}", ""},
		"pieces in themselves": {"- {" + object + ", jmesPath: &a [*a]}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, problems := new(request.Parser).ParseClass(map[string]string{"keyvaultName": "contoso", "objects": c.objects}, 0o644)
			if len(problems) == 0 || !strings.Contains(fmt.Sprint(problems), c.says) {
				t.Errorf("%d problems: %.300v", len(problems), problems)
			}
			said := 0
			for _, p := range problems {
				if strings.Contains(p.Cause, "too long in total") || strings.Contains(p.Cause, "objects, pieces") {
					said++
				}
			}
			if said > 1 {
				t.Errorf("the bound is reported %d times", said)
			}
			if took := time.Since(start); took > time.Minute {
				t.Errorf("took %s", took)
			}
		})
	}
}

// The largest class with pieces that can be valid is parsed.
func TestManyPieces(t *testing.T) {
	var b strings.Builder
	for i := range 16 {
		fmt.Fprintf(&b, "- objectName: a%d\n  objectType: secret\n  jmesPath:\n", i)
		for j := range 255 {
			fmt.Fprintf(&b, "    - {path: key%d, objectAlias: d%d/f%d}\n", j, i, j)
		}
	}
	m, problems := request.NewParser().ParseClass(map[string]string{"keyvaultName": "contoso", "objects": b.String()}, 0o644)
	if len(problems) > 0 || len(m.Objects) != 16 || len(m.Objects[15].Pieces.Paths) != 255 {
		t.Errorf("%.500v", problems)
	}
}

// What looks like a placeholder in the template of a document is not blamed for YAML that is broken
// elsewhere; a real one still is.
func TestTemplateIsNoPlaceholder(t *testing.T) {
	const doc = "- objectAlias: f\n  template: |\n    {{ secret \"a\" }}\n\n    ${HOME}\n"
	for objects, want := range map[string]string{
		doc + "- objectName: a\n  objectType: @\n":                                                                                    "not valid YAML: line 7",
		doc + "- objectName: {{ .Values.x }}\n  objectType: @\n":                                                                      "Helm",
		"- objectAlias: f\n  template: {{ secret \"a\" }} x\n":                                                                        "not valid YAML: line ",
		"array:\n  - |\n    objectAlias: f\n    template: |\n      {{ secret \"a\" }}\n  - |\n    objectName: a\n    objectType: @\n": "not valid YAML: line ",
	} {
		_, problems := new(request.Parser).ParseClass(map[string]string{"keyvaultName": "contoso", "objects": objects}, 0o644)
		if len(problems) != 1 || !strings.Contains(problems[0].Cause, want) || want != "Helm" && strings.Contains(problems[0].Cause, "Helm") {
			t.Errorf("%q: %v", objects, problems)
		}
	}
}
