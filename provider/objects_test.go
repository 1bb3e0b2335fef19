package provider_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/document"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/tree"
)

const contoso = "contoso.vault.azure.net"

// class is a request for objects as the parser makes them.
func class(t testing.TB, objects ...request.Object) *request.Mount {
	t.Helper()
	m := *parse(t, secrets("x"), nil)
	m.Objects = objects
	return &m
}

// one is a secret of a class.
func one(name string) request.Object {
	return request.Object{Type: request.TypeSecret, Name: name, History: 1, Path: name, Format: request.FormatPEM, Encoding: request.EncodingUTF8, Mode: 0o644}
}

// but is an object with a change.
func but(o request.Object, change func(*request.Object)) request.Object {
	change(&o)
	return o
}

// find is a search in a folder.
func find(pattern, folder string) request.Object {
	o := one("")
	o.Path, o.Find = folder, &request.Find{Max: 100}
	if pattern != "" {
		o.Find.Name = regexp.MustCompile(pattern)
	}
	return o
}

// doc is a document.
func doc(t testing.TB, path, text string) request.Object {
	t.Helper()
	template, errs := document.Parse(text)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return request.Object{History: 1, Path: path, Mode: 0o644, Document: template}
}

// pieces are parts of a JSON secret.
func pieces(t testing.TB, o request.Object, of ...[2]string) request.Object {
	t.Helper()
	o.Path, o.Pieces = "", &request.Pieces{}
	for _, p := range of {
		query, err := tree.ParsePath(p[0])
		if err != nil {
			t.Fatal(err)
		}
		o.Pieces.Paths = append(o.Pieces.Paths, request.Piece{Query: query, Path: p[1], Mode: 0o440})
	}
	return o
}

func listed(names ...string) (items []keyvault.Item) {
	for _, name := range names {
		items = append(items, keyvault.Item{Name: name, Enabled: true})
	}
	return items
}

// show is the volume as a text: files and their modes, then versions.
func show(v *provider.Volume) string {
	var out []string
	for _, f := range v.Files {
		out = append(out, fmt.Sprintf("%s=%s", f.Path, f.Content))
	}
	for _, version := range v.Versions {
		out = append(out, fmt.Sprintf("%s@%s", version.ID, version.Version))
	}
	return strings.Join(out, "|")
}

