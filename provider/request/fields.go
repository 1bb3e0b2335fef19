package request

import (
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	objectName = bounded(127, `^[0-9A-Za-z-]+$`)
	// Key Vault's versions are 32 hexadecimal digits. Any single path segment is passed to
	// the vault, which knows what exists.
	objectVersion = bounded(64, `^[0-9A-Za-z]+$`)
)

// fieldReader reads the fields of one entry, or of a mapping in it.
type fieldReader struct {
	*objectsReader
	inner  bool     // it is in an entry, where an unknown field is a problem
	known  []string // names of its fields
	where  string   // "objects[2]", later with the object's name
	entry  place
	nodes  map[string]yaml.Node
	values map[string]string // of fields that are texts; "" for those of unknown fields
	named  []string          // unknown fields that a problem names
	near   map[string]string // unknown fields by the known one that each is near; see meant
}

// place is where a field is, or the object if it has no such field.
func (r *fieldReader) place(field string) place {
	if node, ok := r.nodes[field]; ok {
		return place{r.entry.doc, &node}
	}
	return r.entry
}

func (r *fieldReader) wrong(field, cause, fix string) {
	r.problem(r.place(field), r.where+": "+field, cause, fix)
}

// read decodes an entry of the list, which is a mapping or a YAML text of one. Values are
// always strings, verbatim: "on", 0755 and an all-digit version must not become anything
// else.
func (r *fieldReader) read(d *document, node *yaml.Node) bool {
	r.entry = place{d, node}
	if node.Kind == yaml.ScalarNode && !r.text(d, node) {
		return false
	}
	if r.entry.node == nil || r.entry.node.Kind != yaml.MappingNode {
		at := place{d, node}
		r.problem(at, r.where, at.cause("not a mapping of fields"), objectsFix)
		return false
	}
	return r.decode()
}

// decode reads the mapping. Decoding to a map rejects duplicate fields.
func (r *fieldReader) decode() bool {
	if err := r.entry.node.Decode(&r.nodes); err != nil {
		line, cause := yamlCause(err, r.entry.doc.skipped)
		at := r.entry
		if line > 1 {
			at.node = &yaml.Node{Line: line, Column: 1}
		}
		r.problem(at, r.where, r.entry.cause(cause), yamlFix(cause))
		return false
	}
	r.values = make(map[string]string, len(r.nodes))
	for _, name := range sortedKeys(r.nodes) {
		if !slices.Contains(r.known, name) {
			r.values[name] = "" // see unknown
			continue
		}
		if slices.Contains(nestedFields, name) {
			continue
		}
		// Decoding to a string returns the text verbatim, except for !!binary and null.
		value, text := r.nodes[name], ""
		if err := value.Decode(&text); err != nil {
			if name != "objectName" && name != "objectType" { // of which required says it
				r.wrong(name, r.place(name).cause(notSingle), "write it as a string")
			}
			continue
		}
		if name != "template" { // of which white space is a part
			text = trimmed(text)
		}
		r.values[name] = text
	}
	return true
}

// text reads an entry that is a YAML text.
func (r *fieldReader) text(outer *document, node *yaml.Node) bool {
	var text string
	if err := node.Decode(&text); err != nil {
		_, cause := yamlCause(err, outer.skipped)
		r.problem(r.entry, r.where, cause, yamlFix(cause))
		return false
	}
	flush, indented := readings(text)
	for _, d := range []*document{&flush, &indented} {
		d.outer, d.node, d.value = outer, node, text
	}
	// The replaced provider does not cut white space off here.
	d, preferred, err := r.parse(indented, flush, func(d *document) bool { return d.root != nil && d.root.Kind == yaml.MappingNode })
	if err != nil {
		r.broken(d, r.where, err)
		return false
	}
	r.entry = place{d, d.root}
	r.unread(r.lenient && preferred, d, r.where)
	return true
}

// version reads objectVersion.
func (r *fieldReader) version() string {
	version := r.values["objectVersion"]
	if version == "latest" {
		return ""
	}
	if version != "" && !objectVersion.MatchString(version) {
		r.wrong("objectVersion", invalid(version, notValid), "use 32 hexadecimal digits, or latest")
	}
	return version
}

