package server_test

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/server"

	"google.golang.org/grpc/codes"
	"software.sslmate.com/src/go-pkcs12"
)

var hello = map[string]string{"my-secret": "Hello!"}

const otherTenant = "99999999-8888-7777-6666-555555555555"

// unknownPFX is a PFX (RFC 7292) whose one part is of a type that the decoder does not know.
var unknownPFX = []byte{0x30, 0x27, 2, 1, 3, 0x30, 0x22, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0xd, 1, 7, 1, 0xa0, 0x15, 4, 0x13,
	0x30, 0x11, 0x30, 0xf, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0xd, 1, 7, 3, 0xa0, 2, 0x30, 0}

func parameterStories() []story {
	in := func(s story) story { s.row = "Parameters/" + s.row; return s }
	return []story{
		in(story{row: "keyvaultName", name: "in any letter case", pod: map[string]string{"keyvaultName": " ConToso "}, files: hello}),
		in(story{row: "keyvaultName", name: "missing", pod: map[string]string{"keyvaultName": ""}, code: codes.InvalidArgument, says: []string{"keyvaultName: empty"}}),
		in(story{row: "objects", objects: "array:\n- |\n  objectName: my-secret\n  objectType: secret\n", files: hello, ids: []string{"secret/my-secret"}}),
		in(story{row: "objects", name: "an empty list", objects: "array: []", code: codes.InvalidArgument, says: []string{"objects: empty; add at least one"}}),
		in(story{row: "tenantID", name: "by a domain", pod: map[string]string{"tenantID": "Contoso.example", "keyvaultName": "kv-of-domain"}, files: hello, prepare: func(_ *testing.T, w *world) {
			directory := w.Tenant("contoso.example")
			directory.Application(clientID).Federate(issuer, w.pod.Subject(), entra.Audience)
			v := w.Vault("kv-of-domain", directory)
			v.Grant(clientID, azuretest.SecretsGet)
			v.SetSecret("my-secret", azuretest.Secret{Value: "Hello!"})
		}}),
		in(story{row: "tenantID", name: "of the provider", pod: map[string]string{"tenantID": ""}, files: hello, setup: setup{mounter: func(m *provider.Mounter) { m.DefaultTenant = tenantID }}}),
		in(story{row: "tenantID", name: "missing", pod: map[string]string{"tenantID": ""}, code: codes.InvalidArgument, says: []string{"tenantID: missing", "--tenant-id"}}),
		in(story{row: "tenantId", pod: map[string]string{"tenantID": "", "tenantId": tenantID}, files: hello}),
		in(story{row: "tenantId", name: "behind the new spelling", pod: map[string]string{"tenantId": otherTenant}, files: hello}),
		in(story{row: "clientID", pod: map[string]string{"clientID": strings.ToUpper(clientID)}, files: hello}),
		in(story{row: "useVMManagedIdentity", pod: map[string]string{"useVMManagedIdentity": "T", "clientID": ""}, files: hello, prepare: systemAssigned}),
		in(story{row: "useVMManagedIdentity", name: "no boolean", pod: map[string]string{"useVMManagedIdentity": "on"}, code: codes.InvalidArgument, says: []string{"useVMManagedIdentity", "true"}}),
		in(story{row: "userAssignedIdentityID", pod: map[string]string{"useVMManagedIdentity": "true", "userAssignedIdentityID": clientID}, files: hello, prepare: assigned}),
		in(story{row: "useAzureTokenProxy", pod: map[string]string{"useAzureTokenProxy": "true"}, files: hello, prepare: bound}),
		in(story{row: "usePodIdentity", pod: map[string]string{"usePodIdentity": "true"}, code: codes.InvalidArgument, says: []string{"retired", "workload identity"}}),
		in(story{row: "usePodIdentity", name: "false", pod: map[string]string{"usePodIdentity": "false"}, files: hello}),
		in(story{row: "cloudName", pod: map[string]string{"cloudName": "AZUREPUBLICCLOUD"}, files: hello}),
		in(story{row: "cloudEnvFileName", name: "with another cloud", pod: map[string]string{"cloudEnvFileName": "/not/there"}, files: hello}),
		in(story{row: "cloudEnvFileName", name: "not below a folder", pod: map[string]string{"cloudName": "AzureStackCloud", "cloudEnvFileName": "/proc/self/environ"},
			code: codes.InvalidArgument, says: []string{"cloudEnvFileName", "--cloud-env-dirs"}}),
	}
}

