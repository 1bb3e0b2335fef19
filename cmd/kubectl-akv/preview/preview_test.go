package preview

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/provider/azuretest"
)

func TestAsServiceAccount(t *testing.T) {
	w := newWorld(t)
	version := w.vault.SetSecret("my-secret", azuretest.Secret{Value: w.mark("new"), Expires: new(time.Date(2001, 2, 3, 0, 0, 0, 0, time.UTC))})
	s := w.preview(t, "web --as-serviceaccount web")
	want := "PATH\tMODE\tSIZE\tTYPE\tOBJECT\tVERSION\tEXPIRES\n" +
		"db/password\t0400\t29\tsecret\tmy-secret\t" + version + "\t2001-02-03 (expired)\n"
	if s.err != nil || s.out != want {
		t.Errorf("%v\n%s", s.err, s.out)
	}
	if want := fmt.Sprintf("signed in as: client %q in tenant %q\nwarning: secret \"my-secret\" has expired\n", clientID, tenantID); s.errOut != want {
		t.Errorf("%s", s.errOut)
	}
	if len(w.tokens) != 1 || *w.tokens[0].Spec.ExpirationSeconds != 600 || w.tokens[0].Spec.Audiences[0] != "api://AzureADTokenExchange" {
		t.Errorf("requested %v", w.tokens)
	}
	counts := w.Counts()
	if counts[azuretest.Token] != 1 || counts[azuretest.GetSecret] != 1 || len(w.api.Requests()) != 4 {
		t.Errorf("%v, %q", counts, w.api.Requests())
	}
}

// The structured outputs have the same, with what does not fit into the table.
func TestOutputs(t *testing.T) {
	w := newWorld(t)
	w.setClass(map[string]string{"keyvaultName": "kv-contoso", "tenantID": tenantID, "clientID": clientID, "objects": `
- {objectAlias: app.ini, template: 'a={{ secret "my-secret" }} b={{ certificate "web-tls" }}'}
- {objectName: db, objectType: secret, expand: json, objectAlias: db}
- {objectName: none, objectType: secret, optional: true}
- {objectName: web-tls, objectType: cert, unknownField: x}
`})
	for format, decode := range map[string]func([]byte, any) error{
		"json": json.Unmarshal, "yaml": func(text []byte, v any) error { return yaml.Unmarshal(text, v) }} {
		s := w.preview(t, "web --as-serviceaccount web -o "+format)
		var r Result
		if err := decode([]byte(s.out), &r); err != nil || s.err != nil {
			t.Fatal(err, s.err, s.out)
		}
		if r.Namespace != "shop" || r.Class != "web" || r.ServiceAccount != "web" || !strings.Contains(r.SignedInAs, clientID) || r.Error != "" {
			t.Errorf("%+v", r)
		}
		if len(r.LeftOut) != 1 || r.LeftOut[0] != `secret "none"` || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "unknownField") {
			t.Errorf("%q %q", r.LeftOut, r.Warnings)
		}
		var paths []string
		for _, f := range r.Files {
			paths = append(paths, f.Path)
		}
		if !slices.Equal(paths, []string{"app.ini", "db/password", "db/username", "web-tls"}) {
			t.Errorf("%q", paths)
		}
		document := r.Files[0]
		if len(document.Objects) != 2 || document.Objects[0].Type != "secret" || document.Objects[1].Type != "cert" || document.Objects[0].ContentType != "text/plain" ||
			document.Objects[0].Version == "" || document.Expires == nil || document.Size < 100 || document.Mode != "0644" {
			t.Errorf("%+v", document)
		}
		if len(r.Files[1].Objects) != 1 || r.Files[1].Objects[0].Name != "db" || r.Files[1].Expires != nil {
			t.Errorf("%+v", r.Files[1])
		}
	}
	s := w.preview(t, "web --as-serviceaccount web")
	if !strings.Contains(s.out, "\tsecret,cert\tmy-secret,web-tls\t") {
		t.Error(s.out)
	}
}

