package request_test

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"akv-csi-provider/provider/bundle"
	"akv-csi-provider/provider/document"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/tree"
)

func query(t *testing.T, text string) *tree.Path {
	t.Helper()
	p, err := tree.ParsePath(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// beyond are the objects of beyond.yaml.
func beyond(t *testing.T) []request.Object {
	t.Helper()
	doc, wrong := document.Parse("[database]\npassword = {{ secret \"db\" | json \"password\" | quote }}\n{{- range find \"^feature-\" }}\n" +
		"{{ .Name | trimPrefix \"feature-\" }} = {{ .Value }}\n{{- end }}\n")
	if wrong != nil {
		t.Fatal(wrong)
	}
	all := []request.Object{
		with(secret("shared"), func(o *request.Object) { o.Vault, o.Optional = "contoso-shared", true }),
		with(secret(""), func(o *request.Object) {
			o.Path = "payments"
			o.Find = &request.Find{Name: regexp.MustCompile("^payments-(.*)$"), Tags: map[string]string{"env": "prod"}, Max: 50}
		}),
		with(secret("db"), func(o *request.Object) {
			o.Path = ""
			o.Pieces = &request.Pieces{Paths: []request.Piece{{Query: query(t, "username"), Path: "db/user", Mode: 0o644},
				{Query: query(t, "password"), Path: "db/password", Mode: 0o440, Optional: true}}}
		}),
		with(secret("appsettings"), func(o *request.Object) {
			o.Path, o.Bundle, o.Pieces = ".env", bundle.Dotenv, &request.Pieces{Expand: request.ExpandJSON}
		}),
		with(secret("web-tls"), func(o *request.Object) {
			o.Path = ""
			o.Pieces = &request.Pieces{Parts: []request.Part{{Name: request.PartFullChain, Path: "tls/tls.crt", Mode: 0o644},
				{Name: request.PartPKCS12, Path: "tls/keystore.p12", Mode: 0o644, PasswordFrom: "keystore-password", Legacy: true}}}
		}),
		with(secret("signing"), func(o *request.Object) { o.Type, o.Format, o.FormatSet = request.TypeKey, request.FormatJWK, true }),
		with(secret(""), func(o *request.Object) { o.Type, o.Path, o.Document = "", "app/config.ini", doc }),
	}
	for i := 1; i < len(all); i++ { // the first has its own vault
		all[i].Failover = "contoso-west"
	}
	return all
}

// What each new field means, in each of the forms of the list.
func TestNewFields(t *testing.T) {
	base := newAttributes(t)
	found := func(change func(*request.Object)) request.Object {
		return with(secret(""), func(o *request.Object) {
			o.Path, o.Find = "", &request.Find{Max: 100}
			change(o)
		})
	}
	pieces := func(p request.Pieces) request.Object {
		return with(secret("a"), func(o *request.Object) { o.Path, o.Pieces = "", &p })
	}
	text := "user = {{ secret \"db-user\" }}\n"
	template, _ := document.Parse(text)
	for _, c := range []struct {
		entry string // in flow style
		want  request.Object
	}{
		{`objectName: a, objectType: secret, keyvaultName: Other-KV`, with(secret("a"), func(o *request.Object) { o.Vault = "other-kv" })},
		{`objectName: a, objectType: secret, keyvaultName: Contoso`, secret("a")},
		{`objectName: a, objectType: secret, failoverKeyvaultName: Other`, with(secret("a"), func(o *request.Object) { o.Failover = "other" })},
		{`objectName: a, objectType: secret, keyvaultName: other, failoverKeyvaultName: contoso`, with(secret("a"), func(o *request.Object) { o.Vault, o.Failover = "other", "contoso" })},
		{`objectName: a, objectType: secret, optional: true`, with(secret("a"), func(o *request.Object) { o.Optional = true })},
		{`objectName: a, objectType: secret, optional: "False", find: ~, template: ~`, secret("a")},
		{`objectName: a, objectType: key, objectFormat: JWK`, with(secret("a"), func(o *request.Object) { o.Type, o.Format, o.FormatSet = request.TypeKey, request.FormatJWK, true })},

		{`find: {name: ^a}, objectType: secret`, found(func(o *request.Object) { o.Find.Name = regexp.MustCompile("^a") })},
		{`objectName: "", find: {tags: {env: prod, n: 1, e: ""}}, objectType: key, maxObjects: 1000, objectAlias: d/e, objectFormat: jwk, optional: true`, found(func(o *request.Object) {
			o.Type, o.Format, o.FormatSet, o.Path, o.Optional = request.TypeKey, request.FormatJWK, true, "d/e", true
			o.Find.Tags, o.Find.Max = map[string]string{"env": "prod", "n": "1", "e": ""}, 1000
		})},
		{`find: {name: "^x-(?:a|b)-(.*)$", tags: {env: prod}}, objectType: secret, includeCertificates: true, objectEncoding: hex, filePermission: 0400, objectVersionHistory: 3, objectAlias: ./d/, objectFormat: pfx`, found(func(o *request.Object) {
			o.Find.Name, o.Find.Tags, o.Find.Managed = regexp.MustCompile("^x-(?:a|b)-(.*)$"), map[string]string{"env": "prod"}, true
			o.Encoding, o.Mode, o.History, o.Path, o.Format, o.FormatSet = request.EncodingHex, 0o400, 3, "d", request.FormatPFX, true
		})},
		{`find: {name: "^[a-z0-9-]{1,100}$|(?:payments|orders|invoices)-(user|password|host)"}, objectType: cert, objectAlias: .`, found(func(o *request.Object) {
			o.Type, o.Find.Name = request.TypeCert, regexp.MustCompile("^[a-z0-9-]{1,100}$|(?:payments|orders|invoices)-(user|password|host)")
		})},
		{`find: {name: a}, objectType: secret, objectAlias: .env, bundle: dotenv, keyvaultName: other`, found(func(o *request.Object) {
			o.Find.Name, o.Path, o.Bundle, o.Vault = regexp.MustCompile("a"), ".env", bundle.Dotenv, "other"
		})},

		{`objectName: a, objectType: secret, filePermission: 0440, jmesPath: [{path: "x.y", objectAlias: d/e}, {path: z, objectAlias: z, filePermission: 0400, optional: true}]`,
			with(pieces(request.Pieces{Paths: []request.Piece{
				{Query: query(t, "x.y"), Path: "d/e", Mode: 0o440}, {Query: query(t, "z"), Path: "z", Mode: 0o400, Optional: true}}}), func(o *request.Object) { o.Mode = 0o440 })},
		{`objectName: a, objectType: secret, objectAlias: whole, objectVersion: "17", objectEncoding: base64, jmesPath: [{path: x, objectAlias: e}]`,
			with(pieces(request.Pieces{Paths: []request.Piece{{Query: query(t, "x"), Path: "e", Mode: 0o644}}}), func(o *request.Object) {
				o.Path, o.Version, o.Encoding = "whole", "17", request.EncodingBase64
			})},
		{`objectName: a, objectType: secret, expand: json`, pieces(request.Pieces{Expand: request.ExpandJSON})},
		{`objectName: a, objectType: secret, expand: yaml, objectAlias: d`, with(pieces(request.Pieces{Expand: request.ExpandYAML}), func(o *request.Object) { o.Path = "d" })},
		{`objectName: a, objectType: secret, expand: json, objectAlias: app.properties, bundle: properties`,
			with(pieces(request.Pieces{Expand: request.ExpandJSON}), func(o *request.Object) { o.Path, o.Bundle = "app.properties", bundle.Properties })},
		{`objectName: a, objectType: secret, files: [{part: fullchain, objectAlias: tls.crt}, {part: key, objectAlias: tls.key, filePermission: 0400},
		   {part: pkcs12, objectAlias: k.p12, passwordFrom: pw, algorithms: legacy}, {part: jks, objectAlias: k.jks, passwordFrom: pw},
		   {part: truststore-pkcs12, objectAlias: t.p12, passwordFrom: pw, algorithms: modern}]`, pieces(request.Pieces{Parts: []request.Part{
			{Name: request.PartFullChain, Path: "tls.crt", Mode: 0o644}, {Name: request.PartKey, Path: "tls.key", Mode: 0o400},
			{Name: request.PartPKCS12, Path: "k.p12", Mode: 0o644, PasswordFrom: "pw", Legacy: true}, {Name: request.PartJKS, Path: "k.jks", Mode: 0o644, PasswordFrom: "pw"},
			{Name: request.PartTrustStorePKCS12, Path: "t.p12", Mode: 0o644, PasswordFrom: "pw"}}})},
		{`objectAlias: app/c.ini, template: "user = {{ secret \"db-user\" }}\n", filePermission: 0400, optional: true`, request.Object{
			Path: "app/c.ini", Mode: 0o400, History: 1, Format: request.FormatPEM, Encoding: request.EncodingUTF8, Optional: true, Document: template}},
	} {
		entry := strings.Join(strings.Fields(c.entry), " ")
		for form, objects := range map[string]string{
			"mapping": "- {" + entry + "}", "text": "array:\n  - |\n    {" + entry + "}\n", "alias": "x: [&x {" + entry + "}]\narray: [*x]", "merge": "- {<<: {" + entry + "}}",
		} {
			m, err := base.with(map[string]string{"objects": objects}).parse(t)
			if err != nil {
				t.Errorf("%s: %s: %v", form, entry, err)
			} else if len(m.Warnings) > 0 || !reflect.DeepEqual(m.Objects, []request.Object{c.want}) {
				t.Errorf("%s: %s: %v\ngot  %+v\nwant %+v", form, entry, m.Warnings, m.Objects, c.want)
			}
		}
	}
}

// White space of a template is a part of it, where it stands in a block of the list or of a text.
func TestTemplateVerbatim(t *testing.T) {
	base := newAttributes(t)
	want, _ := document.Parse("  a:\n    {{ secret \"x\" }}\n\n")
	for _, objects := range []string{
		"- objectAlias: f\n  template: |2+\n      a:\n        {{ secret \"x\" }}\n\n- {objectName: a, objectType: key}\n",
		"array:\n  - |\n    objectAlias: f\n    template: |2+\n        a:\n          {{ secret \"x\" }}\n\n    filePermission: 0644",
		`- {objectAlias: f, template: "  a:\n    {{ secret \"x\" }}\n\n"}`,
	} {
		m, err := base.with(map[string]string{"objects": objects}).parse(t)
		if err != nil || !reflect.DeepEqual(m.Objects[0].Document, want) {
			t.Errorf("%q: %v", objects, err)
		}
	}
	// Also at the end of all, where white space is cut off.
	for objects, text := range map[string]string{
		"- objectAlias: f\n  template: |\n    a\n": "a\n", "- objectAlias: f\n  template: |\n    a": "a", "- objectAlias: f\n  template: |-\n    a\n": "a",
		"- objectAlias: f\n  template: >\n    a\n    b\n \n\t": "a b\n", "  - objectAlias: f\n    template: |\n      a\n  \n": "a\n",
		"array:\n- |\n  objectAlias: f\n  template: |\n    a\n": "a\n", "array:\n- |\n  objectAlias: f\n  template: |\n    a\n- |-\n  objectAlias: g\n  template: b": "a\n",
	} {
		want, _ := document.Parse(text)
		m, err := base.with(map[string]string{"objects": objects}).parse(t)
		if err != nil || !reflect.DeepEqual(m.Objects[0].Document, want) {
			t.Errorf("%q: not %q, %v", objects, text, err)
		}
	}
}

// What is wrong with the new fields is an error that names the field and what is allowed.
func TestNewFieldsRefused(t *testing.T) {
	base := newAttributes(t)
	long := func(n int) string { return strings.Repeat("a", n) }
	tags := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "t%d: x, ", i)
		}
		return b.String()
	}
	const object, find, jmes, files = `objectName: a, objectType: secret, `, `objectType: secret, find: `, `objectName: a, objectType: secret, jmesPath: `, `objectName: a, objectType: secret, files: `
	for _, c := range []struct {
		entry, field string // field after "objects[0]"
		says         []string
	}{
		// Kinds.
		{object + `find: {name: a}`, ` "a": find`, []string{"together with objectName", "per entry"}},
		{object + `template: x`, ` "a": template`, []string{"together with objectName"}},
		{find + `{name: a}, template: x`, ": template", []string{"together with find"}},
		{`objectAlias: f, objectType: key`, ": objectName", []string{"missing", "1 to 127"}},
		// Fields of another kind.
		{object + `maxObjects: 5`, ` "a": maxObjects`, []string{"is not allowed with objectName", "it is for find"}},
		{object + `includeCertificates: true`, ` "a": includeCertificates`, []string{"it is for find"}},
		{object + `bundle: json`, ` "a": bundle`, []string{"without expand or find"}},
		{find + `{name: a}, objectVersion: "17"`, ": objectVersion", []string{"is not allowed with find", "objectName"}},
		{find + `{name: a}, jmesPath: [{path: a, objectAlias: b}]`, ": jmesPath", []string{"is not allowed with find"}},
		{find + `{name: a}, expand: json`, ": expand", []string{"is not allowed with find"}},
		{find + `{name: a}, files: [{part: leaf, objectAlias: b}]`, ": files", []string{"is not allowed with find"}},
		{`objectAlias: f, template: x, objectType: secret`, ": objectType", []string{"is not allowed with template", "objectName and find"}},
		{`objectAlias: f, template: x, objectEncoding: hex`, ": objectEncoding", []string{"is not allowed with template"}},
		{`objectAlias: f, template: x, objectFormat: pem`, ": objectFormat", []string{"is not allowed with template"}},
		{`objectAlias: f, template: x, objectVersionHistory: 2`, ": objectVersionHistory", []string{"is not allowed with template"}},
		{`objectAlias: f, template: x, bundle: json`, ": bundle", []string{"is not allowed with template"}},
		// Vaults.
		{object + `keyvaultName: https://x.vault.azure.net`, ` "a": keyvaultName`, []string{`"https://x`, "3-24"}},
		{object + `keyvaultName: "{{ .Values.kv }}"`, ` "a": keyvaultName`, []string{"Helm"}},
		{object + `failoverKeyvaultName: k`, ` "a": failoverKeyvaultName`, []string{`"k"`, "3-24"}},
		{object + `failoverKeyvaultName: CONTOSO`, ` "a": failoverKeyvaultName`, []string{"same vault as keyvaultName"}},
		{object + `keyvaultName: other, failoverKeyvaultName: Other`, ` "a": failoverKeyvaultName`, []string{"same vault as keyvaultName"}},
		// Optional.
		{object + `optional: yes`, ` "a": optional`, []string{`"yes"`, "true or false"}},
		{object + `optional: [true]`, `: optional`, []string{"single value"}},
		// Formats.
		{object + `objectFormat: jwk`, ` "a": objectFormat`, []string{"jwk", `"secret"`, "objectType key"}},
		{`objectName: a, objectType: cert, objectFormat: JWK`, ` "a": objectFormat`, []string{"jwk", `"cert"`}},
		{find + `{name: a}, objectFormat: jwk`, ": objectFormat", []string{"jwk"}},
		// Searches.
		{find + `~`, ": find", []string{"empty", "name, tags"}},
		{find + `^a`, ": find", []string{"not a mapping", "name, tags"}},
		{find + `[a]`, ": find", []string{"not a mapping"}},
		{find + `{}`, ": find", []string{"neither name nor tags"}},
		{find + `{name: "", tags: ~}`, ": find", []string{"neither name nor tags"}},
		{find + `{names: a, tags: {a: b}}`, ": find: names", []string{"is not a field (did you mean name?)", "name, tags"}},
		{find + `{name: [a]}`, ": find: name", []string{"single value"}},
		{find + `{name: "^(a"}`, ": find: name", []string{`"^(a"`, "missing closing )", "RE2"}},
		{find + `{name: "a(?!b)"}`, ": find: name", []string{"Perl", `"(?!"`}},
		{find + `{name: "(a)(b)"}`, ": find: name", []string{"2 groups", "(?:…)"}},
		{find + `{name: ` + long(257) + `}`, ": find: name", []string{"257 bytes", "256"}},
		{find + `{name: "((a{10}){10}){10}"}`, ": find: name", []string{"too many states"}},
		{find + `{name: "(x+x+){100}y"}`, ": find: name", []string{"too many states"}},
		{find + `{name: '\pL'}`, ": find: name", []string{"large character classes"}},
		{find + `{name: "a{1001}"}`, ": find: name", []string{"repeat"}},
		{find + `{tags: [a]}`, ": find: tags", []string{"not a mapping"}},
		{find + `{tags: {}}`, ": find: tags", []string{"0 tags", "1 to 15"}},
		{find + `{tags: {` + tags(16) + `}}`, ": find: tags", []string{"16 tags", "1 to 15"}},
		{find + `{tags: {a: [b]}}`, ": find: tags", []string{`"a" is not a single value`}},
		{find + `{tags: {a: ` + long(257) + `}}`, ": find: tags", []string{"256 characters"}},
		{find + `{tags: {` + long(257) + `: a}}`, ": find: tags", []string{"256 characters"}},
		{`objectType: secrets, find: {name: a}`, ": objectType", []string{"did you mean secret?"}},
		{`find: {name: a}`, ": objectType", []string{"missing", "secret, key, cert"}},
		{find + `{name: a}, maxObjects: 0`, ": maxObjects", []string{`"0"`, "1 to 1000"}},
		{find + `{name: a}, maxObjects: 1001`, ": maxObjects", []string{"1 to 1000"}},
		{find + `{name: a}, maxObjects: many`, ": maxObjects", []string{"1 to 1000"}},
		{`objectType: key, find: {name: a}, includeCertificates: true`, ": includeCertificates", []string{`"key"`, "or use objectType secret"}},
		{`objectType: key, find: {name: a}, objectEncoding: hex`, ": objectEncoding", []string{`"key"`}},
		{find + `{name: a}, objectAlias: ../x`, ": objectAlias", []string{`".."`}},
		{find + `{name: a}, objectAlias: /`, ": objectAlias", []string{"absolute"}},
		{find + `{name: a}, bundle: json`, ": objectAlias", []string{"missing", "path of its file"}},
		{find + `{name: a}, bundle: ini, objectAlias: f`, ": bundle", []string{`"ini"`, "dotenv, properties, json, yaml"}},
		{find + `{name: a}, bundle: propertes, objectAlias: f`, ": bundle", []string{"did you mean properties?"}},
		{find + `{name: a}, bundle: json, objectAlias: f, objectVersionHistory: 2`, ": objectVersionHistory", []string{"is not allowed with bundle"}},
		// Pieces of a value.
		{`objectName: a, objectType: key, expand: json`, ` "a": expand`, []string{`"key"`, "objectType secret"}},
		{`objectName: a, objectType: cert, files: [{part: leaf, objectAlias: f}]`, ` "a": files`, []string{`"cert"`, "objectType secret"}},
		{object + `expand: json, jmesPath: [{path: a, objectAlias: b}]`, ` "a": expand`, []string{"together with jmesPath", "per entry"}},
		{object + `expand: json, files: [{part: leaf, objectAlias: b}]`, ` "a": files`, []string{"together with expand"}},
		{object + `expand: toml`, ` "a": expand`, []string{`"toml"`, "json, yaml"}},
		{object + `expand: json, objectVersionHistory: 2`, ` "a": objectVersionHistory`, []string{"is not allowed with expand"}},
		{object + `expand: json, bundle: yaml`, ` "a": objectAlias`, []string{"missing"}},
		{jmes + `[{path: a, objectAlias: b}], bundle: yaml`, ` "a": bundle`, []string{"is not allowed with jmesPath"}},
		{jmes + `username`, ` "a": jmesPath`, []string{"not a list", "path, objectAlias"}},
		{jmes + `{path: a, objectAlias: b}`, ` "a": jmesPath`, []string{"not a list"}},
		{jmes + `[]`, ` "a": jmesPath`, []string{": empty; use a list"}},
		{jmes + `[` + strings.Repeat("~, ", 257) + `]`, ` "a": jmesPath`, []string{"257 entries", "256"}},
		{jmes + `[~]`, ` "a": jmesPath[0]`, []string{"empty"}},
		{jmes + `[a]`, ` "a": jmesPath[0]`, []string{"not a mapping"}},
		{jmes + `[{path: a, objectAlias: f}, {objectAlias: b}]`, ` "a": jmesPath[1]: path`, []string{"missing", "JMESPath"}},
		{jmes + `[{path: a}]`, ` "a": jmesPath[0]: objectAlias`, []string{"missing", "path of its file"}},
		{jmes + `[{path: a, objectAlias: b, filePermissions: 0400}]`, ` "a": jmesPath[0]: filePermissions`, []string{"is not a field (did you mean filePermission?)"}},
		{jmes + `[{path: a, objectAlias: /b}]`, ` "a": jmesPath[0]: objectAlias`, []string{"absolute"}},
		{jmes + `[{path: "a[", objectAlias: b}]`, ` "a": jmesPath[0]: path`, []string{`"a["`, "ends too early"}},
		{jmes + `[{path: "nope(a)", objectAlias: b}]`, ` "a": jmesPath[0]: path`, []string{"not a JMESPath function"}},
		{jmes + `[{path: ` + long(1025) + `, objectAlias: b}]`, ` "a": jmesPath[0]: path`, []string{"1025 bytes", "1024"}},
		{jmes + `[{path: a, objectAlias: b, filePermission: 9}]`, ` "a": jmesPath[0]: filePermission`, []string{"octal"}},
		{jmes + `[{path: a, objectAlias: b, optional: maybe}]`, ` "a": jmesPath[0]: optional`, []string{"true or false"}},
		{jmes + `[{path: a, path: b, objectAlias: b}]`, ` "a": jmesPath[0]`, []string{"already defined"}},
		// Parts of a certificate.
		{files + `[]`, ` "a": files`, []string{": empty; use a list", "part, objectAlias"}},
		{files + `[` + strings.Repeat("~, ", 65) + `]`, ` "a": files`, []string{"65 entries", "64"}},
		{files + `[{objectAlias: f}]`, ` "a": files[0]: part`, []string{"missing", "leaf, chain, fullchain, ca, bundle, key, key-pkcs1, pkcs12, jks, truststore-pkcs12, truststore-jks"}},
		{files + `[{part: fulchain, objectAlias: f}]`, ` "a": files[0]: part`, []string{"did you mean fullchain?"}},
		{files + `[{part: jks, objectAlias: f}]`, ` "a": files[0]: passwordFrom`, []string{"missing", "a secret of the same vault"}},
		{files + `[{part: jks, objectAlias: f, passwordFrom: "pass word"}]`, ` "a": files[0]: passwordFrom`, []string{`"pass word"`, "letters, digits and hyphens"}},
		{files + `[{part: jks, objectAlias: f, passwordFrom: pw, password: x}]`, ` "a": files[0]: password`, []string{"is not a field (did you mean passwordFrom?)"}},
		{files + `[{part: leaf, objectAlias: f, passwordFrom: pw}]`, ` "a": files[0]: passwordFrom`, []string{"part leaf", "keystores"}},
		{files + `[{part: jks, objectAlias: f, passwordFrom: pw, algorithms: legacy}]`, ` "a": files[0]: algorithms`, []string{"part jks", "pkcs12"}},
		{files + `[{part: pkcs12, objectAlias: f, passwordFrom: pw, algorithms: old}]`, ` "a": files[0]: algorithms`, []string{`"old"`, "modern, legacy"}},
		// Documents.
		{`template: x`, ": objectAlias", []string{"missing", "path of its file"}},
		{`objectAlias: f, template: ""`, ": template", []string{"empty"}},
		{`objectAlias: f, template: ~`, ": template", []string{"empty"}},
		{`objectAlias: f, template: [x]`, ": template", []string{"single value"}},
		{`objectAlias: f, template: ` + long(64<<10+1), ": template", []string{"65537 bytes", "65536"}},
		{`objectAlias: ../f, template: x`, ": objectAlias", []string{`".."`}},
		{`objectAlias: f, template: '{{ secret }}'`, ": template", []string{"line 1", "secret takes one text"}},
		{`objectAlias: f, template: '{{ secret "a_b" }}'`, ": template", []string{`line 1: secret "a_b" is not valid`, "1 to 127"}},
		{`objectAlias: f, template: "x\n{{ certificate \"a/b\" }}"`, ": template", []string{`line 2: certificate "a/b"`}},
		{`objectAlias: f, template: '{{ range find "(" }}{{ end }}'`, ": template", []string{`line 1: find "("`, "missing closing )", "RE2"}},
		{`objectAlias: f, template: '{{ range find "` + long(257) + `" }}{{ end }}'`, ": template", []string{"257 bytes"}},
		{`objectAlias: f, template: '{{ env "HOME" }}'`, ": template", []string{"no function"}},
	} {
		m, err := base.with(map[string]string{"objects": "- {" + c.entry + "}\n- {objectName: z, objectType: zone}"}).parse(t)
		problems := refused(t, m, err)
		if len(problems) != 2 {
			t.Errorf("%.100s: %d problems: %v", c.entry, len(problems), err)
		}
		if problems[0].Field != "objects[0]"+c.field || problems[0].Line != 1 || problems[0].Column < 3 {
			t.Errorf("%.100s: %q in line %d, column %d, want field %q", c.entry, problems[0].Field, problems[0].Line, problems[0].Column, c.field)
		}
		names(t, problems, err, problems[0].Field, c.says...)
	}
}