func systemAssigned(_ *testing.T, w *world) { w.IMDS().AssignSystem(w.app) }
func assigned(_ *testing.T, w *world) {
	w.IMDS().Assign(w.tenant.Application("another"))
	w.IMDS().Assign(w.app)
}
func bound(_ *testing.T, w *world) {
	w.app.Unfederate()
	w.proxy.Bind(w.app, w.pod.Namespace, w.pod.ServiceAccount)
}

// with is my-secret with more fields.
func with(fields string) string { return fmt.Sprintf(objectOf, fields) }

func fieldStories() []story {
	in := func(s story) story { s.row = "Objects/" + s.row; return s }
	value := func(v string) func(*testing.T, *world) {
		return func(_ *testing.T, w *world) { w.vault.SetSecret("my-secret", azuretest.Secret{Value: v}) }
	}
	// three are versions that Key Vault does not list in the order of their age.
	three := func(_ *testing.T, w *world) {
		w.vault.Grant(clientID, azuretest.SecretsList)
		for i, v := range []string{"c", "a", "b"} {
			w.vault.SetSecret("h", azuretest.Secret{Value: "value " + v, Version: strings.Repeat(v, 32), Created: time.Unix(int64(1000+i), 0)})
		}
		w.vault.SetSecret("h", azuretest.Secret{Value: "off", Version: strings.Repeat("d", 32), Created: time.Unix(2000, 0), Disabled: true})
	}
	history := func(fields string) string {
		return "[{objectName: h, objectType: secret, " + fields + "}]"
	}
	return []story{
		in(story{row: "objectName", name: "in another letter case", objects: "[{objectName: MY-secret, objectType: secret}]", files: map[string]string{"MY-secret": "Hello!"}, ids: []string{"secret/MY-secret"}}),
		in(story{row: "objectName", name: "of digits", objects: "[{objectName: 0755, objectType: secret}]", files: map[string]string{"0755": "x"}, prepare: func(_ *testing.T, w *world) {
			w.vault.SetSecret("0755", azuretest.Secret{Value: "x"})
		}}),
		in(story{row: "objectType", name: "not one", objects: "[{objectName: a, objectType: Secret}]", code: codes.InvalidArgument, says: []string{"secret, key, cert"}}),
		in(story{row: "objectAlias", objects: with("objectAlias: a/b.txt"), files: map[string]string{"a/b.txt": "Hello!"}}),
		in(story{row: "objectVersion", objects: with("objectVersion: 01234567890123456789012345678901"), files: map[string]string{"my-secret": "older"}, prepare: func(_ *testing.T, w *world) {
			w.vault.SetSecret("my-secret", azuretest.Secret{Value: "older", Version: "01234567890123456789012345678901", Created: time.Unix(1, 0)})
		}}),
		in(story{row: "objectVersion", name: "latest", objects: with("objectVersion: latest"), files: hello}),
		in(story{row: "objectVersionHistory", objects: history("objectVersionHistory: 2, objectAlias: d/h"), prepare: three,
			files: map[string]string{"d/h/0": "value b", "d/h/1": "value a"}, ids: []string{"secret/h/0", "secret/h/1"}}),
		in(story{row: "objectVersionHistory", name: "from a version on, fewer than requested", objects: history("objectVersionHistory: 9, objectVersion: " + strings.Repeat("a", 32)), prepare: three,
			files: map[string]string{"h/0": "value a", "h/1": "value c"}, ids: []string{"secret/h/0", "secret/h/1"}}),
		in(story{row: "objectVersionHistory", name: "in the mount itself", objects: history("objectVersionHistory: 2, objectAlias: ."), prepare: three,
			files: map[string]string{"0": "value b", "1": "value a"}}),
		in(story{row: "objectVersionHistory", name: "a folder in any form", objects: history("objectVersionHistory: 2, objectAlias: ./d//h/"), prepare: three,
			files: map[string]string{"d/h/0": "value b", "d/h/1": "value a"}}),
		in(story{row: "objectVersionHistory", name: "below another version", objects: "[{objectName: h, objectType: secret, objectVersionHistory: 2}, {objectName: my-secret, objectType: secret, objectAlias: h/1/x}]",
			prepare: three, code: codes.InvalidArgument, says: []string{`"h/1/x"`, `"h/1"`}}),
		in(story{row: "objectVersionHistory", name: "negative", objects: with("objectVersionHistory: -3"), files: hello, ids: []string{"secret/my-secret"}}),
		in(story{row: "objectVersionHistory", name: "one", objects: with("objectVersionHistory: 1"), files: hello, ids: []string{"secret/my-secret"}}),
		in(story{row: "objectFormat", name: "pem of a plain secret", objects: with("objectFormat: PEM"), files: hello}),
		in(story{row: "objectFormat", name: "pfx of a certificate", objects: "[{objectName: c, objectType: cert, objectFormat: pfx}]", code: codes.InvalidArgument, says: []string{"objectFormat", "objectType secret"}}),
		in(story{row: "objectEncoding", name: "base64", objects: with("objectEncoding: Base64"), prepare: value("AP8="), files: map[string]string{"my-secret": "\x00\xff"}}),
		in(story{row: "objectEncoding", name: "hex", objects: with("objectEncoding: HEX"), prepare: value("00ff"), files: map[string]string{"my-secret": "\x00\xff"}}),
		in(story{row: "objectEncoding", name: "utf-8", objects: with("objectEncoding: UTF-8"), prepare: value("grün\n"), files: map[string]string{"my-secret": "grün\n"}}),
		in(story{row: "filePermission", objects: with("filePermission: 0400"), files: hello, modes: map[string]int32{"my-secret": 0o400}}),
		in(story{row: "filePermission", name: "quoted", objects: with(`filePermission: "0777"`), files: hello, modes: map[string]int32{"my-secret": 0o777}}),
		in(story{row: "filePermission", name: "default", files: hello, modes: map[string]int32{"my-secret": 0o644}}),
	}
}

