package request

import (
	"strconv"

	"akv-csi-provider/provider/fault"
)

// problems collects everything that is wrong with one request. The texts are one line and
// never contain a token or a secret; field values of the class are quoted and cut.
type problems []fault.Problem

func (p *problems) add(field, cause, fix string) {
	*p = append(*p, fault.Problem{Field: field, Cause: cause, Fix: fix})
}

// quote shows a user's value on one line, cut to a length that is enough to recognize it.
func quote(value string) string {
	const most = 64
	if runes := []rune(value); len(runes) > most {
		value = string(runes[:most]) + "…"
	}
	return strconv.Quote(value)
}