// All that is wrong in one entry comes at once, each where it is.
func TestNewProblemsComeTogether(t *testing.T) {
	objects := `- objectName: db
  objectType: secret
  jmesPath:
    - {path: "a[", objectAlias: x}
    - {path: b, objectAlias: ../y, optional: ja}
- find: {name: "(", tag: {}}
  objectType: secret
  maxObjects: 0
- objectAlias: f
  template: |
    one
      {{ secret "a_b" }} {{ find "[" }}
    {{ key "c_d" }}
- objectName: ok
  objectType: secret
  objectAlias: x
`
	_, problems := new(request.Parser).ParseClass(map[string]string{"keyvaultName": "contoso", "objects": objects}, 0o644)
	var got []string
	for _, p := range problems {
		got = append(got, fmt.Sprintf("%d:%d %s", p.Line, p.Column, p.Field))
	}
	want := []string{
		`4:14 objects[0] "db": jmesPath[0]: path`, `5:30 objects[0] "db": jmesPath[1]: objectAlias`, `5:46 objects[0] "db": jmesPath[1]: optional`,
		`8:15 objects[1]: maxObjects`, `6:16 objects[1]: find: name`, `6:26 objects[1]: find: tag`,
		`12:7 objects[2]: template`, `12:7 objects[2]: template`, `13:5 objects[2]: template`,
		`16:16 objects[3] "ok": objectAlias`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A class may go without a vault if each of its objects has one.
func TestSeveralVaults(t *testing.T) {
	const own, none = "{objectName: a, objectType: secret, keyvaultName: Other}", "{objectName: b, objectType: secret}"
	for name, c := range map[string]struct {
		class map[string]string
		want  []string // fields with problems
	}{
		"each has one":             {map[string]string{"objects": "- " + own}, nil},
		"none has one":             {map[string]string{"objects": "- " + none}, []string{"keyvaultName"}},
		"one has one":              {map[string]string{"objects": "- " + own + "\n- " + none + "\n- " + none}, []string{`objects[1] "b": keyvaultName`, `objects[2] "b": keyvaultName`}},
		"a wrong one":              {map[string]string{"objects": "- {objectName: a, objectType: secret, keyvaultName: _}"}, []string{`objects[0] "a": keyvaultName`}},
		"not a single one":         {map[string]string{"objects": "- " + own + "\n- {objectName: a, objectType: secret, keyvaultName: []}"}, []string{`objects[1]: keyvaultName`}},
		"failover without a vault": {map[string]string{"failoverKeyvaultName": "third", "objects": "- " + own}, []string{"failoverKeyvaultName"}},
		"failover to itself":       {map[string]string{"keyvaultName": "Third", "failoverKeyvaultName": "third", "objects": "- " + own}, []string{"failoverKeyvaultName"}},
		"failover that is wrong":   {map[string]string{"keyvaultName": "third", "failoverKeyvaultName": "x", "objects": "- " + own}, []string{"failoverKeyvaultName"}},
		"failover of the class":    {map[string]string{"keyvaultName": "third", "failoverKeyvaultName": "Fourth", "objects": "- " + own + "\n- " + none}, nil},
		"broken, with vaults":      {map[string]string{"objects": "- " + own + "]"}, []string{"objects"}},
		"broken, without vaults":   {map[string]string{"objects": "- " + none + "]"}, []string{"keyvaultName", "objects"}},
	} {
		m, problems := request.NewParser().ParseClass(c.class, 0o644)
		var fields []string
		for _, p := range problems {
			fields = append(fields, p.Field)
		}
		if !reflect.DeepEqual(fields, c.want) {
			t.Errorf("%s: problems with %q, want %q", name, fields, c.want)
		}
		if name == "failover of the class" && (m.Objects[0].Failover != "" || m.Objects[1].Failover != "fourth" || m.Objects[0].ID() != "other/secret/a" || m.Objects[1].ID() != "secret/b") {
			t.Errorf("%+v", m.Objects)
		}
	}
	// The same list has other objects in a class with another vault or failover.
	parser := request.NewParser()
	for _, class := range [][3]string{{"third", "", ""}, {"other", "", ""}, {"third", "fourth", "fourth"}, {"third", "fifth", "fifth"}, {"third", "", ""}} {
		m, problems := parser.ParseClass(map[string]string{"keyvaultName": class[0], "failoverKeyvaultName": class[1], "objects": "- " + own + "\n- " + none}, 0o644)
		if len(problems) > 0 || (m.Objects[0].Vault == "") != (class[0] == "other") || m.Objects[1].Failover != class[2] {
			t.Errorf("%q: %v, %+v", class, problems, m.Objects)
		}
	}
}

// Files of the new kinds take part in the search for conflicts. A loss of one is no warning.
func TestNewPathConflicts(t *testing.T) {
	base := newAttributes(t)
	const plain = "{objectName: p, objectType: secret, objectAlias: d/e}"
	const piece = "{objectName: j, objectType: secret, jmesPath: [{path: a, objectAlias: x}, {path: b, objectAlias: %s}]}"
	const part = "{objectName: c, objectType: secret, files: [{part: leaf, objectAlias: %s}]}"
	const doc = "{objectAlias: %s, template: t}"
	const bundled = "{find: {name: a}, objectType: secret, bundle: json, objectAlias: %s}"
	const expanded = "{objectName: x, objectType: secret, expand: json, objectAlias: %s}"
	const search = "{find: {name: a}, objectType: secret, objectAlias: %s}"
	for _, c := range []struct{ entry, field string }{
		{piece, ` "j": jmesPath[1]: objectAlias`}, {part, ` "c": files[0]: objectAlias`}, {doc, ": objectAlias"}, {bundled, ": objectAlias"},
	} {
		for alias, says := range map[string]string{"d/e": `is also the path of objects[0] "p"`, "d/e/f": `is below the file of objects[0] "p"`} {
			m, err := base.with(map[string]string{"objects": "- " + plain + "\n- " + fmt.Sprintf(c.entry, alias)}).parse(t)
			problems := refused(t, m, err)
			names(t, problems, err, "objects[1]"+c.field, says)
			if len(problems) != 1 || problems[0].Line != 2 {
				t.Errorf("%v", problems)
			}
		}
		m, err := base.with(map[string]string{"objects": "- " + plain + "\n- " + fmt.Sprintf(c.entry, "d")}).parse(t)
		names(t, refused(t, m, err), err, `objects[0] "p": objectAlias`, "is below the file of objects[1]")
	}
	for _, entry := range []string{search, expanded} {
		for alias, wrong := range map[string]bool{"d/e": true, "d/e/f": true, "d": false, "z": false, ".": false} {
			m, err := base.with(map[string]string{"objects": "- " + plain + "\n- " + fmt.Sprintf(entry, alias) + "\n- " + fmt.Sprintf(entry, "d")}).parse(t)
			if (err != nil) != wrong {
				t.Errorf("%s in %s: %v", entry, alias, err)
			} else if wrong {
				problems := refused(t, m, err)
				if !strings.HasPrefix(problems[0].Cause, `"`+alias+`" is below the file of objects[0] "p"`) {
					t.Errorf("%v", problems)
				}
			}
		}
	}
	m, err := base.with(map[string]string{"objects": "- " + fmt.Sprintf(piece, "x")}).parse(t)
	names(t, refused(t, m, err), err, `objects[0] "j": jmesPath[1]: objectAlias`, `"x" is also the path of objects[0] "j": jmesPath[0]`)
	// Files that are not there take no part: a value that is not written, and the mount itself.
	m, err = base.with(map[string]string{"objects": "- " + plain + "\n- {objectName: d, objectType: secret, expand: json}\n- {objectName: d, objectType: secret, jmesPath: [{path: a, objectAlias: d/f}]}"}).parse(t)
	if err != nil || len(m.Warnings) > 0 {
		t.Errorf("%v, %v", err, m.Warnings)
	}
}
