package document_test

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/document"
)

func source(kind document.Kind, name string) document.Source {
	return document.Source{Kind: kind, Name: name}
}

// values are those of the tests; every value contains CANARY, so that an error that quotes one
// is found.
func values() document.Values {
	return document.Values{
		Texts: map[document.Source]string{
			source(document.Secret, "db-user"): "CANARY-app",
			source(document.Secret, "db"):      `{"user": "CANARY", "port": 5432, "big": 12345678901234567890, "host": "db\"1", "list": [1, "x"], "nil": null}`,
			source(document.Secret, "yaml"):    "a: {b: CANARY}\nmode: 0755\n",
			source(document.Secret, "lines"):   "CANARY\nb\n",
			source(document.Secret, "empty"):   "",
			source(document.Certificate, "c"):  "CANARY-CERT",
			source(document.Key, "k"):          "CANARY-KEY",
		},
		Matches: map[document.Source][]document.Match{
			source(document.Find, "^feature-"): {{Name: "feature-a", Value: "CANARY1"}, {Name: "feature-b", Value: ""}, {Name: "feature-c", Value: "CANARY3"}},
			source(document.Find, "none"):      {},
		},
	}
}

func execute(t testing.TB, text string) (string, error) {
	t.Helper()
	template, problems := document.Parse(text)
	if problems != nil {
		t.Fatalf("%s: %v", text, problems)
	}
	content, err := template.Execute(values(), 1<<20)
	if err != nil && content != nil {
		t.Errorf("%s: content and an error", text)
	}
	return string(content), err
}

func TestExample(t *testing.T) {
	got, err := execute(t, `[database]
user = {{ secret "db-user" }}
password = {{ secret "db" | json "user" | quote }}
{{- range find "^feature-" }}
{{ .Name | trimPrefix "feature-" }} = {{ .Value }}
{{- end }}
`)
	const want = "[database]\nuser = CANARY-app\npassword = \"CANARY\"\na = CANARY1\nb = \nc = CANARY3\n"
	if err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
}

