package request

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"akv-csi-provider/provider/bundle"
)

// kind is what an entry of the list is, by the field that makes it so.
type kind string

const (
	ofObject   kind = "objectName"
	ofFind     kind = "find"
	ofTemplate kind = "template"
)

// fieldKinds are the fields of an entry with the kinds that they are valid for.
var fieldKinds = []struct {
	field string
	kinds []kind
}{
	{"objectName", []kind{ofObject}},
	{"objectType", []kind{ofObject, ofFind}},
	{"objectAlias", []kind{ofObject, ofFind, ofTemplate}},
	{"objectVersion", []kind{ofObject}},
	{"objectVersionHistory", []kind{ofObject, ofFind}},
	{"objectFormat", []kind{ofObject, ofFind}},
	{"objectEncoding", []kind{ofObject, ofFind}},
	{"filePermission", []kind{ofObject, ofFind, ofTemplate}},
	{"keyvaultName", []kind{ofObject, ofFind, ofTemplate}},
	{"failoverKeyvaultName", []kind{ofObject, ofFind, ofTemplate}},
	{"optional", []kind{ofObject, ofFind, ofTemplate}},
	{"find", []kind{ofFind}},
	{"maxObjects", []kind{ofFind}},
	{"includeCertificates", []kind{ofFind}},
	{"bundle", []kind{ofObject, ofFind}},
	{"jmesPath", []kind{ofObject}},
	{"expand", []kind{ofObject}},
	{"files", []kind{ofObject}},
	{"template", []kind{ofTemplate}},
}

var (
	entryFields = func() (names []string) {
		for _, f := range fieldKinds {
			names = append(names, f.field)
		}
		return names
	}()
	// nestedFields are those that are no text, in any mapping.
	nestedFields = []string{"find", "tags", "jmesPath", "files"}
)

// has reports whether the entry has a field that is not empty.
func (r *fieldReader) has(field string) bool {
	node, ok := r.nodes[field]
	if !ok || resolve(&node).Tag == "!!null" {
		return false
	}
	text, single := r.values[field]
	return !single || text != "" || field == string(ofTemplate)
}

// kind finds out what the entry is, and reports the fields that are not valid for it.
func (r *fieldReader) kind() kind {
	var found []kind
	for _, has := range []func(string) bool{r.has, func(field string) bool { _, ok := r.nodes[field]; return ok }} {
		for _, k := range []kind{ofObject, ofFind, ofTemplate} {
			if len(found) < 2 && has(string(k)) && !slices.Contains(found, k) {
				found = append(found, k)
			}
		}
		if len(found) > 0 {
			break
		}
	}
	switch len(found) {
	case 0:
		for _, k := range []kind{ofObject, ofFind, ofTemplate} {
			if r.meant(string(k)) != "" {
				return k
			}
		}
		return ofObject
	case 2:
		r.wrong(string(found[1]), "set together with "+string(found[0]), "use one of objectName, find and template per entry")
		return found[0]
	}
	for _, f := range fieldKinds {
		if !slices.Contains(f.kinds, found[0]) && r.has(f.field) {
			r.wrong(f.field, "is not allowed with "+string(found[0]), "remove it: it is for "+joined(f.kinds))
		}
	}
	return found[0]
}

func joined(kinds []kind) string {
	text := string(kinds[0])
	for _, k := range kinds[1:] {
		text += " and " + string(k)
	}
	return text
}

// object returns the object that the entry requests.
func (r *fieldReader) object() Object {
	f := r.values
	if objectName.MatchString(f["objectName"]) { // else its own problem shows it
		r.where += " " + quote(f["objectName"])
	}
	o := Object{
		History:  r.history(f["objectVersionHistory"]),
		Path:     f["objectAlias"],
		Format:   FormatPEM,
		Encoding: EncodingUTF8,
		Mode:     r.permission(f["filePermission"]),
	}
	r.take(1)
	switch r.kind() {
	case ofFind:
		r.search(&o)
	case ofTemplate:
		r.document(&o)
	default:
		r.single(&o)
	}
	o.Optional = r.boolean("optional")
	r.vaults(&o)
	r.placeholders()
	return o
}

