package request_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/request"
)

const (
	canary   = "CANARY.do-not-print.8d1f"
	clientID = "6c2f9d0e-8a3b-4a55-9d3c-2f1f6f1c7a10"
	tenantID = "11111111-2222-3333-4444-555555555555"

	attrPodName      = "csi.storage.k8s.io/pod.name"
	attrPodNamespace = "csi.storage.k8s.io/pod.namespace"
	attrTokens       = "csi.storage.k8s.io/serviceAccount.tokens"
)

var pod = azuretest.Pod{Namespace: "shop", Name: "cart-0", UID: "7a1c4d1e-0000-4000-8000-000000000000", ServiceAccount: "cart"}

func newCluster(t testing.TB) *azuretest.Cluster {
	t.Helper()
	box, err := azuretest.New(azuretest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	cluster, err := box.Cluster("https://cluster.example")
	if err != nil {
		t.Fatal(err)
	}
	return cluster
}

// sent is what the driver sends for a class of testdata, with the canary as token.
func sent(t testing.TB, c *azuretest.Cluster, file string) *v1alpha1.MountRequest {
	t.Helper()
	class, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.MountRequest(class, pod, map[string]string{azuretest.TokenExchangeAudience: canary}, "/target")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// attributes are parameters as the driver sends them, to be changed by a case.
type attributes map[string]string

func newAttributes(t testing.TB) attributes {
	t.Helper()
	var a attributes
	if err := json.Unmarshal([]byte(sent(t, newCluster(t), "mappings.yaml").GetAttributes()), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a attributes) with(changes map[string]string) attributes {
	a = maps.Clone(a)
	maps.Copy(a, changes)
	return a
}

func (a attributes) parse(t testing.TB) (*request.Mount, error) {
	t.Helper()
	return request.Parse(toJSON(t, a), "null", "420")
}

func toJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// refused checks what every error of Parse must be, and returns its problems.
func refused(t testing.TB, m *request.Mount, err error) []request.Problem {
	t.Helper()
	if err == nil {
		t.Fatal("was accepted")
	}
	if m != nil {
		t.Error("a Mount came with the error")
	}
	var e *request.Error
	if !errors.As(err, &e) || len(e.Problems) == 0 {
		t.Fatalf("%T %v is not an *Error with problems", err, err)
	}
	if e.Reason() != "InvalidParameter" {
		t.Errorf("reason %s", e.Reason())
	}
	text := err.Error()
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }) {
		t.Errorf("not one line: %q", text)
	}
	if strings.Contains(text, canary) {
		t.Errorf("shows a secret: %s", text)
	}
	return e.Problems
}

// names checks that one problem has exactly the field, and that its words and the
// whole message hold what is expected.
func names(t testing.TB, problems []request.Problem, err error, field string, says ...string) {
	t.Helper()
	for _, p := range problems {
		if p.Field != field {
			continue
		}
		if p.Cause == "" || p.Fix == "" {
			t.Errorf("%s: without cause or fix: %+v", field, p)
		}
		for _, s := range append(says, field) {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("does not say %q: %s", s, err)
			}
		}
		return
	}
	t.Errorf("no problem has the field %q: %v", field, err)
}

func secret(name string) request.Object {
	return request.Object{Type: request.TypeSecret, Name: name, Path: name, History: 1,
		Format: request.FormatPEM, Encoding: request.EncodingUTF8, Mode: 0o644}
}

// with changes a copy of the object.
func with(o request.Object, change func(*request.Object)) request.Object {
	change(&o)
	return o
}

