package request

import (
	"errors"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// position is a line and a column of a text, in characters and counted from 1. The zero
// position is none.
type position struct{ line, column int }

func (p position) before(q position) bool {
	return p.line < q.line || p.line == q.line && p.column < q.column
}

// document is the first YAML document of a text.
type document struct {
	root *yaml.Node // nil if there is none
	rest position   // in text, of what follows the document; zero if nothing does
	text string     // that was parsed
	// So many empty lines before the text were cut off, and columns of its first line.
	skipped, cut int
	lines        []string // of text, made when first needed

	outer *document  // that has the text as a scalar; nil for the parameter objects itself
	node  *yaml.Node // that scalar
	value string     // of that scalar
}

const byteOrderMark = '\ufeff'

// readings returns two ways to read a text: without the white space around it, and the same
// with the indentation of the first line. An indented list needs that; but where only the
// first line is indented, as here documents and joined lists have it, it is wrong.
func readings(text string) (flush, indented document) {
	outer := func(r rune) bool { return unicode.IsSpace(r) || r == byteOrderMark }
	content := strings.TrimLeftFunc(text, outer)
	before := text[:len(text)-len(content)]
	end := strings.TrimRightFunc(content, outer)
	if end != "" && strings.Contains(content[len(end):], "\n") {
		end += "\n" // which a template may end with
	}
	content = end

	margin := before[strings.LastIndexByte(before, '\n')+1:]
	indent := strings.TrimLeft(margin, string(byteOrderMark))
	if strings.Trim(indent, " ") != "" {
		indent = ""
	}
	lines, width := strings.Count(before, "\n"), utf8.RuneCountInString(margin)
	return document{text: content, skipped: lines, cut: width},
		document{text: indent + content, skipped: lines, cut: width - len(indent)}
}

// parse reads a text in the preferred way, or in the other one if the first is not YAML or not
// what fits. Its second result says whether the preferred way is what it returns.
func (w *work) parse(preferred, other document, fits func(*document) bool) (*document, bool, error) {
	err := w.read(&preferred)
	if preferred.text == other.text || errors.Is(err, errTooMuch) || err == nil && fits(&preferred) {
		return &preferred, true, err
	}
	if preferred.outer == nil {
		w.parsed = maxParsed // the parameter is read at most twice, also if it is long
	}
	_, template := preferred.placeholder()
	if w.read(&other) == nil && fits(&other) && (other.rest == (position{}) || template == "") {
		return &other, false, nil
	}
	if w.left < 0 {
		err = errTooMuch
	}
	return &preferred, true, err
}

// read parses the document's text and charges for it.
func (w *work) read(d *document) error {
	if err := w.admit(d.text); err != nil {
		return err
	}
	decoder := yaml.NewDecoder(strings.NewReader(d.text))
	var node yaml.Node
	if err := decoder.Decode(&node); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		w.broken(d.text)
		return err
	}
	if w.charge(&node, 0); w.left < 0 {
		return errTooMuch
	}
	d.root = resolve(node.Content[0])
	// Documents may follow that are empty.
	for {
		var next yaml.Node
		switch err := decoder.Decode(&next); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			if !strings.HasSuffix(err.Error(), "<document start>") {
				w.broken(d.text)
			}
			d.rest = d.end()
			return nil
		case resolve(next.Content[0]).Tag != "!!null":
			d.rest = position{next.Content[0].Line, next.Content[0].Column}
			return nil
		}
	}
}

// end finds what follows the root where that does not parse: the parser does not say where it
// stopped.
func (d *document) end() position {
	if d.root.Style&yaml.FlowStyle != 0 {
		return d.afterFlow()
	}
	for n := d.root.Line + 1; n <= len(d.split()); n++ {
		line := d.line(n)
		content := strings.TrimLeft(line, " \t")
		column := len(line) - len(content) + 1
		marker := strings.HasPrefix(line, "---") || strings.HasPrefix(line, "...")
		if marker || content != "" && content[0] != '#' && column < d.root.Column {
			return position{n, column}
		}
	}
	return position{d.root.Line, d.root.Column}
}

