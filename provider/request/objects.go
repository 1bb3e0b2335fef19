package request

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"unicode"

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

// Format is how a secret behind a certificate is written.
type Format string

// The formats, as written in objectFormat (there in any case).
const (
	FormatPEM Format = "pem"
	FormatPFX Format = "pfx"
)

// Encoding is how a secret's text stands for bytes.
type Encoding string

// The encodings, as written in objectEncoding (there in any case).
const (
	EncodingUTF8   Encoding = "utf-8"
	EncodingBase64 Encoding = "base64"
	EncodingHex    Encoding = "hex"
)

// Object is one entry of the class's objects parameter, with defaults filled in.
type Object struct {
	Type     Type
	Name     string      // of the object in the vault
	Version  string      // "" for the latest
	History  int         // how many versions; 1 without objectVersionHistory
	Path     string      // of its file below the mount point: clean, relative
	Format   Format      // FormatPEM unless a secret asks for FormatPFX
	Encoding Encoding    // EncodingUTF8 unless a secret asks for another
	Mode     fs.FileMode // 0 to 0777
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
// of a history, "/" and i follow.
func (o Object) ID() string { return string(o.Type) + "/" + o.Name }

// String names the object in messages: its type and name.
func (o Object) String() string { return fmt.Sprintf("%s %q", o.Type, o.Name) }

// Bounds of the objects parameter. An object of Kubernetes contains at most 1.5 MiB, so no
// class that works comes near; the volumeAttributes of a pod might try.
const (
	maxObjectsBytes = 512 << 10
	maxObjects      = 4096
)

const objectsFix = `it is YAML: an "array:" of objects, each with objectName and objectType, or a bare list of them`

// parseObjects reads the objects parameter in all its forms: "array:" of YAML
// texts (the form of the provider this one replaces), "array:" of mappings, and
// a bare list of mappings.
func parseObjects(text string, mode fs.FileMode, p *problems) ([]Object, []Warning) {
	if strings.TrimSpace(text) == "" {
		p.add("objects", "missing", objectsFix)
		return nil, nil
	}
	if len(text) > maxObjectsBytes {
		p.add("objects", fmt.Sprintf("%d bytes long", len(text)), fmt.Sprintf("at most %d bytes", maxObjectsBytes))
		return nil, nil
	}
	w := &work{left: maxWork, parsed: maxParsed, suggestions: maxSuggestions, warnings: maxWarnings}
	list, err := w.objectList(text)
	switch {
	case err != nil:
		p.add("objects", yamlCause(err), objectsFix)
		return nil, nil
	case list == nil:
		p.add("objects", "not a list of objects", objectsFix)
		return nil, nil
	case len(list.Content) == 0:
		p.add("objects", "an empty list", "name at least one object, or remove the volume")
		return nil, nil
	case len(list.Content) > maxObjects:
		p.add("objects", fmt.Sprintf("%d objects", len(list.Content)), fmt.Sprintf("at most %d objects", maxObjects))
		return nil, nil
	}
	objects := make([]Object, 0, len(list.Content))
	var warnings []Warning
	for i, node := range list.Content {
		if resolve(node).Tag == "!!null" {
			continue // as the replaced provider does with an empty "-"
		}
		if w.left < 0 {
			break // this is reported already
		}
		r := fieldReader{where: fmt.Sprintf("objects[%d]", i), problems: p, work: w}
		if fields, ok := r.fields(node); ok {
			objects = append(objects, r.object(fields, mode))
			warnings = append(warnings, r.warnings...)
		}
	}
	if len(objects) == 0 && len(*p) == 0 {
		p.add("objects", "a list of nothing", "name at least one object, or remove the volume")
	}
	return objects, append(warnings, checkPaths(objects, p)...)
}

// objectList finds the list of objects in the text; nil if there is none.
func (w *work) objectList(text string) (*yaml.Node, error) {
	root, err := w.parse(text)
	if err != nil || root == nil {
		return nil, err
	}
	if root.Kind == yaml.MappingNode {
		var top map[string]yaml.Node
		if err := root.Decode(&top); err != nil {
			return nil, err
		}
		array := top["array"]
		root = resolve(&array)
	}
	if root.Kind != yaml.SequenceNode {
		return nil, nil
	}
	return root, nil
}

// resolve follows a YAML alias; the library refuses cycles when it parses.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// yamlCause is the library's message on one line, without its prefixes, and cut to a length
// that still contains the line number.
func yamlCause(err error) string {
	if errors.Is(err, errTooMuch) || errors.Is(err, errDirective) || errors.Is(err, errEncoding) {
		return err.Error()
	}
	text := strings.TrimPrefix(strings.Join(strings.Fields(err.Error()), " "), "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors: ")
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > 128 {
		text = string(runes[:128]) + "…"
	}
	return "not valid YAML: " + text
}
