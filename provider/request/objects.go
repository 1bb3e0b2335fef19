package request

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"akv-csi-provider/provider/bundle"

	"go.yaml.in/yaml/v3"
)

// Type is the kind of a Key Vault object.
type Type string

// The object types, as written in objectType.
const (
	TypeSecret Type = "secret"
	TypeKey    Type = "key"
	TypeCert   Type = "cert"
)

// Word is the type's word in messages.
func (t Type) Word() string {
	if t == TypeCert {
		return "certificate"
	}
	return string(t)
}

// Format is how a secret behind a certificate, or a key, is written.
type Format string

// The formats, as written in objectFormat (there in any case).
const (
	FormatPEM Format = "pem"
	FormatPFX Format = "pfx"
	FormatJWK Format = "jwk" // of a key
)

// Encoding is how a secret's text stands for bytes.
type Encoding string

// The encodings, as written in objectEncoding (there in any case).
const (
	EncodingUTF8   Encoding = "utf-8"
	EncodingBase64 Encoding = "base64"
	EncodingHex    Encoding = "hex"
)

// Object is one entry of the class's objects parameter, with defaults filled in: an object of a
// vault, a search for some (Find) or a document (Document). It is comparable.
type Object struct {
	Vault    string // lower case; "" for that of the class
	Failover string // vault to read from when Vault is unavailable; "" for none
	Type     Type   // "" of a document
	Name     string // of the object in the vault; "" of a search or document
	Version  string // "" for the latest
	History  int    // how many versions; 1 without objectVersionHistory
	Path     string // of its file below the mount point: clean, relative; see below
	Format   Format // FormatPEM unless a secret requests FormatPFX, or a key FormatJWK
	// FormatSet reports that objectFormat is set: it is ignored for what is not of a certificate.
	FormatSet bool
	Encoding  Encoding    // EncodingUTF8 unless a secret requests another
	Mode      fs.FileMode // 0 to 0777

	// Optional leaves out what the vault does not have.
	Optional bool
	Find     *Find
	Document *Document
	// Pieces are written of the value; the whole of it only if Path is not "". With Expand, and
	// for a search, Path is the folder of the files, "" the mount point; with Bundle it is the one file.
	Pieces *Pieces
	Bundle bundle.Format
}

// Nth returns version i of the object's history, counted from 0, as an object: its file is
// named after the number.
func (o Object) Nth(i int, version string) Object {
	if n := strconv.Itoa(i); o.Path == "." || o.Path == "" { // the mount point itself
		o.Path = n
	} else {
		o.Path += "/" + n
	}
	o.Version, o.History = version, 1
	return o
}

// ID is the name under which the object's version is reported to the driver. For version i
// of a history, "/" and i follow. In another vault than the class's, that comes first. Searches and
// documents have their paths in place of a name.
func (o Object) ID() string {
	kind, name := string(o.Type), o.Name
	switch {
	case o.Document != nil:
		kind, name = "document", o.Path
	case o.Find != nil:
		name = o.Path
	}
	if o.Vault != "" {
		return o.Vault + "/" + kind + "/" + name
	}
	return kind + "/" + name
}

// Label is the object in a list of objects: its ID with the version that it names, such as
// secret/db-password@0123456789abcdef. Searches and documents have neither.
func (o Object) Label() string {
	switch {
	case o.Find != nil || o.Document != nil:
		return o.String()
	case o.Version != "":
		return o.ID() + "@" + o.Version
	}
	return o.ID()
}

// String names the object in messages: its type and name.
func (o Object) String() string {
	switch {
	case o.Document != nil:
		return fmt.Sprintf("document %q", o.Path)
	case o.Find != nil && o.Find.Name != nil:
		return fmt.Sprintf("find %q", o.Find.Name)
	case o.Find != nil:
		return "find by tags"
	}
	return fmt.Sprintf("%s %q", o.Type, o.Name)
}

// Bounds of the objects parameter. An object of Kubernetes contains at most 1.5 MiB, so no
// class that works comes near; the volumeAttributes of a pod might.
const (
	maxObjectsBytes = 512 << 10
	maxObjects      = 4096
)

const objectsFix = `use a YAML list such as "- {objectName: db, objectType: secret}"`

// defaults are what the class sets for entries that do not say otherwise.
type defaults struct {
	vault, failover string // in lower case; "" for none
	mode            fs.FileMode
}

// objectsReader reads the parameter objects and collects what is wrong with it.
type objectsReader struct {
	work
	defaults
	problems problems
	outputs  []output
	warnings []Warning

	// The replaced provider mounts what it understands and ignores the rest, if the list is
	// one of texts below array. Otherwise it mounts nothing.
	lenient bool
}

