package request

import (
	"errors"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Bounds of what reading the objects of one request may cost. A pod can overwrite
// objects, and reading them heeds no deadline: without these bounds 20 KiB of
// aliases kept a processor busy for a minute (measured).
const (
	// maxWork is in about the bytes of the YAML with every alias written out.
	maxWork = 8 << 20
	// maxParsed is the bytes that are handed to the parser, which costs up to a
	// microsecond each: the objects parameter, and each text in it.
	maxParsed = 2 * maxObjectsBytes
	// maxHints is how many unknown fields are compared with the known ones.
	maxHints = 8
	// maxLax is how many mistakes of fields are let pass one by one; aliases multiply them.
	maxLax = 512
)

// directive finds the start of a line as YAML has lines.
var directive = regexp.MustCompile(`(^|[\n\r\x{85}\x{2028}\x{2029}])\x{feff}*%`)

var (
	errEncoding  = errors.New("not plain UTF-8 text")
	errTooMuch   = errors.New("too costly to read: aliases, merges or fields multiply")
	errDirective = errors.New("a line starts with %, a YAML directive, which objects do not take")
)

// work is what is left for one request.
type work struct {
	left   int // of maxWork
	parsed int // of maxParsed
	hints  int // of maxHints
	lax    int // of maxLax
}

func newWork() *work { return &work{left: maxWork, parsed: maxParsed, hints: maxHints, lax: maxLax} }

// parse reads the first document of a YAML text and charges for it. It returns
// the document's root, nil if there is none.
func (w *work) parse(text string) (*yaml.Node, error) {
	if w.parsed -= len(text); w.parsed < 0 {
		return nil, errTooMuch
	}
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return nil, errEncoding // the parser would read it as UTF-16 perhaps
	}
	// The parser takes time that is quadratic in the number of %TAG directives.
	if directive.MatchString(text) {
		return nil, errDirective
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		w.parsed -= 7 * len(text) // broken texts cost the most, and a few tell enough
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