func strict(m *provider.Mounter) { m.StrictObjects = true }

// warningStories are run twice: accepted with a warning, and refused.
func warningStories() []story {
	var all []story
	public := certificateStory("", "", "[{objectName: my-key, objectType: key, objectFormat: PFX}]", func(t *testing.T, w *world, c chain, files map[string]string) {
		w.vault.SetKey("my-key", azuretest.Key{Public: &c.key.PublicKey})
		files["my-key"] = c.publicPEM(t)
	})
	public.row, public.warnings, public.says = "ignored_format", "ignored_format", []string{`"PFX" is ignored`}
	for _, s := range []story{
		public,
		{row: "unknown_field", objects: with("objectAliases: x, filePermissions: 0400"), files: hello, warnings: "unknown_field,unknown_field", says: []string{"objectAlias?", "filePermission?"}},
		{row: "unknown_field", name: "key beside array", objects: "Array: [x]\narray:\n- |\n  objectName: my-secret\n  objectType: secret\n", files: hello, warnings: "unknown_field", says: []string{"objects: Array", "did you mean array?"}},
		{row: "ignored_text", objects: "array:\n- |\n  {objectName: my-secret, objectType: secret}\n  objectAlias: x\n---\n- b\n", files: hello, warnings: "ignored_text,ignored_text", says: []string{`"objectAlias: x" at line 4, column 3`, `"- b" at line 6, column 1`}},
		{row: "placeholder", objects: "array:\n- |\n  objectName: my-secret\n  objectType: secret\n  objectVersion: #{version}#\n", files: hello, warnings: "placeholder", says: []string{"objectVersion", `"#{version}#" is an unreplaced placeholder`, "comment"}},
		{row: "duplicate_path", objects: "[{objectName: my-secret, objectType: secret}, {objectName: second, objectType: secret, objectAlias: my-secret}]", warnings: "duplicate_path",
			files: map[string]string{"my-secret": "last"}, ids: []string{"secret/my-secret", "secret/second"}, says: []string{"objects[0]"},
			prepare: func(_ *testing.T, w *world) { w.vault.SetSecret("second", azuretest.Secret{Value: "last"}) }},
		{row: "empty_history", objects: "[{objectName: my-secret, objectType: secret}, {objectName: none, objectType: secret, objectVersionHistory: 2}]", warnings: "empty_history",
			files: hello, ids: []string{"secret/my-secret"}, says: []string{"no enabled version"},
			prepare: func(_ *testing.T, w *world) { w.vault.Grant(clientID, azuretest.SecretsList) }},
	} {
		s.row = "Mistakes accepted with a warning/" + s.row
		refused := s
		refused.name, refused.files, refused.code = "strictly", nil, codes.InvalidArgument
		refused.says = append(refused.says, "--strict-objects")
		refused.setup.mounter = strict
		all = append(all, s, refused)
	}
	return all
}