// afterFlow finds what follows a root in brackets.
func (d *document) afterFlow() position {
	root := position{d.root.Line, d.root.Column}
	next, depth := position{1, 1}, 0
	var quote, previous, visible rune // visible is the previous one that is not white space
	for _, r := range d.text {
		at := next
		if next.column++; r == '\n' {
			next = position{next.line + 1, 1}
		}
		switch {
		case at.before(root):
			continue
		case quote == '#':
			if r == '\n' {
				quote = 0
			}
		case quote == '"' && previous == '\\':
			r = 0 // escaped, also a backslash
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '#' && unicode.IsSpace(previous),
			(r == '"' || r == '\'') && strings.ContainsRune("[{,:", visible),
			r == '\'' && previous == '\'': // an escaped one, which ended the quoted text before
			quote = r
		case depth == 0 && root.before(at) && !unicode.IsSpace(r):
			return at
		case r == '[' || r == '{':
			depth++
		case r == ']' || r == '}':
			depth--
		}
		if previous = r; !unicode.IsSpace(r) {
			visible = r
		}
	}
	return root
}

func (d *document) split() []string {
	if d.lines == nil {
		d.lines = strings.Split(d.text, "\n")
	}
	return d.lines
}

// line returns a line of the text, counted from 1; "" if it has fewer, or if the line is so
// long that searching it for each problem would be costly.
func (d *document) line(n int) string {
	const longest = 4 << 10
	if lines := d.split(); n >= 1 && n <= len(lines) && len(lines[n-1]) <= longest {
		return strings.TrimSuffix(lines[n-1], "\r")
	}
	return ""
}

// source returns what is written from a position on, up to the end of the line.
func (d *document) source(p position) string {
	line := d.line(p.line)
	for range p.column - 1 {
		_, size := utf8.DecodeRuneInString(line)
		line = line[size:]
	}
	return line
}

// placeholder finds one in a text that does not parse, outside lines of comment, and outside
// templates of documents, which look alike.
func (d *document) placeholder() (position, string) {
	searched, template := 0, -1 // template is the column of the last one's field, or -1
	for n := 1; n <= len(d.split()) && searched < 64; n++ {
		line := d.line(n)
		content := strings.TrimSpace(line)
		column := strings.Index(line, strings.TrimLeft(content, "- "))
		if content == "" || template >= 0 && column > template {
			continue
		}
		if template = -1; templateField.MatchString(content) {
			template = column
			continue
		}
		if !strings.ContainsAny(content, "{($<%@[") || content[0] == '#' {
			continue
		}
		searched++
		if at := findPlaceholder(inYAML, line); at != nil {
			return position{n, 1 + utf8.RuneCountInString(line[:at[0]])}, line[at[0]:at[1]]
		}
	}
	return position{}, ""
}

// templateField finds a template of a document.
var templateField = regexp.MustCompile(`^(- +)*['"]?template['"]? *:`)

// locate returns the position in the parameter objects of a position in the text. In a folded
// scalar, or a quoted one with escapes, that is where the scalar starts.
func (d *document) locate(p position) position {
	inner := p
	if p.line == 1 {
		p.column += d.cut
	}
	p.line += d.skipped
	if d.outer == nil {
		return p
	}
	at := position{d.node.Line, d.node.Column}
	switch {
	case d.node.Style&yaml.LiteralStyle != 0:
		// The block's first line follows its indicator.
		line, own := d.outer.line(at.line+p.line), d.line(inner.line)
		if i := strings.LastIndex(line, own); own != "" && i >= 0 {
			at = position{at.line + p.line, utf8.RuneCountInString(line[:i]) + inner.column}
		}
	case p.line == 1:
		start := at
		if d.node.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
			start.column++
		}
		if strings.HasPrefix(d.outer.source(start), d.value) {
			at.column = start.column + p.column - 1
		}
	}
	return d.outer.locate(at)
}