// The functions have the meaning that they have in Sprig; the examples marked so are those of
// its documentation.
func TestFunctions(t *testing.T) {
	for text, want := range map[string]string{
		`{{ trim "   hello    " }}`:                    "hello", // Sprig
		`{{ trimSuffix "-" "hello-" }}`:                "hello", // Sprig
		`{{ trimPrefix "-" "-hello" }}`:                "hello", // Sprig
		`{{ "-hello" | trimPrefix "-" }}`:              "hello",
		`{{ upper "hello" }}`:                          "HELLO",           // Sprig
		`{{ lower "HELLO" }}`:                          "hello",           // Sprig
		`{{ "I Am Henry VIII" | replace " " "-" }}`:    "I-Am-Henry-VIII", // Sprig
		`{{ replace "" "-" "ab" }}`:                    "-a-b-",
		`{{ indent 4 "a\nb\n" }}`:                      "    a\n    b\n    ",
		`{{ nindent 2 "a\nb" }}`:                       "\n  a\n  b",
		`{{ indent 0 "a" }}`:                           "a",
		`{{ quote "a\"b\n" }}`:                         `"a\"b\n"`,
		`{{ quote "é\x00" 1 true }}`:                   `"é\x00" "1" "true"`,
		`{{ quote }}`:                                  "",
		`{{ squote "a'b" 1 }}`:                         "'a'b' '1'",
		`{{ default "foo" "" }}`:                       "foo",
		`{{ default "foo" "bar" }}`:                    "bar",
		`{{ default "foo" }}`:                          "foo",
		`{{ default "foo" 0 }}{{ default 1 false }}`:   "foo1",
		`{{ default "foo" (find "none") }}`:            "foo",
		`{{ secret "empty" | default "x" }}`:           "x",
		`{{ b64enc "hello?>" }}`:                       "aGVsbG8/Pg==",
		`{{ b64dec "aGVsbG8/Pg==" }}`:                  "hello?>",
		`{{ hex "hi\xff" }}`:                           "6869ff",
		`{{ urlquery "a b&c/é" }}`:                     "a+b%26c%2F%C3%A9",
		`{{ urlquery "a" 1 2 }}`:                       "a1+2",
		`{{ toJson "a<\"b" }}`:                         `"a\u003c\"b"`,
		`{{ toJson 5 }}{{ toJson true }}`:              "5true",
		`{{ toJson (find "none") }}`:                   "[]",
		`{{ find "^feature-" | toJson }}`:              `[{"Name":"feature-a","Value":"CANARY1"},{"Name":"feature-b","Value":""},{"Name":"feature-c","Value":"CANARY3"}]`,
		`{{ secret "db" | json "port" }}`:              "5432",
		`{{ secret "db" | json "big" }}`:               "12345678901234567890",
		`{{ secret "db" | json "host" | toJson }}`:     `"db\"1"`,
		`{{ secret "db" | json "list" }}`:              `[1,"x"]`,
		`{{ secret "db" | json "x" | default "d" }}`:   "d",
		`{{ secret "db" | json "nil" | default "d" }}`: "d",
		`{{ or (secret "db" | json "x") "d" }}`:        "d",
		`{{ not (secret "db" | json "x") }}`:           "true",
		`{{ if secret "db" | json "x" }}a{{ else if secret "db" | json "port" }}b{{ end }}`: "b",
		`{{ with secret "db" | json "x" }}{{ . }}{{ else }}none{{ end }}`:                   "none",
		`{{ secret "yaml" | yaml "a.b" }}`:                                                  "CANARY",
		`{{ secret "yaml" | yaml "mode" }}`:                                                 "0755",
		`{{ secret "lines" | nindent 2 }}`:                                                  "\n  CANARY\n  b\n  ",
		`{{ certificate "c" }}{{ key "k" }}`:                                                "CANARY-CERTCANARY-KEY",

		// Of text/template.
		`{{ print "a" 1 2 "b" true false }}`:                                                                                "a1 2b" + "true false",
		`{{ printf "%s=%5d|%-3s|%q|%v|%%|%x" "a" 7 "b" "c" true "d" }}`:                                                     `a=    7|b  |"c"|true|%|64`,
		`{{ len "é" }}{{ len (find "^feature-") }}`:                                                                         "23",
		`{{ eq 1 2 1 }}{{ ne "a" "b" }}{{ lt 1 2 }}{{ le "a" "a" }}{{ gt 1 2 }}{{ ge 2 2 }}`:                                "truetruetruetruefalsetrue",
		`{{ eq true true }}{{ ne true true }}`:                                                                              "truefalse",
		`{{ and 1 0 "x" }}{{ and 1 "x" }}{{ or 0 "" "y" }}{{ or 0 "" }}`:                                                    "0xy",
		`{{ "x" | and 1 }}{{ "x" | or "y" }}`:                                                                               "xy",
		`{{ not 0 }}{{ not "a" }}`:                                                                                          "truefalse",
		`{{/* comment */}}a{{- " b" -}} c`:                                                                                  "a bc",
		`{{ $x := "a" }}{{ $x }}{{ if true }}{{ $x = "b" }}{{ $x := "c" }}{{ $x }}{{ end }}{{ $x }}`:                        "acb",
		`{{ range $i, $m := find "^feature-" }}{{ if $i }},{{ end }}{{ $i }}{{ $m.Name | trimPrefix "feature-" }}{{ end }}`: "0a,1b,2c",
		`{{ range $m := find "^feature-" }}{{ if not $m.Value }}{{ continue }}{{ end }}{{ .Value }}{{ end }}`:               "CANARY1CANARY3",
		`{{ range find "^feature-" }}{{ if not .Value }}{{ break }}{{ end }}{{ .Value }}{{ end }}`:                          "CANARY1",
		`{{ range find "none" }}x{{ else }}none{{ end }}`:                                                                   "none",
		`{{ with secret "db-user" }}{{ . | lower }}{{ end }}`:                                                               "canary-app",
		`{{ range find "^feature-" }}{{ with .Value }}{{ . }};{{ end }}{{ end }}`:                                           "CANARY1;CANARY3;",
		"":          "",
		"no action": "no action",
	} {
		if got, err := execute(t, text); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", text, got, err, want)
		}
	}
}