// certificateStory fills in its files when its certificate is made.
func certificateStory(row, name, objects string, prepare func(t *testing.T, w *world, c chain, files map[string]string)) story {
	out := map[string]string{}
	return story{row: "What an object becomes/" + row, name: name, objects: objects, files: out, prepare: func(t *testing.T, w *world) {
		w.vault.Grant(clientID, azuretest.KeysGet, azuretest.CertificatesGet)
		prepare(t, w, newChain(t), out)
	}}
}

func contentStories() []story {
	const (
		pfx    = "secret of a certificate, application/x-pkcs12, as "
		stored = "secret of a certificate, application/x-pem-file"
		tls    = "[{objectName: tls, objectType: secret}]"
	)
	store := func(t *testing.T, w *world, c chain, encoder *pkcs12.Encoder) []byte {
		raw := c.pfx(t, encoder)
		w.vault.SetCertificate("tls", azuretest.Certificate{DER: c.leaf.Raw, SecretValue: base64.StdEncoding.EncodeToString(raw)})
		return raw
	}
	pemOf := func(t *testing.T, w *world, c chain) string {
		text := c.keyPEM(t) + certificatesPEM(c.leaf, c.issuer)
		w.vault.SetCertificate("tls", azuretest.Certificate{DER: c.leaf.Raw, SecretValue: text, ContentType: "application/x-pem-file"})
		return text
	}
	separate := setup{mounter: func(m *provider.Mounter) { m.Render.SeparateFiles = true }}
	all := []story{
		{row: "What an object becomes/plain secret", files: hello},
		{row: "What an object becomes/plain secret", name: "of any content type", files: map[string]string{"my-secret": "Q0FOQVJZ"}, prepare: func(_ *testing.T, w *world) {
			w.vault.SetSecret("my-secret", azuretest.Secret{Value: "Q0FOQVJZ", ContentType: "application/x-pkcs12"})
		}},
		certificateStory(stored, "", tls, func(t *testing.T, w *world, c chain, files map[string]string) { files["tls"] = pemOf(t, w, c) }),
		certificateStory(pfx+"pem", "modern", tls, func(t *testing.T, w *world, c chain, files map[string]string) {
			store(t, w, c, pkcs12.Modern)
			files["tls"] = c.keyPEM(t) + certificatesPEM(c.leaf, c.issuer, c.root)
		}),
		certificateStory(pfx+"pem", "legacy", tls, func(t *testing.T, w *world, c chain, files map[string]string) {
			store(t, w, c, pkcs12.LegacyRC2)
			files["tls"] = c.keyPEM(t) + certificatesPEM(c.leaf, c.issuer, c.root)
		}),
		certificateStory(pfx+"pem", "with one certificate more than the chain", tls, func(t *testing.T, w *world, c chain, files map[string]string) {
			c.root, _ = issue(t, "stranger", nil, nil)
			store(t, w, c, pkcs12.Modern)
			files["tls"] = c.keyPEM(t) + certificatesPEM(c.leaf, c.issuer, c.root)
		}),
		certificateStory(pfx+"pfx", "", "[{objectName: tls, objectType: secret, objectFormat: PFX}]", func(t *testing.T, w *world, c chain, files map[string]string) {
			files["tls"] = base64.StdEncoding.EncodeToString(store(t, w, c, pkcs12.Modern))
		}),
		certificateStory(pfx+"pfx", "raw", "[{objectName: tls, objectType: secret, objectFormat: pfx, objectEncoding: base64}]", func(t *testing.T, w *world, c chain, files map[string]string) {
			files["tls"] = string(store(t, w, c, pkcs12.Modern))
		}),
		certificateStory("cert", "", "[{objectName: tls, objectType: cert}]", func(t *testing.T, w *world, c chain, files map[string]string) {
			store(t, w, c, pkcs12.Modern)
			files["tls"] = certificatesPEM(c.leaf)
		}),
		certificateStory("key", "EC", "[{objectName: tls, objectType: key}]", func(t *testing.T, w *world, c chain, files map[string]string) {
			store(t, w, c, pkcs12.Modern)
			files["tls"] = c.publicPEM(t)
		}),
		certificateStory("key", "EC-HSM", "[{objectName: k, objectType: key}]", func(t *testing.T, w *world, c chain, files map[string]string) {
			w.vault.SetKey("k", azuretest.Key{Public: &c.key.PublicKey, HSM: true})
			files["k"] = c.publicPEM(t)
		}),
		certificateStory("key", "a history", "[{objectName: k, objectType: key, objectVersionHistory: 2}]", func(t *testing.T, w *world, c chain, files map[string]string) {
			w.vault.Grant(clientID, azuretest.KeysList)
			w.vault.SetKey("k", azuretest.Key{Public: &c.key.PublicKey})
			files["k/0"] = c.publicPEM(t)
		}),
		certificateStory("cert", "a history", "[{objectName: tls, objectType: cert, objectVersionHistory: 2}]", func(t *testing.T, w *world, c chain, files map[string]string) {
			w.vault.Grant(clientID, azuretest.CertificatesList)
			store(t, w, c, pkcs12.Modern)
			files["tls/0"] = certificatesPEM(c.leaf)
		}),
	}
	ordered := certificateStory(pfx+"pem", "in the order of storage", tls, func(t *testing.T, w *world, c chain, files map[string]string) {
		store(t, w, c, pkcs12.Modern)
		files["tls"] = c.keyPEM(t) + certificatesPEM(c.leaf, c.root, c.issuer)
	})
	ordered.setup.mounter = func(m *provider.Mounter) { m.Render.StoredOrder = true }
	const split = "secret of a certificate, with --write-cert-and-key-in-separate-files"
	for _, s := range []story{
		certificateStory(split, "PEM", tls, func(t *testing.T, w *world, c chain, files map[string]string) {
			files["tls"], files["tls.crt"], files["tls.key"] = pemOf(t, w, c), certificatesPEM(c.leaf, c.issuer), c.keyPEM(t)
		}),
		certificateStory(split, "PKCS#12", tls, func(t *testing.T, w *world, c chain, files map[string]string) {
			store(t, w, c, pkcs12.Modern)
			files["tls.crt"], files["tls.key"] = certificatesPEM(c.leaf, c.issuer, c.root), c.keyPEM(t)
			files["tls"] = files["tls.key"] + files["tls.crt"]
		}),
	} {
		s.setup = separate
		all = append(all, s)
	}
	for name, objects := range map[string]string{
		"below the entry's other file": "[{objectName: tls, objectType: secret}, {objectName: my-secret, objectType: secret, objectAlias: tls.key/x}]",
		"beside a folder":              "[{objectName: tls, objectType: secret}, {objectName: my-secret, objectType: secret, objectAlias: tls.crt, objectVersionHistory: 2}]",
		"too long":                     "[{objectName: tls, objectType: secret, objectAlias: " + strings.Repeat("x", 255) + "}]",
	} {
		s := certificateStory(split, name, objects, func(t *testing.T, w *world, c chain, _ map[string]string) {
			w.vault.Grant(clientID, azuretest.SecretsList)
			store(t, w, c, pkcs12.Modern)
		})
		s.setup, s.files, s.code, s.says = separate, nil, codes.InvalidArgument, []string{"objectAlias", "[InvalidParameter]"}
		all = append(all, s)
	}
	conflict := func() story { // each has its own files, since stories run in parallel
		return certificateStory(split, "a path that is taken", "[{objectName: tls, objectType: secret}, {objectName: my-secret, objectType: secret, objectAlias: tls.key}]",
			func(t *testing.T, w *world, c chain, files map[string]string) {
				store(t, w, c, pkcs12.Modern)
				files["tls.crt"], files["tls.key"] = certificatesPEM(c.leaf, c.issuer, c.root), "Hello!"
				files["tls"] = c.keyPEM(t) + files["tls.crt"]
			})
	}
	taken, strictly := conflict(), conflict()
	taken.setup, taken.warnings = separate, "duplicate_path"
	strictly.name, strictly.files, strictly.code, strictly.says = "a path that is taken, strictly", nil, codes.InvalidArgument, []string{"--strict-objects"}
	strictly.setup = setup{mounter: func(m *provider.Mounter) { m.Render.SeparateFiles, m.StrictObjects = true, true }}
	all = append(all, taken, strictly)
	plain := story{row: "What an object becomes/" + split, name: "not of a plain secret", files: hello, setup: separate}
	return append(all, ordered, plain)
}

