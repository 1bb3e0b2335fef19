package request_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

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

// checkParse holds what is true of Parse whatever it is given.
func checkParse(t *testing.T, attributes, secrets, permission string) {
	t.Helper()
	m, err := request.Parse(attributes, secrets, permission)
	again, errAgain := request.Parse(attributes, secrets, permission)
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
	for _, l := range m.Lax {
		if l.Kind == request.LaxDuplicatePath {
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
		t.Errorf("%d duplicate paths too few or too many are told", duplicates)
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
			"objectAlias": o.Path, "objectFormat": string(o.Format), "filePermission": "0" + strconv.FormatUint(uint64(o.Mode), 8),
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
	got, err := request.Parse(toJSON(t, map[string]string{
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
	want.Lax, got.Lax = nil, nil
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("written and read again:\ngot  %+v\nwant %+v", *got, want)
	}
}

// replacedObject is what the replaced provider (v1.8.2) decodes each entry into.
type replacedObject struct {
	ObjectName           string `yaml:"objectName"`
	ObjectAlias          string `yaml:"objectAlias"`
	ObjectVersion        string `yaml:"objectVersion"`
	ObjectVersionHistory int32  `yaml:"objectVersionHistory"`
	ObjectType           string `yaml:"objectType"`
	ObjectFormat         string `yaml:"objectFormat"`
	ObjectEncoding       string `yaml:"objectEncoding"`
	FilePermission       string `yaml:"filePermission"`
}

// replacedObjects reads the objects as the replaced provider does.
func replacedObjects(text string) ([]replacedObject, bool) {
	var list struct {
		Array []string `yaml:"array"`
	}
	if yaml.Unmarshal([]byte(text), &list) != nil {
		return nil, false
	}
	objects := make([]replacedObject, len(list.Array))
	for i, entry := range list.Array {
		o := &objects[i]
		if yaml.Unmarshal([]byte(entry), o) != nil {
			return nil, false
		}
		for _, s := range []*string{&o.ObjectName, &o.ObjectAlias, &o.ObjectVersion, &o.ObjectType, &o.ObjectFormat, &o.ObjectEncoding, &o.FilePermission} {
			*s = strings.TrimSpace(*s)
		}
	}
	return objects, len(objects) > 0
}

// checkReplaced holds the drop-in rule: what the replaced provider reads, and the
// rules for fields allow, is read here with the same meaning.
func checkReplaced(t *testing.T, text string, m *request.Mount, err error) {
	t.Helper()
	olds, ok := replacedObjects(text)
	// Far below the bounds that it does not have, and without directives (%TAG).
	if !ok || len(text) > 1<<15 || strings.Contains(text, "%") {
		return
	}
	for _, o := range olds {
		if !o.allowed() {
			return
		}
	}
	if e := new(request.Error); errors.As(err, &e) {
		for _, p := range e.Problems {
			if strings.HasPrefix(p.Field, "objects") && !strings.Contains(p.Cause, "lies below") {
				t.Errorf("the replaced provider reads these objects: %v\n%q", err, text)
			}
		}
		return
	}
	if len(olds) != len(m.Objects) {
		t.Fatalf("%d objects, the replaced provider reads %d", len(m.Objects), len(olds))
	}
	for i, old := range olds {
		if !old.means(m.Objects[i]) {
			t.Errorf("got %+v, the replaced provider reads %+v", m.Objects[i], old)
		}
	}
}

// octal tells the modes that stay legal from those that became mode 0 there.
var octal = regexp.MustCompile(`^0*[0-7]{0,3}$`)

func (o replacedObject) allowed() bool {
	secret := o.ObjectType == "secret"
	lowerASCII := func(s string, words ...string) bool {
		for _, w := range words {
			if strings.ToLower(s) == w {
				return true
			}
		}
		return false
	}
	return objectName.MatchString(o.ObjectName) && objectVersion.MatchString(o.ObjectVersion) &&
		(o.ObjectAlias == "" || cleanPath(o.ObjectAlias)) && octal.MatchString(o.FilePermission) &&
		(secret || o.ObjectType == "key" || o.ObjectType == "cert") &&
		lowerASCII(o.ObjectFormat, "", "pem", "pfx") && (secret || o.ObjectFormat != "pfx") &&
		(o.ObjectEncoding == "" || secret && lowerASCII(o.ObjectEncoding, "utf-8", "base64", "hex"))
}

func (o replacedObject) means(got request.Object) bool {
	want := request.Object{
		Type: request.Type(o.ObjectType), Name: o.ObjectName, Version: o.ObjectVersion, Path: o.ObjectAlias,
		History: max(1, int(o.ObjectVersionHistory)), Format: request.FormatPEM, Encoding: request.EncodingUTF8, Mode: got.Mode,
	}
	if want.Path == "" {
		want.Path = o.ObjectName
	}
	if want.Version == "latest" {
		want.Version = ""
	}
	if o.ObjectType == "secret" && strings.EqualFold(o.ObjectFormat, "pfx") {
		want.Format = request.FormatPFX
	}
	if o.ObjectEncoding != "" {
		want.Encoding = request.Encoding(strings.ToLower(o.ObjectEncoding))
	}
	if o.FilePermission != "" {
		mode, err := strconv.ParseInt(o.FilePermission, 8, 32)
		if err != nil {
			return false
		}
		want.Mode = fs.FileMode(mode)
	}
	return got == want
}
