package request_test

import (
	"strings"
	"testing"

	"akv-csi-provider/provider/request"
)

// What the replaced provider accepts is accepted with a warning, and is an error in strict
// mode.
func TestWarnings(t *testing.T) {
	base := newAttributes(t)
	for _, c := range []struct {
		name, objects string
		kind          request.WarningKind
		field         string
		says          []string
	}{
		{"unknown field", "- {objectName: a, objectType: secret, objectAliases: b}", request.WarnUnknownField,
			`objects[0] "a": objectAliases`, []string{"objectAlias?"}},
		{"field in another case", "- {objectName: a, objectType: secret, objectversion: b}", request.WarnUnknownField,
			`objects[0] "a": objectversion`, []string{"objectVersion?"}},
		{"field with a typing error", "- {objectName: a, objectType: secret, filePermissions: 0600}", request.WarnUnknownField,
			`objects[0] "a": filePermissions`, []string{"filePermission?"}},
		{"field of another kind", "- {objectName: a, objectType: secret, tags: [x, {y: z}]}", request.WarnUnknownField,
			`objects[0] "a": tags`, nil},
		{"field without value", "- {objectName: a, objectType: secret, objectHistory: ~}", request.WarnUnknownField,
			`objects[0] "a": objectHistory`, nil},
		{"field that does not print", `- {objectName: a, objectType: secret, "a\nb": c}`, request.WarnUnknownField,
			`objects[0] "a": a\nb`, nil},
		{"long field", "- {objectName: a, objectType: secret, " + strings.Repeat("x", 900) + ": c}", request.WarnUnknownField,
			`objects[0] "a": ` + strings.Repeat("x", 64) + "…", nil},
		{"PFX with a cert", "- {objectName: a, objectType: cert, objectFormat: PFX}", request.WarnIgnoredFormat,
			`objects[0] "a": objectFormat`, []string{`"PFX"`, "ignored", "secret"}},
		{"Pfx with a key", "- {objectName: a, objectType: key, objectFormat: Pfx}", request.WarnIgnoredFormat,
			`objects[0] "a": objectFormat`, []string{`"Pfx"`, "ignored"}},
		{"same name twice", "- {objectName: a, objectType: secret}\n- {objectName: a, objectType: secret}", request.WarnDuplicatePath,
			`objects[1] "a": objectAlias`, []string{`"a"`, "objects[0]", "last one"}},
		{"two histories with one alias", "- {objectName: a, objectType: secret, objectVersionHistory: 2, objectAlias: d}\n- {objectName: b, objectType: secret, objectVersionHistory: 3, objectAlias: d}", request.WarnDuplicatePath,
			`objects[1] "b": objectAlias`, []string{`"d/0"`, `objects[0] "a"`}},
		{"a version's path", "- {objectName: a, objectType: secret, objectVersionHistory: 3}\n- {objectName: b, objectType: secret, objectAlias: a/2}", request.WarnDuplicatePath,
			`objects[1] "b": objectAlias`, []string{`"a/2"`, `objects[0] "a"`}},
		{"the newest version's path", "- {objectName: b, objectType: secret, objectAlias: a/0}\n- {objectName: a, objectType: secret, objectVersionHistory: 3}", request.WarnDuplicatePath,
			`objects[1] "a": objectAlias`, []string{`objects[0] "b"`}},
		{"same alias twice", "- {objectName: a, objectType: secret, objectAlias: d/e}\n- {objectName: b, objectType: key, objectAlias: d/e}", request.WarnDuplicatePath,
			`objects[1] "b": objectAlias`, []string{`"d/e"`, `objects[0] "a"`, "last one"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := base.with(map[string]string{"objects": c.objects}).parse(t)
			if err != nil {
				t.Fatal(err)
			}
			if len(m.Warnings) != 1 {
				t.Fatalf("warns %d times: %v", len(m.Warnings), m.Warnings)
			}
			l := m.Warnings[0]
			if l.Kind != c.kind || l.Field != c.field {
				t.Errorf("got %s %s, want %s %s", l.Kind, l.Field, c.kind, c.field)
			}
			for _, s := range c.says {
				if !strings.Contains(l.Cause, s) {
					t.Errorf("does not say %q: %s", s, l.Cause)
				}
			}
			err = request.Strict(m.Warnings)
			names(t, problemsOf(t, err), err, c.field, c.says...)
		})
	}
}

