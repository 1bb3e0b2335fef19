package server_test

import (
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/bundle"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/server"
	"akv-csi-provider/provider/tree"
)

// newKey returns a mark that can be the name of a file.
func newKey() string { return "K" + rand.Text() }

// entry is a row whose class has the objects. The values, keys and passwords that prepare sets are
// marks.
func entry(name, reason string, prepare func(t *testing.T, c *canaries, w *world), objects ...request.Object) canaryRow {
	return canaryRow{failure: failure{name: "canary/entry, " + name, wantReason: reason, setup: of(objects...)}, prepare: prepare}
}

// values sets secrets to marks.
func values(names ...string) func(*testing.T, *canaries, *world) {
	return func(_ *testing.T, c *canaries, w *world) {
		w.vault.Grant(clientID, azuretest.SecretsGet, azuretest.SecretsList)
		for _, name := range names {
			w.vault.SetSecret(name, azuretest.Secret{Value: c.mark()})
		}
	}
}

// object sets my-secret to a JSON object whose keys and values are marks.
func object(keys ...string) func(*testing.T, *canaries, *world) {
	return func(t *testing.T, c *canaries, w *world) {
		members := map[string]string{}
		for _, key := range keys {
			c.add(key)
			members[key] = c.mark()
		}
		text, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		w.vault.SetSecret("my-secret", azuretest.Secret{Value: string(text)})
	}
}

// query is a secret of which a path is mounted.
func query(t testing.TB, text string) request.Object {
	t.Helper()
	path, err := tree.ParsePath(text)
	if err != nil {
		t.Fatal(err)
	}
	o := secretObject("my-secret")
	o.Path, o.Pieces = "", &request.Pieces{Paths: []request.Piece{{Query: path, Path: "piece", Mode: 0o644}}}
	return o
}

func expanded(folder string, format bundle.Format) request.Object {
	o := secretObject("my-secret")
	o.Path, o.Bundle, o.Pieces = folder, format, &request.Pieces{Expand: request.ExpandJSON}
	return o
}

// stores are keystores of my-secret.
func stores() request.Object {
	o := secretObject("my-secret")
	o.Path, o.Pieces = "", &request.Pieces{}
	for _, name := range []request.PartName{request.PartPKCS12, request.PartJKS, request.PartKey} {
		o.Pieces.Parts = append(o.Pieces.Parts, request.Part{Name: name, Path: string(name), Mode: 0o400, PasswordFrom: "password"})
	}
	return o
}

// certificate sets my-secret to a private key with its certificate, and the password of keystores.
func certificate(password string) func(*testing.T, *canaries, *world) {
	return func(t *testing.T, c *canaries, w *world) {
		made := newChain(t)
		c.addKey(made.key)
		value := made.keyPEM(t) + certificatesPEM(made.leaf)
		c.add(made.keyPEM(t)[60:], password)
		w.vault.SetSecret("my-secret", azuretest.Secret{Value: value})
		w.vault.SetSecret("password", azuretest.Secret{Value: password})
	}
}

// canaryEntries are searches, pieces and documents, that work and that do not.
func canaryEntries(t *testing.T) []canaryRow {
	small := func(row canaryRow) canaryRow {
		config := row.failure.setup.config
		row.failure.setup.config = func(cfg *server.Config) { config(cfg); cfg.MaxResponseBytes = 60 }
		return row
	}
	long, key := newKey()+strings.Repeat("x", 300), newKey()
	env := search("^v-", "env")
	env.Bundle = bundle.Dotenv
	failover := secretObject("my-secret")
	failover.Failover = "contoso-dr"
	optional := template(t, "d", `{{ secret "my-secret" }}{{ secret "gone" }}`)
	optional.Optional = true
	return []canaryRow{
		entry("a document", "", values("a", "b"), template(t, "d", `{{ secret "a" | quote }}{{ secret "b" | b64enc | upper }}{{ range find "^a" }}{{ .Value }}{{ end }}`)),
		entry("a document without a value", "ObjectNotFound", nil, template(t, "d", `{{ secret "my-secret" }}{{ secret "gone" }}`)),
		entry("an optional document", "", nil, optional),
		entry("a document of what is not JSON", "ContentInvalid", nil, template(t, "d", `{{ secret "my-secret" | json "x" }}`)),
		entry("a document of what is not valid base64", "ContentInvalid", nil, template(t, "d", `{{ secret "my-secret" | b64dec }}`)),
		entry("a document without the key", "ContentInvalid", object(key), template(t, "d", `{{ secret "my-secret" | json "other" }}`)),
		entry("a document of two types", "ContentInvalid", nil, template(t, "d", `{{ if eq (secret "my-secret") 1 }}{{ end }}`)),
		entry("a piece", "", object("k"), query(t, "k")),
		entry("a piece of text", "ContentInvalid", nil, query(t, "k")),
		entry("a piece that is not there", "ContentInvalid", object(key), query(t, "other")),
		entry("a piece of another type", "ContentInvalid", object("k"), query(t, "keys(k)")),
		entry("keys", "", object("a", "b"), expanded("d", "")),
		entry("keys of text", "ContentInvalid", nil, expanded("d", "")),
		entry("a key with a slash", "ContentInvalid", object(newMark()), expanded("d", "")),
		entry("a long key", "ContentInvalid", object(long), expanded("d", "")),
		small(entry("keys that are too large", "TooLarge", object(newKey(), newKey()), expanded("d", ""))),
		entry("keys below a file", "InvalidParameter", func(t *testing.T, c *canaries, w *world) {
			object(newKey())(t, c, w)
			values("folder")(t, c, w)
		}, func() request.Object { o := secretObject("folder"); o.Path = "d"; return o }(), expanded("d", "")),
		entry("keys that are one variable", "ContentInvalid", object(key+"-a", key+"_a"), expanded("f", bundle.Dotenv)),
		entry("keys in one file", "", object("a", "b"), expanded("f", bundle.Properties)),
		entry("a bundle", "", values("v-a", "v-b"), env),
		entry("a search for nothing", "ObjectNotFound", values("v-a"), search("^none$", "d")),
		entry("keystores", "", certificate(newKey()), stores()),
		entry("keystores with a password that is none", "ContentInvalid", certificate(newKey()+"é"), stores()),
		entry("keystores of text", "ContentInvalid", values("password"), stores()),
		entry("another vault", "", func(_ *testing.T, c *canaries, w *world) {
			dr := w.Vault("contoso-dr", w.tenant)
			dr.Grant(clientID, azuretest.SecretsGet)
			dr.SetSecret("my-secret", azuretest.Secret{Value: c.mark()})
			w.vault.SetFault(azuretest.Fault{Status: 503, Times: 1})
		}, failover),
	}
}
