package request_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/fault"
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
	return parse(t, toJSON(t, a), "null", "420")
}

// parse parses with a new Parser.
func parse(t testing.TB, attributes, secrets, permission string) (*request.Mount, error) {
	t.Helper()
	return request.NewParser().Parse(attributes, secrets, permission)
}

func toJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// refused checks what every error of Parse must be, and that nothing but the pod came with
// it; it returns the problems.
func refused(t testing.TB, m *request.Mount, err error) []fault.Problem {
	t.Helper()
	if err == nil {
		t.Fatal("was accepted")
	}
	if m == nil || !reflect.DeepEqual(m, &request.Mount{Pod: m.Pod, Class: m.Class}) {
		t.Errorf("more than a Pod and a Class came with the error: %+v", m)
	}
	return problemsOf(t, err)
}

// problemsOf checks what every error of this package must be, and returns its problems.
func problemsOf(t testing.TB, err error) []fault.Problem {
	t.Helper()
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Reason != fault.InvalidParameter || len(e.Problems) == 0 {
		t.Fatalf("%T %v is not a *fault.Error with problems", err, err)
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

// names checks that one problem has exactly the field, and that its texts and the
// whole message contain what is expected.
func names(t testing.TB, problems []fault.Problem, err error, field string, says ...string) {
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
		warnings []request.WarningKind
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
			with(secret("secret1"), func(o *request.Object) { o.Path, o.Mode, o.FormatSet = "SECRET_1", 0o640, true }),
		}, nil},
		{"crlf-anchors.yaml", "contoso", workload, []request.Object{
			with(secret("one"), func(o *request.Object) { o.Mode = 0o600 }),
			secret("two"),
		}, nil},
		{"warnings.yaml", "contoso", workload, []request.Object{
			secret("one"),
			with(secret("two"), func(o *request.Object) { o.Type, o.FormatSet = request.TypeCert, true }),
			with(secret("three"), func(o *request.Object) { o.Type, o.Path = request.TypeKey, "one" }),
		}, []request.WarningKind{request.WarnIgnoredFormat, request.WarnUnknownField, request.WarnDuplicatePath}},
		{"managed-identity.yaml", "contoso", request.Identity{UseVMManagedIdentity: true, UserAssignedIdentityID: clientID}, []request.Object{
			with(secret("tls"), func(o *request.Object) {
				o.Path, o.Format, o.FormatSet, o.Encoding = "https.pfx", request.FormatPFX, true, request.EncodingBase64
			}),
			with(secret("ci-key"), func(o *request.Object) { o.Type, o.History = request.TypeKey, 5 }),
		}, nil},
		{"beyond.yaml", "contoso", workload, beyond(t), nil},
	} {
		t.Run(c.file, func(t *testing.T) {
			r := sent(t, cluster, c.file)
			got, err := parse(t, r.GetAttributes(), r.GetSecrets(), r.GetPermission())
			if err != nil {
				t.Fatal(err)
			}
			var warnings []request.WarningKind
			for _, l := range got.Warnings {
				warnings = append(warnings, l.Kind)
			}
			if !reflect.DeepEqual(warnings, c.warnings) {
				t.Errorf("warnings: got %v, want %v", warnings, c.warnings)
			}
			got.Warnings = nil
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

// TestEveryClassIsTested checks that the table above has all of testdata.
func TestEveryClassIsTested(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) != 8 {
		t.Errorf("testdata has %d classes: %v; TestParseClasses knows 8", len(files), err)
	}
}

func TestSeveralProblemsAreAllNamed(t *testing.T) {
	m, err := newAttributes(t).with(map[string]string{
		"keyvaultName": "no vault", "tenantID": "no tenant", "clientID": "no client", "usePodIdentity": "perhaps",
		attrPodName: "", "objects": "- {objectName: a_b, objectType: Secret, objectVersion: v/1}\n- {objectType: key}",
	}).parse(t)
	problems := refused(t, m, err)
	for _, field := range []string{"keyvaultName", "tenantID", "clientID", "usePodIdentity", attrPodName,
		`objects[0]: objectName`, `objects[0]: objectType`, `objects[0]: objectVersion`, `objects[1]: objectName`} {
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
