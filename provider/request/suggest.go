package request

import "strings"

// nearest finds the known name with the smallest edit distance, ignoring case.
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