func TestParseClasses(t *testing.T) {
	cluster := newCluster(t)
	tls := with(secret("tls"), func(o *request.Object) {
		o.Path, o.Version, o.Encoding, o.Mode = "certs/tls.b64", "00000000000000000000000000000017", request.EncodingBase64, 0o400
	})
	workload := request.Identity{TenantID: tenantID, ClientID: clientID}
	for _, c := range []struct {
		file     string
		vault    string
		identity request.Identity
		objects  []request.Object
		lax      []request.LaxKind
	}{
		{"array-of-texts.yaml", "contoso-kv", workload, []request.Object{secret("db-password"), tls}, nil},
		{"mappings.yaml", "contoso", request.Identity{TenantID: "contoso.onmicrosoft.com", ClientID: clientID}, []request.Object{
			with(secret("db-password"), func(o *request.Object) { o.Path, o.Mode = "db/password", 0o440 }),
			secret("api-key"),
		}, nil},
		{"bare-list.yaml", "contoso", workload, []request.Object{
			secret("db-password"),
			with(secret("db-user"), func(o *request.Object) { o.Path = "user..name" }),
		}, nil},
		{"yaml-marshalled.yaml", "contoso", workload, []request.Object{
			secret("secret1"),
			with(secret("secret1"), func(o *request.Object) { o.Path, o.Mode = "SECRET_1", 0o640 }),
		}, nil},
		{"crlf-anchors.yaml", "contoso", workload, []request.Object{
			with(secret("one"), func(o *request.Object) { o.Mode = 0o600 }),
			secret("two"),
		}, nil},
		{"lax.yaml", "contoso", workload, []request.Object{
			secret("one"),
			with(secret("two"), func(o *request.Object) { o.Type = request.TypeCert }),
			with(secret("three"), func(o *request.Object) { o.Type, o.Path = request.TypeKey, "one" }),
		}, []request.LaxKind{request.LaxUnknownField, request.LaxIgnoredFormat, request.LaxDuplicatePath}},
		{"managed-identity.yaml", "contoso", request.Identity{UseVMManagedIdentity: true, UserAssignedIdentityID: clientID}, []request.Object{
			with(secret("tls"), func(o *request.Object) {
				o.Path, o.Format, o.Encoding = "https.pfx", request.FormatPFX, request.EncodingBase64
			}),
			with(secret("ci-key"), func(o *request.Object) { o.Type, o.History = request.TypeKey, 5 }),
		}, nil},
	} {
		t.Run(c.file, func(t *testing.T) {
			r := sent(t, cluster, c.file)
			got, err := request.Parse(r.GetAttributes(), r.GetSecrets(), r.GetPermission())
			if err != nil {
				t.Fatal(err)
			}
			var lax []request.LaxKind
			for _, l := range got.Lax {
				lax = append(lax, l.Kind)
			}
			if !reflect.DeepEqual(lax, c.lax) {
				t.Errorf("lax: got %v, want %v", lax, c.lax)
			}
			got.Lax = nil
			if !c.identity.UseVMManagedIdentity { // which has no use for it
				c.identity.Tokens = map[string]request.Secret{azuretest.TokenExchangeAudience: canary}
			}
			want := &request.Mount{
				Pod:   request.Pod{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ServiceAccount: pod.ServiceAccount},
				Class: strings.TrimSuffix(c.file, ".yaml"),
				Vault: c.vault, Identity: c.identity, Objects: c.objects,
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			if !c.identity.UseVMManagedIdentity && string(got.Identity.Tokens[azuretest.TokenExchangeAudience]) != canary {
				t.Error("the token did not come through")
			}
		})
	}
}

// TestEveryClassIsTested keeps testdata and the table above together.
func TestEveryClassIsTested(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) != 7 {
		t.Errorf("testdata holds %d classes: %v; TestParseClasses knows 7", len(files), err)
	}
}

