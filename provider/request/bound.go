package request

import (
	"errors"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Bounds of what parsing the objects of one request may cost. A pod can overwrite them, and
// parsing checks no deadline: without these bounds, 20 KiB of aliases took a minute of CPU
// time (measured).
const (
	// maxWork is about the length of the YAML with every alias expanded.
	maxWork = 8 << 20
	// maxParsed bounds the bytes that are passed to the parser, each of which takes up to a
	// microsecond: the objects parameter, and each text in it.
	maxParsed = 2 * maxObjectsBytes
	// maxBreaks bounds the line breaks and commas, each of which may start an entry: short
	// entries cost the parser the most. A class of maxObjects objects needs fewer: with all
	// fields, an object takes nine lines, and so many do not fit into maxObjectsBytes.
	maxBreaks = 10 * maxObjects
	// maxWarnings bounds the warnings about fields, which aliases can multiply.
	maxWarnings = 512
	// maxLanguage bounds the templates and expressions, which aliases can multiply too: about the
	// bytes of templates, each of which takes up to a microsecond, as do those of YAML.
	maxLanguage = 256 << 10
	// Bytes of a JMESPath expression, and of a pattern, take longer, a pattern's size too.
	expressionPrice, patternPrice = 4, 16
)

// directive finds a line that starts with %, where YAML starts lines.
var directive = regexp.MustCompile(`(^|[\n\r\x{85}\x{2028}\x{2029}])\x{feff}*%`)

var (
	errEncoding  = errors.New("not plain UTF-8 text")
	errTooMuch   = errors.New("too complex: too many aliases, merges or fields")
	errDirective = errors.New("a line starts with %, a YAML directive, which is not supported")
)

// work is what is left of the bounds for one request.
type work struct {
	left     int // of maxWork
	parsed   int // of maxParsed
	warnings int // of maxWarnings
	items    int // of maxObjects
	language int // of maxLanguage
}

func newWork() work { return work{maxWork, maxParsed, maxWarnings, maxObjects, maxLanguage} }

// breaks counts the line breaks and commas of a text.
func breaks(text string) int {
	return max(strings.Count(text, "\n"), strings.Count(text, "\r")) + strings.Count(text, ",")
}

// admit refuses a text that must not reach the parser, and charges for any other.
func (w *work) admit(text string) error {
	switch w.parsed -= len(text); {
	case w.parsed < 0:
		return errTooMuch
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		return errEncoding // the parser might read it as UTF-16
	case directive.MatchString(text):
		return errDirective // the parser's time is quadratic in the number of %TAG directives
	}
	return nil
}

// broken charges for a text that does not parse: these cost the most, and a few are enough
// for the user.
func (w *work) broken(text string) { w.parsed -= 7 * len(text) }

// charge walks the tree as the decoder may: an alias each time it is used, and each field
// of a mapping with each other. The price of depth ends the walk of a mapping that contains
// itself.
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
