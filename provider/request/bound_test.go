package request_test

import (
	"fmt"
	"strings"
	"testing"
)

// A class must not cost the node much more than its size does: at 1 MiB, the first
// ones kept the decoder busy for seconds to minutes.
func TestObjectsAreBounded(t *testing.T) {
	base := newAttributes(t)
	var fields strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&fields, ", k%d: 1", i)
	}
	var merges strings.Builder
	merges.WriteString("x0: &x0 {objectName: a, objectType: secret}\n")
	for i := range 12 {
		fmt.Fprintf(&merges, "x%d: &x%d {<<: [%s]}\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*x%d, ", i), 10), ", "))
	}
	const object = "\n  objectName: a\n  objectType: secret\n"
	for name, objects := range map[string]string{
		"many fields":         "- {objectName: a, objectType: secret" + fields.String() + "}",
		"many fields in text": "- |\n  {objectName: a, objectType: secret" + fields.String() + "}",
		"many keys":           "{array: [{objectName: a, objectType: secret}]" + fields.String() + "}",
		"a text many times":   "- &a |" + object + strings.Repeat("  # comment\n", 400) + strings.Repeat("- *a\n", 4000),
		"merges of merges":    merges.String() + "array: [*x12]",
		"deep":                "array: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
		"long":                strings.Repeat("#", 1<<20) + "\n-" + object,
		"directives":          strings.Repeat("%TAG !a! b\n", 1000) + "---\n-" + object,
		"directives, CR":      strings.Repeat("%TAG !a! b\r", 1000) + "---\n-" + object,
		"directives, NEL":     "#" + strings.Repeat("\u0085%TAG !a! b", 1000) + "\n---\n-" + object,
		"directives, LS":      "#" + strings.Repeat("\u2028%TAG !a! b", 1000) + "\n---\n-" + object,
		"directives, BOM":     "\ufeff" + strings.Repeat("%TAG !a! b\n", 1000) + "---\n-" + object,
		"directives, UTF-16":  "array: [!!binary //4lAFQAQQBHAA==]",
		"short entries":       strings.Repeat("- #\n", 70_000),
		"short flow entries":  "[" + strings.Repeat("{},", 70_000) + "]",
		"many objects":        strings.Repeat("- {objectName: a, objectType: secret}\n", 4097),
	} {
		t.Run(name, func(t *testing.T) {
			m, err := base.with(map[string]string{"objects": objects}).parse(t)
			problems := refused(t, m, err)
			if len(problems) != 1 || !strings.HasPrefix(problems[0].Field, "objects") {
				t.Errorf("%v", err)
			}
		})
	}
	// Of texts that do not parse, those within the bound are reported.
	t.Run("a broken text many times", func(t *testing.T) {
		objects := "- &a |\n  " + strings.Repeat("[", 2000) + "\n" + strings.Repeat("- *a\n", 3990)
		m, err := base.with(map[string]string{"objects": objects}).parse(t)
		problems := refused(t, m, err)
		parsed := 0
		for _, p := range problems {
			if !strings.Contains(p.Cause, "too complex") {
				parsed++
			}
		}
		if parsed == 0 || parsed*8*2000 > 1<<20 {
			t.Errorf("%d texts were parsed", parsed)
		}
	})
	t.Run("a long number many times", func(t *testing.T) {
		objects := "- {objectName: a, objectType: secret, objectAlias: &a '" + strings.Repeat("[", 9000) + "'}\n" +
			strings.Repeat("- {objectName: a, objectType: secret, objectVersionHistory: *a}\n", 500)
		m, err := base.with(map[string]string{"objects": objects}).parse(t)
		if problems := refused(t, m, err); !strings.Contains(problems[len(problems)-1].Cause, "is not a number") {
			t.Errorf("%v", problems[len(problems)-1])
		}
	})
	t.Run("a large class", func(t *testing.T) {
		var b strings.Builder
		for i := range 2000 {
			fmt.Fprintf(&b, "- |\n  objectName: %0127d\n  objectType: secret\n  objectVersion: \"%032d\"\n  filePermission: \"0644\"\n", i, i)
		}
		m, err := base.with(map[string]string{"objects": b.String()}).parse(t)
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Objects) != 2000 {
			t.Errorf("%d objects", len(m.Objects))
		}
	})
}
