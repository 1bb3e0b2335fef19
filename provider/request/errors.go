package request

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"akv-csi-provider/provider/fault"
)

// problems collects everything that is wrong with one request. The texts are one line and
// never contain a token or a secret; field values of the class are quoted and cut.
type problems []fault.Problem

func (p *problems) add(field, cause, fix string) {
	*p = append(*p, fault.Problem{Field: field, Cause: cause, Fix: fixOf(cause, fix)})
}

// place is a node of the objects parameter. Its position is found only if something is wrong.
type place struct {
	doc  *document // nil for no place
	node *yaml.Node
}

// position returns the line and the column in the parameter objects; 0 if they are unknown.
func (p place) position() (line, column int) {
	if p.doc == nil || p.node == nil {
		return 0, 0
	}
	at := p.doc.locate(position{p.node.Line, p.node.Column})
	return at.line, at.column
}

// cause says that a placeholder is written here, or else what is otherwise wrong.
func (p place) cause(otherwise string) string {
	if p.doc == nil || p.node == nil {
		return otherwise
	}
	source := strings.TrimLeft(p.doc.source(position{p.node.Line, p.node.Column}), " ")
	if at := findPlaceholder(inYAML, source); at != nil && at[0] == 0 {
		return invalid(source[:at[1]], "")
	}
	return otherwise
}

func (r *objectsReader) problem(at place, field, cause, fix string) {
	line, column := at.position()
	r.problems = append(r.problems, fault.Problem{Field: field, Cause: cause, Fix: fixOf(cause, fix), Line: line, Column: column})
}

// broken adds the problem of a text that is not valid YAML, or too costly.
func (r *objectsReader) broken(d *document, field string, err error) {
	if errors.Is(err, errTooMuch) || errors.Is(err, errDirective) || errors.Is(err, errEncoding) {
		r.problem(place{d, d.node}, field, err.Error(), objectsFix)
		return
	}
	line, cause := yamlCause(err, d.skipped)
	at, found := d.placeholder()
	if found == "" {
		at = position{line, 1}
	} else {
		cause = invalid(found, "") // which is also why it is not valid YAML
	}
	r.problem(place{d, &yaml.Node{Line: at.line, Column: at.column}}, field, cause, yamlFix(cause))
}

// Line numbers in messages of the library. Its parser counts from 0, and leaves out a 0; its
// scanner does not.
var (
	parserMessage = regexp.MustCompile(`^(?:line (\d+): )?(did not find expected (?:node content|'-' indicator|key$|',' or|<).*)`)
	yamlLine      = regexp.MustCompile(`line (\d+)`)
)

// yamlFix is the fix of such a cause.
func yamlFix(cause string) string {
	if strings.Contains(cause, " already defined at line ") {
		return "remove one of the two"
	}
	return objectsFix
}

// yamlCause is the library's message on one line, without its prefixes, and cut to a length
// that still contains the line number. It returns the number in the parsed text; that in the
// message counts the lines that were skipped before.
func yamlCause(err error, skipped int) (line int, cause string) {
	text := strings.TrimPrefix(strings.Join(strings.Fields(err.Error()), " "), "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors: ")
	if m := parserMessage.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1])
		text = fmt.Sprintf("line %d: %s", n+1, m[2])
	}
	if m := yamlLine.FindStringSubmatch(text); m != nil && strings.HasPrefix(text, m[0]) {
		line, _ = strconv.Atoi(m[1])
	}
	if skipped > 0 {
		text = yamlLine.ReplaceAllStringFunc(text, func(m string) string {
			n, _ := strconv.Atoi(m[len("line "):])
			return fmt.Sprintf("line %d", n+skipped)
		})
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > 128 {
		text = string(runes[:128]) + "…"
	}
	return max(line, 1), "not valid YAML: " + text
}

// quote shows a user's value on one line, cut to a length that is enough to recognize it.
func quote(value string) string {
	const most = 64
	if runes := []rune(value); len(runes) > most {
		value = string(runes[:most]) + "…"
	}
	return strconv.Quote(value)
}
