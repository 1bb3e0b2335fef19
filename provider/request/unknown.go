package request

import (
	"fmt"
	"slices"
	"strings"
)

// lacks adds the problem of a required field. If an unknown field may be meant by one that is missing,
// that is one mistake, and gets one problem.
func (r *fieldReader) lacks(field, fix string) {
	switch name := r.meant(field); {
	case name == "":
		r.wrong(field, r.required(field), fix)
	case r.inner:
		r.notField(name)
	default: // elsewhere unknown fields are no problem
		r.named = append(r.named, name)
		r.wrong(field, fmt.Sprintf("missing (found unknown field %s, did you mean %s?)", quote(name), field), fix)
	}
}

// meant returns the unknown field that may be meant by one that is missing; "" for none.
func (r *fieldReader) meant(field string) string {
	if _, there := r.nodes[field]; there {
		return ""
	}
	if r.near == nil { // once, since aliases can multiply unknown fields
		r.near = make(map[string]string)
		for _, name := range sortedKeys(r.values) {
			if slices.Contains(r.known, name) {
				continue
			}
			if known := Nearest(name, r.known...); r.near[known] == "" {
				r.near[known] = name
			}
		}
	}
	return r.near[field]
}

// required says what is wrong with a required field.
func (r *fieldReader) required(field string) string {
	value, single := r.values[field]
	_, there := r.nodes[field]
	switch {
	case value != "":
		return invalid(value, notValid)
	case single:
		return r.place(field).cause("empty")
	case there:
		return r.place(field).cause(notSingle)
	}
	return "missing"
}

// unknown reports the unknown fields that no problem names. Those of an entry are warnings: the
// replaced provider ignores them, and classes in use may contain some.
func (r *fieldReader) unknown() {
	for _, name := range sortedKeys(r.values) {
		switch {
		case slices.Contains(r.known, name), slices.Contains(r.named, name):
		case r.work.warnings <= 0 && (!r.inner || len(r.problems) > 0): // one problem refuses the class
		case r.inner:
			r.work.warnings--
			r.notField(name)
		default:
			r.warn(r.place(name), WarnUnknownField, r.where+": "+unquoted(name), r.notKnown(name))
		}
	}
}

// notField adds the problem of an unknown field.
func (r *fieldReader) notField(name string) {
	r.named = append(r.named, name)
	r.problem(r.place(name), r.where+": "+unquoted(name), r.notKnown(name), "use "+strings.Join(r.known, ", "))
}

func (r *fieldReader) notKnown(name string) string {
	if near := Nearest(name, r.known...); near != "" {
		return "is not a field (did you mean " + near + "?)"
	}
	return "is not a field"
}

func unquoted(name string) string { return strings.Trim(quote(name), `"`) }
