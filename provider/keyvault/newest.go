package keyvault

import (
	"slices"
	"strings"
)

// newest returns the IDs of at most n enabled versions, newest first, from the
// version first on ("" is the latest); none if that is not one of them. Versions
// created within the same second, the unit in which Key Vault tells the time, stay in
// the order in which it lists them.
func newest(all []version, first string, n int) []string {
	enabled := slices.DeleteFunc(slices.Clone(all), func(v version) bool { return !v.enabled })
	slices.SortStableFunc(enabled, func(a, b version) int { return b.created.Compare(a.created) })
	if first != "" {
		i := slices.IndexFunc(enabled, func(v version) bool { return strings.EqualFold(v.id, first) })
		if i < 0 {
			return nil
		}
		enabled = enabled[i:]
	}
	ids := make([]string, min(n, len(enabled)))
	for i := range ids {
		ids[i] = enabled[i].id
	}
	return ids
}
