package provider

import (
	"context"
	"errors"
	"strings"

	"akv-csi-provider/provider/keyvault"
)

// Failures are the errors of the objects of one mount, in the order of the
// objects; those with one cause are told as one.
type Failures []error

// Error implements error.
func (f Failures) Error() string {
	texts := make([]string, len(f))
	for i, err := range f {
		texts[i] = err.Error()
	}
	return strings.Join(texts, " | ")
}

// Unwrap lets errors.Is and errors.As look into each.
func (f Failures) Unwrap() []error { return f }

// join returns nil without errors, a lone error as it is, and else Failures.
func join(errs []error) error {
	var all Failures
	for _, err := range errs {
		if err != nil && !all.absorb(err) {
			all = append(all, err)
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return all
}

// absorb adds the error to one of the same cause, if there is any.
func (f Failures) absorb(err error) bool {
	var vault, other *keyvault.Error
	isVault := errors.As(err, &vault)
	for i, known := range f {
		if isVault && errors.As(known, &other) {
			if merged, same := other.Merge(vault); same {
				f[i] = merged
				return true
			}
		}
		if errors.Is(err, context.Canceled) && errors.Is(known, context.Canceled) {
			return true
		}
	}
	return false
}
