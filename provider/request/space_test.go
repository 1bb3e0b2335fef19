package request_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/provider/request"
)

// forms are all forms of one list of objects: a, whose file is x/a, and the key b.
var forms = map[string]string{
	"texts":           "array:\n  - |\n    objectName: a\n    objectType: secret\n    objectAlias: x/a\n  - |\n    objectName: b\n    objectType: key\n",
	"texts, no step":  "array:\n- |\n  objectName: a\n  objectType: secret\n  objectAlias: x/a\n- |\n  objectName: b\n  objectType: key\n",
	"marker":          "---\narray:\n  - |\n    objectName: a\n    objectType: secret\n    objectAlias: x/a\n  - |\n    objectName: b\n    objectType: key\n...\n",
	"key before":      "<<: {}\narray:\n  - |\n    objectName: a\n    objectType: secret\n    objectAlias: x/a\n  - |\n    objectName: b\n    objectType: key\n",
	"mappings":        "array:\n  - objectName: a\n    objectType: secret\n    objectAlias: x/a\n  - objectName: b\n    objectType: key\n",
	"bare list":       "- objectName: a\n  objectType: secret\n  objectAlias: x/a\n- objectName: b\n  objectType: key\n",
	"bare, in braces": "- {objectName: a, objectType: secret, objectAlias: x/a}\n- {objectName: b, objectType: key}\n",
	"bare texts":      "- |\n  objectName: a\n  objectType: secret\n  objectAlias: x/a\n- |\n  objectName: b\n  objectType: key\n",
	"flow":            "[{objectName: a, objectType: secret, objectAlias: x/a},\n {objectName: b, objectType: key}]",
	"JSON":            `{"array":["{\"objectName\":\"a\",\"objectType\":\"secret\",\"objectAlias\":\"x/a\"}","objectName: b\nobjectType: key\n"]}`,
	"empty values":    "array:\n  - |\n    objectVersion:\n    objectName: a\n    objectType: secret\n    objectAlias: x/a\n  - |\n    objectFormat:\n    objectName: b\n    objectType: key\n",
	"indented texts":  "array:\n  - \"  objectVersion:\\n  objectName: a\\n  objectType: secret\\n  objectAlias: x/a\\n\"\n  - \"\\t\\n\\tobjectName: b\\nobjectType: key\\n\\t\"\n",
}

func wantForms() []request.Object {
	return []request.Object{with(secret("a"), func(o *request.Object) { o.Path = "x/a" }), with(secret("b"), func(o *request.Object) { o.Type = request.TypeKey })}
}

// blanks is random white space of all of Unicode, byte order marks included.
func blanks(random *rand.Rand) string {
	runes := []rune(" \t\n\r\v\f\u0085\u00a0\u1680\u2003\u2028\u2029\u202f\u205f\u3000\ufeff")
	var b strings.Builder
	for range random.IntN(5) {
		b.WriteRune(runes[random.IntN(len(runes))])
	}
	return b.String()
}

// White space around the objects, and their indentation as a whole, mean nothing.
func TestOuterSpace(t *testing.T) {
	base := newAttributes(t)
	random := rand.New(rand.NewPCG(15, 2))
	check := func(name, objects string) {
		t.Helper()
		m, err := base.with(map[string]string{"objects": objects}).parse(t)
		if err != nil || !reflect.DeepEqual(m.Objects, wantForms()) || len(m.Warnings) > 0 {
			t.Errorf("%s: %v, %+v, %v\n%q", name, err, m.Objects, m.Warnings, objects)
		}
		checkReplaced(t, objects, m, err)
	}
	for name, text := range forms {
		for range 60 {
			check(name, blanks(random)+text+blanks(random))
		}
		for indent := range 9 {
			lines := strings.SplitAfter(text, "\n")
			for i, line := range lines {
				if line != "" && line != "...\n" { // which ends a document at the start of a line only
					lines[i] = strings.Repeat(" ", indent) + line
				}
			}
			check(fmt.Sprint(name, " indented by ", indent), strings.Repeat("\n", random.IntN(3))+strings.Join(lines, "")+blanks(random))
		}
	}
}

// In random classes, what the replaced provider mounts is mounted, and no object that is
// written is lost without a word.
func TestRandomClasses(t *testing.T) {
	base := newAttributes(t)
	random := rand.New(rand.NewPCG(15, 3))
	pick := func(of []string) string { return of[random.IntN(len(of))] }
	names := slices.Sorted(maps.Keys(forms))
	between := []string{"", "", "", "\n", "---\n", "...\n", "--- ", "  ", " ", "Array:\n", "other:\n", "x: &x\n", "y: *x\n", "array:\n", ", ", "# c\n", "\t", "objectAlias: y\n", "- ", "- |\n", "[", "]"}
	accepted, warned := 0, 0
	for range 4_000 {
		var b strings.Builder
		for range 1 + random.IntN(3) {
			b.WriteString(pick(between))
			lines := strings.SplitAfter(forms[pick(names)], "\n")
			if random.IntN(2) == 0 {
				lines = lines[random.IntN(len(lines)):]
			}
			indent := strings.Repeat(" ", random.IntN(4)*random.IntN(2))
			for _, line := range lines {
				if line != "" {
					b.WriteString(indent + line)
				}
			}
		}
		text := b.String() + pick(between)
		m, err := base.with(map[string]string{"objects": text}).parse(t)
		checkReplaced(t, text, m, err)
		if err != nil {
			continue
		}
		accepted++
		if strings.Count(text, "objectName") == len(m.Objects) {
			continue
		}
		warned++
		if !slices.ContainsFunc(m.Warnings, func(w request.Warning) bool {
			return w.Kind == request.WarnIgnoredText || w.Kind == request.WarnUnknownField
		}) {
			t.Errorf("%d objects, and no word of the others: %v\n%s", len(m.Objects), m.Warnings, text)
		}
	}
	if accepted < 300 || warned < 40 {
		t.Errorf("%d classes were accepted, %d of them with a loss: the test is too narrow", accepted, warned)
	}
}
