package server_test

import (
	"fmt"
	"strings"
	"testing"

	"akv-csi-provider/provider/azuretest"

	"google.golang.org/grpc/codes"
)

// documentOf is an entry with these lines.
func documentOf(lines ...string) string {
	return "- objectAlias: f\n  template: |\n    " + strings.Join(lines, "\n    ") + "\n"
}

// templateFunctions are all that change texts, with what they write.
var templateFunctions = [][2]string{
	{`secret "j" | json "user"`, "app"}, {`secret "y" | yaml "user"`, "app"}, {`secret "my-secret" | b64enc`, "SGVsbG8h"}, {`"SGVsbG8h" | b64dec`, "Hello!"},
	{`secret "my-secret" | hex`, "48656c6c6f21"}, {`quote "a"`, `"a"`}, {`squote "a"`, `'a'`}, {`"a" | indent 2`, "  a"}, {`"a" | nindent 2`, "\n  a"}, {`" a " | trim`, "a"},
	{`"f-a" | trimPrefix "f-"`, "a"}, {`"a-f" | trimSuffix "-f"`, "a"}, {`upper "a"`, "A"}, {`lower "A"`, "a"}, {`"a-b" | replace "-" "_"`, "a_b"}, {`"" | default "x"`, "x"},
	{`secret "my-secret" | toJson`, `"Hello!"`}, {`urlquery "a b&"`, "a+b%26"},
}

func documentRules() []story {
	in := func(s story) story { s.row = "Documents/" + s.row; return s }
	values := secrets(map[string]string{"j": `{"user":"app","my.key":"a b"}`, "y": "user: app\n", "big": strings.Repeat("x", 20<<10), "f-a": "on", "f-b": "off"})
	var lines []string
	var want strings.Builder
	for _, f := range templateFunctions {
		lines = append(lines, "{{ "+f[0]+" }}")
		fmt.Fprintln(&want, f[1])
	}
	nested := map[string]string{}
	for i := range 100 {
		nested[fmt.Sprintf("n-%02d", i)] = "x"
	}
	all := []story{
		in(story{row: "template", name: "every function", objects: documentOf(lines...), prepare: values, files: map[string]string{"f": want.String()}}),
		in(story{row: "template", name: "all reads leave at once", setup: setup{roundTripper: together(3)}, objects: documentOf(`{{ secret "j" | json "user" }}`, `{{ if eq (secret "y") "x" }}{{ secret "f-a" }}{{ end }}`), prepare: values,
			files: map[string]string{"f": "app\n\n"}}),
		in(story{row: "template", name: "a name that is not known when the class is read", objects: documentOf("x", `{{ secret (lower "A") }}`), code: codes.InvalidArgument, says: []string{"line 2", "text in quotes"}}),
		in(story{row: "template", name: "an error names the line and no value", objects: documentOf("x", `{{ secret "my-secret" | json "a" }}`), code: codes.FailedPrecondition, says: []string{"line 2", "[ContentInvalid]"}}),
		in(story{row: "template", name: "output is bounded", objects: documentOf(`{{ $x := secret "big" }}` + strings.Repeat("{{ $x }}", 250)), prepare: values, code: codes.FailedPrecondition, says: []string{"longer than"}}),
		in(story{row: "template", name: "time is bounded", objects: documentOf(strings.Repeat(`{{ range find "^n-" }}`, 5) + strings.Repeat("{{ end }}", 5)), prepare: secrets(nested), code: codes.FailedPrecondition, says: []string{"too many steps"}}),
		in(story{row: "template", name: "changes at the next rotation", setup: uncached(), objects: documentOf(`{{ range find "^f-" }}{{ .Name }}={{ .Value }};{{ end }}`), prepare: values, files: map[string]string{"f": "f-a=on;f-b=off;\n"},
			then: &story{prepare: func(_ *testing.T, w *world) {
				w.vault.Delete("secret", "f-a")
				w.vault.SetSecret("f-c", azuretest.Secret{Value: "new"})
			}, files: map[string]string{"f": "f-b=off;f-c=new;\n"}}}),
		in(story{row: "template", name: "without objectAlias", objects: "[{template: x}]", code: codes.InvalidArgument, says: []string{"objectAlias", "[InvalidParameter]"}}),
		in(story{row: "bundle", name: "without objectAlias", objects: "[{find: {name: a}, objectType: secret, bundle: json}]", code: codes.InvalidArgument, says: []string{"objectAlias", "[InvalidParameter]"}}),
		in(story{row: "bundle", name: "of an object", objects: "[{objectName: j, objectType: secret, objectAlias: f, bundle: json}]", code: codes.InvalidArgument, says: []string{"bundle", "[InvalidParameter]"}}),
	}
	for format, want := range map[string][2]string{
		"dotenv":     {"A=on\nB=off\n", "MY_KEY='a b'\nUSER=app\n"},
		"properties": {"a=on\nb=off\n", "my.key=a b\nuser=app\n"},
		"json":       {`{"a":"on","b":"off"}` + "\n", `{"my.key":"a b","user":"app"}` + "\n"},
		"yaml":       {`"a": "on"` + "\n" + `"b": "off"` + "\n", `"my.key": "a b"` + "\n" + `"user": "app"` + "\n"},
	} {
		all = append(all,
			in(story{row: "bundle", name: format + " of all that a search finds", objects: "[{find: {name: '^f-(.*)'}, objectType: secret, objectAlias: f, bundle: " + format + "}]", prepare: values, files: map[string]string{"f": want[0]}}),
			in(story{row: "bundle", name: format + " of all keys", objects: "[{objectName: j, objectType: secret, expand: json, objectAlias: f, bundle: " + format + "}]", prepare: values, files: map[string]string{"f": want[1]}}))
	}
	for _, name := range []string{"env", "expandenv", "readFile", "include", "getHostByName", "exec", "call", "now"} {
		all = append(all, in(story{row: "template", name: "no function " + name, objects: documentOf("x", "{{ "+name+` "a" }}`), code: codes.InvalidArgument, says: []string{"line 2", name, "[InvalidParameter]"}}))
	}
	parts := certificateStory("", "certificates and keys", documentOf(`{{ certificate "tls" }}{{ key "tls" }}`), func(t *testing.T, w *world, c chain, files map[string]string) {
		w.vault.SetCertificate("tls", azuretest.Certificate{DER: c.leaf.Raw, SecretValue: c.keyPEM(t) + certificatesPEM(c.leaf), ContentType: "application/x-pem-file"})
		files["f"] = certificatesPEM(c.leaf) + c.publicPEM(t) + "\n"
	})
	parts.row = "Documents/template"
	return append(all, parts)
}
