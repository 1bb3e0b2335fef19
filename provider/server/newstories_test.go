package server_test

import (
	"encoding/base64"
	"encoding/json"
	"testing"

	"akv-csi-provider/provider/azuretest"

	"google.golang.org/grpc/codes"
	"software.sslmate.com/src/go-pkcs12"
)

// newStories are those of the fields that the replaced provider does not have.
func newStories() []story {
	other := func(grant ...azuretest.Permission) func(*testing.T, *world) {
		return func(_ *testing.T, w *world) {
			v := w.Vault("fabrikam", w.tenant)
			v.Grant(clientID, grant...)
			v.SetSecret("my-secret", azuretest.Secret{Value: "of another vault"})
		}
	}
	payments := secrets(map[string]string{"pay-user": "app", "pay-password": "s3cret", "x-pay": "x"})
	values := secrets(map[string]string{"db": `{"user":"app","port":5432,"tags":["a","b"],"deep":{"x":null}}`, "f-a": "on", "f-b": "off"})
	const db = "[{objectName: db, objectType: secret, "
	return []story{
		{row: "Parameters/failoverKeyvaultName", pod: map[string]string{"failoverKeyvaultName": "Fabrikam"}, files: map[string]string{"my-secret": "of another vault"}, ids: []string{"secret/my-secret"},
			prepare: func(t *testing.T, w *world) {
				other(azuretest.SecretsGet)(t, w)
				w.vault.SetFault(azuretest.Fault{Status: 503})
			}},
		{row: "Parameters/keyvaultName", name: "of every object", pod: map[string]string{"keyvaultName": ""}, prepare: other(azuretest.SecretsGet),
			objects: "[{objectName: my-secret, objectType: secret, keyvaultName: fabrikam}]", files: map[string]string{"my-secret": "of another vault"}, ids: []string{"fabrikam/secret/my-secret"}},
		{row: "Several vaults/keyvaultName", objects: "[{objectName: my-secret, objectType: secret}, {objectName: my-secret, objectType: secret, objectAlias: b, keyvaultName: FABRIKAM}]",
			prepare: other(azuretest.SecretsGet), files: map[string]string{"my-secret": "Hello!", "b": "of another vault"}, ids: []string{"secret/my-secret", "fabrikam/secret/my-secret"}},
		{row: "Several vaults/keyvaultName", name: "of some objects", pod: map[string]string{"keyvaultName": ""}, code: codes.InvalidArgument,
			objects: "[{objectName: my-secret, objectType: secret}, {objectName: b, objectType: secret, keyvaultName: fabrikam}]", says: []string{`objects[0] "my-secret": keyvaultName: missing`}},
		{row: "Several vaults/failoverKeyvaultName", objects: "[{objectName: my-secret, objectType: secret, failoverKeyvaultName: fabrikam}]", files: map[string]string{"my-secret": "of another vault"},
			prepare: func(t *testing.T, w *world) {
				other(azuretest.SecretsGet)(t, w)
				w.vault.SetFault(azuretest.Fault{Status: 503})
			}},
		{row: "Several vaults/failoverKeyvaultName", name: "not of an object that is missing", objects: "[{objectName: gone, objectType: secret, failoverKeyvaultName: fabrikam}]", code: codes.NotFound,
			prepare: other(azuretest.SecretsGet), says: []string{"[ObjectNotFound]"}},
		{row: "Optional objects/optional", objects: "[{objectName: my-secret, objectType: secret}, {objectName: gone, objectType: secret, optional: true}]", files: hello},
		{row: "Optional objects/optional", name: "not where access is denied", objects: "[{objectName: my-secret, objectType: secret, optional: true, keyvaultName: fabrikam}]", code: codes.PermissionDenied,
			prepare: other(), says: []string{"[AccessDenied]"}},
		{row: "Optional objects/optional", name: "of everything", objects: "[{objectName: gone, objectType: secret, optional: true}]", files: map[string]string{}},

		{row: "Search/find", objects: "[{find: {name: '^pay-(.*)$'}, objectType: secret, objectAlias: p}]", prepare: payments,
			files: map[string]string{"p/user": "app", "p/password": "s3cret"}, ids: []string{"secret/pay-password", "secret/pay-user"}},
		{row: "Search/find", name: "by tags", objects: "[{find: {tags: {env: x}}, objectType: secret}]", prepare: payments, files: map[string]string{"x-pay": "x"}},
		{row: "Search/find", name: "of nothing", objects: "[{find: {name: '^nothing'}, objectType: secret}]", prepare: payments, code: codes.NotFound, says: []string{"nothing"}},
		{row: "Search/maxObjects", objects: "[{find: {name: pay}, objectType: secret, maxObjects: 2}]", prepare: payments, code: codes.InvalidArgument, says: []string{"matches 3", "maxObjects"}},
		{row: "Search/maxObjects", name: "enough", objects: "[{find: {name: ^pay}, objectType: secret, maxObjects: 2}]", prepare: payments, files: map[string]string{"pay-user": "app", "pay-password": "s3cret"}},
		{row: "Search/find", name: "of all that is said", objects: "[{find: {name: pay, tags: {env: x}}, objectType: secret, filePermission: 0400}]", prepare: payments, files: map[string]string{"x-pay": "x"}, modes: map[string]int32{"x-pay": 0o400}},
		{row: "Search/find", name: "of nothing, optionally", objects: "[{objectName: my-secret, objectType: secret}, {find: {name: '^nothing'}, objectType: secret, optional: true}]", prepare: payments, files: hello},
		{row: "Optional objects/optional", name: "not where it is disabled", objects: "[{objectName: off, objectType: secret, optional: true}]", code: codes.FailedPrecondition, says: []string{"[ObjectDisabled]"},
			prepare: func(_ *testing.T, w *world) { w.vault.SetSecret("off", azuretest.Secret{Value: "x", Disabled: true}) }},
		{row: "Pieces of a value/expand", name: "of YAML", objects: "[{objectName: y, objectType: secret, expand: yaml}]", prepare: secrets(map[string]string{"y": "a: 0755\nb: {c: 1}\n"}), files: map[string]string{"a": "0755", "b": `{"c":1}`}},
		{row: "Documents/bundle", name: "of a search as properties", objects: "[{find: {name: '^pay-(.*)$'}, objectType: secret, bundle: properties, objectAlias: p}]", prepare: payments, files: map[string]string{"p": "password=s3cret\nuser=app\n"}},
		includeCertificates("[{find: {name: ^tls}, objectType: secret, includeCertificates: true}]", true),
		includeCertificates("[{find: {name: '^(tls|my)'}, objectType: secret}]", false),

		{row: "Pieces of a value/jmesPath", objects: db + `filePermission: 0440, jmesPath: [{path: user, objectAlias: d/user}, {path: "tags[1]", objectAlias: d/tag, filePermission: 0400}, {path: port, objectAlias: d/port}, {path: nope, objectAlias: d/nope, optional: true}]}]`,
			prepare: values, files: map[string]string{"d/user": "app", "d/tag": "b", "d/port": "5432"}, modes: map[string]int32{"d/user": 0o440, "d/tag": 0o400}, ids: []string{"secret/db"}},
		{row: "Pieces of a value/jmesPath", name: "that selects nothing", objects: db + "jmesPath: [{path: nope, objectAlias: f}]}]", prepare: values, code: codes.FailedPrecondition, says: []string{`jmesPath "nope" matches nothing in secret "db"`, "[ContentInvalid]"}},
		{row: "Pieces of a value/expand", objects: db + "expand: json, objectAlias: d}]", prepare: values, files: map[string]string{"d/user": "app", "d/port": "5432", "d/tags": `["a","b"]`, "d/deep": `{"x":null}`}},
		{row: "Pieces of a value/expand", name: "of no JSON", objects: "[{objectName: my-secret, objectType: secret, expand: json}]", code: codes.FailedPrecondition, says: []string{"[ContentInvalid]"}},
		parts(),
		{row: "Documents/template", objects: "- objectAlias: app/c.ini\n  filePermission: \"0400\"\n  template: |\n    user = {{ secret \"db\" | json \"user\" | quote }}\n    {{- range find \"^f-\" }}\n    {{ .Name | trimPrefix \"f-\" }} = {{ .Value }}\n    {{- end }}\n",
			prepare: values, files: map[string]string{"app/c.ini": "user = \"app\"\na = on\nb = off\n"}, modes: map[string]int32{"app/c.ini": 0o400}},
		{row: "Documents/template", name: "with a mistake", objects: "- objectAlias: f\n  template: |\n    x\n    {{ env \"HOME\" }}\n", code: codes.InvalidArgument, says: []string{"objects[0]: template: line 2", "[InvalidParameter]"}},
		{row: "Documents/bundle", objects: "[{find: {name: '^pay-(.*)$'}, objectType: secret, bundle: dotenv, objectAlias: .env}]", prepare: payments, files: map[string]string{".env": "PASSWORD=s3cret\nUSER=app\n"}},
		{row: "Documents/bundle", name: "of keys", objects: db + "expand: json, bundle: json, objectAlias: f.json}]", prepare: values, files: map[string]string{"f.json": `{"deep":{"x":null},"port":5432,"tags":["a","b"],"user":"app"}` + "\n"}},
		certificateStory("key as jwk", "", "[{objectName: k, objectType: key, objectFormat: jwk}]", func(t *testing.T, w *world, c chain, files map[string]string) {
			w.vault.SetKey("k", azuretest.Key{Public: &c.key.PublicKey})
			point, err := c.key.PublicKey.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(map[string]string{"crv": "P-256", "kty": "EC",
				"x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:])})
			if err != nil {
				t.Fatal(err)
			}
			files["k"] = string(text)
		}),
	}
}

// includeCertificates searches a vault with a certificate and a plain secret.
func includeCertificates(objects string, included bool) story {
	s := certificateStory("", "", objects, func(t *testing.T, w *world, c chain, files map[string]string) {
		w.vault.Grant(clientID, azuretest.SecretsList)
		text := c.keyPEM(t) + certificatesPEM(c.leaf)
		w.vault.SetCertificate("tls", azuretest.Certificate{DER: c.leaf.Raw, SecretValue: text, ContentType: "application/x-pem-file"})
		if files["my"] = "Hello!"; included {
			delete(files, "my")
			files["tls"] = text
		}
	})
	if s.row = "Search/includeCertificates"; !included {
		s.name = "not without"
	}
	return s
}

func parts() story {
	s := certificateStory("", "", `[{objectName: tls, objectType: secret, files: [{part: leaf, objectAlias: leaf}, {part: chain, objectAlias: chain}, {part: fullchain, objectAlias: fullchain},
		{part: ca, objectAlias: ca}, {part: bundle, objectAlias: bundle}, {part: key, objectAlias: key, filePermission: 0400}]}]`, func(t *testing.T, w *world, c chain, files map[string]string) {
		w.vault.SetCertificate("tls", azuretest.Certificate{DER: c.leaf.Raw, SecretValue: base64.StdEncoding.EncodeToString(c.pfx(t, pkcs12.Modern))})
		files["leaf"], files["chain"], files["ca"] = certificatesPEM(c.leaf), certificatesPEM(c.issuer), certificatesPEM(c.root)
		files["fullchain"], files["key"] = files["leaf"]+files["chain"], c.keyPEM(t)
		files["bundle"] = files["key"] + files["fullchain"] + files["ca"]
	})
	s.row, s.modes = "Pieces of a certificate/files", map[string]int32{"key": 0o400}
	return s
}