// What the provider would say is printed in its words, and what only this machine makes so is a
// hint.
func TestErrors(t *testing.T) {
	w := newWorld(t)
	w.asMe(t)
	parameters := map[string]string{"keyvaultName": "kv-contoso", "tenantID": tenantID, "objects": "- {objectName: my-secret, objectType: secret}"}
	with := func(more map[string]string) func() {
		return func() {
			all := map[string]string{}
			for _, m := range []map[string]string{parameters, more} {
				for k, v := range m {
					all[k] = v
				}
			}
			w.setClass(all)
		}
	}
	for _, test := range []struct {
		name, line   string
		set          func()
		reason, hint string
	}{
		{"invalid class", "web --as-serviceaccount web", with(map[string]string{"objects": "- {objectName: a}"}), "InvalidParameter", ""},
		{"missing", "web --as-serviceaccount web", with(map[string]string{"objects": "- {objectName: none, objectType: secret}"}), "ObjectNotFound", ""},
		{"no identity", "web --as-serviceaccount bare", func() { w.setAccount("shop", "bare", nil); with(nil)() }, "NoIdentity", "--node-publish-secret"},
		{"firewall", "web --as-serviceaccount web", func() { w.vault.SetFirewall("ForbiddenByFirewall") }, "VaultFirewall", "that of your machine"},
		{"firewall as me", "web --as-me", func() {}, "VaultFirewall", "read as you"},
		{"no such vault", "web --as-serviceaccount web", func() { w.vault.SetFirewall(""); with(map[string]string{"keyvaultName": "kv-nowhere"})() }, "VaultNotFound", "left from your machine"},
		{"no right as me", "web --as-me", func() { with(nil)(); w.vault.Revoke(clientID) }, "AccessDenied", "rights may differ"},
		{"no right", "web --as-serviceaccount web", func() {}, "AccessDenied", ""},
		{"not trusted", "web --as-serviceaccount web", w.app.Unfederate, "FederatedCredentialMissing", ""},
		{"no token", "web --as-serviceaccount web", func() { w.setDriver("api://other"); with(map[string]string{"clientID": clientID})() }, "TokenRequestMissing", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.set()
			s := w.preview(t, test.line+" -o json")
			var r Result
			if err := json.Unmarshal([]byte(s.out), &r); err != nil || !errors.Is(s.err, cli.ErrProblems) {
				t.Fatal(err, s.err, s.out)
			}
			if r.Reason != test.reason || !strings.HasSuffix(r.Error, "["+test.reason+"]") || len(r.Files) > 0 {
				t.Errorf("%+v", r)
			}
			if test.hint == "" && r.Hint != "" || !strings.Contains(r.Hint, test.hint) {
				t.Errorf("hint %q", r.Hint)
			}
			if test.reason == "FederatedCredentialMissing" && !strings.Contains(r.Error, fmt.Sprintf("issuer %q, subject %q", issuer, "system:serviceaccount:shop:web")) {
				t.Error(r.Error) // the issuer is known: the cluster itself has issued the token
			}
			if test.reason == "TokenRequestMissing" && !strings.Contains(r.Error, `received: ["api://other"]`) {
				t.Error(r.Error)
			}
			if s := w.preview(t, test.line); s.out != r.Error+"\n" || !strings.Contains(s.errOut, r.Hint) {
				t.Errorf("%s%s", s.out, s.errOut)
			}
		})
	}
}

// What the command cannot answer is an error, with what to do instead.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.setAccount("shop", "mute", nil)
	w.api.Forbid("POST /api/v1/namespaces/shop/serviceaccounts/mute/token")
	vault := "keyvaultName: kv-contoso, objects: '[{objectName: my-secret, objectType: secret}]'"
	file := func(names ...string) string {
		var text strings.Builder
		for _, name := range names {
			name, extra, _ := strings.Cut(name, " ")
			fmt.Fprintf(&text, "---\napiVersion: secrets-store.csi.x-k8s.io/v1\nkind: SecretProviderClass\nmetadata: {name: %s}\nspec: {provider: azure, parameters: {%s%s}}\n", name, vault, extra)
		}
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for line, want := range map[string]string{
		"":                                    "name a SecretProviderClass",
		"web":                                 "choose an identity: --as-serviceaccount NAME",
		"web --as-me --as-serviceaccount web": "exclude each other",
		"web --as-me --node-publish-secret s": "--as-me uses your own rights",
		"web --as-me --timeout=0s":            "--timeout must be more than 0",
		"web --as-me --cloud-name=Azure":      `--cloud-name: unknown cloud "Azure"`,
		"web --as-me --show=db/password":      "not a terminal; add --force",
		"web --as-me --show=db/password -o json --force":                              "leave out -o",
		"none --as-serviceaccount web":                                                "there is no SecretProviderClass shop/none",
		"web --as-serviceaccount none":                                                "there is no ServiceAccount shop/none",
		"web --as-serviceaccount mute":                                                "you may not request a token for ServiceAccount shop/mute; ask for the verb create on serviceaccounts/token, or use --as-me",
		"web --as-serviceaccount web --node-publish-secret none":                      "secret shop/none",
		"-f " + file("a", "b") + " --as-me":                                           "name one of a, b",
		"c -f " + file("a", "b") + " --as-me":                                         "there is no SecretProviderClass c of provider azure",
		"-f " + file("a , useVMManagedIdentity: 'true'") + " --as-serviceaccount web": "whose tokens only the nodes get; preview it with your own rights, --as-me",
		"-f " + file("a , useAzureTokenProxy: 'true'") + " --as-serviceaccount web":   "AKS identity binding",
		"-f " + file("a , useVMManagedIdentity: true") + " --as-me":                   "run kubectl akv validate",
	} {
		if s := w.preview(t, line); s.err == nil || errors.Is(s.err, cli.ErrProblems) || !strings.Contains(s.err.Error(), want) || s.out != "" {
			t.Errorf("%q: %v %s", line, s.err, s.out)
		}
	}
}