func TestParametersAccepted(t *testing.T) {
	base := newAttributes(t)
	type change = map[string]string
	for _, c := range []struct {
		name  string
		set   change
		check func(*request.Mount) (got, want any)
	}{
		{"vault in lower case", change{"keyvaultName": " Contoso-KV\n"}, func(m *request.Mount) (any, any) { return m.Vault, "contoso-kv" }},
		{"shortest vault", change{"keyvaultName": "kv1"}, func(m *request.Mount) (any, any) { return m.Vault, "kv1" }},
		{"longest vault", change{"keyvaultName": "a23456789012345678901234"}, func(m *request.Mount) (any, any) { return len(m.Vault), 24 }},
		{"old spelling of the tenant", change{"tenantID": " ", "tenantId": "old"}, func(m *request.Mount) (any, any) { return m.Identity.TenantID, "old" }},
		{"new spelling wins", change{"tenantID": "new", "tenantId": "not a tenant!"}, func(m *request.Mount) (any, any) { return m.Identity.TenantID, "new" }},
		{"Azure Stack Hub's tenant", change{"tenantID": "adfs"}, func(m *request.Mount) (any, any) { return m.Identity.TenantID, "adfs" }},
		{"no tenant", change{"tenantID": ""}, func(m *request.Mount) (any, any) { return m.Identity.TenantID, "" }},
		{"no client", change{"clientID": ""}, func(m *request.Mount) (any, any) { return m.Identity.ClientID, "" }},
		{"cloud as written", change{"cloudName": " AZUREPUBLICCLOUD "}, func(m *request.Mount) (any, any) { return m.Cloud.Name, "AZUREPUBLICCLOUD" }},
		{"cloud file as written", change{"cloudEnvFileName": "/cloudEnv/my.json"}, func(m *request.Mount) (any, any) { return m.Cloud.EnvFile, "/cloudEnv/my.json" }},
		{"unknown parameters", change{"resourceGroup": "rg", "": "", "keyvaultname": "!"}, func(m *request.Mount) (any, any) { return m.Vault, "contoso" }},
		{"boolean 1", change{"useVMManagedIdentity": "1"}, func(m *request.Mount) (any, any) { return m.Identity.UseVMManagedIdentity, true }},
		{"boolean t", change{"useAzureTokenProxy": " t "}, func(m *request.Mount) (any, any) { return m.Identity.UseAzureTokenProxy, true }},
		{"boolean TRUE", change{"useVMManagedIdentity": "TRUE"}, func(m *request.Mount) (any, any) { return m.Identity.UseVMManagedIdentity, true }},
		{"boolean False", change{"usePodIdentity": "False", "useVMManagedIdentity": "F", "useAzureTokenProxy": "0"}, func(m *request.Mount) (any, any) {
			return m.Identity.UseVMManagedIdentity || m.Identity.UseAzureTokenProxy, false
		}},
		// What a mode does not use, the replaced provider does not look at.
		{"placeholders beside a managed identity", change{"useVMManagedIdentity": "true", "clientID": "<client>", "tenantID": "<tenant>"},
			func(m *request.Mount) (any, any) { return m.Identity.UseVMManagedIdentity, true }},
		{"resource ID without managed identity", change{"userAssignedIdentityID": "/subscriptions/1/x"},
			func(m *request.Mount) (any, any) { return m.Identity.UserAssignedIdentityID, "" }},
		{"tokens that are none", change{attrTokens: `{"a":{"token":""}}`}, func(m *request.Mount) (any, any) { return m.Identity.Tokens == nil, true }},
		{"token without expiry", change{attrTokens: `{"a":{"token":"x","expirationTimestamp":"soon"}}`},
			func(m *request.Mount) (any, any) { return string(m.Identity.Tokens["a"]), "x" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := base.with(c.set).parse(t)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := c.check(m); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// Kubelet may put the tokens into the secrets; the attributes go first.
func TestTokensInSecrets(t *testing.T) {
	base := newAttributes(t)
	inSecrets := toJSON(t, map[string]string{attrTokens: `{"aud":{"token":"from secrets"}}`, "other": "x"})
	for _, c := range []struct{ name, attribute, want string }{
		{"else the secrets", "", "from secrets"},
		{"the attributes first", `{"aud":{"token":"from attributes"}}`, "from attributes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := request.Parse(toJSON(t, base.with(map[string]string{attrTokens: c.attribute})), inSecrets, "420")
			if err != nil {
				t.Fatal(err)
			}
			if got := string(m.Identity.Tokens["aud"]); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestParametersRefused(t *testing.T) {
	base := newAttributes(t)
	type change = map[string]string
	const vault, boolean, guid = "3 to 24 letters, digits and hyphens", `use "true" or "false"`, "GUID"
	for _, c := range []struct {
		name  string
		set   change
		field string
		says  []string
	}{
		{"no vault", change{"keyvaultName": ""}, "keyvaultName", []string{"missing", vault}},
		{"blank vault", change{"keyvaultName": " \n"}, "keyvaultName", []string{"missing", vault}},
		{"short vault", change{"keyvaultName": "kv"}, "keyvaultName", []string{`"kv"`, vault}},
		{"long vault", change{"keyvaultName": "a234567890123456789012345"}, "keyvaultName", []string{`"a234567890123456789012345"`, vault}},
		{"vault's URL", change{"keyvaultName": "https://kv.vault.azure.net"}, "keyvaultName", []string{`"https://kv.vault.azure.net"`, vault, "URL"}},
		{"vault's host", change{"keyvaultName": "kv.vault.azure.net"}, "keyvaultName", []string{vault}},
		{"vault with a line end", change{"keyvaultName": "kv1\nkv2"}, "keyvaultName", []string{`"kv1\nkv2"`, vault}},
		{"tenant", change{"tenantID": "a/b"}, "tenantID", []string{`"a/b"`, "GUID or domain name"}},
		{"tenant in the old spelling", change{"tenantID": "", "tenantId": "a b"}, "tenantId", []string{`"a b"`, "GUID or domain name"}},
		{"client", change{"clientID": "<client>"}, "clientID", []string{`"<client>"`, guid}},
		{"user-assigned identity", change{"useVMManagedIdentity": "true", "userAssignedIdentityID": "/subscriptions/1"}, "userAssignedIdentityID", []string{`"/subscriptions/1"`, guid}},
		{"boolean useVMManagedIdentity", change{"useVMManagedIdentity": "yes"}, "useVMManagedIdentity", []string{`"yes"`, boolean}},
		{"boolean usePodIdentity", change{"usePodIdentity": "on"}, "usePodIdentity", []string{`"on"`, boolean}},
		{"boolean useAzureTokenProxy", change{"useAzureTokenProxy": "2"}, "useAzureTokenProxy", []string{`"2"`, boolean}},
		{"pod identity", change{"usePodIdentity": "true"}, "usePodIdentity", []string{"retired", "workload identity"}},
		{"two modes", change{"useVMManagedIdentity": "true", "useAzureTokenProxy": "true"}, "useVMManagedIdentity", []string{"useAzureTokenProxy", "one identity mode"}},
		{"no pod name", change{attrPodName: ""}, attrPodName, []string{"missing", "podInfoOnMount"}},
		{"no pod namespace", change{attrPodNamespace: " "}, attrPodNamespace, []string{"missing", "podInfoOnMount"}},
		{"tokens", change{attrTokens: canary}, attrTokens, []string{"kubelet", "tokenRequests"}},
		{"tokens of another shape", change{attrTokens: `{"aud":"` + canary + `"}`}, attrTokens, []string{"kubelet"}},
		{"no objects", change{"objects": ""}, "objects", []string{"missing", "objectName"}},
		{"blank objects", change{"objects": " \n\t"}, "objects", []string{"missing", "objectName"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := base.with(c.set).parse(t)
			problems := refused(t, m, err)
			if len(problems) != 1 {
				t.Errorf("%d problems: %v", len(problems), err)
			}
			names(t, problems, err, c.field, c.says...)
		})
	}
}

// What only a broken driver sends is refused in words that show nothing of it.
func TestTextsRefused(t *testing.T) {
	good := toJSON(t, newAttributes(t))
	for _, c := range []struct {
		name, attributes, secrets, permission string
		field                                 string
	}{
		{"no attributes", "", "null", "420", "attributes"},
		{"attributes cut off", good[:len(good)-1], "null", "420", "attributes"},
		{"attributes of other types", `{"keyvaultName":["` + canary + `"]}`, "null", "420", "attributes"},
		{"attributes are a text", `"` + canary + `"`, "null", "420", "attributes"},
		{"secrets", good, `{"clientsecret":{"x":"` + canary + `"}}`, "420", "secrets"},
		{"secrets cut off", good, `{"clientsecret":"` + canary, "420", "secrets"},
		{"no permission", good, "null", "", "permission"},
		{"permission in quotes", good, "null", `"420"`, "permission"},
		{"negative permission", good, "null", "-1", "permission"},
		{"permission above 0777", good, "null", "512", "permission"},
		{"broken permission", good, "null", "420.5", "permission"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := request.Parse(c.attributes, c.secrets, c.permission)
			names(t, refused(t, m, err), err, c.field, "CSI driver")
		})
	}
	for name, c := range map[string][2]string{
		"no secrets": {"", "420"}, "empty secrets": {"{}", "420"}, "no bits": {"null", "0"}, "all bits": {"null", "511"},
	} {
		if _, err := request.Parse(good, c[0], c[1]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSeveralProblemsAreAllNamed(t *testing.T) {
	m, err := newAttributes(t).with(map[string]string{
		"keyvaultName": "no vault", "tenantID": "no tenant", "clientID": "no client", "usePodIdentity": "perhaps",
		attrPodName: "", "objects": "- {objectName: a_b, objectType: Secret, objectVersion: v/1}\n- {objectType: key}",
	}).parse(t)
	problems := refused(t, m, err)
	for _, field := range []string{"keyvaultName", "tenantID", "clientID", "usePodIdentity", attrPodName,
		`objects[0] "a_b": objectName`, `objects[0] "a_b": objectType`, `objects[0] "a_b": objectVersion`, `objects[1] "": objectName`} {
		names(t, problems, err, field)
	}
}

// However many objects are wrong, each is named, up to a bound that keeps the
// message in size.
func TestEveryWrongObjectIsNamed(t *testing.T) {
	base := newAttributes(t)
	objects := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "- {objectName: s%d, objectType: none}\n", i)
		}
		return b.String()
	}
	m, err := base.with(map[string]string{"objects": objects(40)}).parse(t)
	problems := refused(t, m, err)
	for i := range 40 {
		names(t, problems, err, fmt.Sprintf(`objects[%d] "s%d": objectType`, i, i))
	}
	m, err = base.with(map[string]string{"objects": objects(4000)}).parse(t)
	refused(t, m, err)
	if text := err.Error(); len(text) > 8<<10 || !strings.Contains(text, "more") {
		t.Errorf("%d bytes: %s", len(text), text)
	}
}

func TestLongValuesAreCut(t *testing.T) {
	long := strings.Repeat("é\u2028\x1b", 2_000)
	m, err := newAttributes(t).with(map[string]string{
		"keyvaultName": long, "tenantID": long, "clientID": long, "usePodIdentity": long,
		"objects": toJSON(t, []map[string]string{{"objectName": long, "objectType": long, "objectAlias": "/" + long, "filePermission": long}}),
	}).parse(t)
	refused(t, m, err)
	if n := len(err.Error()); n > 16<<10 {
		t.Errorf("the message has %d bytes", n)
	}
}

func TestSecretNeverPrints(t *testing.T) {
	s := request.Secret(canary)
	id := request.Identity{ClientID: clientID, Tokens: map[string]request.Secret{"aud": s}}
	mount := &request.Mount{Identity: id}
	printed := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10.3s"} {
		for i, v := range []any{s, &s, []request.Secret{s}, map[request.Secret]int{s: 1}, id, mount.Identity, *mount} {
			printed[fmt.Sprint(verb, i)] = fmt.Sprintf(verb, v)
		}
	}
	printed["json"] = toJSON(t, map[string]any{"mount": mount, "secret": s})
	printed["error"] = fmt.Errorf("wrapped: %v", s).Error()
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(handler(&b)).With("secret", s).Info("m", "mount", mount, "value", *mount, "tokens", id.Tokens, slog.Group("g", "s", s))
		printed["slog "+name] = b.String()
	}
	hexed := fmt.Sprintf("%x", canary[:8])
	for how, text := range printed {
		if strings.Contains(text, canary[:8]) || strings.Contains(strings.ToLower(text), hexed) {
			t.Errorf("%s prints the secret: %s", how, text)
		}
	}
	if !strings.Contains(printed["json"], "REDACTED") || string(s) != canary {
		t.Error("a secret prints as a placeholder and converts to its content")
	}
}
