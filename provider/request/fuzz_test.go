package request_test

import (
	"cmp"
	"encoding/json"
	"io/fs"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"akv-csi-provider/provider/request"
)

// FuzzParse starts from what the driver sends for the classes of testdata.
func FuzzParse(f *testing.F) {
	cluster := newCluster(f)
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no classes in testdata: %v", err)
	}
	for _, file := range files {
		r := sent(f, cluster, filepath.Base(file))
		clean := strings.ReplaceAll(r.GetAttributes(), canary, "token")
		f.Add(clean, r.GetSecrets(), r.GetPermission())
		f.Add(clean, `{"clientid":"c","clientsecret":"s"}`, "256")
	}
	f.Add("{}", "", "")
	f.Fuzz(func(t *testing.T, attributes, secrets, permission string) {
		checkParse(t, attributes, secrets, permission)
		// The same with secrets where secrets stand, whole and broken.
		var attr map[string]string
		if json.Unmarshal([]byte(attributes), &attr) != nil || attr == nil || strings.Contains(attributes+permission, canary) {
			return
		}
		for _, tokens := range []string{`{"aud":{"token":"` + canary + `"}}`, `{"aud":"` + canary + `"}`, canary} {
			attr[attrTokens] = tokens
			checkParse(t, toJSON(t, attr), `{"clientid":"c","clientsecret":"`+canary+`"}`, permission)
		}
		checkParse(t, toJSON(t, attr), canary, permission)
	})
}

// FuzzObjects changes the objects alone, so that it gets deeper there.
func FuzzObjects(f *testing.F) {
	cluster := newCluster(f)
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no classes in testdata: %v", err)
	}
	for _, file := range files {
		var attr map[string]string
		if err := json.Unmarshal([]byte(sent(f, cluster, filepath.Base(file)).GetAttributes()), &attr); err != nil {
			f.Fatal(err)
		}
		f.Add(attr["objects"])
	}
	for _, entry := range []string{
		`objectName: a, objectType: secret, keyvaultName: other, failoverKeyvaultName: third, optional: true`,
		`find: {name: "^a-(.*)$", tags: {env: prod}}, objectType: secret, objectAlias: d, maxObjects: 5, includeCertificates: true, objectVersionHistory: 2`,
		`find: {name: a}, objectType: secret, bundle: yaml, objectAlias: f`, `objectName: a, objectType: secret, expand: yaml, objectAlias: d`,
		`objectName: a, objectType: secret, objectAlias: w, jmesPath: [{path: "a[0].b", objectAlias: x/y, filePermission: 0400, optional: true}]`,
		`objectName: a, objectType: secret, files: [{part: truststore-jks, objectAlias: t, passwordFrom: pw}, {part: pkcs12, objectAlias: k, passwordFrom: pw, algorithms: legacy}]`,
		`objectAlias: f, template: "{{ secret \"a\" | quote }}{{ range find \"b\" }}{{ .Value }}{{ end }}"`, `objectName: a, objectType: key, objectFormat: jwk`,
	} {
		f.Add("- {" + entry + "}\n- {objectName: z, objectType: secret}")
		f.Add("array:\n  - |\n    {" + entry + "}\n")
	}
	base := newAttributes(f)
	f.Fuzz(func(t *testing.T, objects string) {
		checkParse(t, toJSON(t, base.with(map[string]string{"objects": objects})), "null", "420")
	})
}

// checkParse checks what is true of Parse for any input.
func checkParse(t *testing.T, attributes, secrets, permission string) {
	t.Helper()
	m, err := parse(t, attributes, secrets, permission)
	again, errAgain := parse(t, attributes, secrets, permission)
	if !reflect.DeepEqual(m, again) || !reflect.DeepEqual(err, errAgain) {
		t.Errorf("not deterministic:\n%+v %v\n%+v %v", m, err, again, errAgain)
	}
	if err != nil {
		refused(t, m, err)
	} else {
		checkMount(t, m)
		checkRoundTrip(t, m)
	}
	var attr map[string]string
	if json.Unmarshal([]byte(attributes), &attr) == nil {
		checkReplaced(t, attr["objects"], m, err)
	}
}

