package classes

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// position is a line and a column of a file, in characters and counted from 1.
type position struct{ line, column int }

// source is a YAML text by its lines, in characters.
type source [][]rune

func newSource(text string) source {
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	s := make(source, len(lines))
	for i, line := range lines {
		s[i] = []rune(line)
	}
	return s
}

// at returns the character at a position: '\n' at the end of a line, 0 behind the text.
func (s source) at(p position) rune {
	switch {
	case p.line < 1 || p.line > len(s):
		return 0
	case p.column <= len(s[p.line-1]):
		return s[p.line-1][p.column-1]
	case p.line == len(s):
		return 0
	}
	return '\n'
}

// next returns the position of the character behind that at p.
func (s source) next(p position) position {
	if s.at(p) == '\n' {
		return position{p.line + 1, 1}
	}
	return position{p.line, p.column + 1}
}

// scalar is the value of a YAML scalar, character by character, with the position of each.
type scalar struct {
	value []rune
	at    []position
}

func (c *scalar) add(r rune, p position) {
	c.value = append(c.value, r)
	c.at = append(c.at, p)
}

// places returns where each character of the value of a scalar is written. It decodes the scalar
// as YAML does, and returns nil if that does not yield the value: then only the place of the whole
// is known.
func (s source) places(node *yaml.Node) []position {
	start := s.skipProperties(position{node.Line, node.Column})
	want := []rune(node.Value)
	var readings []scalar
	switch {
	case node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		readings = s.block(start)
	case node.Style&yaml.DoubleQuotedStyle != 0:
		readings = []scalar{s.flow(s.next(start), '"', len(want))}
	case node.Style&yaml.SingleQuotedStyle != 0:
		readings = []scalar{s.flow(s.next(start), '\'', len(want))}
	default:
		readings = []scalar{s.flow(start, 0, len(want))}
	}
	for _, c := range readings {
		if len(c.value) >= len(want) && string(c.value[:len(want)]) == node.Value {
			return c.at[:len(want)]
		}
	}
	return nil
}

// skipProperties returns where the value begins behind an anchor and a tag.
func (s source) skipProperties(p position) position {
	for {
		switch s.at(p) {
		case '&', '!':
			for r := s.at(p); r != 0 && r != ' ' && r != '\t' && r != '\n'; r = s.at(p) {
				p = s.next(p)
			}
		case ' ', '\t', '\n':
			p = s.next(p)
		default:
			return p
		}
	}
}

// block decodes a literal or folded scalar whose indicator is at p. Its indentation may be written
// relative to that of its parent, which is not known here: then there are several readings.
func (s source) block(p position) []scalar {
	folded := s.at(p) == '>'
	explicit := false
	for p = s.next(p); s.at(p) != '\n' && s.at(p) != 0 && s.at(p) != ' '; p = s.next(p) {
		explicit = explicit || s.at(p) >= '1' && s.at(p) <= '9'
	}
	first := p.line + 1
	indents := []int{0}
	for n := first; n <= len(s); n++ {
		if indent, blank := indentation(s[n-1]); !blank {
			indents[0] = indent
			break
		}
	}
	if explicit {
		for n := indents[0] - 1; n >= 0; n-- {
			indents = append(indents, n)
		}
	}
	readings := make([]scalar, len(indents))
	for i, indent := range indents {
		readings[i] = s.lines(first, indent, folded)
	}
	return readings
}

func indentation(line []rune) (indent int, blank bool) {
	for indent < len(line) && line[indent] == ' ' {
		indent++
	}
	return indent, indent == len(line)
}

// lines decodes the lines of a block scalar, with all line breaks at its end.
func (s source) lines(first, indent int, folded bool) (c scalar) {
	var breaks []position // since the last line that was not empty
	previousBlank, started := false, false
	for n := first; n <= len(s); n++ {
		line := s[n-1]
		spaces, blank := indentation(line)
		end := position{n, len(line) + 1}
		if blank && spaces <= indent {
			breaks = append(breaks, end)
			continue
		}
		if spaces < indent {
			break
		}
		startsBlank := line[indent] == ' ' || line[indent] == '\t'
		switch {
		case folded && started && !previousBlank && !startsBlank && len(breaks) == 1:
			c.add(' ', breaks[0])
		case folded && started && !previousBlank && !startsBlank:
			for _, p := range breaks[1:] {
				c.add('\n', p)
			}
		default:
			for _, p := range breaks {
				c.add('\n', p)
			}
		}
		for i, r := range line[indent:] {
			c.add(r, position{n, indent + i + 1})
		}
		breaks, previousBlank, started = []position{end}, startsBlank, true
	}
	for _, p := range breaks {
		c.add('\n', p)
	}
	return c
}

// flow decodes at most so many characters of a quoted or plain scalar, whose first is at p.
func (s source) flow(p position, quote rune, most int) (c scalar) {
	for len(c.value) < most {
		r := s.at(p)
		switch {
		case r == 0:
			return c
		case r == ' ' || r == '\t' || r == '\n':
			p = s.space(&c, p)
		case r == quote && quote == '\'' && s.at(s.next(p)) == '\'':
			c.add('\'', p)
			p = s.next(s.next(p))
		case r == quote:
			return c
		case r == '\\' && quote == '"' && s.at(s.next(p)) == '\n':
			p = s.fold(&c, s.next(s.next(p)), nil)
		case r == '\\' && quote == '"':
			p = s.escape(&c, p)
		default:
			c.add(r, p)
			p = s.next(p)
		}
	}
	return c
}

// space decodes white space, which a line break makes one space, or line breaks.
func (s source) space(c *scalar, p position) position {
	var blanks scalar
	for s.at(p) == ' ' || s.at(p) == '\t' {
		blanks.add(s.at(p), p)
		p = s.next(p)
	}
	if s.at(p) != '\n' {
		c.value, c.at = append(c.value, blanks.value...), append(c.at, blanks.at...)
		return p
	}
	first := p
	return s.fold(c, s.next(p), &first)
}

// fold decodes what follows a line break: the break is a space unless empty lines follow. An
// escaped break, which first is nil for, is nothing.
func (s source) fold(c *scalar, p position, first *position) position {
	empty := false
	for r := s.at(p); r == ' ' || r == '\t' || r == '\n'; r = s.at(p) {
		if r == '\n' {
			c.add('\n', p)
			empty = true
		}
		p = s.next(p)
	}
	if first != nil && !empty {
		c.add(' ', *first)
	}
	return p
}

var escapes = map[rune]rune{'0': 0, 'a': 7, 'b': 8, 't': 9, '\t': 9, 'n': 10, 'v': 11, 'f': 12, 'r': 13, 'e': 27,
	' ': ' ', '"': '"', '/': '/', '\'': '\'', '\\': '\\', 'N': 0x85, '_': 0xa0, 'L': 0x2028, 'P': 0x2029}

// escape decodes an escape sequence of a double-quoted scalar.
func (s source) escape(c *scalar, p position) position {
	start := p
	p = s.next(p)
	kind := s.at(p)
	p = s.next(p)
	digits := map[rune]int{'x': 2, 'u': 4, 'U': 8}[kind]
	if digits == 0 {
		c.add(escapes[kind], start)
		return p
	}
	var hex []rune
	for range digits {
		hex = append(hex, s.at(p))
		p = s.next(p)
	}
	code, _ := strconv.ParseUint(string(hex), 16, 32) // a wrong one yields another value
	c.add(rune(code), start)
	return p
}
