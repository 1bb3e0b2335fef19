package classes

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// eachScalar calls a function with all scalars below a node.
func eachScalar(n *yaml.Node, f func(*yaml.Node)) {
	if n.Kind == yaml.ScalarNode {
		f(n)
	}
	for _, c := range n.Content {
		eachScalar(c, f)
	}
}

// checkPlaces checks that each character of a scalar is where it is said to be: there is the same
// character, or the escape sequence or line break that stands for it. Places only go forward.
func checkPlaces(t *testing.T, text string, n *yaml.Node) bool {
	t.Helper()
	s := newSource(text)
	places := s.places(n)
	value := []rune(n.Value)
	for i, p := range places {
		got := s.at(p)
		switch {
		case got == value[i], got == '\\', got == '\n' && value[i] == ' ', got == '\'' && value[i] == '\'':
		case value[i] == '\n' && got == 0: // at the end of the text
		default:
			t.Fatalf("character %d, %q, of %q is said to be at %v, where %q is, in\n%s", i, value[i], n.Value, p, got, text)
		}
		if i > 0 && (p.line < places[i-1].line || p.line == places[i-1].line && p.column <= places[i-1].column) {
			t.Fatalf("character %d of %q is at %v, behind that at %v, in\n%s", i, n.Value, p, places[i-1], text)
		}
	}
	return len(places) == len(value)
}

// The place of each character is known for every kind of scalar.
func TestPlaces(t *testing.T) {
	for name, text := range map[string]string{
		"literal":                       "a:\n  b: |\n    x\n    yé\n  c: d\n",
		"literal, stripped":             "b: |-\n  x\n\n  y\n",
		"literal, kept":                 "b: |+\n  x\n\n\nc: d\n",
		"literal with a comment":        "b: | # why\n  x\n",
		"literal, indented more":        "b: |\n  x\n    y\n   z\n",
		"literal, indentation given":    "b: |2\n    x\n   y\n",
		"literal, indentation, last":    "b: |-2\n    x\n  y\n",
		"literal in a list":             "- |\n  x\n- y\n",
		"literal in a deep list":        "a:\n- - |1\n    x\n",
		"literal with an anchor":        "b: &x |\n  x\nc: *x\n",
		"literal with a tag":            "b: !!str |\n  x\n",
		"literal, empty lines first":    "b: |\n\n\n  x\n",
		"literal, blank lines between":  "b: |\n  x\n   \n  y\n",
		"literal, DOS":                  "b: |\r\n  x\r\n\r\n  y\r\nc: d\r\n",
		"literal at the end":            "b: |\n  x",
		"literal, tabs":                 "b: |\n  x\ty\n  \tz\n",
		"literal, hash":                 "b: |\n  # x\n  y # z\n",
		"folded":                        "b: >\n  x\n  y\n\n  z\n",
		"folded, paragraphs":            "b: >\n  x\n\n\n  y\n  z\n",
		"folded, indented more":         "b: >\n  - x:\n      y\n      z\n  - u\n",
		"folded, empty around indented": "b: >\n  x\n\n    y\n\n  z\n",
		"folded, first indented":        "b: >1\n   x\n  y\n",
		"folded, stripped":              "b: >-\n  x\n  y\n\n",
		"folded, kept":                  "b: >+\n  x\n  y\n\n\n",
		"plain":                         "b: x y # z\n",
		"plain, lines":                  "b: x\n  y\n\n  z é\nc: d\n",
		"plain in brackets":             "[x y, z: u]",
		"single quotes":                 "b: 'it''s # x'\n",
		"single quotes, lines":          "b: 'x\n  y  \n\n  z'\n",
		"double quotes":                 `b: "x\ty\n\"z\" \u00e9\x41\U0001F600 \\"`,
		"double quotes, lines":          "b: \"x\n  y\n\n  z\"\n",
		"double quotes, escaped break":  "b: \"x\\\n  y \\\n  \\ z\"\n",
		"double quotes, escaped space":  "b: \"x\\n\\\n  \\ y\\n\"\n",
		"JSON":                          `{"a": "x\ny", "b": ["\u0041"]}`,
		"double quotes with an anchor":  "b: &y \"x\\ny\"\n",
		"empty":                         "a: ''\nb: \"\"\nc:\nd: |\ne: f\n",
	} {
		t.Run(name, func(t *testing.T) {
			var root yaml.Node
			if err := yaml.Unmarshal([]byte(text), &root); err != nil {
				t.Fatal(err)
			}
			eachScalar(&root, func(n *yaml.Node) {
				if !checkPlaces(t, text, n) {
					t.Errorf("the place of %q is unknown in\n%s", n.Value, text)
				}
			})
		})
	}
}

// What is said about a place is right, whatever the text, and there is no panic.
func FuzzPlaces(f *testing.F) {
	for _, text := range []string{"a: |2-\n    x\n  y\n", "a: >+1\n  x\n\n   y\n z\n", "? \"a\\\n  b\"\n: 'c''\n\n d'\n", "- !!str &a |\n  x\n- *a\n", "%YAML 1.1\n--- |\n x\n...\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var root yaml.Node
		if len(text) > 4<<10 || yaml.Unmarshal([]byte(text), &root) != nil {
			return
		}
		eachScalar(&root, func(n *yaml.Node) { checkPlaces(t, text, n) })
	})
}

func TestSplit(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string
	}{
		{"a\n---\nb\n--- # c\nd", []string{"0:0 a\n", "2:0 b\n", "4:0 d"}},
		{"--- a\nb\n---x\n", []string{"0:0 --- a\nb\n---x\n"}},
		{"a: |\n  ---\n", []string{"0:0 a: |\n  ---\n"}},
		{"\ufeffa\r\n---\r\nb", []string{"0:0 a\r\n", "2:0 b"}},
		{"{\"a\": 1}\n  {\"b\":\n 2}", []string{`0:0 {"a": 1}`, "0:8 \n  {\"b\":\n 2}"}},
		{"{a: b}\n---\nc", []string{"0:0 {a: b}\n", "2:0 c"}},
	} {
		var got []string
		for _, d := range split(test.text) {
			got = append(got, strings.Join([]string{itoa(d.before.line), itoa(d.before.column)}, ":")+" "+d.text)
		}
		if strings.Join(got, "|") != strings.Join(test.want, "|") {
			t.Errorf("%q: %q", test.text, got)
		}
	}
}

func itoa(n int) string { return string(rune('0' + n)) }
