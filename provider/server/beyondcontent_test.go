package server_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/azuretest"

	jks "github.com/pavlo-v-chernykh/keystore-go/v4"
	"google.golang.org/grpc/codes"
	"software.sslmate.com/src/go-pkcs12"
)

func searchRules() []story {
	in := func(s story) story { s.row = "Search/" + s.row; return s }
	payments := secrets(map[string]string{"pay-user": "YXBw", "pay-password": "czNjcmV0", "x-pay": "eA=="})
	const found = "[{find: {name: '^pay-(.*)$'}, objectType: secret, objectAlias: p, "
	stored := map[string]string{"p/user": "YXBw", "p/password": "czNjcmV0"}
	many := map[string]string{}
	for i := range 101 {
		many[fmt.Sprintf("f-%03d", i)] = "x"
	}
	return []story{
		in(story{row: "find", name: "encoding and permission of the matches", objects: found + "objectEncoding: base64, filePermission: 0440}]", prepare: payments,
			files: map[string]string{"p/user": "app", "p/password": "s3cret"}, modes: map[string]int32{"p/user": 0o440, "p/password": 0o440}}),
		in(story{row: "find", name: "history of the matches", objects: found + "objectVersionHistory: 2}]", ids: []string{"secret/pay-user/0", "secret/pay-user/1"}, prepare: func(_ *testing.T, w *world) {
			w.vault.Grant(clientID, azuretest.SecretsList)
			for i := range 3 {
				w.vault.SetSecret("pay-user", azuretest.Secret{Value: fmt.Sprint(i), Created: time.Unix(int64(1000+i), 0)})
			}
		}, files: map[string]string{"p/user/0": "2", "p/user/1": "1"}}),
		in(story{row: "find", name: "new and deleted objects at the next rotation", setup: uncached(), objects: found + "}]", prepare: payments, files: stored,
			then: &story{prepare: func(_ *testing.T, w *world) {
				w.vault.Delete("secret", "pay-user")
				w.vault.SetSecret("pay-host", azuretest.Secret{Value: "db"})
			}, files: map[string]string{"p/host": "db", "p/password": "czNjcmV0"}, ids: []string{"secret/pay-host", "secret/pay-password"}}}),
		in(story{row: "find", name: "enabled objects only", objects: found + "}]", files: stored, prepare: func(t *testing.T, w *world) {
			payments(t, w)
			w.vault.SetSecret("pay-off", azuretest.Secret{Value: "x", Disabled: true})
		}}),
		in(story{row: "find", name: "the name itself without a group", objects: "[{find: {name: '^pay-(?:user|host)$'}, objectType: secret, objectAlias: p}]", prepare: payments, files: map[string]string{"p/pay-user": "YXBw"}}),
		in(story{row: "find", name: "all tags must match", objects: "[{find: {tags: {env: p, all: x}}, objectType: secret}]", prepare: payments, files: map[string]string{"pay-user": "YXBw", "pay-password": "czNjcmV0"}}),
		in(story{row: "find", name: "a tag that differs", objects: "[{find: {tags: {env: p, all: y}}, objectType: secret}]", prepare: payments, code: codes.NotFound, says: []string{"[ObjectNotFound]"}}),
		in(story{row: "find", name: "neither name nor tags", objects: "[{find: {}, objectType: secret}]", code: codes.InvalidArgument, says: []string{"find", "set one"}}),
		in(story{row: "find", name: "two matches with one path", objects: "[{find: {name: '-(pay)$'}, objectType: secret, objectAlias: p}]", code: codes.InvalidArgument, says: []string{"x-pay", "y-pay"},
			prepare: secrets(map[string]string{"x-pay": "x", "y-pay": "y"})}),
		in(story{row: "find", name: "two groups", objects: "[{find: {name: '(a)(b)'}, objectType: secret}]", code: codes.InvalidArgument, says: []string{"2 groups"}}),
		in(story{row: "find", name: "the permission to list is named", objects: found + "}]", code: codes.PermissionDenied, says: []string{"is not allowed to list the secrets of contoso", "[AccessDenied]"}}),
		in(story{row: "find", name: "a list is read once", objects: "[{find: {name: user}, objectType: secret}, {find: {name: password}, objectType: secret}]", prepare: payments,
			files: map[string]string{"pay-user": "YXBw", "pay-password": "czNjcmV0"}, check: requests(azuretest.List, 1)}),
		in(story{row: "maxObjects", name: "100 by default", objects: "[{find: {name: ^f-}, objectType: secret}]", prepare: secrets(many), code: codes.InvalidArgument, says: []string{"matches 101", "maxObjects"}}),
		in(story{row: "maxObjects", name: "at most 1000", objects: "[{find: {name: ^f-}, objectType: secret, maxObjects: 1001}]", code: codes.InvalidArgument, says: []string{"maxObjects", "1000"}}),
		ofKind("key", func(t *testing.T, c chain) string { return c.publicPEM(t) }),
		ofKind("cert", func(_ *testing.T, c chain) string { return certificatesPEM(c.leaf) }),
		{row: "Objects/objectName", name: "with find in one entry", objects: "[{objectName: a, find: {name: a}, objectType: secret}]", code: codes.InvalidArgument, says: []string{"find", "[InvalidParameter]"}},
		{row: "Objects/objectName", name: "with template in one entry", objects: "[{objectName: a, objectType: secret, objectAlias: b, template: x}]", code: codes.InvalidArgument, says: []string{"template", "[InvalidParameter]"}},
	}
}