// What a template refers to is known when it is parsed, also where it is not executed.
func TestReferences(t *testing.T) {
	template, problems := document.Parse(`{{ if false }}
{{ secret "a" }}{{ secret "b" | json "x" }}
{{ else }}{{ range find "^c" }}{{ with certificate "a" }}{{ print (key "a") (secret "a") }}{{ end }}{{ else }}{{ secret "d" }}{{ end }}{{ end }}
{{ define "nothing" }}{{ end }}`)
	if template != nil || len(problems) != 1 {
		t.Fatalf("define: %v", problems)
	}
	template, problems = document.Parse(`{{ if false }}
{{ secret "a" }}{{ secret "b" | json "x" }}
{{ else }}{{ range find "^c" }}{{ with certificate "a" }}{{ print (key "a") (secret "a") }}{{ end }}{{ else }}{{ secret "d" }}{{ end }}{{ end }}`)
	if problems != nil {
		t.Fatal(problems)
	}
	want := []document.Reference{
		{Source: source(document.Secret, "a"), Line: 2}, {Source: source(document.Secret, "b"), Line: 2},
		{Source: source(document.Find, "^c"), Line: 3}, {Source: source(document.Certificate, "a"), Line: 3},
		{Source: source(document.Key, "a"), Line: 3}, {Source: source(document.Secret, "d"), Line: 3},
	}
	if got := template.References(); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"a\n{{ secret }}":                                   `line 2: secret takes one text in quotes, so that it is known what to read`,
		`{{ secret "a" "b" }}`:                              `line 1: secret takes one text in quotes, so that it is known what to read`,
		`{{ "a" | secret }}`:                                `line 1: secret takes one text in quotes, so that it is known what to read`,
		`{{ $x := "a" }}{{ secret $x }}`:                    `line 1: secret takes one text in quotes, so that it is known what to read`,
		`{{ find (print "a") }}`:                            `line 1: find takes one text in quotes, so that it is known what to read`,
		`{{ env "HOME" }}`:                                  `line 1: there is no function "env"`,
		`{{ "a" | html }}`:                                  `line 1: there is no function "html"`,
		`{{ call print }}`:                                  `line 1: there is no function "call"`,
		`{{ index (find "a") 0 }}`:                          `line 1: there is no function "index"`,
		`{{ template "x" }}`:                                `line 1: template and block are not supported`,
		`{{ block "x" 1 }}{{ end }}`:                        `line 1: define and block are not supported | line 1: template and block are not supported`,
		"\n{{ define \"x\" }}{{ template \"x\" }}{{ end }}": `line 2: define and block are not supported`,
		`{{ . }}`:     `line 1: . has no value outside of range and with`,
		`{{ .Name }}`: `line 1: ".Name" has no value outside of a range over find`,
		`{{ $ }}`:     `line 1: $ has no value`,
		`{{ range find "a" }}{{ else }}{{ .Name }}{{ end }}`: `line 1: ".Name" has no value outside of a range over find`,
		`{{ range find "a" }}{{ .Tags }}{{ end }}`:           `line 1: ".Tags" is not a field: a result of find has .Name and .Value`,
		`{{ range find "a" }}{{ .Name.Value }}{{ end }}`:     `line 1: ".Name.Value" is not a field: a result of find has .Name and .Value`,
		`{{ range $m := find "a" }}{{ $m.Foo }}{{ end }}`:    `line 1: "$m.Foo" is not a field: a result of find has .Name and .Value`,
		`{{ range find "a" }}{{ .Name "x" }}{{ end }}`:       `line 1: ".Name" is not a function`,
		`{{ (secret "a").Name }}`:                            `line 1: "(secret \"a\").Name" is not supported`,
		`{{ $m := 1 }}{{ range $m = find "a" }}{{ end }}`:    `line 1: range takes := and not =`,
		`{{ 1.5 }}`:                                 `line 1: "1.5" is not an integer that is supported`,
		`{{ 9223372036854775807 }}`:                 `line 1: "9223372036854775807" is not an integer that is supported`,
		`{{ print nil }}`:                           `line 1: "nil" is not supported`,
		`{{ print upper "a" }}`:                     `line 1: put parentheses around "upper" and its arguments`,
		`{{ upper }}`:                               `line 1: upper has 0 arguments, which is not what it takes`,
		`{{ "a" | upper "b" }}`:                     `line 1: upper has 2 arguments, which is not what it takes`,
		`{{ default }}`:                             `line 1: default has 0 arguments, which is not what it takes`,
		`{{ json "a" }}`:                            `line 1: json has 1 arguments, which is not what it takes`,
		`{{ json 1 "{}" }}`:                         `line 1: json takes a JMESPath expression in quotes, then a value`,
		`{{ json "a[" "{}" }}`:                      `line 1: json "a[" is not a JMESPath expression: it ends too early`,
		`{{ printf "%1000000000d" 1 }}`:             `line 1: printf takes the verbs %s, %v, %d, %q, %x and %%`,
		`{{ printf "%*d" 1 1 }}`:                    `line 1: printf takes the verbs %s, %v, %d, %q, %x and %%`,
		`{{ printf "%[1]s" "a" }}`:                  `line 1: printf takes the verbs %s, %v, %d, %q, %x and %%`,
		`{{ printf "%" }}`:                          `line 1: printf takes the verbs %s, %v, %d, %q, %x and %%`,
		`{{ printf "%s" }}`:                         `line 1: printf has 1 verbs for 0 arguments`,
		`{{ printf (secret "a") }}`:                 `line 1: printf takes a format in quotes`,
		`{{ upper "a" }} {{ nope }}` + "\n{{ .X }}": `line 1: there is no function "nope" | line 2: ".X" has no value outside of a range over find | line 2: ".X" is not a field: a result of find has .Name and .Value`,
		"\n\n{{ if }}x{{ end }}":                    `line 3: missing value for if`,
		"{{ secret db-password }}":                  `line 1: bad character U+002D '-': a name with a hyphen needs quotes, as in secret "my-secret"`,
		"{{ if true }}":                             `line 1: unexpected EOF`,
		"{{ $x }}":                                  `line 1: undefined variable "$x"`,
		"{{ break }}":                               `line 1: {{break}} outside {{range}}`,
		"{{ \"\x00":                                 `line 1: unterminated quoted string`,
		"\xff":                                      `line 1: the template is not UTF-8 text`,
		strings.Repeat("a", 64<<10+1):               `line 1: the template is longer than 65536 bytes`,
		"{{ " + strings.Repeat("(", 60) + "1" + strings.Repeat(")", 60) + " }}": `line 1: nested more than 50 levels deep`,
		strings.Repeat("{{ if 1 }}", 60) + strings.Repeat("{{ end }}", 60):      `line 1: nested more than 50 levels deep`,
		strings.Repeat("{{ if 1 }}", 6000):                                      `line 1: unexpected EOF`,
	} {
		template, problems := document.Parse(text)
		var got []string
		for _, p := range problems {
			got = append(got, p.Error())
		}
		if joined := strings.Join(got, " | "); template != nil || joined != want {
			t.Errorf("%.60q: got %s, want %s", text, joined, want)
		}
	}
	if _, problems := document.Parse(strings.Repeat("{{ nope }}", 100)); len(problems) != 20 {
		t.Errorf("%d problems", len(problems))
	}
}

