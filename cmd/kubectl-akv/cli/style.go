package cli

import (
	"strings"
	"unicode"
)

// Style marks text with a terminal's escape sequences.
type Style struct{ enabled bool }

// Styled marks text whether or not there is a terminal, for tests.
var Styled = Style{enabled: true}

func (s Style) Bold(text string) string   { return s.mark("1", text) }
func (s Style) Faint(text string) string  { return s.mark("2", text) }
func (s Style) Red(text string) string    { return s.mark("31", text) }
func (s Style) Green(text string) string  { return s.mark("32", text) }
func (s Style) Yellow(text string) string { return s.mark("33", text) }
func (s Style) Cyan(text string) string   { return s.mark("36", text) }

func (s Style) mark(code, text string) string {
	if !s.enabled || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Printable returns text without line breaks and control characters. Whatever came from files,
// the cluster or a vault goes through it before it is printed as part of a line: an escape
// sequence in a name could rewrite what the terminal shows.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
