package request

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"akv-csi-provider/provider/bundle"

	"go.yaml.in/yaml/v3"
)

// kind is what an entry of the list is, by the field that makes it so.
type kind string

const (
	ofObject   kind = "objectName"
	ofFind     kind = "find"
	ofTemplate kind = "template"
)

const entryOfObjects = "an object"

// fieldKinds are the fields of an entry with the kinds that they go with.
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

// kind finds out what the entry is, and reports the fields that do not go with it.
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
		return ofObject
	case 2:
		r.wrong(string(found[1]), "set together with "+string(found[0]), "make two entries of it: each has one of objectName, find and template")
		return found[0]
	}
	for _, f := range fieldKinds {
		if !slices.Contains(f.kinds, found[0]) && r.has(f.field) {
			r.wrong(f.field, "does not go with "+string(found[0]), "remove it; it goes with "+joined(f.kinds))
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

// object returns what the entry asks for.
func (r *fieldReader) object() Object {
	f := r.values
	if f["objectName"] != "" {
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
	r.unknown()
	return o
}

// single reads the fields of an object with a name.
func (r *fieldReader) single(o *Object) {
	o.Name = r.values["objectName"]
	if !objectName.MatchString(o.Name) {
		r.wrong("objectName", r.required("objectName"), objectNameFix)
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
			r.wrong("objectAlias", quote(o.Path)+" "+cause, pathFix)
		}
		r.output(o.firstPath(), "objectAlias", o.History)
	}
	r.content(o)
	if pieces {
		r.pieces(o)
	} else if r.has("bundle") {
		r.wrong("bundle", "set without expand and find", "remove it; it goes with expand and find")
	}
}

// content reads how values are written.
func (r *fieldReader) content(o *Object) {
	o.Format, o.FormatSet = r.format(r.values["objectFormat"], o.Type), r.values["objectFormat"] != ""
	if text := r.values["objectEncoding"]; text != "" {
		o.Encoding = r.encoding(text, o.Type)
	}
}

const (
	objectNameFix = "use 1 to 127 letters, digits and hyphens"
	pathFix       = "use a relative path in its shortest form"
)

// folder checks objectAlias where it is a folder, or the file of a bundle.
func (r *fieldReader) folder(o *Object) {
	if r.has("bundle") {
		o.Bundle = choice(r, "bundle", bundle.Dotenv, bundle.Properties, bundle.JSON, bundle.YAML)
		if o.Path = r.file("objectAlias"); o.History > 1 {
			r.wrong("objectVersionHistory", "does not go with bundle", "remove one of the two: a bundle has one value for each name")
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
		r.wrong("objectAlias", quote(o.Path)+" "+cause, pathFix)
	}
	r.output(o.Path+folderMark+strconv.Itoa(len(r.outputs)), "objectAlias", 1)
}

// file reads a required objectAlias of a file that the replaced provider does not have.
func (r *fieldReader) file(field string) string {
	alias := r.values[field]
	if alias == "" {
		r.wrong(field, r.required(field), "use the path of the file below the mount")
		return ""
	}
	if cause := PathProblem(alias); cause != "" {
		r.wrong(field, quote(alias)+" "+cause, pathFix)
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
		r.problem(r.entry, "objects", fmt.Sprintf("more than %d objects, pieces and references of templates", maxObjects), "make two classes of it")
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
		r.problem(r.entry, "objects", "templates, expressions and patterns are too long together", "make two classes of it")
	}
	return false
}

// vaults reads where the entry is read.
func (r *fieldReader) vaults(o *Object) {
	o.Vault, o.Failover = r.vaultName("keyvaultName"), r.vaultName("failoverKeyvaultName")
	own := o.Vault
	if own == "" {
		own = r.vault
	}
	if o.Failover != "" && o.Failover == own {
		r.wrong("failoverKeyvaultName", sameVault, otherVault)
	}
	if own == r.vault {
		o.Vault = ""
		if o.Failover == "" {
			o.Failover = r.failover
		}
	}
}

func (r *fieldReader) vaultName(field string) string {
	name := r.values[field]
	if name != "" && !vaultName.MatchString(name) {
		r.wrong(field, invalid(name, notValid), vaultFix)
	}
	return strings.ToLower(name)
}

// checkVaults reports the entries without a vault if the class has none, and others have one.
// For a class without any vault see ParseClass.
func (r *objectsReader) checkVaults(objects []Object, entries []fieldReader) {
	if r.vault != "" || !slices.ContainsFunc(objects, func(o Object) bool { return o.Vault != "" }) {
		return
	}
	for i, o := range objects {
		if o.Vault == "" && !entries[i].has("keyvaultName") {
			entries[i].wrong("keyvaultName", "missing", "set it here, or set keyvaultName of the class")
		}
	}
}

// ownVaults reports whether the objects, or what of them could be read, name vaults themselves.
func ownVaults(text string, objects []Object) bool {
	if len(objects) == 0 {
		return strings.Contains(text, "keyvaultName")
	}
	return slices.ContainsFunc(objects, func(o Object) bool { return o.Vault != "" })
}

func (r *fieldReader) boolean(field string) bool {
	text := r.values[field]
	if text == "" {
		return false
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		r.wrong(field, invalid(text, "is not a boolean"), "use true or false")
	}
	return b
}

// choice reads a field that has one of some words.
func choice[T ~string](r *fieldReader, field string, words ...T) T {
	value := r.values[field]
	all := make([]string, len(words))
	for i, word := range words {
		if all[i] = string(word); all[i] == value {
			return word
		}
	}
	fix := "use one of " + strings.Join(all, ", ")
	if near := nearest(value, all...); near != "" {
		fix = "did you mean " + near + "? " + fix
	}
	r.wrong(field, r.required(field), fix)
	return ""
}

// nested returns a reader of a mapping in the entry, or nil with a problem.
func (r *fieldReader) nested(node *yaml.Node, of, where string, known ...string) *fieldReader {
	f := &fieldReader{objectsReader: r.objectsReader, of: of, known: known, where: r.where + ": " + where, entry: place{r.entry.doc, node}}
	inner := resolve(node)
	if inner.Kind != yaml.MappingNode {
		cause := "not a mapping of fields"
		if inner.Tag == "!!null" {
			cause = "empty"
		}
		r.problem(f.entry, f.where, f.entry.cause(cause), "the fields are "+strings.Join(known, ", "))
		return nil
	}
	f.entry.node = inner
	if !f.decode() {
		return nil
	}
	return f
}

// eachNested reads a list of mappings.
func (r *fieldReader) eachNested(field, of string, most int, known []string, read func(*fieldReader)) {
	node := r.nodes[field]
	list := resolve(&node)
	fix := "use a list of mappings with the fields " + strings.Join(known, ", ")
	switch {
	case list.Kind != yaml.SequenceNode:
		r.wrong(field, r.place(field).cause("not a list"), fix)
		return
	case len(list.Content) == 0:
		r.wrong(field, "an empty list", fix)
		return
	case len(list.Content) > most:
		r.wrong(field, fmt.Sprintf("%d entries", len(list.Content)), fmt.Sprintf("at most %d", most))
		return
	}
	if !r.take(len(list.Content)) {
		return
	}
	for i, n := range list.Content {
		if f := r.nested(n, of, fmt.Sprintf("%s[%d]", field, i), known...); f != nil {
			read(f)
			f.unknown()
		}
	}
}

// modeOf is the permission of a piece: that of its entry if it has none.
func (r *fieldReader) modeOf(o *Object) fs.FileMode {
	if r.values["filePermission"] == "" {
		return o.Mode
	}
	return r.permission(r.values["filePermission"])
}
