package document_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"text/template"
	"time"

	"akv-csi-provider/provider/document"
	"akv-csi-provider/provider/tree"
)

// oracle executes a template with text/template itself, and with functions that are written
// as Sprig's are.
func oracle(text string, values document.Values) (string, error) {
	of := func(kind document.Kind) func(string) string {
		return func(name string) string { return values.Texts[source(kind, name)] }
	}
	find := func(parse func(string) (any, error)) func(expression, text string) (string, error) {
		return func(expression, text string) (string, error) {
			path, err := tree.ParsePath(expression)
			if err != nil {
				return "", err
			}
			root, err := parse(text)
			if err != nil {
				return "", err
			}
			budget := tree.NewBudget()
			value, found, err := path.Find(root, &budget)
			if !found {
				return "", err
			}
			return string(tree.Content(value)), err
		}
	}
	quoted := func(format string) func(...any) string {
		return func(args ...any) string {
			texts := make([]string, len(args))
			for i, arg := range args {
				texts[i] = fmt.Sprintf(format, fmt.Sprint(arg))
			}
			return strings.Join(texts, " ")
		}
	}
	indent := func(n int, s string) string {
		pad := strings.Repeat(" ", n)
		return pad + strings.ReplaceAll(s, "\n", "\n"+pad)
	}
	t, err := template.New("").Funcs(template.FuncMap{
		"secret": of(document.Secret), "certificate": of(document.Certificate), "key": of(document.Key),
		"find": func(pattern string) []document.Match { return values.Matches[source(document.Find, pattern)] },
		"json": find(tree.ParseJSON), "yaml": find(tree.ParseYAML),
		"b64enc": func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		"b64dec": func(s string) (string, error) { b, err := base64.StdEncoding.DecodeString(s); return string(b), err },
		"hex":    func(s string) string { return hex.EncodeToString([]byte(s)) },
		"quote":  quoted("%q"), "squote": quoted("'%s'"),
		"indent": indent, "nindent": func(n int, s string) string { return "\n" + indent(n, s) },
		"trim":       strings.TrimSpace,
		"trimPrefix": func(a, b string) string { return strings.TrimPrefix(b, a) },
		"trimSuffix": func(a, b string) string { return strings.TrimSuffix(b, a) },
		"upper":      strings.ToUpper, "lower": strings.ToLower,
		"replace": func(old, by, s string) string { return strings.ReplaceAll(s, old, by) },
		"default": func(d any, given ...any) any {
			if len(given) == 0 {
				return d
			}
			if truth, _ := template.IsTrue(given[0]); truth {
				return given[0]
			}
			return d
		},
		"toJson": func(v any) string { b, _ := json.Marshal(v); return string(b) },
	}).Parse(text)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	err = t.Execute(&out, nil)
	return out.String(), err
}

// What a template writes is what text/template writes; what fails says nothing of a value.
func FuzzExecute(f *testing.F) {
	for _, text := range []string{
		"[db]\nuser = {{ secret \"db-user\" }}\n{{- range $i, $m := find \"^feature-\" }}\n{{ $m.Name | trimPrefix \"feature-\" }} = {{ .Value }}{{ if $i }}{{ continue }}{{ end }}{{ break }}\n{{- else }}x{{ end }}\n",
		`{{ secret "db" | json "user" | quote }}{{ secret "db" | json "x" | default "y" | squote }}{{ secret "yaml" | yaml "a.b" | nindent 4 }}`,
		`{{ with $x := secret "db-user" }}{{ $x = print . $x 1 2 }}{{ $x | upper | b64enc }}{{ else with 1 }}{{ . }}{{ end }}`,
		`{{ if and (eq 1 2 1) (not (lt "a" "b")) }}a{{ else if or 0 "" }}b{{ else }}{{ len (find "none") }}{{ end }}`,
		`{{ printf "%s %05d %q %v %x %%" "a" 7 "b" true "c" }}{{ replace "a" "b" "aa" | indent 2 }}{{ urlquery "a b" 1 }}{{ find "^feature-" | toJson }}`,
		`{{/* c */ -}} {{ 'a' }}{{ 0x1F }}{{ true }}{{ hex "a" | trim | trimSuffix "1" | lower }}{{ certificate "c" }}{{ key "k" }}{{ "YQ==" | b64dec }}`,
		`{{ $x := 1 }}{{ if $x }}{{ $x := 2 }}{{ $x }}{{ end }}{{ $x }}{{ if ne $x 1 }}{{ end }}{{ ge 1 1 }}{{ gt 1 1 }}{{ le 1 1 }}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, problems := document.Parse(text)
		if (parsed == nil) != (len(problems) > 0) {
			t.Fatal("a template and problems, or none of both")
		}
		if parsed == nil {
			return
		}
		start := time.Now()
		content, err := parsed.Execute(values(), 64<<10)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		if err != nil {
			e, ok := errors.AsType[*document.Error](err)
			if !ok || e.Line < 1 || e.Line > 1+strings.Count(text, "\n") || content != nil {
				t.Errorf("got %v and %q", err, content)
			}
			if !strings.Contains(text, "CANARY") && strings.Contains(err.Error(), "CANARY") {
				t.Errorf("a value in %v", err)
			}
			return
		}
		if len(content) > 64<<10 {
			t.Errorf("%d bytes", len(content))
		}
		if want, err := oracle(text, values()); err != nil || want != string(content) {
			t.Errorf("got  %q\nwant %q, %v", content, want, err)
		}
	})
}

func BenchmarkExecute(b *testing.B) {
	text := `{{ range find "^feature-" }}{{ .Name | trimPrefix "feature-" | upper }}={{ .Value | quote }}
{{ end }}` + strings.Repeat(`{{ secret "db" | json "user" }} `, 10)
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			document.Parse(text)
		}
	})
	parsed, problems := document.Parse(text)
	if problems != nil {
		b.Fatal(problems)
	}
	v := values()
	for range 997 {
		v.Matches[source(document.Find, "^feature-")] = append(v.Matches[source(document.Find, "^feature-")], document.Match{Name: "feature-x", Value: "value"})
	}
	b.Run("1000 matches", func(b *testing.B) {
		for b.Loop() {
			if _, err := parsed.Execute(v, 1<<20); err != nil {
				b.Fatal(err)
			}
		}
	})
}