// With few rights it does what it can, and says what it could not see.
func TestRestrictedRights(t *testing.T) {
	w := newWorld(t)
	w.api.Forbid("GET " + driverPath)
	s := w.preview(t, "web --as-serviceaccount web")
	if s.err != nil || !strings.Contains(s.out, "db/password") || !strings.Contains(s.errOut, "note: you are not allowed to read CSIDriver") {
		t.Errorf("%+v", s)
	}
	w.api.Forbid("GET /api/v1/namespaces/shop/serviceaccounts/web")
	s = w.preview(t, "web --as-serviceaccount web")
	if !errors.Is(s.err, cli.ErrProblems) || !strings.Contains(s.out, "you are not allowed to get ServiceAccount shop/web") {
		t.Errorf("%+v", s)
	}
}

func TestShow(t *testing.T) {
	w := newWorld(t)
	w.setClass(map[string]string{"keyvaultName": "kv-contoso", "tenantID": tenantID, "objects": `
- {objectName: text, objectType: secret}
- {objectName: binary, objectType: secret, objectEncoding: base64}
`})
	w.vault.SetSecret("text", azuretest.Secret{Value: "Grüße\n"})
	w.vault.SetSecret("binary", azuretest.Secret{Value: "G1sySg=="})
	terminal := func(e *cli.Env) { e.Terminal = true }
	if s := w.preview(t, "web --as-serviceaccount web --show text", terminal); s.err != nil || s.out != "Grüße\n" {
		t.Errorf("%+v", s)
	}
	if s := w.preview(t, "web --as-serviceaccount web --show text --force"); s.err != nil || s.out != "Grüße\n" {
		t.Errorf("%+v", s)
	}
	if s := w.preview(t, "web --as-serviceaccount web --show binary", terminal); s.err == nil || s.out != "" || !strings.Contains(s.err.Error(), "is binary") {
		t.Errorf("%+v", s)
	}
	if s := w.preview(t, "web --as-serviceaccount web --show binary --force", terminal); s.err != nil || s.out != "\x1b[2J" {
		t.Errorf("%+v", s)
	}
	if s := w.preview(t, "web --as-serviceaccount web --show no --force"); s.err == nil || s.out != "" || !strings.Contains(s.err.Error(), `its files are ["binary" "text"]`) {
		t.Errorf("%+v", s)
	}
	w.vault.Delete("secret", "text")
	if s := w.preview(t, "web --as-serviceaccount web --show text --force"); !errors.Is(s.err, cli.ErrProblems) || s.out != "" || !strings.Contains(s.errOut, "[ObjectNotFound]") {
		t.Errorf("%+v", s)
	}
}

// As the user, no cluster is needed for a file, and the identity of the class has no part in it.
func TestAsMe(t *testing.T) {
	w := newWorld(t)
	w.asMe(t)
	file := expanded(t, "../../../deploy/examples/managed-identity/secretproviderclass.yaml")
	s := w.preview(t, "-f "+file+" --as-me")
	if s.err != nil || !strings.Contains(s.out, "my-secret\t0644") || len(w.api.Requests()) > 0 {
		t.Errorf("%+v %q", s, w.api.Requests())
	}
	if !strings.Contains(s.errOut, "signed in as: you (object ID ") {
		t.Error(s.errOut)
	}
	t.Setenv("AZURE_CLIENT_SECRET", "wrong")
	s = w.preview(t, "-f "+file+" --as-me")
	if !errors.Is(s.err, cli.ErrProblems) || !strings.Contains(s.out, "you cannot be signed in: ") || strings.Count(s.out, "\n") != 1 || !strings.Contains(s.out, "[SignInFailed]") {
		t.Errorf("%+v", s)
	}
}