// An execution that fails names the line and the cause, and nothing of the values.
func TestFailed(t *testing.T) {
	double := `{{ $x := secret "db-user" }}` + strings.Repeat(`{{ $x = print $x $x }}`, 60)
	nested := strings.Repeat(`{{ range find "^feature-" }}`, 20) + "x" + strings.Repeat("{{ end }}", 20)
	for text, want := range map[string]string{
		"a\n{{ secret \"gone\" }}":                     `line 2: secret "gone" has not been read`,
		`{{ find "gone" }}`:                            `line 1: find "gone" has not been read`,
		`{{ secret "db-user" | b64dec }}`:              `line 1: the value that b64dec gets is not valid base64`,
		`{{ secret "db-user" | json "a" }}`:            `line 1: the value that json gets is not a JSON object or list`,
		`{{ secret "yaml" | json "a" }}`:               `line 1: the value that json gets is not a JSON object or list`,
		`{{ secret "db-user" | yaml "a" }}`:            `line 1: the value that yaml gets is not a YAML mapping or list`,
		`{{ secret "db" | json "x.y" }}`:               `line 1: json "x.y" matches nothing in its value`,
		"\n{{ secret \"db\" | json \"x\" | quote }}":   `line 2: json "x" matches nothing in its value`,
		`{{ toJson (secret "db" | json "x") }}`:        `line 1: json "x" matches nothing in its value`,
		`{{ len (secret "db" | json "x") }}`:           `line 1: json "x" matches nothing in its value`,
		`{{ eq "a" (secret "db" | json "x") }}`:        `line 1: json "x" matches nothing in its value`,
		`{{ secret "db" | json "sum(list)" }}`:         `line 1: json "sum(list)" calls sum or avg on a value of a type that it does not support`,
		`{{ json "a" 5 }}`:                             `line 1: argument 2 of json is not text`,
		`{{ find "^feature-" }}`:                       `line 1: a result of find is not text: use its .Name or .Value`,
		`{{ range find "^feature-" }}{{ . }}{{ end }}`: `line 1: a result of find is not text: use its .Name or .Value`,
		`{{ find "^feature-" | quote }}`:               `line 1: a result of find is not text: use its .Name or .Value`,
		`{{ range secret "db" }}{{ end }}`:             `line 1: range takes the results of find only`,
		`{{ range 100 }}{{ end }}`:                     `line 1: range takes the results of find only`,
		`{{ with "a" }}{{ .Name }}{{ end }}`:           `line 1: ".Name" is not a field of this value: only a result of find has fields`,
		`{{ upper 5 }}`:                                `line 1: argument 1 of upper is not text`,
		`{{ indent "a" "b" }}`:                         `line 1: argument 1 of indent is not an integer`,
		`{{ indent 1000000000 "b" }}`:                  `line 1: the indent is not from 0 to 1000`,
		`{{ indent -1 "b" }}`:                          `line 1: the indent is not from 0 to 1000`,
		`{{ printf "%d" "a" }}`:                        `line 1: argument 2 of printf is not allowed with %d`,
		`{{ printf "%s%q" "a" 1 }}`:                    `line 1: argument 3 of printf is not allowed with %q`,
		`{{ eq 1 "a" }}`:                               `line 1: values of two types are compared`,
		`{{ lt true false }}`:                          `line 1: values of two types are compared`,
		"\n{{ $x = 2 }}":                               `line 2: $x has not been declared with :=`,
		`{{ len 5 }}`:                                  `line 1: len takes a text or the results of find`,
		double:                                         `line 1: a value or the document would be longer than 1048576 bytes`,
		nested:                                         `line 1: the template takes too many steps`,
		strings.Repeat(`{{ range find "^feature-" }}`, 12) + strings.Repeat("long ", 1000) + strings.Repeat("{{ end }}", 12): `line 1: the document would be longer than 1048576 bytes`,
		`{{ $x := "a" }}` + strings.Repeat(`{{ $x = replace "a" "aaaaaaaaaaaaaaaa" $x }}`, 60):                               `line 1: a value or the document would be longer than 1048576 bytes`,
		`{{ $x := "a" }}` + strings.Repeat(`{{ $x = quote $x $x }}`, 60):                                                     `line 1: a value or the document would be longer than 1048576 bytes`,
		`{{ $x := "a" }}` + strings.Repeat(`{{ $x = printf "%500s%500s" $x $x }}`, 60):                                       `line 1: a value or the document would be longer than 1048576 bytes`,
		`{{ $x := "\n" }}` + strings.Repeat(`{{ $x = indent 1000 (replace "  " "\n" $x) }}`, 60):                             `line 1: a value or the document would be longer than 1048576 bytes`,
		`{{ $x := "a" }}` + strings.Repeat(`{{ $x = hex $x }}`, 60):                                                          `line 1: a value or the document would be longer than 1048576 bytes`,
		`{{ $x := printf "%900s" "a" }}{{ $x = replace " " $x $x }}` + strings.Repeat(`{{ $y := upper (lower $x) }}`, 1000):  `line 1: the functions of the template read and write too much`,
	} {
		start := time.Now()
		_, err := execute(t, text)
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("%.60s: took %v", text, took)
		}
		if err == nil || err.Error() != want || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%.60s: got %v, want %s", text, err, want)
		}
	}
}

