package tree

import (
	"encoding/json"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// number is what JSON calls a number (RFC 8259 section 6).
var number = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

// directive finds a line that starts with %, where YAML starts lines. The parser takes time
// that is quadratic in the number of %TAG directives.
var directive = regexp.MustCompile(`(^|[\n\r\x{85}\x{2028}\x{2029}])\x{feff}*%`)

// ParseYAML reads the one document of a YAML text, a mapping or a list. Scalars that JSON has no
// form for, such as 0755, 0x1F, .inf and dates, are text as they are written. Aliases and merge
// keys (<<) are expanded.
func ParseYAML(text string) (any, error) {
	if err := check(text); err != nil {
		return nil, err
	}
	if strings.ContainsRune(text, 0) || directive.MatchString(text) {
		return nil, ErrNotYAML
	}
	decoder := yaml.NewDecoder(strings.NewReader(text))
	var doc, more yaml.Node
	if err := decoder.Decode(&doc); err != nil || len(doc.Content) == 0 {
		return nil, ErrNotYAML // the parser's text quotes the value
	}
	if err := decoder.Decode(&more); err != io.EOF {
		return nil, ErrNotYAML // more than one document
	}
	c := converter{nodes: maxNodes, bytes: 4 * MaxSize}
	root := c.value(doc.Content[0], 0)
	switch {
	case c.err != nil:
		return nil, c.err
	case !isContainer(root):
		return nil, ErrNotYAML
	}
	return root, nil
}

// converter makes a tree of YAML nodes. Its fields are what is left of the bounds, which aliases
// use up each time they are used.
type converter struct {
	nodes, bytes int
	err          error
}

func (c *converter) fail(err error) any {
	if c.err == nil {
		c.err = err
	}
	return nil
}

func (c *converter) value(n *yaml.Node, depth int) any {
	c.nodes--
	c.bytes -= len(n.Value)
	switch {
	case c.err != nil:
		return nil
	case c.nodes < 0 || c.bytes < 0:
		return c.fail(ErrAliases)
	case depth > maxDepth: // also of a mapping that contains itself
		return c.fail(ErrTooDeep)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return c.value(n.Alias, depth+1)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, element := range n.Content {
			list = append(list, c.value(element, depth+1))
		}
		return list
	case yaml.MappingNode:
		return c.mapping(n, depth)
	}
	return scalar(n)
}

func scalar(n *yaml.Node) any {
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		switch strings.ToLower(n.Value) {
		case "true":
			return true
		case "false":
			return false
		}
	case "!!int", "!!float":
		if number.MatchString(n.Value) {
			return json.Number(n.Value)
		}
	}
	return n.Value
}

// mapping converts a mapping. Its own keys take precedence over those that it merges, and those
// of an earlier merge over those of a later one.
func (c *converter) mapping(n *yaml.Node, depth int) any {
	object := make(map[string]any, len(n.Content)/2)
	var merged []any
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		for key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		value := c.value(n.Content[i+1], depth+1)
		if key.ShortTag() == "!!merge" {
			list, several := value.([]any)
			if !several {
				list = []any{value}
			}
			merged = append(merged, list...)
			continue
		}
		if c.bytes -= len(key.Value); key.Kind != yaml.ScalarNode {
			return c.fail(ErrKey)
		}
		if _, twice := object[key.Value]; twice {
			return c.fail(ErrTwice)
		}
		object[key.Value] = value
	}
	for _, value := range merged {
		other, ok := value.(map[string]any)
		if !ok {
			return c.fail(ErrNotYAML)
		}
		for key, value := range other {
			if _, own := object[key]; !own {
				object[key] = value
			}
		}
	}
	return object
}