// ofKind searches keys or certificates.
func ofKind(kind string, content func(*testing.T, chain) string) story {
	s := certificateStory("", kind, "[{find: {name: '^tls-(.*)'}, objectType: "+kind+", objectAlias: d}]", func(t *testing.T, w *world, c chain, files map[string]string) {
		w.vault.Grant(clientID, azuretest.KeysList, azuretest.CertificatesList)
		w.vault.SetCertificate("tls-a", azuretest.Certificate{DER: c.leaf.Raw, SecretValue: c.keyPEM(t) + certificatesPEM(c.leaf), ContentType: "application/x-pem-file"})
		files["d/a"] = content(t, c)
	})
	s.row = "Search/find"
	return s
}

func valueRules() []story {
	in := func(s story) story { s.row = "Pieces of a value/" + s.row; return s }
	values := secrets(map[string]string{"j": `{"user":"app","n":1.50,"list":["a"],"t":true}`, "y": "user: app\nlist: [a]\n", "odd": `{"a/b":1}`, "up": `{"..":1}`})
	const j = "[{objectName: j, objectType: secret, "
	return []story{
		in(story{row: "jmesPath", name: "one read, texts raw, everything else as JSON", objects: j + "jmesPath: [{path: user, objectAlias: a}, {path: n, objectAlias: b}, {path: list, objectAlias: c}, {path: t, objectAlias: d}]}]",
			prepare: values, files: map[string]string{"a": "app", "b": "1.50", "c": `["a"]`, "d": "true"}, check: requests(azuretest.GetSecret, 1)}),
		in(story{row: "jmesPath", name: "of YAML", objects: "[{objectName: y, objectType: secret, jmesPath: [{path: 'list[0]', objectAlias: a}]}]", prepare: values, files: map[string]string{"a": "a"}}),
		in(story{row: "jmesPath", name: "the value as a whole with objectAlias", objects: "[{objectName: y, objectType: secret, objectAlias: all, jmesPath: [{path: user, objectAlias: a}]}]", prepare: values,
			files: map[string]string{"all": "user: app\nlist: [a]\n", "a": "app"}}),
		in(story{row: "expand", name: "a folder, and not the value as a whole", objects: "[{objectName: y, objectType: secret, objectAlias: all, expand: yaml}]", prepare: values,
			files: map[string]string{"all/user": "app", "all/list": `["a"]`}, check: requests(azuretest.GetSecret, 1)}),
		in(story{row: "expand", name: "a key with a slash", objects: "[{objectName: odd, objectType: secret, expand: json}]", prepare: values, code: codes.FailedPrecondition, says: []string{"a slash", "[ContentInvalid]"}}),
		in(story{row: "expand", name: "a key that leaves the folder", objects: "[{objectName: up, objectType: secret, expand: json}]", prepare: values, code: codes.FailedPrecondition, says: []string{"..", "[ContentInvalid]"}}),
		in(story{row: "expand", name: "keys at the next rotation", setup: uncached(), objects: j + "expand: json}]", prepare: values, files: map[string]string{"user": "app", "n": "1.50", "list": `["a"]`, "t": "true"},
			then: &story{prepare: func(_ *testing.T, w *world) {
				w.vault.SetSecret("j", azuretest.Secret{Value: `{"new":1}`, Created: time.Now().Add(time.Second)})
			}, files: map[string]string{"new": "1"}}}),
	}
}

// filesOf is an entry with parts of a certificate.
func filesOf(name, parts string) string {
	return "[{objectName: " + name + ", objectType: secret, files: [" + parts + "]}]"
}