var (
	vaultName     = regexp.MustCompile(`^[-a-z0-9]{3,24}$`)
	objectName    = regexp.MustCompile(`^[-0-9A-Za-z]{1,127}$`)
	objectVersion = regexp.MustCompile(`^[0-9A-Za-z]{0,64}$`)
)

func checkMount(t *testing.T, m *request.Mount) {
	t.Helper()
	if m.Pod.Name == "" || m.Pod.Namespace == "" || m.Vault != "" && !vaultName.MatchString(m.Vault) {
		t.Errorf("pod %+v, vault %q", m.Pod, m.Vault)
	}
	if m.Identity.UseVMManagedIdentity && m.Identity.UseAzureTokenProxy {
		t.Error("two identity modes")
	}
	if len(m.Objects) == 0 {
		t.Error("no objects")
	}
	duplicates := 0
	for _, l := range m.Warnings {
		if l.Kind == request.WarnDuplicatePath {
			duplicates++
		}
	}
	paths := map[string]bool{}
	for _, o := range m.Objects {
		checkObject(t, m, o)
		for i, p := range files(o) {
			if !cleanPath(p) {
				t.Errorf("path %q", p)
			}
			if paths[p] {
				duplicates--
			}
			if paths[p] && (i > 0 || o.Document != nil || o.Bundle != "" || o.Pieces != nil && o.Path == "") {
				t.Errorf("%q is lost, which no replaced provider accepts", p)
			}
			paths[p] = true
		}
	}
	if duplicates != 0 {
		t.Errorf("%d duplicate paths too few or too many are reported", duplicates)
	}
	for p := range paths {
		for q := range paths {
			if strings.HasPrefix(p, q+"/") {
				t.Errorf("%q is a file and the directory of %q", q, p)
			}
		}
	}
}

// files are the paths of an object's files that the class names.
func files(o request.Object) (paths []string) {
	folder := (o.Find != nil || o.Pieces != nil && o.Pieces.Expand != "") && o.Bundle == ""
	if o.Path != "" && !folder {
		if paths = []string{o.Path}; o.History > 1 {
			paths = []string{o.Nth(0, "").Path}
		}
	}
	if o.Pieces != nil {
		for _, p := range o.Pieces.Paths {
			paths = append(paths, p.Path)
		}
		for _, p := range o.Pieces.Parts {
			paths = append(paths, p.Path)
		}
	}
	return paths
}