// The document has as many bytes as are allowed, and not one more.
func TestLimit(t *testing.T) {
	template, problems := document.Parse(`{{ "ab" }}cd`)
	if problems != nil {
		t.Fatal(problems)
	}
	if content, err := template.Execute(document.Values{}, 4); err != nil || string(content) != "abcd" {
		t.Errorf("got %q, %v", content, err)
	}
	if content, err := template.Execute(document.Values{}, 3); err == nil || content != nil {
		t.Errorf("got %q, %v", content, err)
	}
}

// No template takes much memory or time, though what is written is short.
func TestCost(t *testing.T) {
	aliases := "a: &a [" + strings.Repeat("{a: 1},", 10) + "]\n"
	for _, name := range []string{"b", "c", "d"} {
		aliases += name + ": &" + name + " [" + strings.Repeat("*"+string(name[0]-1)+",", 10) + "]\n"
	}
	aliases += "e: [*d, *d, *d, *d]\n"
	variables := "{{ $z := 1 }}"
	for a := range 26 * 26 * 4 {
		variables += "{{ $" + string(rune('a'+a%26)) + string(rune('a'+a/26%26)) + string(rune('a'+a/26/26)) + " := 1 }}"
	}
	for name, c := range map[string]struct{ text, want string }{
		"quotes": {`{{ $x := secret "a" }}` + strings.Repeat("{{ $x = print $x $x }}", 5) + "{{ quote " + strings.Repeat("$x ", 60) + "}}",
			"line 1: a value or the document would be longer than 1048576 bytes"},
		"aliases":   {strings.Repeat(`{{ $x := "#" }}`, 1) + strings.Repeat(`{{ $x = print $x "#" }}{{ yaml "a" (print (secret "y") $x) }}`, 50), "line 1: the functions of the template read and write too much"},
		"variables": {variables + `{{ range find "n" }}` + strings.Repeat("{{ $z }}", 100) + "{{ end }}", "line 1: the template takes too many steps"},
	} {
		template, problems := document.Parse(c.text)
		if problems != nil {
			t.Fatal(name, problems)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := template.Execute(document.Values{
			Texts:   map[document.Source]string{source(document.Secret, "a"): strings.Repeat("\x00", 20<<10), source(document.Secret, "y"): aliases},
			Matches: map[document.Source][]document.Match{source(document.Find, "n"): make([]document.Match, 1000)},
		}, 1<<20)
		runtime.ReadMemStats(&after)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 200<<20 {
			t.Errorf("%s takes %d MiB", name, took>>20)
		}
	}
}
