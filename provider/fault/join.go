package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Errors are the failures of the objects of one mount, in the order of the objects.
type Errors []error

// Error implements error.
func (e Errors) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = err.Error()
	}
	return strings.Join(texts, " | ")
}

// Unwrap lets errors.Is and errors.As check each.
func (e Errors) Unwrap() []error { return e }

// Join returns nil if all errors are nil, a single error as is, and Errors otherwise.
// Failures that differ only in their objects become one that names all of these. Panics become
// one, as do other bugs of one type: an object more does not say more about a bug. Errors among
// the errors count as what they consist of.
func Join(errs []error) error {
	type cause struct {
		reason     Reason
		cause, fix string
	}
	var all Errors
	places := make(map[any]int)       // in all, by cause
	objects := make(map[int][]string) // of the failures at these places
	merged := make(map[int]bool)      // the places at which several failures stand
	for i, err := range flat(errs) {
		var key any = i // unlike any other
		e, ok := errors.AsType[*Error](err)
		switch {
		case ok && len(e.Objects) > 0:
			key = cause{e.Reason, e.Cause, e.Fix}
		case errors.Is(err, context.Canceled):
			key = context.Canceled
		case errors.As(err, new(*Panic)):
			key = Internal
		case err == context.DeadlineExceeded: // as it is: one that names what timed out differs
			key = err
		case !ok && !errors.Is(err, context.DeadlineExceeded): // of the text, the log shows nothing
			key = fmt.Sprintf("%T", err)
		}
		place, known := places[key]
		if !known {
			place = len(all)
			places[key], all = place, append(all, err)
		}
		if merged[place] = known; ok {
			objects[place] = append(objects[place], e.Objects...)
		}
	}
	for place, names := range objects {
		if merged[place] && len(names) > 0 {
			e, _ := errors.AsType[*Error](all[place])
			several := *e // which may be shared
			several.Objects = unique(names)
			all[place] = &several
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return all
}

// flat returns the errors that are not nil, and those of each Errors in its place.
func flat(errs []error) (all []error) {
	for _, err := range errs {
		if several, ok := errors.AsType[Errors](err); ok {
			all = append(all, flat(several)...)
		} else if err != nil {
			all = append(all, err)
		}
	}
	return all
}

// unique drops all but the first of equal names.
func unique(names []string) []string {
	seen := make(map[string]bool, len(names))
	return slices.DeleteFunc(names, func(name string) bool {
		known := seen[name]
		seen[name] = true
		return known
	})
}
