package provider

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"akv-csi-provider/provider/fault"
)

// TooLarge is the error of a volume of size bytes, more than the driver accepts; sizes are
// those of its parts, by a name for the message.
func TooLarge(size, limit int, sizes map[string]int) *fault.Error {
	names := slices.SortedFunc(maps.Keys(sizes), func(a, b string) int {
		return cmp.Or(cmp.Compare(sizes[b], sizes[a]), cmp.Compare(a, b))
	})
	var largest []string
	for _, name := range names[:min(len(names), 3)] {
		largest = append(largest, fmt.Sprintf("%s (%d bytes)", name, sizes[name]))
	}
	return &fault.Error{Reason: fault.TooLarge,
		Cause: fmt.Sprintf("the volume is %d bytes, over the limit of %d; the largest parts are %s", size, limit, strings.Join(largest, ", ")),
		Fix: "mount fewer objects; or, cluster operator: raise --max-response-bytes" +
			" and the driver's --max-call-recv-msg-size"}
}
