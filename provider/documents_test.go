package provider_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

type (
	ctx    = context.Context
	reason = fault.Reason
)

func TestPieces(t *testing.T) {
	v := &vaults{values: map[string]string{"db": `{"user":"u","password":"p","port":1}`, "yaml": "a: 0755\n"}}
	m := newMounter(&signIn{}, v)
	some := pieces(t, one("db"), [2]string{"user", "db/user"}, [2]string{"port", "db/port"})
	mounts(t, m, "db/user=u|db/port=1|secret/db@v-db", some)
	mounts(t, m, `whole={"user":"u","password":"p","port":1}|db/user=u|db/port=1|secret/db@v-db`, but(some, func(o *request.Object) { o.Path = "whole" }))
	expand := func(name, folder string, format request.Expand) request.Object {
		return but(one(name), func(o *request.Object) { o.Path, o.Pieces = folder, &request.Pieces{Expand: format} })
	}
	mounts(t, m, "d/password=p|d/port=1|d/user=u|a=0755|secret/db@v-db|secret/yaml@v-yaml", expand("db", "d", request.ExpandJSON), expand("yaml", "", request.ExpandYAML))
	mounts(t, m, "f=password=p\nport=1\nuser=u\n|secret/db@v-db", but(expand("db", "f", request.ExpandJSON), func(o *request.Object) { o.Bundle = "properties" }))
	for says, objects := range map[string][]request.Object{
		`jmesPath "none" matches nothing in secret "db"`: {pieces(t, one("db"), [2]string{"none", "n"})},
		`secret "db" is not a YAML mapping or list`:      {expand("db", "d", request.ExpandYAML), expand("yaml", "d", "")},
		`secret "db": expand: the name of one of its files is also the path of a file of secret "yaml"; use another path`: {
			but(one("yaml"), func(o *request.Object) { o.Path = "d/user" }), expand("db", "d", request.ExpandJSON)},
		`secret "yaml": objectAlias: "d/user/x" is below a file of secret "db"`: {
			but(one("yaml"), func(o *request.Object) { o.Path = "d/user/x" }), expand("db", "d", request.ExpandJSON)},
		`secret "db": expand: the name of one of its files is too long`: {expand("db", strings.Repeat("d/", 2047)+"d", request.ExpandJSON)},
	} {
		if says == `secret "db" is not a YAML mapping or list` {
			v.values["db"] = "- x: ]"
		}
		volume, err := m.Mount(t.Context(), class(t, objects...), time.Time{})
		refused(t, volume, err, says)
		v.values["db"] = `{"user":"u","password":"p","port":1}`
	}
}

func TestDocuments(t *testing.T) {
	v := &vaults{values: map[string]string{"user": "u", "db": `{"password":"p\"w"}`, "f-a": "1", "f-b": "2"},
		items: map[string][]keyvault.Item{contoso + " secret": listed("f-a", "f-b", "f-gone", "user")}}
	m := newMounter(&signIn{}, v)
	const text = `user={{ secret "user" }} {{ secret "user" | upper }}
password={{ secret "db" | json "password" | quote }}
{{- range find "^f-" }}
{{ .Name | trimPrefix "f-" }}={{ .Value }}
{{- end }}`
	volume := mounts(t, m, "app.ini=user=u U\npassword=\"p\\\"w\"\na=1\nb=2|secret/user@v-user|secret/db@v-db|secret/f-a@v-f-a|secret/f-b@v-f-b", doc(t, "app.ini", text))
	if len(v.reads) != 10 || len(volume.Absent) != 1 { // of 2 mounts
		t.Errorf("read %v", v.reads)
	}
	mounts(t, m, "d=static", doc(t, "d", "static"))
	mounts(t, m, "d=none|user=u|secret/user@v-user", doc(t, "d", `{{ range find "^x" }}{{ else }}none{{ end }}`), one("user"))

	volume, err := m.Mount(t.Context(), class(t, doc(t, "app.ini", "\n\n{{ secret \"user\" | json \"x\" }}"), doc(t, "b", `{{ secret "gone" }}`)), time.Time{})
	refused(t, volume, err, `document "app.ini", line 3: the value that json gets is not a JSON object or list; correct the template`, `not found in contoso.vault.azure.net: secret "gone"`)
	wantReason(t, err, fault.ContentInvalid)
	volume, err = m.Mount(t.Context(), class(t, doc(t, "b", "\n"+`{{ range find "(" }}{{ end }}`)), time.Time{})
	refused(t, volume, err, `objects[0] "b": template: line 2: find "(" is not a valid RE2 regular expression`)
}

// A document or many pieces that are too large are refused, and named.
func TestLargeDocuments(t *testing.T) {
	v := &vaults{values: map[string]string{"a": strings.Repeat("x", 25_000)}}
	m := newMounter(&signIn{}, v)
	m.MaxBytes = 60_000
	double := doc(t, "large", `{{ $x := secret "a" }}{{ $x }}{{ $x }}`)
	volume, err := m.Mount(t.Context(), class(t, double, one("a")), time.Time{})
	refused(t, volume, err, `the largest parts are document "large" (50000 bytes), secret "a" (25000 bytes)`)
	wantReason(t, err, fault.TooLarge)
	volume, err = m.Mount(t.Context(), class(t, doc(t, "large", `{{ $x := secret "a" }}{{ $x }}{{ $x }}{{ $x }}`)), time.Time{})
	refused(t, volume, err, `document "large", line 1: `, "longer than 60000 bytes")
}

// An entry is rendered once for each distinct piece, however often a class names it.
func TestEqualPiecesShareContent(t *testing.T) {
	m := newMounter(&signIn{}, &vaults{values: map[string]string{"db": `{"user":"u"}`}})
	var objects []request.Object
	for i := range 50 {
		objects = append(objects, pieces(t, one("db"), [2]string{"user", fmt.Sprint("p", i)}),
			but(one("db"), func(o *request.Object) {
				o.Path, o.Pieces = fmt.Sprint("d", i), &request.Pieces{Expand: request.ExpandJSON}
			}))
	}
	volume, err := m.Mount(t.Context(), class(t, objects...), time.Time{})
	if err != nil || len(volume.Files) != 100 {
		t.Fatalf("got %v", err)
	}
	for i, f := range volume.Files[2:] {
		if &f.Content[0] != &volume.Files[i%2].Content[0] {
			t.Fatalf("%s has other content", f.Path)
		}
	}
}