// storeParts are keystores of all kinds.
const storeParts = `{part: pkcs12, objectAlias: p12, passwordFrom: pw, filePermission: 0400}, {part: pkcs12, objectAlias: old.p12, passwordFrom: pw, algorithms: legacy}, {part: jks, objectAlias: jks, passwordFrom: pw},
	{part: truststore-pkcs12, objectAlias: trust.p12, passwordFrom: pw}, {part: truststore-pkcs12, objectAlias: old-trust.p12, passwordFrom: pw, algorithms: legacy}, {part: truststore-jks, objectAlias: trust.jks, passwordFrom: pw}`

func certificateRules() []story {
	in := func(name string, s story) story { s.row, s.name = "Pieces of a certificate/files", name; return s }
	part := func(name, parts string, prepare func(t *testing.T, w *world, c chain, files map[string]string)) story {
		return in(name, certificateStory("", "", filesOf("tls", parts), prepare))
	}
	const fullchain = "{part: fullchain, objectAlias: crt}, {part: key, objectAlias: key}"
	same := keystoreStory(in, "equal bytes at a rotation", func(*testing.T, chain, map[string]string) {})
	same.setup = uncached()
	same.setup.mounter = func(m *provider.Mounter) { m.Keystores = nil } // each mount makes them
	var first map[string]string
	same.check = func(_ *testing.T, _ *world, files map[string]string) { first = files }
	same.then = &story{check: func(t *testing.T, w *world, files map[string]string) {
		if len(files) != 6 || !maps.Equal(first, files) || w.seen.rotations() != "unchanged" {
			t.Errorf("other bytes; the rotations: %s", w.seen.rotations())
		}
	}}
	return []story{
		same,
		keystoreStory(in, "keystores with key, leaf and intermediates, and truststores with all issuers", wantStores),
		keystoreStory(in, "AES-256 by default, 3DES with algorithms: legacy", func(t *testing.T, _ chain, files map[string]string) {
			aes, des := []byte{6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 0x2a}, []byte{6, 10, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 12, 1, 3} // OIDs
			for name, old := range map[string]bool{"p12": false, "trust.p12": false, "old.p12": true, "old-trust.p12": true} {
				if raw := []byte(files[name]); bytes.Contains(raw, aes) == old || bytes.Contains(raw, des) != old {
					t.Errorf("%s has other algorithms", name)
				}
			}
		}),
		in("key-pkcs1", story{objects: filesOf("rsa", "{part: key-pkcs1, objectAlias: key}"), files: map[string]string{"key": pkcs1(newClientCertificate().pem)}, prepare: func(_ *testing.T, w *world) {
			w.vault.SetSecret("rsa", azuretest.Secret{Value: newClientCertificate().pem})
		}}),
		refusedStory(part("key-pkcs1 of a key that is not RSA", "{part: key-pkcs1, objectAlias: key}", func(t *testing.T, w *world, c chain, _ map[string]string) {
			w.vault.SetSecret("tls", azuretest.Secret{Value: c.keyPEM(t) + certificatesPEM(c.leaf)})
		}), codes.FailedPrecondition, "key-pkcs1", "[ContentInvalid]"),
		part("a PFX without a certificate behind it", fullchain, func(t *testing.T, w *world, c chain, files map[string]string) {
			w.vault.SetSecret("tls", azuretest.Secret{Value: base64.StdEncoding.EncodeToString(c.pfx(t, pkcs12.Modern)), ContentType: "application/x-pkcs12"})
			files["crt"], files["key"] = certificatesPEM(c.leaf, c.issuer), c.keyPEM(t)
		}),
		part("PEM without a certificate behind it", fullchain, func(t *testing.T, w *world, c chain, files map[string]string) {
			w.vault.SetSecret("tls", azuretest.Secret{Value: certificatesPEM(c.root, c.leaf, c.issuer) + c.keyPEM(t)})
			files["crt"], files["key"] = certificatesPEM(c.leaf, c.issuer), c.keyPEM(t)
		}),
		part("the topmost issuer is the ca where there is no root", "{part: ca, objectAlias: ca}", func(t *testing.T, w *world, c chain, files map[string]string) {
			w.vault.SetSecret("tls", azuretest.Secret{Value: c.keyPEM(t) + certificatesPEM(c.leaf, c.issuer)})
			files["ca"] = certificatesPEM(c.issuer)
		}),
		refusedStory(part("the password is not in the vault", "{part: jks, objectAlias: k, passwordFrom: gone}", func(t *testing.T, w *world, c chain, _ map[string]string) {
			w.vault.SetSecret("tls", azuretest.Secret{Value: c.keyPEM(t) + certificatesPEM(c.leaf)})
		}), codes.NotFound, `"gone"`, "[ObjectNotFound]"),
		otherVaultStory(in),
		in("no password in the class", story{objects: filesOf("tls", "{part: jks, objectAlias: k, password: hush}"), code: codes.InvalidArgument, says: []string{"passwordFrom", "[InvalidParameter]"}}),
		in("no algorithms of a JKS", story{objects: filesOf("tls", "{part: jks, objectAlias: k, passwordFrom: pw, algorithms: legacy}"), code: codes.InvalidArgument, says: []string{"algorithms", "pkcs12"}}),
	}
}