func identityStories() []story {
	in := func(s story) story { s.row = "Authentication/" + s.row; return s }
	password := map[string]string{"ClientID": clientID, "CLIENTSECRET": "hush"}
	return []story{
		in(story{row: "identity-binding", pod: map[string]string{"useAzureTokenProxy": "true"}, files: hello, prepare: bound}),
		in(story{row: "managed-identity", name: "system-assigned", pod: map[string]string{"useVMManagedIdentity": "true"}, files: hello, prepare: systemAssigned}),
		in(story{row: "managed-identity", name: "whatever the tokens are", pod: map[string]string{"useVMManagedIdentity": "true"}, badTokens: true, files: hello, prepare: systemAssigned}),
		in(story{row: "managed-identity", name: "user-assigned", pod: map[string]string{"useVMManagedIdentity": "true", "userAssignedIdentityID": clientID}, files: hello, prepare: assigned}),
		in(story{row: "managed-identity", name: "never another than the chosen one", pod: map[string]string{"useVMManagedIdentity": "true", "userAssignedIdentityID": otherTenant},
			prepare: systemAssigned, code: codes.Unauthenticated, says: []string{otherTenant, "userAssignedIdentityID", "[ManagedIdentityUnavailable]"}}),
		in(story{row: "workload-identity", files: hello}),
		in(story{row: "workload-identity", name: "never the annotation or the password instead", secret: password, tokens: map[string]string{}, prepare: func(t *testing.T, w *world) {
			w.app.AddSecret("hush", time.Time{})
			annotate("azure.workload.identity/client-id", clientID)(w)
		}, code: codes.FailedPrecondition, says: []string{"[TokenRequestMissing]"}}),
		in(story{row: "workload-identity, of a Secret", secret: map[string]string{"CLIENTID": clientID}, pod: map[string]string{"clientID": ""}, files: hello}),
		in(story{row: "service-principal", name: "by certificate", secret: map[string]string{"clientid": clientID, "ClientCertificate": newClientCertificate().pem}, pod: map[string]string{"clientID": ""}, files: hello, prepare: func(_ *testing.T, w *world) {
			w.app.Unfederate()
			w.app.AddCertificate(newClientCertificate().Certificate)
		}}),
		in(story{row: "service-principal", secret: password, pod: map[string]string{"clientID": ""}, files: hello, prepare: func(_ *testing.T, w *world) {
			w.app.Unfederate()
			w.app.AddSecret("hush", time.Time{})
		}}),
		in(story{row: "workload-identity, annotated", pod: map[string]string{"clientID": "", "tenantID": ""}, files: hello, prepare: func(_ *testing.T, w *world) {
			w.api.SetServiceAccount("shop", "reader", map[string]string{"azure.workload.identity/client-id": clientID, "azure.workload.identity/tenant-id": tenantID})
		}}),
		in(story{row: "workload-identity, annotated", name: "with the class's tenant", pod: map[string]string{"clientID": ""}, files: hello, prepare: func(_ *testing.T, w *world) {
			annotate("azure.workload.identity/client-id", clientID)(w)
		}}),
	}
}

