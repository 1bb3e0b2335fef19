package request

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"akv-csi-provider/provider/fault"
)

// WarningKind says which mistake a [Warning] is about. The set is closed.
type WarningKind string

// The mistakes that are accepted, because the replaced provider accepts them.
const (
	WarnUnknownField  WarningKind = "unknown_field"
	WarnIgnoredFormat WarningKind = "ignored_format"
	WarnDuplicatePath WarningKind = "duplicate_path"
	WarnIgnoredText   WarningKind = "ignored_text"
	WarnPlaceholder   WarningKind = "placeholder"
	WarnEmptyHistory  WarningKind = "empty_history" // known only after the versions were read
)

// Warning is a mistake in a class that is accepted, so that a migration from the replaced
// provider breaks no pod. [Strict] makes it an error.
type Warning struct {
	Kind  WarningKind
	Field string
	Cause string
	// Line and Column are where it is in the parameter objects, as in [fault.Problem].
	Line, Column int
}

// Strict returns a *fault.Error with all of the mistakes, or nil if there are none.
func Strict(warnings []Warning) error {
	if len(warnings) == 0 {
		return nil
	}
	var p problems
	for _, w := range warnings {
		fix := "fix it"
		if w.Kind == WarnEmptyHistory {
			fix = "check objectName and objectVersion"
		}
		p = append(p, fault.Problem{Field: w.Field, Cause: w.Cause, Fix: fix + "; or, cluster operator: remove --strict-objects to make this a warning", Line: w.Line, Column: w.Column})
	}
	return fault.Invalid(p...)
}

// warn adds a warning, unless there are enough.
func (r *objectsReader) warn(at place, kind WarningKind, field, cause string) {
	if r.work.warnings <= 0 {
		return
	}
	r.work.warnings--
	line, column := at.position()
	r.warnings = append(r.warnings, Warning{Kind: kind, Field: field, Cause: cause, Line: line, Column: column})
}

// ignored reports what the replaced provider ignores: a warning where it mounts the rest, and
// a problem where it mounts nothing.
func (r *objectsReader) ignored(lenient bool, at place, kind WarningKind, field, cause, fix string) {
	if lenient {
		r.warn(at, kind, field, cause+"; it is ignored")
	} else {
		r.problem(at, field, cause, fix)
	}
}

// unread reports what follows the first document.
func (r *objectsReader) unread(lenient bool, d *document, field string) {
	if d.rest == (position{}) {
		return
	}
	at := d.locate(d.rest)
	r.ignored(lenient, place{d, &yaml.Node{Line: d.rest.line, Column: d.rest.column}}, WarnIgnoredText, field,
		fmt.Sprintf("%s at line %d, column %d is outside the first YAML document", quote(strings.TrimSpace(d.source(d.rest))), at.line, at.column),
		"use one list in one document, with equally indented entries")
}

// otherKeys reports the keys beside array, which are ignored, unless aliases of the list refer
// to all that they have.
func (r *objectsReader) otherKeys(d *document, list *yaml.Node) {
	if d.root.Kind != yaml.MappingNode {
		return
	}
	used := make(map[*yaml.Node]bool)
	var use func(*yaml.Node)
	use = func(n *yaml.Node) {
		if n.Alias != nil && !used[n.Alias] {
			used[n.Alias] = true
			use(n.Alias)
		}
		for _, c := range n.Content {
			use(c)
		}
	}
	use(list)
	for _, c := range list.Content { // the list itself is a copy
		used[c] = true
	}
	// survey reports whether the list uses a part of the node, and whether another part looks
	// like an object.
	var survey func(*yaml.Node) (some, objects bool)
	survey = func(n *yaml.Node) (some, objects bool) {
		if used[n] {
			return true, false
		}
		objects = strings.Contains(n.Value, "objectName")
		for _, c := range n.Content {
			someOfIt, objectsInIt := survey(c)
			some, objects = some || someOfIt, objects || objectsInIt
		}
		return some, objects
	}
	for i := 0; i < len(d.root.Content); i += 2 {
		key, value := d.root.Content[i], d.root.Content[i+1]
		some, objects := survey(value)
		if key.Value == "array" || key.Value == "<<" && !objects || some && !objects {
			continue
		}
		field := "objects: " + strings.Trim(quote(key.Value), `"`)
		cause := "is ignored: only the list below array is read"
		if near := Nearest(key.Value, "array"); near != "" {
			cause += " (did you mean array?)"
		}
		if objects {
			r.ignored(r.lenient, place{d, key}, WarnUnknownField, field, cause, "move its objects to the list below array")
		} else {
			r.warn(place{d, key}, WarnUnknownField, field, cause)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