func checkObject(t *testing.T, m *request.Mount, o request.Object) {
	t.Helper()
	if o.Vault != "" && !vaultName.MatchString(o.Vault) || o.Vault == m.Vault && m.Vault != "" || m.Vault == "" && o.Vault == "" {
		t.Errorf("vault %q in a class with %q", o.Vault, m.Vault)
	}
	if o.Failover != "" && (!vaultName.MatchString(o.Failover) || o.Failover == o.Vault || o.Vault == "" && o.Failover == m.Vault) {
		t.Errorf("vault %q fails over to %q", o.Vault, o.Failover)
	}
	if o.Mode > 0o777 || o.History < 1 {
		t.Errorf("mode %o, history %d", o.Mode, o.History)
	}
	if o.Find == nil && o.Document == nil && !objectName.MatchString(o.Name) || (o.Find != nil || o.Document != nil) && o.Name != "" || o.Find != nil && o.Document != nil {
		t.Errorf("name %q, %v, %v", o.Name, o.Find, o.Document)
	}
	if !objectVersion.MatchString(o.Version) || o.Version == "latest" {
		t.Errorf("version %q", o.Version)
	}
	secret := o.Type == request.TypeSecret
	if o.Document != nil {
		if o.Type != "" || o.History > 1 || o.Path == "" {
			t.Errorf("document %+v", o)
		}
		return
	}
	if !secret && o.Type != request.TypeKey && o.Type != request.TypeCert || !secret && (o.Format == request.FormatPFX || o.Encoding != request.EncodingUTF8) ||
		o.Format == request.FormatJWK && o.Type != request.TypeKey {
		t.Errorf("%s in format %q and encoding %q", o.Type, o.Format, o.Encoding)
	}
	if f := o.Find; f != nil && (f.Max < 1 || f.Max > 1000 || f.Name == nil && len(f.Tags) == 0 || f.Managed && !secret || o.Version != "") {
		t.Errorf("search %+v", f)
	}
	if o.Bundle != "" && (o.Path == "" || o.History > 1) {
		t.Errorf("bundle %+v", o)
	}
	if o.Pieces == nil {
		return
	}
	if !secret || o.History > 1 || len(o.Pieces.Paths)+len(o.Pieces.Parts) == 0 && o.Pieces.Expand == "" {
		t.Errorf("pieces %+v", o)
	}
	for _, p := range o.Pieces.Paths {
		if p.Query == nil || p.Mode > 0o777 {
			t.Errorf("piece %+v", p)
		}
	}
	for _, p := range o.Pieces.Parts {
		if p.Name == "" || p.Mode > 0o777 || p.Name.Protected() != objectName.MatchString(p.PasswordFrom) {
			t.Errorf("part %+v", p)
		}
	}
}

func cleanPath(p string) bool {
	if p == "" || p == "." || path.IsAbs(p) || path.Clean(p) != p || strings.HasPrefix(p, "..") || strings.ContainsRune(p, 0) ||
		len(p) > 4096 || strings.ToValidUTF8(p, "") != p {
		return false
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." || len(part) > 255 {
			return false
		}
	}
	return true
}

// written is the entry of an object. Its vault is named where another is the class's.
func written(o request.Object, class string) map[string]any {
	octal := func(mode fs.FileMode) string { return "0" + strconv.FormatUint(uint64(mode), 8) }
	e := map[string]any{"objectAlias": o.Path, "filePermission": octal(o.Mode), "keyvaultName": cmp.Or(o.Vault, class),
		"failoverKeyvaultName": o.Failover, "optional": o.Optional, "bundle": string(o.Bundle)}
	if o.Document != nil {
		e["template"] = reflect.ValueOf(o.Document).Elem().FieldByName("text").String()
		return e
	}
	e["objectName"], e["objectType"], e["objectVersion"] = o.Name, string(o.Type), o.Version
	if e["objectVersionHistory"] = o.History; o.FormatSet {
		e["objectFormat"] = string(o.Format)
	}
	if o.Type == request.TypeSecret {
		e["objectEncoding"] = string(o.Encoding)
	}
	if f := o.Find; f != nil {
		find := map[string]any{}
		if e["find"], e["maxObjects"], e["includeCertificates"] = find, f.Max, f.Managed; f.Name != nil {
			find["name"] = f.Name.String()
		}
		if len(f.Tags) > 0 {
			find["tags"] = f.Tags
		}
	}
	if o.Pieces == nil {
		return e
	}
	var paths, parts []map[string]any
	for _, p := range o.Pieces.Paths {
		paths = append(paths, map[string]any{"path": p.Query.String(), "objectAlias": p.Path, "filePermission": octal(p.Mode), "optional": p.Optional})
	}
	for _, p := range o.Pieces.Parts {
		parts = append(parts, map[string]any{"part": string(p.Name), "objectAlias": p.Path, "filePermission": octal(p.Mode), "passwordFrom": p.PasswordFrom,
			"algorithms": map[bool]string{true: "legacy"}[p.Legacy]})
	}
	if e["expand"] = string(o.Pieces.Expand); paths != nil {
		e["jmesPath"] = paths
	}
	if parts != nil {
		e["files"] = parts
	}
	return e
}

