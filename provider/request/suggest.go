package request

import (
	"slices"
	"strings"
)

// suggest returns the known field that may be meant by an unknown one: the one with the
// smallest edit distance, ignoring case. It returns "" for a known field, and after enough
// suggestions.
func (r *fieldReader) suggest(name string) string {
	if r.work.suggestions <= 0 || slices.Contains(knownFields, name) {
		return ""
	}
	r.work.suggestions--
	to := func(known string) int { return distance(strings.ToLower(name), strings.ToLower(known)) }
	return slices.MinFunc(knownFields, func(a, b string) int { return to(a) - to(b) })
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
