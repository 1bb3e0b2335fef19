// Package document writes files from templates in which secrets are inserted. A template has
// the syntax of Go's text/template and a closed set of functions, with names and meaning as in
// Sprig where it has them. It is pure: the caller reads what the template refers to, which is
// known when it is parsed.
//
// The parser is that of text/template, the execution is not. Package text/template calls
// methods by name, because of which the linker keeps every method of every type: 3.6 MB, or 23 %,
// of the binary (measured). Its errors quote values, and its loops, printf and variables that
// double have no bounds. What this package executes are texts, integers, booleans and the
// results of find: nothing else exists here.
package document

import (
	"fmt"
	"strconv"
	"strings"
	"text/template/parse"
	"unicode"
	"unicode/utf8"
)

// Bounds of a template, and of one execution of it.
const (
	// MaxSize is the number of bytes of a template.
	MaxSize = 64 << 10
	// maxNesting bounds parentheses and blocks within each other.
	maxNesting = 50
	// maxSteps bounds how many nodes of a template are executed, each as often as it is.
	maxSteps = 1 << 20
	// maxWork bounds the bytes that functions read and write.
	maxWork = 64 << 20
)

// Kind is a function that refers to an object of the vault.
type Kind string

// The functions that refer to objects. Their argument is the name of an object, or the pattern
// that names have to match.
const (
	Secret      Kind = "secret"
	Certificate Kind = "certificate"
	Key         Kind = "key"
	Find        Kind = "find"
)

// Source is what a template refers to.
type Source struct {
	Kind Kind
	Name string // of the object; of Find the pattern
}

// Reference is a source, and the first line of the template that refers to it.
type Reference struct {
	Source
	Line int
}

// Match is one result of find. Its fields are those that a template can read.
type Match struct{ Name, Value string }

// Values are what a template inserts: a text for each secret, certificate and key that it
// refers to, and the matches for each find.
type Values struct {
	Texts   map[Source]string
	Matches map[Source][]Match
}

// Error says what is wrong in a line of a template. It contains no value.
type Error struct {
	Line  int
	Cause string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Cause) }

// Template is a template that was parsed. Any number of executions may use it at once.
type Template struct {
	text       string
	root       *parse.ListNode
	references []Reference
	paths      paths
}

// References returns what the template refers to, each source once.
func (t *Template) References() []Reference { return t.references }

// Size returns the number of bytes of the template.
func (t *Template) Size() int { return len(t.text) }

// Parse reads a template. It returns all that is wrong with it, of which the texts quote at
// most a part of the template.
func Parse(text string) (*Template, []*Error) {
	switch {
	case len(text) > MaxSize:
		return nil, []*Error{{1, fmt.Sprintf("the template is longer than %d bytes", MaxSize)}}
	case !utf8.ValidString(text):
		return nil, []*Error{{1, "the template is not UTF-8 text"}}
	}
	tree := parse.New("document")
	tree.Mode = parse.SkipFuncCheck // the checker reports all of them
	all := make(map[string]*parse.Tree)
	if _, err := tree.Parse(text, "", "", all); err != nil {
		return nil, []*Error{syntaxError(err)}
	}
	c := checker{text: text, paths: make(paths)}
	for name, other := range all {
		if name != tree.Name { // the parser takes define out of the list
			c.add(other.Root, "define and block are not supported")
		}
	}
	c.list(tree.Root, scope{})
	if len(c.errors) > 0 {
		return nil, c.errors
	}
	return &Template{text, tree.Root, c.references, c.paths}, nil
}

// syntaxError takes the parser's text apart: "template: document:3: unexpected …".
func syntaxError(err error) *Error {
	text := strings.TrimPrefix(err.Error(), "template: document:")
	line, cause, found := strings.Cut(text, ": ")
	n, atoi := strconv.Atoi(line)
	if !found || atoi != nil {
		n, cause = 1, text
	}
	if cause = oneLine(cause); strings.HasPrefix(cause, "bad character U+002D") { // mostly {{ secret my-secret }}
		cause += `: a name with a hyphen needs quotes, as in secret "my-secret"`
	}
	return &Error{n, cause}
}

// oneLine cuts a text and drops what does not print.
func oneLine(text string) string {
	const most = 200
	runes := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text))
	if len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return string(runes)
}

// quote shows a part of a template.
func quote(text string) string { return fmt.Sprintf("%.64q", text) }

func lineOf(text string, n parse.Node) int {
	return 1 + strings.Count(text[:min(int(n.Position()), len(text))], "\n")
}