// objectType reads objectType.
func (r *fieldReader) objectType() Type {
	t := Type(r.values["objectType"])
	switch t {
	case TypeSecret, TypeKey, TypeCert:
	default:
		fix := "use one of secret, key, cert"
		if near := Nearest(string(t), string(TypeSecret), string(TypeKey), string(TypeCert)); near != "" {
			fix = "did you mean " + near + "? " + fix
		}
		r.lacks("objectType", fix)
	}
	return t
}

// aliasProblem says what is wrong with the object's path. The path of a history is a
// directory, which need not be normalized and may be the mount point itself.
func aliasProblem(o *Object) string {
	if o.History < 2 {
		return PathProblem(o.Path)
	}
	if !path.IsAbs(o.Path) {
		o.Path = path.Clean(o.Path)
	}
	return PathProblem(o.firstPath())
}

const onlySecrets = "remove it, or use objectType secret"

const notSingle = "not a single value"

// history reads objectVersionHistory. Any number below 2, also a negative one, is 1.
func (r *fieldReader) history(text string) int {
	if text == "" {
		return 1
	}
	const longest = 16 // bytes of a text that can be a number
	var n int32
	// In the forms of YAML (0x10, 1_0), as in the replaced provider; #{x} is a comment in YAML.
	if len(text) > longest || text[0] == '#' || yaml.Unmarshal([]byte(text), &n) != nil {
		r.wrong("objectVersionHistory", invalid(text, "is not a number"), "use the number of versions to mount")
	}
	return max(int(n), 1)
}

func (r *fieldReader) permission(text string) fs.FileMode {
	if text == "" {
		return r.mode
	}
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil || mode > 0o777 {
		r.wrong("filePermission", invalid(text, "is not a file mode"), "use an octal mode from 0000 to 0777")
		return r.mode
	}
	return fs.FileMode(mode)
}

func (r *fieldReader) format(text string, t Type) Format {
	switch format := Format(strings.ToLower(text)); {
	case text == "", format == FormatPEM:
		return FormatPEM
	case format == FormatJWK && t == TypeKey:
		return FormatJWK
	case format == FormatJWK:
		r.wrong("objectFormat", "jwk is not allowed with objectType "+quote(string(t)), "use pem or pfx, or objectType key for a public key as JWK")
	case format != FormatPFX:
		r.wrong("objectFormat", invalid(text, notValid), "use pem or pfx, or jwk for a key")
	case t == TypeSecret:
		return FormatPFX
	case text == string(FormatPFX):
		r.wrong("objectFormat", "pfx is not allowed with objectType "+quote(string(t)), "use objectType secret, which has the private key")
	default:
		// The replaced provider accepted this, since its comparison is case-sensitive.
		r.warn(r.place("objectFormat"), WarnIgnoredFormat, r.where+": objectFormat", quote(text)+" is ignored: it is only allowed with objectType secret")
	}
	return FormatPEM
}

func (r *fieldReader) encoding(text string, t Type) Encoding {
	if t != TypeSecret {
		r.wrong("objectEncoding", quote(text)+" is not allowed with objectType "+quote(string(t)), onlySecrets)
		return EncodingUTF8
	}
	switch encoding := Encoding(strings.ToLower(text)); encoding {
	case EncodingUTF8, EncodingBase64, EncodingHex:
		return encoding
	}
	r.wrong("objectEncoding", invalid(text, notValid), "use one of utf-8, base64, hex")
	return EncodingUTF8
}

// placeholders warns of those that the replaced provider ignores or writes to a path.
func (r *fieldReader) placeholders() {
	for _, name := range []string{"objectAlias", "objectVersion", "objectVersionHistory", "objectFormat", "objectEncoding", "filePermission"} {
		value := r.values[name]
		if _, ok := r.nodes[name]; ok && value == "" {
			value = r.place(name).cause("") // a comment
			if value != "" {
				r.warn(r.place(name), WarnPlaceholder, r.where+": "+name, value+", which YAML reads as a comment")
			}
		} else if name == "objectAlias" && findPlaceholder(placeholder, value) != nil {
			r.warn(r.place(name), WarnPlaceholder, r.where+": "+name, invalid(value, ""))
		}
	}
}