// refusedStory is the story as an error.
func refusedStory(s story, code codes.Code, says ...string) story {
	s.files, s.code, s.says = nil, code, says
	return s
}

// pkcs1 is the RSA key of PEM in its older form.
func pkcs1(text string) string {
	for rest := []byte(text); ; {
		block, left := pem.Decode(rest)
		if rest = left; block.Type == "PRIVATE KEY" {
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				panic(err)
			}
			return toPEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key.(*rsa.PrivateKey)))
		}
	}
}

// keystoreStory mounts keystores, of which the bytes are not known before.
func keystoreStory(in func(string, story) story, name string, check func(*testing.T, chain, map[string]string)) story {
	var made chain
	s := in(name, certificateStory("", "", filesOf("tls", storeParts), func(t *testing.T, w *world, c chain, _ map[string]string) {
		made = c
		w.vault.SetCertificate("tls", azuretest.Certificate{DER: c.leaf.Raw, SecretValue: base64.StdEncoding.EncodeToString(c.pfx(t, pkcs12.Modern))})
		w.vault.SetSecret("pw", azuretest.Secret{Value: "changeit"})
	}))
	s.files, s.modes = nil, map[string]int32{"p12": 0o400, "jks": 0o644}
	s.check = func(t *testing.T, _ *world, files map[string]string) { check(t, made, files) }
	return s
}

// otherVaultStory is a keystore of another vault than the class's: its password is there too.
func otherVaultStory(in func(string, story) story) story {
	return in("the password is of the object's vault", story{objects: "[{objectName: tls, objectType: secret, keyvaultName: fabrikam, files: [{part: pkcs12, objectAlias: p12, passwordFrom: pw}]}]",
		ids: []string{"fabrikam/secret/tls", "fabrikam/secret/pw"},
		prepare: func(t *testing.T, w *world) {
			failover()(t, w)
			v, c := w.Vault("fabrikam", w.tenant), newClientCertificate()
			v.SetSecret("tls", azuretest.Secret{Value: c.pem})
			v.SetSecret("pw", azuretest.Secret{Value: "of fabrikam"})
			w.vault.SetSecret("pw", azuretest.Secret{Value: "of contoso"})
		},
		check: func(t *testing.T, _ *world, files map[string]string) {
			if _, _, _, err := pkcs12.DecodeChain([]byte(files["p12"]), "of fabrikam"); err != nil || len(files) != 1 {
				t.Errorf("%d files: %v", len(files), err)
			}
		}})
}

// wantStores opens the keystores with their password.
func wantStores(t *testing.T, c chain, files map[string]string) {
	if len(files) != 6 {
		t.Errorf("%d files", len(files))
	}
	for _, name := range []string{"p12", "old.p12"} {
		key, leaf, others, err := pkcs12.DecodeChain([]byte(files[name]), "changeit")
		if err != nil || !c.key.Equal(key) || !leaf.Equal(c.leaf) || len(others) != 1 || !others[0].Equal(c.issuer) {
			t.Errorf("%s: %v with %d issuers", name, err, len(others))
		}
	}
	for _, name := range []string{"trust.p12", "old-trust.p12"} {
		if got, err := pkcs12.DecodeTrustStore([]byte(files[name]), "changeit"); err != nil || len(got) != 2 || certificatesPEM(got...) != certificatesPEM(c.issuer, c.root) {
			t.Errorf("%s: %v with %d certificates", name, err, len(got))
		}
	}
	key, trust := jks.New(), jks.New()
	if err := key.Load(strings.NewReader(files["jks"]), []byte("changeit")); err != nil {
		t.Fatal(err)
	}
	entry, err := key.GetPrivateKeyEntry("certificate", []byte("changeit"))
	if err != nil || len(entry.CertificateChain) != 2 || toPEM("PRIVATE KEY", entry.PrivateKey) != c.keyPEM(t) {
		t.Errorf("jks: %v with %d certificates", err, len(entry.CertificateChain))
	}
	if err := trust.Load(strings.NewReader(files["trust.jks"]), []byte("changeit")); err != nil || len(trust.Aliases()) != 2 {
		t.Errorf("trust.jks: %v with %v", err, trust.Aliases())
	}
}
