package request

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	objectName = regexp.MustCompile(`^[0-9A-Za-z-]{1,127}$`)
	// Key Vault's versions are 32 hexadecimal digits. Any single path segment is passed to
	// the vault, which knows what exists.
	objectVersion = regexp.MustCompile(`^[0-9A-Za-z]{1,64}$`)
)

var knownFields = []string{"objectName", "objectType", "objectAlias", "objectVersion",
	"objectVersionHistory", "objectFormat", "objectEncoding", "filePermission"}

// fieldReader reads the fields of one object and collects what is wrong with them.
type fieldReader struct {
	where    string // "objects[2]", later with the object's name
	problems *problems
	work     *work
	warnings []Warning
}

func (r *fieldReader) wrong(field, cause, fix string) {
	r.problems.add(r.where+": "+field, cause, fix)
}

// fields decodes an entry of the list, which is a mapping or a YAML text of one. Values are
// always strings, verbatim: "on", 0755 and an all-digit version must not become anything
// else.
func (r *fieldReader) fields(node *yaml.Node) (map[string]string, bool) {
	node, err := r.mapping(node)
	if err != nil {
		r.problems.add(r.where, yamlCause(err), objectsFix)
		return nil, false
	}
	if node == nil || node.Kind != yaml.MappingNode {
		r.problems.add(r.where, "not a mapping of fields", objectsFix)
		return nil, false
	}
	// Decoding to a map rejects duplicate fields.
	var values map[string]yaml.Node
	if err := node.Decode(&values); err != nil {
		r.problems.add(r.where, yamlCause(err), objectsFix)
		return nil, false
	}
	texts := make(map[string]string, len(values))
	for _, name := range sortedKeys(values) {
		if !slices.Contains(knownFields, name) {
			texts[name] = "" // its value is ignored; see unknown
			continue
		}
		// Decoding to a string returns the text verbatim, except for !!binary and null.
		value, text := values[name], ""
		if err := value.Decode(&text); err != nil {
			r.wrong(name, "not a single value", "write it as text")
			continue
		}
		texts[name] = strings.TrimSpace(text)
	}
	return texts, true
}

// mapping returns the node itself, or the root of the YAML text in it.
func (r *fieldReader) mapping(node *yaml.Node) (*yaml.Node, error) {
	node = resolve(node)
	if node.Kind != yaml.ScalarNode {
		return node, nil
	}
	var text string
	if err := node.Decode(&text); err != nil {
		return nil, err
	}
	return r.work.parse(text)
}

func (r *fieldReader) object(f map[string]string, mode fs.FileMode) Object {
	name := f["objectName"]
	r.where += " " + quote(name)
	o := Object{
		Type:     Type(f["objectType"]),
		Name:     name,
		Version:  f["objectVersion"],
		History:  r.history(f["objectVersionHistory"]),
		Path:     f["objectAlias"],
		Encoding: EncodingUTF8,
		Mode:     r.mode(f["filePermission"], mode),
	}
	if !objectName.MatchString(name) {
		r.wrong("objectName", r.problem(f, "objectName"), "use 1 to 127 letters, digits and hyphens")
	}
	switch o.Type {
	case TypeSecret, TypeKey, TypeCert:
	default:
		r.wrong("objectType", r.problem(f, "objectType"), "use one of secret, key, cert")
	}
	if o.Version == "latest" {
		o.Version = ""
	}
	if o.Version != "" && !objectVersion.MatchString(o.Version) {
		r.wrong("objectVersion", quote(o.Version)+" is not valid", "use 32 hexadecimal digits, or latest")
	}
	if o.Path == "" {
		o.Path = name // which is always a valid path
	} else if cause := aliasProblem(&o); cause != "" {
		r.wrong("objectAlias", quote(o.Path)+" "+cause, "use a relative path in its shortest form")
	}
	o.Format = r.format(f["objectFormat"], o.Type)
	if text := f["objectEncoding"]; text != "" {
		o.Encoding = r.encoding(text, o.Type)
	}
	r.unknown(f)
	return o
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

// problem says what is wrong with a required field. If the field is missing, it names an
// unknown one that may be meant.
func (r *fieldReader) problem(f map[string]string, field string) string {
	if value := f[field]; value != "" {
		return quote(value) + " is not valid"
	}
	for _, name := range sortedKeys(f) {
		if near := r.suggest(name); near == field {
			return fmt.Sprintf("missing; there is %s, which is no field", quote(name))
		}
	}
	return "missing"
}

// history reads objectVersionHistory. Any number below 2, also a negative one, is 1.
func (r *fieldReader) history(text string) int {
	if text == "" {
		return 1
	}
	const longest = 16 // bytes of a text that can be a number
	var n int32
	// In the forms of YAML (0x10, 1_0), as in the replaced provider.
	if len(text) > longest || yaml.Unmarshal([]byte(text), &n) != nil {
		r.wrong("objectVersionHistory", quote(text)+" is not a number", "use the number of versions to mount")
	}
	return max(int(n), 1)
}

func (r *fieldReader) mode(text string, fallback fs.FileMode) fs.FileMode {
	if text == "" {
		return fallback
	}
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil || mode > 0o777 {
		r.wrong("filePermission", quote(text)+" is not a file mode", "use octal digits from 0000 to 0777")
		return fallback
	}
	return fs.FileMode(mode)
}

func (r *fieldReader) format(text string, t Type) Format {
	switch format := Format(strings.ToLower(text)); {
	case text == "", format == FormatPEM:
		return FormatPEM
	case format != FormatPFX:
		r.wrong("objectFormat", quote(text)+" is not valid", "use pem or pfx")
	case t == TypeSecret:
		return FormatPFX
	case text == string(FormatPFX):
		r.wrong("objectFormat", "pfx does not go with objectType "+quote(string(t)), "use objectType secret to get the private key as PFX")
	default:
		// The replaced provider accepted this, since its comparison is case-sensitive.
		r.warn(WarnIgnoredFormat, "objectFormat", quote(text)+" is ignored: it goes with objectType secret only")
	}
	return FormatPEM
}

func (r *fieldReader) encoding(text string, t Type) Encoding {
	if t != TypeSecret {
		r.wrong("objectEncoding", quote(text)+" does not go with objectType "+quote(string(t)), "remove it; it goes with objectType secret only")
		return EncodingUTF8
	}
	switch encoding := Encoding(strings.ToLower(text)); encoding {
	case EncodingUTF8, EncodingBase64, EncodingHex:
		return encoding
	}
	r.wrong("objectEncoding", quote(text)+" is not valid", "use one of utf-8, base64, hex")
	return EncodingUTF8
}

// unknown warns of unknown fields. The replaced provider ignores them, and classes in use
// may contain some.
func (r *fieldReader) unknown(f map[string]string) {
	for _, name := range sortedKeys(f) {
		if slices.Contains(knownFields, name) {
			continue
		}
		cause := "is no field of an object"
		if near := r.suggest(name); near != "" {
			cause += "; did you mean " + near + "?"
		}
		r.warn(WarnUnknownField, strings.Trim(quote(name), `"`), cause)
	}
}
