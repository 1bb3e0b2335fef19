package request

import (
	"fmt"
	"strconv"
	"strings"
)

// ReasonInvalidParameter is the reason of every error of this package.
const ReasonInvalidParameter = "InvalidParameter"

// Error says everything that is wrong with one Mount request. Its text is one
// line that never holds a token or a secret; field values of the class are
// quoted and cut short.
type Error struct {
	Pod      Pod       // whose request it was, as far as it could be read; for logs
	Problems []Problem // never empty
}

// Problem is one thing that must be changed in the class, the pod or the driver.
type Problem struct {
	Field string // parameter, or "objects[2] \"name\": field"
	Cause string // what is wrong with its value
	Fix   string // what is allowed
}

// Bounds of a message: how many problems are told in full, since kubelet cuts
// events at 1 KiB, and of how many more the field is named.
const (
	maxTold  = 8
	maxNamed = 50
)

// Error implements error.
func (e *Error) Error() string {
	told := e.Problems[:min(len(e.Problems), maxTold)]
	texts := make([]string, 0, len(told)+1)
	for _, p := range told {
		texts = append(texts, fmt.Sprintf("%s: %s; %s", p.Field, p.Cause, p.Fix))
	}
	rest := e.Problems[len(told):]
	if len(rest) == 0 {
		return strings.Join(texts, " | ")
	}
	named := rest[:min(len(rest), maxNamed)]
	fields := make([]string, 0, len(named)+1)
	for _, p := range named {
		fields = append(fields, p.Field)
	}
	if n := len(rest) - len(named); n > 0 {
		fields = append(fields, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(append(texts, "also wrong: "+strings.Join(fields, ", ")), " | ")
}

// Reason is the stable word users search for.
func (e *Error) Reason() string { return ReasonInvalidParameter }

func newError(field, cause, fix string) *Error {
	return &Error{Problems: []Problem{{Field: field, Cause: cause, Fix: fix}}}
}

func (e *Error) add(field, cause, fix string) {
	e.Problems = append(e.Problems, Problem{Field: field, Cause: cause, Fix: fix})
}

// quote shows a user's value on one line, cut to a length that still tells which
// one it was.
func quote(value string) string {
	const most = 64
	if runes := []rune(value); len(runes) > most {
		value = string(runes[:most]) + "…"
	}
	return strconv.Quote(value)
}