// inCloud federates the application in a vault of another cloud.
func inCloud(suffix string) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) {
		v := w.VaultIn(suffix, "contoso", w.tenant)
		v.Grant(clientID, azuretest.SecretsGet)
		v.SetSecret("my-secret", azuretest.Secret{Value: "from " + suffix})
	}
}

func cloudStories() []story {
	in := func(row, name, suffix string) story {
		return story{row: "Clouds/" + row, name: name, pod: map[string]string{"cloudName": name}, prepare: inCloud(suffix), files: map[string]string{"my-secret": "from " + suffix}}
	}
	return []story{
		{row: "Clouds/AzurePublicCloud, AzureCloud", name: "AzureCloud", pod: map[string]string{"cloudName": "azurecloud"}, files: hello},
		in("AzureUSGovernmentCloud, AzureUSGovernment", "AzureUSGovernmentCloud", "vault.usgovcloudapi.net"),
		in("AzureUSGovernmentCloud, AzureUSGovernment", "AZUREUSGOVERNMENT", "vault.usgovcloudapi.net"),
		in("AzureChinaCloud", "AzureChinaCloud", "vault.azure.cn"),
		in("AzureBleuCloud", "AzureBleuCloud", "vault.sovcloud-api.fr"),
		in("AzureDelosCloud", "azureDELOScloud", "vault.sovcloud-api.de"),
		{row: "Clouds/AzureGermanCloud", pod: map[string]string{"cloudName": "AzureGermanCloud"}, code: codes.InvalidArgument, says: []string{"closed in 2021"}},
		{row: "Clouds/AzureStackCloud", name: "of a class's file, with AD FS", setup: stackFile(), pod: map[string]string{"cloudName": "AzureStackCloud", "cloudEnvFileName": stackPath, "tenantID": "adfs"},
			files: map[string]string{"my-secret": "on the hub"}, prepare: stackHub("adfs")},
		{row: "Clouds/a name of --cloud-file", name: "by its name", setup: ownCloud(), pod: map[string]string{"cloudName": "SKY"}, files: map[string]string{"my-secret": "on the hub"}, prepare: stackHub(tenantID)},
		{row: "Clouds/AzureStackCloud", name: "of the provider", setup: setup{mounter: func(m *provider.Mounter) {
			own, err := cloud.ReadFile(stackPath)
			if err == nil {
				m.Clouds.Environment = &own
			}
		}}, pod: map[string]string{"cloudName": "AzureStackCloud"}, files: map[string]string{"my-secret": "on the hub"}, prepare: stackHub(tenantID)},
	}
}