// mounts checks a volume, of which equal objects must make equal bytes.
func mounts(t *testing.T, m *provider.Mounter, want string, objects ...request.Object) *provider.Volume {
	t.Helper()
	req := class(t, objects...)
	volume, err := m.Mount(t.Context(), req, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if got := show(volume); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	again, err := m.Mount(t.Context(), req, time.Time{})
	if err != nil || show(again) != show(volume) {
		t.Errorf("the second mount: %v, %v", again, err)
	}
	return volume
}

func TestVaults(t *testing.T) {
	s, v := &signIn{}, &vaults{values: map[string]string{"a": "A", "b": "B"}}
	other := but(one("b"), func(o *request.Object) { o.Vault = "fabrikam" })
	m := newMounter(s, v)
	mounts(t, m, "a=A|b=B|secret/a@v-a|fabrikam/secret/b@v-b", one("a"), other)
	if len(s.ids) != 2 || v.at[contoso] != 2 || v.at["fabrikam.vault.azure.net"] != 2 {
		t.Errorf("signed in %d times for 2 mounts, read %v", len(s.ids), v.at)
	}
	// A class whose entries name their vaults needs none.
	req := class(t, other, but(one("a"), func(o *request.Object) { o.Vault = "third" }))
	req.Vault = ""
	volume, err := m.Mount(t.Context(), req, time.Time{})
	if err != nil || show(volume) != "b=B|a=A|fabrikam/secret/b@v-b|third/secret/a@v-a" {
		t.Errorf("got %v, %v", volume, err)
	}
	// Errors name the vault of each object.
	_, err = m.Mount(t.Context(), class(t, one("gone"), but(one("gone"), func(o *request.Object) { o.Vault = "fabrikam" })), time.Time{})
	refused(t, nil, err, "not found in "+contoso+`: secret "gone"`, `not found in fabrikam.vault.azure.net: secret "gone"`)
}

func TestOptional(t *testing.T) {
	optional := func(o request.Object) request.Object { return but(o, func(o *request.Object) { o.Optional = true }) }
	v := &vaults{values: map[string]string{"a": "A"}, fails: map[string]func(ctx) error{}}
	m := newMounter(&signIn{}, v)
	history := optional(but(one("h"), func(o *request.Object) { o.History = 3 }))
	volume := mounts(t, m, "a=A|secret/a@v-a", optional(one("gone")), one("a"), history)
	if want := []string{`secret "gone"`, `secret "h"`}; !slices.Equal(volume.Absent, want) {
		t.Errorf("absent: %q", volume.Absent)
	}
	mounts(t, m, "d=", optional(one("gone")), history, optional(find("^x", "found")),
		optional(doc(t, "d", `{{ range find "^x" }}{{ .Name }}{{ end }}`)))
	mounts(t, m, "a=A|secret/a@v-a|secret/a@v-a", optional(doc(t, "d", `{{ secret "a" }}{{ secret "gone" }}`)), one("a"))
	// Nothing but a 404 leaves an object out.
	for _, c := range []struct {
		status int
		body   string
		reason string
	}{
		{403, `{"error":{"code":"Forbidden","innererror":{"code":"SecretDisabled"}}}`, "ObjectDisabled"},
		{403, `{"error":{"code":"Forbidden","innererror":{"code":"ForbiddenByRbac"}}}`, "AccessDenied"},
		{401, `{"error":{"code":"Unauthorized"}}`, "TokenRejected"},
		{429, `{}`, "Throttled"},
		{503, `{}`, "ServiceUnavailable"},
		{404, `<html>`, "ServiceUnavailable"},
	} {
		v.fails["gone"] = func(ctx ctx) error {
			return refusal(ctx, contoso, keyvault.Caller{Token: "t"}, "gone", "", c.status, c.body)
		}
		_, err := m.Mount(t.Context(), class(t, optional(one("gone")), one("a")), time.Time{})
		wantReason(t, err, reason(c.reason))
	}
}

func TestFind(t *testing.T) {
	v := &vaults{values: map[string]string{"p-a": "A", "p-b": "B", "tls": "T", "off": "O", "q": "Q"}, items: map[string][]keyvault.Item{}}
	items := listed("p-a", "p-b", "p-gone", "q")
	items[1].Tags = map[string]string{"env": "prod", "team": "x"}
	items = append(items, keyvault.Item{Name: "off", Enabled: false}, keyvault.Item{Name: "tls", Enabled: true, Managed: true})
	v.items[contoso+" secret"] = items
	m := newMounter(&signIn{}, v)
	tags := func(o request.Object, tags map[string]string) request.Object {
		return but(o, func(o *request.Object) { o.Find = &request.Find{Name: o.Find.Name, Tags: tags, Max: 100} })
	}
	volume := mounts(t, m, "d/p-a=A|d/p-b=B|secret/p-a@v-p-a|secret/p-b@v-p-b", find("^p-", "d"))
	if len(volume.Absent) != 1 || volume.Files[0].Mode != 0o644 {
		t.Errorf("got %+v", volume)
	}
	mounts(t, m, "a=A|b=B|secret/p-a@v-p-a|secret/p-b@v-p-b", find("^p-(.*)$", ""))
	mounts(t, m, "d/p-b=B|secret/p-b@v-p-b", tags(find("", "d"), map[string]string{"env": "prod", "team": "x"}))
	mounts(t, m, "q=Q|e/tls=T|secret/q@v-q|secret/tls@v-tls", one("q"), but(find("^tls", "e"), func(o *request.Object) { o.Find.Managed = true }))
	mounts(t, m, "env=P_A=A\nP_B=B\n|secret/p-a@v-p-a|secret/p-b@v-p-b", but(find("^p-", "env"), func(o *request.Object) { o.Bundle = "dotenv" }))
	mounts(t, m, "env={\"a\":\"A\",\"b\":\"B\"}\n|secret/p-a@v-p-a|secret/p-b@v-p-b", but(find("^p-(.)$", "env"), func(o *request.Object) { o.Bundle = "json" }))
	v.lists = map[string][]string{"p-a": {"2", "1"}, "p-b": {"7"}}
	mounts(t, m, "d/p-a/0=A|d/p-a/1=A|d/p-b/0=B|secret/p-a/0@2|secret/p-a/1@1|secret/p-b/0@7", but(find("^p-", "d"), func(o *request.Object) { o.History = 2 }))
}

func TestFindRefused(t *testing.T) {
	items := listed("p-a", "p-b", "p-", "q-a", "plain")
	items = append(items, keyvault.Item{Name: "off", Enabled: false}, keyvault.Item{Name: "tls", Enabled: true, Managed: true})
	values := map[string]string{"plain": "{}"}
	for _, i := range items {
		values[i.Name] = "v"
	}
	m := newMounter(&signIn{}, &vaults{values: values, items: map[string][]keyvault.Item{contoso + " secret": items}})
	for name, c := range map[string]struct {
		objects []request.Object
		reason  string
		says    string
	}{
		"none":            {[]request.Object{find("^none", "d")}, "ObjectNotFound", contoso + ` has no secret that matches find with name "^none"; check find`},
		"no tag":          {[]request.Object{but(find("", "d"), func(o *request.Object) { o.Find.Tags = map[string]string{"a": "b"} })}, "ObjectNotFound", `find with tag "a"`},
		"certificates":    {[]request.Object{find("^tls", "d")}, "ObjectNotFound", "(1 behind certificates); set includeCertificates: true"},
		"disabled":        {[]request.Object{find("^off", "d")}, "ObjectNotFound", "(1 disabled); enable them, or check find"},
		"too many":        {[]request.Object{one("plain"), but(find("-", "d"), func(o *request.Object) { o.Find.Max = 3 })}, "InvalidParameter", `objects[1]: find: find with name "-" matches 4 secrets in ` + contoso + ", over the limit of maxObjects 3; narrow it, or raise maxObjects"},
		"in a document":   {[]request.Object{doc(t, "d", `{{ range find "." }}{{ end }}`)}, "", ""},
		"one path":        {[]request.Object{find("-(.*)$", "d")}, "InvalidParameter", `its group matches no text in secret "p-"`},
		"one path twice":  {[]request.Object{find("^[pq]-(a)$", "d")}, "InvalidParameter", `"p-a" and "q-a" have the same path "a"`},
		"of two searches": {[]request.Object{find("^p-(a)$", "d"), find("^q-(a)$", "d")}, "InvalidParameter", `objects[1]: find: secret "q-a" has the same path "d/a" as "p-a" of objects[0]`},
		"of an object":    {[]request.Object{but(one("plain"), func(o *request.Object) { o.Path = "d/a" }), find("^p-(a)$", "d")}, "InvalidParameter", `secret "p-a": objectAlias: "d/a" is also the path of a file of secret "plain"; use another path`},
		"below an object": {[]request.Object{but(one("plain"), func(o *request.Object) { o.Path = "d" }), find("^p-(a)$", "d")}, "InvalidParameter", `"d/a" is below "d", a file of secret "plain"`},
		"one variable":    {[]request.Object{but(find("^p-[ab]", "env"), func(o *request.Object) { o.Bundle = "nonsense" })}, "ContentInvalid", `nonsense bundle "env" as nonsense has no format`},
	} {
		t.Run(name, func(t *testing.T) {
			volume, err := m.Mount(t.Context(), class(t, c.objects...), time.Time{})
			if c.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refused(t, volume, err, c.says)
			wantReason(t, err, reason(c.reason))
		})
	}
}

// What searches find is bounded, in a document too, and so is what all of them find together.
func TestFindIsBounded(t *testing.T) {
	names, values := numbered(1000)
	v := &vaults{values: values, items: map[string][]keyvault.Item{contoso + " secret": listed(names...)}}
	m := newMounter(&signIn{}, v)
	var many []request.Object
	for i := range 5 {
		many = append(many, but(find("^s", fmt.Sprint(i)), func(o *request.Object) { o.Find.Max = 1000 }))
	}
	volume, err := m.Mount(t.Context(), class(t, many...), time.Time{})
	refused(t, volume, err, "more than 4096 objects that the searches find")
	volume, err = m.Mount(t.Context(), class(t, doc(t, "d", `{{ range find "^s" }}{{ end }}`)), time.Time{})
	refused(t, volume, err, `objects[0] "d": template: find "^s" matches 1000 secrets`, "over the limit of 100; narrow it")
	if len(v.listed) != 2 || len(v.reads) > 0 {
		t.Errorf("%d lists and %d reads", len(v.listed), len(v.reads))
	}
}