// parseObjects reads the objects parameter in all its forms: "array:" of YAML
// texts (the form of the provider this one replaces), "array:" of mappings, and
// a bare list of mappings.
func parseObjects(text string, class defaults) ([]Object, []Warning, problems) {
	r := &objectsReader{defaults: class, work: newWork()}
	d, list := r.list(text)
	if list == nil {
		return nil, nil, r.problems
	}
	var objects []Object
	var entries []fieldReader
	for i, node := range list.Content {
		if resolve(node).Tag == "!!null" {
			continue // as the replaced provider does with an empty "-"
		}
		if r.left < 0 || r.items < 0 || r.language < 0 {
			break // this is reported already
		}
		f := fieldReader{objectsReader: r, known: entryFields, where: fmt.Sprintf("objects[%d]", i)}
		if f.read(d, resolve(node)) {
			objects = append(objects, f.object())
			entries = append(entries, f)
		}
	}
	if len(objects) == 0 && len(r.problems) == 0 {
		r.problem(place{d, list}, "objects", "a list of empty entries", noObjects)
	}
	r.checkVaults(objects, entries)
	for i := range entries {
		entries[i].unknown()
	}
	r.checkPaths()
	return objects, r.warnings, r.problems
}

const noObjects = "add at least one object, or remove the volume"

// list finds the list of objects; nil with a problem.
func (r *objectsReader) list(text string) (*document, *yaml.Node) {
	if len(text) > maxObjectsBytes {
		r.problem(place{}, "objects", fmt.Sprintf("%d bytes long", len(text)), fmt.Sprintf("use at most %d bytes", maxObjectsBytes))
		return nil, nil
	}
	flush, indented := readings(text)
	if n := breaks(strings.TrimSuffix(flush.text, "\n")); n > maxBreaks {
		r.problem(place{}, "objects", fmt.Sprintf("%d lines and commas", n), fmt.Sprintf("use at most %d", maxBreaks))
		return nil, nil
	}
	// The replaced provider cuts white space off.
	d, preferred, err := r.parse(flush, indented, func(d *document) bool { list, _ := d.list(); return list != nil })
	if err != nil {
		r.broken(d, "objects", err)
		return nil, nil
	}
	list, err := d.list()
	switch {
	case err != nil:
		r.broken(d, "objects", err)
	case list == nil:
		r.notList(d)
	case len(list.Content) == 0:
		r.problem(place{d, list}, "objects", "empty", noObjects)
	case len(list.Content) > maxObjects:
		r.problem(place{d, list}, "objects", fmt.Sprintf("%d objects", len(list.Content)), fmt.Sprintf("use at most %d objects", maxObjects))
	default:
		text := func(n *yaml.Node) bool { return resolve(n).Kind == yaml.ScalarNode }
		r.lenient = preferred && d.root.Kind == yaml.MappingNode && !slices.ContainsFunc(list.Content, func(n *yaml.Node) bool { return !text(n) })
		r.unread(r.lenient, d, "objects")
		r.otherKeys(d, list)
		return d, list
	}
	return nil, nil
}

// list returns the list of objects: the root, or what it has below array. It is nil if that is
// no list.
func (d *document) list() (*yaml.Node, error) {
	list := d.root
	if list != nil && list.Kind == yaml.MappingNode {
		// Decoding to a map merges, and rejects duplicate keys.
		var top map[string]yaml.Node
		if err := list.Decode(&top); err != nil {
			return nil, err
		}
		array := top["array"]
		list = resolve(&array)
	}
	if list == nil || list.Kind != yaml.SequenceNode {
		return nil, nil
	}
	return list, nil
}

// notList says what stands in place of a list.
func (r *objectsReader) notList(d *document) {
	cause, fix, at := "not a list of objects", objectsFix, place{d, d.root}
	if d.root != nil && d.root.Kind == yaml.MappingNode {
		for i := 0; i < len(d.root.Content); i += 2 {
			switch key := d.root.Content[i]; {
			case key.Value == "array":
				at = place{d, d.root.Content[i+1]}
			case strings.EqualFold(key.Value, "objectName"):
				cause, fix = "one object, not a list of objects", `start the object with "- "`
			case Nearest(key.Value, "array") != "" || resolve(d.root.Content[i+1]).Kind == yaml.SequenceNode:
				fix, at = "did you mean array instead of "+quote(key.Value)+"? "+objectsFix, place{d, key}
			}
		}
	}
	r.problem(at, "objects", at.cause(cause), fix)
}

// resolve follows a YAML alias; the library refuses cycles when it parses.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}
