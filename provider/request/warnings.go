package request

import (
	"maps"
	"slices"

	"akv-csi-provider/provider/fault"
)

// WarningKind says which mistake a [Warning] is about. The set is closed.
type WarningKind string

// The mistakes that are accepted, because the replaced provider accepts them.
const (
	WarnUnknownField  WarningKind = "unknown_field"
	WarnIgnoredFormat WarningKind = "ignored_format"
	WarnDuplicatePath WarningKind = "duplicate_path"
	WarnEmptyHistory  WarningKind = "empty_history" // known only after the versions were read
)

// Warning is a mistake in a class that is accepted, so that a migration from the replaced
// provider breaks no pod. [Strict] makes it an error.
type Warning struct {
	Kind  WarningKind
	Field string
	Cause string
}

// Strict returns a *fault.Error with all of the mistakes, or nil if there are none.
func Strict(warnings []Warning) error {
	if len(warnings) == 0 {
		return nil
	}
	var p problems
	for _, w := range warnings {
		p.add(w.Field, w.Cause, "mend it, or run the provider without --strict-objects")
	}
	return fault.Invalid(p...)
}

// warn adds a warning, unless there are enough.
func (r *fieldReader) warn(kind WarningKind, field, cause string) {
	if r.work.warnings <= 0 {
		return
	}
	r.work.warnings--
	r.warnings = append(r.warnings, Warning{Kind: kind, Field: r.where + ": " + field, Cause: cause})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
