package provider

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ReasonTooLarge is the reason of a TooLargeError.
const ReasonTooLarge = "TooLarge"

// TooLargeError says that a volume is more than the driver would take.
type TooLargeError struct {
	size, limit int
	largest     []string
}

// NewTooLargeError makes the error of a volume of size bytes; sizes are those of
// its parts, by a name for messages.
func NewTooLargeError(size, limit int, sizes map[string]int) *TooLargeError {
	names := slices.SortedFunc(maps.Keys(sizes), func(a, b string) int {
		return cmp.Or(cmp.Compare(sizes[b], sizes[a]), cmp.Compare(a, b))
	})
	e := &TooLargeError{size: size, limit: limit}
	for _, name := range names[:min(len(names), 3)] {
		e.largest = append(e.largest, fmt.Sprintf("%s (%d bytes)", name, sizes[name]))
	}
	return e
}

// Error implements error. Its text is one line.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the volume takes %d bytes, more than %d; the largest parts are %s; mount fewer objects,"+
		" or raise --max-response-bytes of the provider and --max-call-recv-msg-size of the CSI driver",
		e.size, e.limit, strings.Join(e.largest, ", "))
}

// Reason is the stable word users search for.
func (e *TooLargeError) Reason() string { return ReasonTooLarge }