// checkRoundTrip writes the Mount as a class and reads it again.
func checkRoundTrip(t *testing.T, m *request.Mount) {
	t.Helper()
	list := make([]map[string]any, len(m.Objects))
	for i, o := range m.Objects {
		list[i] = written(o, m.Vault)
	}
	objects, err := yaml.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	projected := map[string]map[string]string{}
	for audience, token := range m.Identity.Tokens {
		projected[audience] = map[string]string{"token": string(token)}
	}
	if len(objects) > 256<<10 {
		return // with all defaults written out it may be too long
	}
	secrets := toJSON(t, map[string]string{
		"clientid": m.Identity.ServicePrincipal.ClientID, "clientsecret": string(m.Identity.ServicePrincipal.ClientSecret),
	})
	got, err := parse(t, toJSON(t, map[string]string{
		"csi.storage.k8s.io/pod.name": m.Pod.Name, "csi.storage.k8s.io/pod.namespace": m.Pod.Namespace,
		"csi.storage.k8s.io/pod.uid": m.Pod.UID, "csi.storage.k8s.io/serviceAccount.name": m.Pod.ServiceAccount,
		attrTokens: toJSON(t, projected), "secretProviderClass": m.Class,
		"keyvaultName": m.Vault, "cloudName": m.Cloud.Name, "cloudEnvFileName": m.Cloud.EnvFile,
		"tenantID": m.Identity.TenantID, "clientID": m.Identity.ClientID, "userAssignedIdentityID": m.Identity.UserAssignedIdentityID,
		"useVMManagedIdentity": strconv.FormatBool(m.Identity.UseVMManagedIdentity),
		"useAzureTokenProxy":   strconv.FormatBool(m.Identity.UseAzureTokenProxy),
		"objects":              string(objects),
	}), secrets, "420")
	if err != nil {
		t.Fatalf("written and read again: %v\n%s", err, objects)
	}
	want := *m
	want.Warnings, got.Warnings = nil, nil
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("written and read again:\ngot  %+v\nwant %+v", *got, want)
	}
}

// FuzzRepeatedObjects repeats a piece of YAML up to the bound of the objects' size: however it nests or
// refers to itself, parsing ends soon, and with no more objects than a class may have.
func FuzzRepeatedObjects(f *testing.F) {
	for _, c := range [][3]string{
		{"", "- {objectName: x, objectType: secret, objectAlias: a}\n", ""}, {"array:\n", "- |\n  objectName: x\n  objectType: secret\n", ""},
		{"", "[", ""}, {"", "{a: ", ""}, {"", "- ", "x"}, {"a: &a [x]\nb: [", "*a,", "]"}, {"- &a {objectName: x, objectType: secret}\n", "- *a\n", ""},
		{"", "? ", ""}, {"", "# comment\n", ""}, {"- objectName: '", "''", "'"}, {"- objectAlias: ", "a/", "b"}, {"", "---\n", ""}, {"", "!!", "x"}, {"", "- |2\n", ""}, {"- {<<: ", "{<<: ", "}"},
	} {
		f.Add(c[0], c[1], c[2], uint16(100))
		f.Add(c[0], c[1], c[2], uint16(20000))
	}
	f.Fuzz(func(t *testing.T, before, piece, after string, n uint16) {
		const most = 512 << 10
		objects := before + strings.Repeat(piece, min(int(n), most/max(1, len(piece)))) + after
		start := time.Now()
		m, err := parse(t, toJSON(t, map[string]string{
			"csi.storage.k8s.io/pod.name": "web-0", "csi.storage.k8s.io/pod.namespace": "shop", "keyvaultName": "contoso", "objects": objects,
		}), "null", "420")
		if took := time.Since(start); took > time.Minute { // half a second on a machine with nothing else to do
			t.Errorf("%d bytes took %v", len(objects), took)
		}
		if err != nil {
			refused(t, m, err)
			return
		}
		if len(m.Objects) == 0 || len(m.Objects) > 4096 {
			t.Errorf("%d objects", len(m.Objects))
		}
	})
}