func TestStrictNamesAll(t *testing.T) {
	m, err := newAttributes(t).with(map[string]string{"objects": "- {objectName: a, objectType: secret, b: c, d: e}\n- {objectName: a, objectType: key, objectFormat: PFX}"}).parse(t)
	if err != nil {
		t.Fatal(err)
	}
	err = request.Strict(m.Warnings)
	problems := problemsOf(t, err)
	if len(problems) != 4 {
		t.Errorf("%d problems: %v", len(problems), err)
	}
	for _, field := range []string{`objects[0] "a": b`, `objects[0] "a": d`, `objects[1] "a": objectFormat`, `objects[1] "a": objectAlias`} {
		names(t, problems, err, field, "--strict-objects")
	}
}

// A class without mistakes is valid in strict mode: the error is nil.
func TestStrictPasses(t *testing.T) {
	m, err := newAttributes(t).parse(t)
	if err != nil {
		t.Fatal(err)
	}
	if err := request.Strict(m.Warnings); err != nil {
		t.Error(err)
	}
}

// The warnings about the fields of an object have a stable order, so that kubelet and tools
// for logs can fold repeats.
func TestWarningOrder(t *testing.T) {
	a := newAttributes(t).with(map[string]string{"objects": "- {objectName: a, objectType: secret, z: 1, y: 1, x: 1, w: 1, v: 1}"})
	for range 20 {
		m, err := a.parse(t)
		if err != nil {
			t.Fatal(err)
		}
		var fields []string
		for _, l := range m.Warnings {
			fields = append(fields, l.Field[len(l.Field)-1:])
		}
		if got := strings.Join(fields, ""); got != "vwxyz" {
			t.Fatalf("got %s", got)
		}
	}
}

// Likewise the problems.
func TestProblemOrder(t *testing.T) {
	a := newAttributes(t).with(map[string]string{"objects": "- {objectName: [], objectType: [], objectAlias: [], objectVersion: [], objectFormat: [], objectEncoding: []}"})
	_, first := a.parse(t)
	for range 20 {
		if _, err := a.parse(t); err.Error() != first.Error() {
			t.Fatalf("first %v\nthen  %v", first, err)
		}
	}
}

// The driver would fail with a bare mkdir error.
func TestPathBelowAFile(t *testing.T) {
	base := newAttributes(t)
	for _, c := range []struct{ name, objects, field string }{
		{"below", "- {objectName: a, objectType: secret}\n- {objectName: b, objectType: secret, objectAlias: a/b}", `objects[1] "b": objectAlias`},
		{"far below", "- {objectName: b, objectType: secret, objectAlias: a/x/y/b}\n- {objectName: a, objectType: secret}", `objects[0] "b": objectAlias`},
		{"twice below", "- {objectName: b, objectType: secret, objectAlias: a/b}\n- {objectName: c, objectType: key, objectAlias: a/b}\n- {objectName: a, objectType: secret}", `objects[1] "c": objectAlias`},
		{"a history in a file", "- {objectName: a, objectType: secret}\n- {objectName: b, objectType: secret, objectAlias: a, objectVersionHistory: 2}", `objects[1] "b": objectAlias`},
		{"below a version", "- {objectName: b, objectType: secret, objectAlias: a/0/b}\n- {objectName: a, objectType: secret, objectVersionHistory: 2}", `objects[0] "b": objectAlias`},
		{"below a duplicate", "- {objectName: a, objectType: secret}\n- {objectName: c, objectType: key, objectAlias: a}\n- {objectName: b, objectType: secret, objectAlias: a/b}", `objects[2] "b": objectAlias`},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := base.with(map[string]string{"objects": c.objects}).parse(t)
			problems := refused(t, m, err)
			if len(problems) != 1 {
				t.Errorf("%d problems: %v", len(problems), err)
			}
			names(t, problems, err, c.field, `is below the file of`, "directory")
		})
	}
	m, err := base.with(map[string]string{"objects": "- {objectName: a, objectType: secret, objectAlias: d, objectVersionHistory: 2}\n" +
		"- {objectName: b, objectType: secret, objectAlias: d/2}\n- {objectName: c, objectType: secret, objectAlias: d/01}\n- {objectName: d, objectType: secret, objectAlias: d/e/0}"}).parse(t)
	if err != nil || len(m.Objects) != 4 || len(m.Warnings) > 0 {
		t.Errorf("files beside versions: %v, %v", m, err)
	}
	m, err = base.with(map[string]string{"objects": "- {objectName: a, objectType: secret, objectAlias: d/a}\n- {objectName: b, objectType: secret, objectAlias: d/b}\n- {objectName: d2, objectType: secret}"}).parse(t)
	if err != nil || len(m.Objects) != 3 || len(m.Warnings) > 0 {
		t.Errorf("files in one directory: %v", err)
	}
}