// stackPath is the environment file of the hub, whose own word on what tokens are made
// for is another than the file's.
var stackPath = func() string {
	path, err := filepath.Abs(filepath.Join("testdata", "stack.json"))
	if err != nil {
		panic(err)
	}
	return path
}()

func stackFile() setup {
	return setup{mounter: func(m *provider.Mounter) { m.Clouds.EnvDirs = []string{filepath.Dir(stackPath)} }}
}

// ownCloud is the hub as a cloud of the operator's.
func ownCloud() setup {
	return setup{mounter: func(m *provider.Mounter) {
		if own, err := cloud.ReadFile(stackPath); err == nil {
			m.Clouds.Own = map[string]cloud.Cloud{"Sky": own}
		}
	}}
}

func stackHub(tenant string) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) {
		w.AddCloud(azuretest.Cloud{AuthorityHost: "adfs.stack.example", VaultSuffix: "vault.stack.example", Resource: "https://vault.stack.example"})
		directory := w.Tenant(tenant)
		directory.Application(clientID).Federate(issuer, w.pod.Subject(), entra.Audience)
		v := w.VaultIn("vault.stack.example", "contoso", directory)
		v.Grant(clientID, azuretest.SecretsGet)
		v.SetSecret("my-secret", azuretest.Secret{Value: "on the hub"})
	}
}

func boundStories() []story {
	in := func(s story) story { s.row = "Bounds/" + s.row; s.code = codes.InvalidArgument; return s }
	many := "[" + strings.Repeat("{objectName: a, objectType: secret},", 4097) + "]"
	return []story{
		in(story{row: "objects of a class", objects: many, says: []string{"4097 objects", "4096"}}),
		in(story{row: "objects of a class", name: "in bytes", objects: "# " + strings.Repeat("x", 512<<10), says: []string{"524288 bytes"}}),
		in(story{row: "objects of a class", name: "directives", objects: "%TAG ! x\n---\n[]", says: []string{"directive"}}),
		{row: "Bounds/content of a volume", setup: setup{mounter: func(m *provider.Mounter) { m.MaxBytes = 5 }}, code: codes.FailedPrecondition, says: []string{"6 bytes", "my-secret", "--max-call-recv-msg-size"}},
		{row: "Bounds/time of a mount", setup: setup{config: func(c *server.Config) { c.MountTimeout = 300 * time.Millisecond }},
			prepare: func(_ *testing.T, w *world) { w.SetFault(azuretest.GetSecret, azuretest.Fault{Stall: true}) },
			code:    codes.FailedPrecondition, says: []string{"contoso.vault.azure.net", "[Timeout]"}},
	}
}

