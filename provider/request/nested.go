package request

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

func (r *fieldReader) boolean(field string) bool {
	text := r.values[field]
	if text == "" {
		return false
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		r.wrong(field, invalid(text, "is not a boolean"), "use true or false")
	}
	return b
}

// choice reads a field that has one of some words.
func choice[T ~string](r *fieldReader, field string, words ...T) T {
	value := r.values[field]
	all := make([]string, len(words))
	for i, word := range words {
		if all[i] = string(word); all[i] == value {
			return word
		}
	}
	fix := "use one of " + strings.Join(all, ", ")
	if near := Nearest(value, all...); near != "" {
		fix = "did you mean " + near + "? " + fix
	}
	r.lacks(field, fix)
	return ""
}

// nested returns a reader of a mapping in the entry, or nil with a problem.
func (r *fieldReader) nested(node *yaml.Node, where string, known ...string) *fieldReader {
	f := &fieldReader{objectsReader: r.objectsReader, inner: true, known: known, where: r.where + ": " + where, entry: place{r.entry.doc, node}}
	inner := resolve(node)
	if inner.Kind != yaml.MappingNode {
		cause := "not a mapping of fields"
		if inner.Tag == "!!null" {
			cause = "empty"
		}
		r.problem(f.entry, f.where, f.entry.cause(cause), "use "+strings.Join(known, ", "))
		return nil
	}
	f.entry.node = inner
	if !f.decode() {
		return nil
	}
	return f
}

// eachNested reads a list of mappings.
func (r *fieldReader) eachNested(field string, most int, known []string, read func(*fieldReader)) {
	node := r.nodes[field]
	list := resolve(&node)
	fix := "use a list of mappings with " + strings.Join(known, ", ")
	switch {
	case list.Kind != yaml.SequenceNode:
		r.wrong(field, r.place(field).cause("not a list"), fix)
		return
	case len(list.Content) == 0:
		r.wrong(field, "empty", fix)
		return
	case len(list.Content) > most:
		r.wrong(field, fmt.Sprintf("%d entries", len(list.Content)), fmt.Sprintf("use at most %d", most))
		return
	}
	if !r.take(len(list.Content)) {
		return
	}
	for i, n := range list.Content {
		if f := r.nested(n, fmt.Sprintf("%s[%d]", field, i), known...); f != nil {
			read(f)
			f.unknown()
		}
	}
}

// modeOf is the permission of a piece: that of its entry if it has none.
func (r *fieldReader) modeOf(o *Object) fs.FileMode {
	if r.values["filePermission"] == "" {
		return o.Mode
	}
	return r.permission(r.values["filePermission"])
}