// single reads the fields of an object with a name.
func (r *fieldReader) single(o *Object) {
	o.Name = r.values["objectName"]
	if !objectName.MatchString(o.Name) {
		r.lacks("objectName", nameFix(o.Name, objectNameFix, r.ofURL))
	}
	o.Type = r.objectType()
	o.Version = r.version()
	pieces := r.has("jmesPath") || r.has("expand") || r.has("files")
	switch {
	case r.has("expand"):
		r.folder(o)
	case o.Path == "" && !pieces:
		o.Path = o.Name // which is always a valid path
		r.output(o.firstPath(), "objectAlias", o.History)
	case o.Path != "":
		if cause := aliasProblem(o); cause != "" {
			r.wrongPath("objectAlias", o.Path, cause)
		}
		r.output(o.firstPath(), "objectAlias", o.History)
	}
	r.content(o)
	if pieces {
		r.pieces(o)
	} else if r.has("bundle") {
		r.wrong("bundle", "set without expand or find", "remove it, or use expand or find")
	}
}

// ofURL are the fields of an object with a URL, but for those that the entry has already. The
// secret of a certificate is no mistake: it has the private key.
func (r *fieldReader) ofURL(t Type, name, version string) string {
	fields := "objectName: " + name
	if version != "" && version != r.values["objectVersion"] {
		fields += ", objectVersion: " + version
	}
	if set := Type(r.values["objectType"]); set != t && (set != TypeSecret || t != TypeCert) {
		fields += ", objectType: " + string(t)
	}
	return fields
}

// content reads how values are written.
func (r *fieldReader) content(o *Object) {
	o.Format, o.FormatSet = r.format(r.values["objectFormat"], o.Type), r.values["objectFormat"] != ""
	if text := r.values["objectEncoding"]; text != "" {
		o.Encoding = r.encoding(text, o.Type)
	}
}

const objectNameFix = "use 1 to 127 letters, digits and hyphens"

// wrongPath adds the problem of a path.
func (r *fieldReader) wrongPath(field, alias, cause string) {
	fix := "use a normalized relative path"
	if strings.Contains(cause, " longer than ") {
		fix = "shorten it"
	}
	r.wrong(field, quote(alias)+" "+cause, fix)
}

// folder checks objectAlias where it is a folder, or the file of a bundle.
func (r *fieldReader) folder(o *Object) {
	if r.has("bundle") {
		o.Bundle = choice(r, "bundle", bundle.Dotenv, bundle.Properties, bundle.JSON, bundle.YAML)
		if o.Path = r.file("objectAlias"); o.History > 1 {
			r.wrong("objectVersionHistory", "is not allowed with bundle", "remove one of the two: a bundle has one value per name")
		}
		return
	}
	if o.Path == "" {
		return
	}
	if !path.IsAbs(o.Path) {
		o.Path = path.Clean(o.Path)
	}
	if o.Path == "." { // the mount itself
		o.Path = ""
		return
	}
	if cause := PathProblem(o.Path); cause != "" {
		r.wrongPath("objectAlias", o.Path, cause)
	}
	r.output(o.Path+folderMark+strconv.Itoa(len(r.outputs)), "objectAlias", 1)
}

// file reads a required objectAlias of a file that the replaced provider does not have.
func (r *fieldReader) file(field string) string {
	alias := r.values[field]
	if alias == "" {
		r.lacks(field, "set the path of its file in the volume")
		return ""
	}
	if cause := PathProblem(alias); cause != "" {
		r.wrongPath(field, alias, cause)
	}
	r.output(alias, field, 1)
	r.outputs[len(r.outputs)-1].strict = true
	return alias
}

// output notes a file for checkPaths.
func (r *fieldReader) output(p, field string, history int) {
	if p != "" {
		r.outputs = append(r.outputs, output{path: p, alias: r.where + ": " + field, owner: r.where, at: r.place(field), history: history})
	}
}

// take takes a number of the items that a class may have together.
func (r *fieldReader) take(n int) bool {
	before := r.items
	if r.items -= n; r.items >= 0 {
		return true
	}
	if before >= 0 { // once
		r.problem(r.entry, "objects", fmt.Sprintf("more than %d objects, pieces and template references", maxObjects), "split it into two classes")
	}
	return false
}

// speak charges for a text in a language other than YAML.
func (r *fieldReader) speak(cost int) bool {
	before := r.language
	if r.language -= cost; r.language >= 0 {
		return true
	}
	if before >= 0 {
		r.problem(r.entry, "objects", "templates, expressions and patterns are too long in total", "split it into two classes")
	}
	return false
}
