package classes

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// document is one YAML document of a file, or one JSON value.
type document struct {
	text string
	json bool
	// before is where the text starts in its file: 0 lines and columns if it is the first.
	before position
}

// in returns the position in the file of a position in the text.
func (d document) in(p position) position {
	if p.line == 1 {
		p.column += d.before.column
	}
	p.line += d.before.line
	return p
}

// split cuts a file into its documents, as kubectl does: at lines that begin with "---" and go on
// with nothing but a comment, and JSON behind each value.
func split(text string) []document {
	text = strings.TrimPrefix(text, "\ufeff")
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		if documents := splitJSON(text); documents != nil {
			return documents
		}
	}
	var documents []document
	var current strings.Builder
	start := 0
	lines := strings.SplitAfter(text, "\n")
	for n, line := range lines {
		rest, marker := strings.CutPrefix(line, "---")
		if rest = strings.TrimSpace(rest); marker && (rest == "" || rest[0] == '#') {
			documents = append(documents, document{text: current.String(), before: position{start, 0}})
			current.Reset()
			start = n + 1
			continue
		}
		current.WriteString(line)
	}
	return append(documents, document{text: current.String(), before: position{start, 0}})
}

// splitJSON returns nil if the text is not JSON.
func splitJSON(text string) (documents []document) {
	decoder := json.NewDecoder(strings.NewReader(text))
	for {
		start := decoder.InputOffset()
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			if rest := text[start:]; strings.TrimSpace(rest) == "" {
				return documents
			}
			return nil
		}
		end := decoder.InputOffset()
		lead := text[:start]
		column := utf8.RuneCountInString(lead[strings.LastIndexByte(lead, '\n')+1:])
		documents = append(documents, document{text[start:end], true, position{strings.Count(lead, "\n"), column}})
	}
}

// empty reports whether a document has nothing but white space and comments.
func (d document) empty() bool {
	for line := range bytes.Lines([]byte(d.text)) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && string(line) != "..." && line[0] != '%' {
			return false
		}
	}
	return true
}
