// Package fault is the one vocabulary of failures: why a mount failed, in words for those
// who can fix it, under a reason that never changes. Domain packages make these errors,
// callers decide on them with [Is], and package server alone knows gRPC codes.
package fault

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Error says why a mount failed and what to do about it. Its text is one line: the cause,
// then the fix. It contains no secret, token, trace ID or time, so that equal failures read
// equal. Several callers may share an Error: do not change it, change a copy.
type Error struct {
	Reason Reason
	// Cause is what happened. Where it contains {objects}, the names in Objects stand there.
	Cause string
	// Fix is what to do. With a Name, that stands where it contains {name}, and words for the
	// objects after the first, if any, where it contains {others}.
	Fix  string
	Name string // of the first object, for a command
	// Objects are the names of the objects that failed for this cause, such as
	// `secret "db-password"`; see [Join].
	Objects []string
	// Problems are what an [InvalidParameter] consists of, in place of Cause and Fix.
	Problems []Problem
	// AADSTS is the number of Entra's refusal; 0 for none. It is an attribute for the log.
	AADSTS int
	// IDs name the response that the failure is about, for Azure's support. They are attributes
	// for the log. Of failures that [Join] merges, they are those of the first.
	IDs RequestIDs
	// Err is what went wrong underneath, for errors.Is and errors.As; it is never shown.
	Err error
}

// RequestIDs are what Azure calls a request and its response; "" for what is unknown.
type RequestIDs struct{ Request, Trace, Correlation string }

var guid = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)

// IsRequestID reports whether the text is a GUID, as Azure's IDs of requests are. Other text in
// their place could be anything.
func IsRequestID(text string) bool { return guid.MatchString(text) }

// WithIDs returns the error with those of the IDs that are IDs, if it is an *Error.
func WithIDs(err error, ids RequestIDs) error {
	e, ok := err.(*Error) //nolint:errorlint // a wrapped one would lose what wraps it
	if !ok {
		return err
	}
	for _, id := range []*string{&ids.Request, &ids.Trace, &ids.Correlation} {
		if !IsRequestID(*id) {
			*id = ""
		}
	}
	if ids == e.IDs {
		return err
	}
	named := *e // which may be shared
	named.IDs = ids
	return &named
}

// Problem is one thing that must be changed in the class, the pod or the driver.
type Problem struct {
	Field string // a parameter, or `objects[2] "name": field`
	Cause string // what is wrong with its value
	Fix   string // what is allowed
	// Line and Column are where it is in the text of the parameter objects, in characters and
	// counted from 1; 0 if that is unknown, and for other parameters. The message has neither.
	Line, Column int
}

// Bounds of a message: the objects and fields that it names, and the problems that it
// describes in full. kubelet cuts events at 1 KiB.
const (
	MaxNamed     = 50
	maxDescribed = 8
)

// Error implements error.
func (e *Error) Error() string {
	if len(e.Problems) > 0 {
		return describe(e.Problems)
	}
	cause := e.Cause
	if len(e.Objects) > 0 {
		cause = strings.Replace(cause, "{objects}", enumerate(e.Objects), 1)
	}
	if e.Name == "" {
		return cause + "; " + e.Fix
	}
	others := ""
	if len(e.Objects) > 1 {
		others = "; likewise for the others"
	}
	return cause + "; " + strings.NewReplacer("{name}", e.Name, "{others}", others).Replace(e.Fix)
}

// Unwrap returns what went wrong underneath.
func (e *Error) Unwrap() error { return e.Err }

// Invalid is the error of parameters with problems, of which there must be one.
func Invalid(problems ...Problem) *Error { return &Error{Reason: InvalidParameter, Problems: problems} }

func describe(problems []Problem) string {
	full := problems[:min(len(problems), maxDescribed)]
	texts := make([]string, 0, len(full)+1)
	for _, p := range full {
		texts = append(texts, fmt.Sprintf("%s: %s; %s", p.Field, p.Cause, p.Fix))
	}
	if rest := problems[len(full):]; len(rest) > 0 {
		fields := make([]string, len(rest))
		for i, p := range rest {
			fields[i] = p.Field
		}
		texts = append(texts, "also wrong: "+enumerate(fields))
	}
	return strings.Join(texts, " | ")
}

// enumerate lists at most MaxNamed names.
func enumerate(names []string) string {
	text := strings.Join(names[:min(len(names), MaxNamed)], ", ")
	if rest := len(names) - MaxNamed; rest > 0 {
		text += fmt.Sprintf(", and %d more", rest)
	}
	return text
}

// Is reports whether the error, or one of several that [Join] returned, is an [*Error] with
// one of the reasons.
func Is(err error, reasons ...Reason) bool {
	all, several := errors.AsType[Errors](err)
	if !several {
		all = Errors{err}
	}
	return slices.ContainsFunc(all, func(err error) bool {
		e, ok := errors.AsType[*Error](err)
		return ok && slices.Contains(reasons, e.Reason)
	})
}
