package request

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// LaxKind says which mistake was let pass; the set is closed.
type LaxKind string

// The mistakes that are served as the replaced provider serves them.
const (
	LaxUnknownField  LaxKind = "unknown_field"
	LaxIgnoredFormat LaxKind = "ignored_format"
	LaxDuplicatePath LaxKind = "duplicate_path"
	LaxEmptyHistory  LaxKind = "empty_history" // known only after the versions were read
)

// Lax is a mistake in a class that is served all the same, so that moving over
// from the replaced provider breaks no pod. Strict turns it into an error.
type Lax struct {
	Kind  LaxKind
	Field string
	Cause string
}

// Strict returns an *Error that names all of the mistakes, nil without any.
func Strict(mistakes []Lax) error {
	if len(mistakes) == 0 {
		return nil
	}
	var e Error
	for _, l := range mistakes {
		e.add(l.Field, l.Cause, "mend it, or run the provider without --strict-objects")
	}
	return &e
}

func (r *fieldReader) laxly(kind LaxKind, field, cause string) {
	if r.work.lax <= 0 {
		return // enough are told
	}
	r.work.lax--
	r.lax = append(r.lax, Lax{Kind: kind, Field: r.where + ": " + field, Cause: cause})
}

// checkPaths finds files that cannot stand beside each other. The driver writes
// a map by path, so of equal paths the last one wins silently; and it fails with
// a bare mkdir error where one path is another's directory.
//
// How many versions a history will have is not known here: its first stands for
// them, and the others count where an object names one of them.
func checkPaths(objects []Object, e *Error) []Lax {
	var lax []Lax
	owner := make(map[string]int, len(objects))
	twice := func(i, first int) {
		lax = append(lax, Lax{
			Kind:  LaxDuplicatePath,
			Field: fmt.Sprintf("objects[%d] %s: objectAlias", i, quote(objects[i].Name)),
			Cause: fmt.Sprintf("%s is also the path of objects[%d] %s; the last one is kept", quote(objects[i].firstPath()), first, quote(objects[first].Name)),
		})
	}
	histories := make(map[string]int)
	for i, o := range objects {
		if first, taken := owner[o.firstPath()]; taken {
			twice(i, first)
		}
		owner[o.firstPath()] = i
		if o.History > 1 {
			histories[o.Path] = i
		}
	}
	for i, o := range objects {
		if owner[o.firstPath()] != i {
			continue // looked at once; a long path under many objects costs much
		}
		if of, ok := histories[parent(o.Path)]; ok && o.History == 1 && isIndex(path.Base(o.Path), objects[of].History) {
			twice(i, of)
		}
		for dir := parent(o.firstPath()); dir != ""; dir = parent(dir) {
			if other, taken := owner[dir]; taken {
				e.add(fmt.Sprintf("objects[%d] %s: objectAlias", i, quote(o.Name)),
					fmt.Sprintf("%s lies below the file of objects[%d] %s", quote(o.firstPath()), other, quote(objects[other].Name)),
					"a path cannot be a file and a directory")
			}
		}
	}
	return lax
}

// firstPath is the path of the object's only or newest version.
func (o Object) firstPath() string {
	if o.History > 1 {
		return o.Of(0, "").Path
	}
	return o.Path
}

// isIndex reports whether the text is an index of the second or a later of n
// versions.
func isIndex(text string, n int) bool {
	i, err := strconv.Atoi(text)
	return err == nil && i > 0 && i < n && strconv.Itoa(i) == text
}

// parent is the directory part of a clean relative path; "" at the top.
func parent(p string) string {
	i := strings.LastIndexByte(p, '/')
	return p[:max(i, 0)]
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// nearest finds the known name with the smallest edit distance, letter case aside.
func nearest(name string, known []string) (near string) {
	best := -1
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); best < 0 || d < best {
			near, best = k, d
		}
	}
	return near
}

// distance is the Levenshtein distance in bytes; long names are cut, they are
// near to nothing.
func distance(a, b string) int {
	a = a[:min(len(a), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
