// Package classes reads SecretProviderClasses from manifests, with the place of each of their
// parameters, and of each character of a parameter.
package classes

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"akv-csi-provider/provider/request"
)

// Class is a SecretProviderClass as a manifest has it.
type Class struct {
	File            string // as the user named it; "<stdin>"
	Namespace, Name string
	Provider        string
	Parameters      map[string]string
	// Problems are those of the manifest, which keep the API server from accepting the class or
	// kubectl from reading it. Parameters that are no texts are not among Parameters.
	Problems []Problem

	document document
	source   source
	spec     *yaml.Node            // nil if there is none
	values   map[string]*yaml.Node // of the parameters
	keys     map[string]*yaml.Node // likewise, their names
	node     *yaml.Node            // of the class as a whole
	decoded  map[string]*written   // values, as far as they were needed
}

// Problem is one of a manifest.
type Problem struct {
	File         string
	Class        string // "namespace/name"; "" if it is not known
	Field        string // "" for the file as a whole
	Cause, Fix   string
	Line, Column int // in characters and counted from 1; 0 if unknown
}

// ID is the namespace, if there is one, and the name.
func (c *Class) ID() string {
	if c.Namespace == "" {
		return c.Name
	}
	return c.Namespace + "/" + c.Name
}

// Place returns where a parameter is in the file, or what is at a line and column of its value,
// both counted from 1, as in a fault.Problem. Line 0 is the parameter as a whole. Where the
// parameter is missing, that is where parameters begin.
func (c *Class) Place(parameter string, line, column int) (int, int) {
	node := c.values[parameter]
	if node == nil {
		at := c.document.in(c.parametersAt())
		return at.line, at.column
	}
	at := position{node.Line, node.Column}
	if line > 0 && node.Value == c.Parameters[parameter] {
		at = c.written(parameter, node).place(position{line, column}, at)
	}
	at = c.document.in(at)
	return at.line, at.column
}

// NamePlace returns where the name of a parameter is in the file.
func (c *Class) NamePlace(parameter string) (line, column int) {
	at := c.document.in(position{c.keys[parameter].Line, c.keys[parameter].Column})
	return at.line, at.column
}

// written is a value with the places of its characters.
type written struct {
	value  []rune
	at     []position // nil if they are unknown
	starts []int      // of the lines of the value
}

// written returns the value of a parameter. A class may have thousands of problems, so it is
// decoded once.
func (c *Class) written(parameter string, node *yaml.Node) *written {
	if c.decoded[parameter] == nil {
		w := &written{value: []rune(node.Value), at: c.source.places(node), starts: []int{0}}
		for i, r := range w.value {
			if r == '\n' {
				w.starts = append(w.starts, i+1)
			}
		}
		if c.decoded == nil {
			c.decoded = make(map[string]*written)
		}
		c.decoded[parameter] = w
	}
	return c.decoded[parameter]
}

// place returns the place of a line and column of the value: of what is behind the end of a line,
// that of the end. Where places are unknown, it returns another.
func (w *written) place(p, otherwise position) position {
	if len(w.at) == 0 {
		return otherwise
	}
	line := min(p.line, len(w.starts)) - 1
	end := len(w.value)
	if line+1 < len(w.starts) {
		end = w.starts[line+1]
	}
	i := min(w.starts[line]+p.column-1, end-1, len(w.at)-1)
	return w.at[max(i, 0)]
}

func (c *Class) parametersAt() position {
	node := c.node
	if c.spec != nil {
		node = c.spec
		if key, _ := lookup(c.spec, "parameters"); key != nil {
			node = key
		}
	}
	return position{node.Line, node.Column}
}

// add adds a problem at a node.
func (c *Class) add(node *yaml.Node, field, cause, fix string) {
	at := c.document.in(position{node.Line, node.Column})
	c.Problems = append(c.Problems, Problem{File: c.File, Class: c.ID(), Field: field, Cause: cause, Fix: fix, Line: at.line, Column: at.column})
}

// lookup finds a key of a mapping, also one that it merges. Of equal keys the last counts.
func lookup(mapping *yaml.Node, name string) (key, value *yaml.Node) {
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if k, v := mapping.Content[i], mapping.Content[i+1]; k.Value == name {
			key, value = k, resolve(v)
		}
	}
	for i := 0; i+1 < len(mapping.Content) && key == nil; i += 2 {
		if mapping.Content[i].Tag != "!!merge" {
			continue
		}
		merged := resolve(mapping.Content[i+1])
		if merged.Kind == yaml.SequenceNode {
			for _, m := range merged.Content {
				if key == nil {
					key, value = lookup(resolve(m), name)
				}
			}
		} else {
			key, value = lookup(merged, name)
		}
	}
	return key, value
}

