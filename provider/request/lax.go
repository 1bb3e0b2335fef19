package request

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// LaxKind says which mistake was let pass; the set is closed.
type LaxKind string

// The mistakes that are served as the replaced provider serves them.
const (
	LaxUnknownField  LaxKind = "unknown_field"
	LaxIgnoredFormat LaxKind = "ignored_format"
	LaxDuplicatePath LaxKind = "duplicate_path"
)

// Lax is a mistake in a class that is served all the same, so that moving over
// from the replaced provider breaks no pod. Strict turns it into an error.
type Lax struct {
	Kind  LaxKind
	Field string
	Cause string
}

// Strict returns an *Error naming all lax mistakes of the request, nil without any.
func (m *Mount) Strict() error {
	if len(m.Lax) == 0 {
		return nil
	}
	var e Error
	for _, l := range m.Lax {
		e.add(l.Field, l.Cause, "mend it, or run the provider without --strict-objects")
	}
	return &e
}

func (r *fieldReader) laxly(kind LaxKind, field, cause string) {
	r.lax = append(r.lax, Lax{Kind: kind, Field: r.where + ": " + field, Cause: cause})
}

// checkPaths finds files that cannot stand beside each other. The driver writes
// a map by path, so of equal paths the last one wins silently; and it fails with
// a bare mkdir error where one path is another's directory.
func checkPaths(objects []Object, e *Error) []Lax {
	var lax []Lax
	owner := make(map[string]int, len(objects))
	for i, o := range objects {
		if first, taken := owner[o.Path]; taken {
			lax = append(lax, Lax{
				Kind:  LaxDuplicatePath,
				Field: fmt.Sprintf("objects[%d] %s: objectAlias", i, quote(o.Name)),
				Cause: fmt.Sprintf("%s is also the path of objects[%d] %s; the last one is kept", quote(o.Path), first, quote(objects[first].Name)),
			})
		}
		owner[o.Path] = i
	}
	for i, o := range objects {
		if owner[o.Path] != i {
			continue // looked at once; a long path under many objects costs much
		}
		for dir := parent(o.Path); dir != ""; dir = parent(dir) {
			if other, taken := owner[dir]; taken {
				e.add(fmt.Sprintf("objects[%d] %s: objectAlias", i, quote(o.Name)),
					fmt.Sprintf("%s lies below the file of objects[%d] %s", quote(o.Path), other, quote(objects[other].Name)),
					"a path cannot be a file and a directory")
			}
		}
	}
	return lax
}

// parent is the directory part of a clean relative path; "" at the top.
func parent(path string) string {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)]
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
