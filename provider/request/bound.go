package request

import (
	"errors"

	"go.yaml.in/yaml/v3"
)

// maxWork bounds what reading the objects of one request may cost, in about the
// bytes of their YAML with every alias written out. Without it 1 MiB of aliases,
// or of fields in one mapping, kept a processor busy for a minute (measured).
const maxWork = 8 << 20

var errTooMuch = errors.New("too costly to read: aliases, merges or fields multiply")

// work is what is left of maxWork for one request.
type work struct{ left int }

// parse reads the first document of a YAML text and charges for it. It returns
// the document's root, nil if there is none.
func (w *work) parse(text string) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	w.charge(&doc, 0)
	if w.left < 0 {
		return nil, errTooMuch
	}
	return resolve(doc.Content[0]), nil
}

// charge goes through the tree as the decoder may: an alias each time it is used,
// the fields of a mapping each with each. The price of depth ends the walk of a
// mapping that holds itself.
func (w *work) charge(n *yaml.Node, depth int) {
	w.left -= 1 + depth + len(n.Value)
	if n.Kind == yaml.MappingNode {
		fields := len(n.Content) / 2
		w.left -= fields * fields / 8
	}
	if n.Alias != nil && w.left >= 0 {
		w.charge(n.Alias, depth+1)
	}
	for _, c := range n.Content {
		if w.left < 0 {
			return
		}
		w.charge(c, depth+1)
	}
}
