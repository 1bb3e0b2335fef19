package request_test

import (
	"encoding/json"
	"maps"
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
	var attr map[string]string
	for _, file := range files {
		if err := json.Unmarshal([]byte(sent(f, cluster, filepath.Base(file)).GetAttributes()), &attr); err != nil {
			f.Fatal(err)
		}
		f.Add(attr["objects"])
	}
	f.Fuzz(func(t *testing.T, objects string) {
		attr := maps.Clone(attr)
		attr["objects"] = objects
		checkParse(t, toJSON(t, attr), "null", "420")
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
	if m.Pod.Name == "" || m.Pod.Namespace == "" || !vaultName.MatchString(m.Vault) {
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
		if !objectName.MatchString(o.Name) || !objectVersion.MatchString(o.Version) || o.Version == "latest" {
			t.Errorf("name %q, version %q", o.Name, o.Version)
		}
		if o.Mode > 0o777 || o.History < 1 {
			t.Errorf("mode %o, history %d", o.Mode, o.History)
		}
		secret := o.Type == request.TypeSecret
		if !secret && o.Type != request.TypeKey && o.Type != request.TypeCert || !secret && (o.Format != request.FormatPEM || o.Encoding != request.EncodingUTF8) {
			t.Errorf("%s in format %q and encoding %q", o.Type, o.Format, o.Encoding)
		}
		if !cleanPath(o.Path) {
			t.Errorf("path %q", o.Path)
		}
		if paths[o.Path] {
			duplicates--
		}
		paths[o.Path] = true
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

// checkRoundTrip writes the Mount as a class and reads it again.
func checkRoundTrip(t *testing.T, m *request.Mount) {
	t.Helper()
	list := make([]map[string]any, len(m.Objects))
	for i, o := range m.Objects {
		list[i] = map[string]any{
			"objectName": o.Name, "objectType": string(o.Type), "objectVersion": o.Version, "objectVersionHistory": o.History,
			"objectAlias": o.Path, "filePermission": "0" + strconv.FormatUint(uint64(o.Mode), 8),
		}
		if o.FormatSet {
			list[i]["objectFormat"] = string(o.Format)
		}
		if o.Type == request.TypeSecret {
			list[i]["objectEncoding"] = string(o.Encoding)
		}
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