func resolve(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func text(mapping *yaml.Node, name string) string {
	if _, value := lookup(mapping, name); value != nil && value.Kind == yaml.ScalarNode {
		return value.Value
	}
	return ""
}

// readSpec reads the class from its node and, since YAML of kubectl is another version than that of
// nodes, its values from what kubectl sends to the API server.
func (c *Class) readSpec(sent map[string]any) {
	_, metadata := lookup(c.node, "metadata")
	c.Name, c.Namespace = text(metadata, "name"), text(metadata, "namespace")
	_, c.spec = lookup(c.node, "spec")
	spec, _ := sent["spec"].(map[string]any)
	c.Provider, _ = spec["provider"].(string)
	c.checkKeys(spec)
	parameters, isMap := spec["parameters"].(map[string]any)
	_, node := lookup(c.spec, "parameters")
	if node != nil && !isMap && spec["parameters"] != nil {
		c.add(node, "parameters", "not a mapping of names to texts", "write each parameter as name: value")
		return
	}
	c.Parameters = make(map[string]string, len(parameters))
	c.values, c.keys = make(map[string]*yaml.Node), make(map[string]*yaml.Node)
	for name, value := range parameters {
		key, at := lookup(node, name)
		if at == nil {
			key, at = c.node, c.node // a key that the two versions of YAML read differently
		}
		c.keys[name], c.values[name] = key, at
		switch value := value.(type) {
		case string:
			c.Parameters[name] = value
		case nil:
			c.Parameters[name] = "" // which the API server drops
		default:
			c.notText(name, value, at)
		}
	}
}

// notText reports a parameter that is a number, a boolean or more than one value.
func (c *Class) notText(name string, value any, node *yaml.Node) {
	kind := map[string]string{"!!bool": "a boolean", "!!int": "a number", "!!float": "a number"}[node.Tag]
	switch {
	case node.Kind == yaml.MappingNode || node.Kind == yaml.SequenceNode:
		line := string(c.source[min(node.Line, len(c.source))-1])
		at, what := request.Placeholder(line)
		switch {
		case at != nil:
			c.add(node, name, fmt.Sprintf("%q is %s", line[at[0]:at[1]], what), renderFix)
		case name == "objects":
			c.add(node, name, "a list or mapping, and the API server accepts only text", "write objects: | before it")
		default:
			c.add(node, name, "not a single value", "write it as text")
		}
	case kind != "":
		c.add(node, name, kind+", and the API server accepts only text", fmt.Sprintf("put it in quotes: %q", node.Value))
	default: // a word that is a boolean in YAML 1.1, such as yes; the provider accepts only those of YAML 1.2
		fix := fmt.Sprintf("put it in quotes: %q", node.Value)
		if strings.HasPrefix(name, "use") {
			fix = fmt.Sprintf("write it as text: %q", fmt.Sprint(value))
		}
		c.add(node, name, "a boolean, and the API server accepts only text", fix)
	}
}

var specFields = []string{"provider", "parameters", "secretObjects"}

// checkKeys reports the fields of spec that the API server does not know, and keys that are there
// twice, of which kubectl drops the first.
func (c *Class) checkKeys(spec map[string]any) {
	for name := range spec {
		if slices.Contains(specFields, name) {
			continue
		}
		fix := "the fields are " + strings.Join(specFields, ", ")
		if near := request.Nearest(name, specFields...); near != "" {
			fix = "did you mean " + near + "? " + fix
		}
		key, _ := lookup(c.spec, name)
		if key == nil {
			key = c.node
		}
		c.add(key, "spec."+name, "not a field of a SecretProviderClass", fix)
	}
	_, parameters := lookup(c.spec, "parameters")
	for _, mapping := range []*yaml.Node{c.spec, parameters} {
		if mapping == nil || mapping.Kind != yaml.MappingNode {
			continue
		}
		first := make(map[string]*yaml.Node)
		for i := 0; i+1 < len(mapping.Content); i += 2 {
			key := mapping.Content[i]
			if first[key.Value] != nil && key.Tag != "!!merge" {
				c.add(key, key.Value, "defined twice: only the last one is used", "remove one of the two")
			}
			first[key.Value] = key
		}
	}
}
