package request_test

import (
	"errors"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
)

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

var addedFields = []string{"keyvaultName", "failoverKeyvaultName", "optional", "find", "maxObjects", "includeCertificates",
	"bundle", "jmesPath", "expand", "files", "template"}

// replacedObjects reads the objects as the replaced provider does.
func replacedObjects(text string) ([]replacedObject, bool) {
	var list struct {
		Array []string `yaml:"array"`
	}
	if yaml.Unmarshal([]byte(strings.TrimSpace(text)), &list) != nil {
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
		// It ignores the fields that this provider adds.
		var fields map[string]yaml.Node
		if yaml.Unmarshal([]byte(entry), &fields) != nil {
			return nil, false
		}
		for _, added := range addedFields {
			if _, ok := fields[added]; ok {
				return nil, false
			}
		}
	}
	return objects, len(objects) > 0
}

// checkReplaced checks the drop-in rule: what the replaced provider reads, and the
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
	if e, ok := errors.AsType[*fault.Error](err); ok {
		for _, p := range e.Problems {
			if strings.HasPrefix(p.Field, "objects") && !strings.Contains(p.Cause, "is below") {
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

// octal matches the modes that stay legal, and not those that became mode 0 there.
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
		History: max(1, int(o.ObjectVersionHistory)), Format: request.FormatPEM, FormatSet: o.ObjectFormat != "", Encoding: request.EncodingUTF8, Mode: got.Mode,
		Failover: got.Failover, // of the class, where it is ignored
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