func differenceStories() []story {
	in := func(s story) story { s.row = "Differences from the provider it replaces/" + s.row; return s }
	return []story{
		in(story{row: "usePodIdentity: true", pod: map[string]string{"usePodIdentity": "true"}, code: codes.InvalidArgument, says: []string{"retired"}}),
		in(story{row: "cloudName: AzureGermanCloud", pod: map[string]string{"cloudName": "AzureGermanCloud"}, code: codes.InvalidArgument, says: []string{"2021"}}),
		in(story{row: "nodePublishSecretRef with clientid alone", secret: map[string]string{"clientid": clientID}, pod: map[string]string{"clientID": ""}, files: hello}),
		in(story{row: "cloudEnvFileName", setup: stackFile(), pod: map[string]string{"cloudName": "AzureStackCloud", "cloudEnvFileName": filepath.Dir(stackPath) + "/../etc/hostname"},
			code: codes.InvalidArgument, says: []string{"not below"}}),
		in(story{row: "objectVersionHistory: N", objects: "[{objectName: h, objectType: secret, objectVersionHistory: 2}]", files: map[string]string{"h/0": "3", "h/1": "2"}, prepare: func(_ *testing.T, w *world) {
			w.vault.Grant(clientID, azuretest.SecretsList)
			for i := range 4 {
				w.vault.SetSecret("h", azuretest.Secret{Value: fmt.Sprint(i), Created: time.Unix(int64(1000+i), 0)})
			}
		}}),
		in(story{row: "filePermission that is no octal mode", objects: with("filePermission: rw-r--r--"), code: codes.InvalidArgument, says: []string{"filePermission", "0777"}}),
		in(story{row: "filePermission that is no octal mode", name: "with a set-user-ID bit", objects: with("filePermission: 4755"), code: codes.InvalidArgument, says: []string{"filePermission"}}),
		in(story{row: "a path with .. within a part, as a..b", objects: with("objectAlias: d/a..b"), files: map[string]string{"d/a..b": "Hello!"}}),
		func() story {
			s := certificateStory("", "", "[{objectName: tls, objectType: secret}]", func(t *testing.T, w *world, c chain, files map[string]string) {
				raw, err := pkcs12.Modern.Encode(c.key, c.leaf, []*x509.Certificate{c.root, c.issuer, c.root}, "")
				if err != nil {
					t.Fatal(err)
				}
				w.vault.SetCertificate("tls", azuretest.Certificate{DER: c.leaf.Raw, SecretValue: base64.StdEncoding.EncodeToString(raw)})
				files["tls"] = c.keyPEM(t) + certificatesPEM(c.leaf, c.issuer, c.root, c.root)
			})
			s.row = "a PFX whose certificates are not one chain by their key identifiers"
			return in(s)
		}(),
		func() story {
			s := certificateStory("", "", "[{objectName: tls, objectType: secret}]", func(t *testing.T, w *world, c chain, files map[string]string) {
				raw := base64.StdEncoding.EncodeToString(unknownPFX)
				w.vault.SetCertificate("tls", azuretest.Certificate{DER: c.leaf.Raw, SecretValue: raw})
				w.vault.SetConverted("tls", certificatesPEM(c.root, c.leaf, c.issuer)+c.keyPEM(t))
				files["tls"] = c.keyPEM(t) + certificatesPEM(c.leaf, c.issuer, c.root)
			})
			s.row = "a PFX with a private key or certificate that Go's crypto/x509 rejects, or with an algorithm that it does not know"
			return in(s)
		}(),
		func() story {
			s := certificateStory("", "", "[{objectName: tls, objectType: secret, objectFormat: pfx}]", func(t *testing.T, w *world, c chain, files map[string]string) {
				raw := base64.StdEncoding.EncodeToString(c.pfx(t, pkcs12.Modern))
				w.vault.SetCertificate("tls", azuretest.Certificate{DER: c.leaf.Raw, SecretValue: raw})
				files["tls"], files["tls.crt"], files["tls.key"] = raw, certificatesPEM(c.leaf, c.issuer, c.root), c.keyPEM(t)
			})
			s.row, s.setup.mounter = "separate files of a PFX", func(m *provider.Mounter) { m.Render.SeparateFiles = true }
			return in(s)
		}(),
	}
}
