package provider

import (
	"context"
	"errors"
	"slices"
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

// failedFor reports whether one of the failures of a mount has the reason.
func failedFor(err error, reason string) bool {
	failures, several := errors.AsType[Failures](err)
	if !several {
		failures = Failures{err}
	}
	return slices.ContainsFunc(failures, func(err error) bool {
		vault, ok := errors.AsType[*keyvault.Error](err)
		return ok && vault.Reason() == reason
	})
}

// join returns nil without errors, a lone error as it is, and else Failures.
func join(errs []error) error {
	var all Failures
	at := make(map[any]int) // places in all, by cause
	objects := make(map[int][]keyvault.Object)
	for i, err := range errs {
		if err == nil {
			continue
		}
		var vault *keyvault.Error
		var cause any = i // one of its own
		switch {
		case errors.As(err, &vault):
			cause = vault.Cause()
		case errors.Is(err, context.Canceled):
			cause = context.Canceled
		}
		place, known := at[cause]
		if !known {
			place = len(all)
			at[cause], all = place, append(all, err)
		}
		if vault != nil {
			objects[place] = append(objects[place], vault.Objects...)
		}
	}
	for place, named := range objects {
		var vault *keyvault.Error
		if errors.As(all[place], &vault) && len(named) > 1 {
			all[place] = vault.Of(unique(named))
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

// unique keeps the first of equal objects, in order.
func unique(objects []keyvault.Object) []keyvault.Object {
	seen := make(map[keyvault.Object]bool, len(objects))
	return slices.DeleteFunc(objects, func(o keyvault.Object) bool {
		known := seen[o]
		seen[o] = true
		return known
	})
}
