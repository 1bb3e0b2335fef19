package provider

import (
	"context"
	"errors"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
)

// suggest improves the errors of items whose objects are missing or disabled by what else the vaults
// have under their names. It does so in parallel, and for as many as a message names, the first ones:
// each may take two more requests, and the message must be the same at the next retry.
func (s session) suggest(ctx context.Context, items []item, errs []error) {
	var which []int
	for i, err := range errs {
		if len(which) < fault.MaxNamed && fault.Is(err, fault.ObjectNotFound, fault.ObjectDisabled) {
			which = append(which, i)
		}
	}
	failed := each(ctx, len(which), s.MaxConcurrency, func(k int) func() (error, error) {
		o := &items[which[k]].Object
		better := s.Vaults.Suggest(ctx, s.caller, keyvault.Object{Host: s.readFrom(o), Type: o.Type, Name: o.Name, Version: o.Version}, errs[which[k]])
		return func() (error, error) { return better(), nil }
	}, func(k int, better, _ error) error {
		errs[which[k]] = better
		return nil
	})
	for k, err := range failed {
		if errors.As(err, new(*fault.Panic)) {
			errs[which[k]] = err
		}
	}
}
