package keyvault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"akv-csi-provider/provider/coalesce"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/throttle"
)

// Bounds of the search for the type under which a missing object exists. kubelet retries the
// mount as long as the object is missing.
const (
	suggestEvery   = 10 * time.Minute
	maxSuggestions = 1024 // in that time
)

// Suggest starts to improve the error of a missing object by the other type under which its name
// exists, and that of a disabled secret by whether it waits for its certificate. Both only if the
// caller may read that object: what one principal may see is not revealed to another. The function
// that it returns waits, and returns the improved error or err itself; call it exactly once.
//
// It reads at most once in suggestEvery for each object and principal: what is found is never evicted,
// as nothing more is looked for once it is maxSuggestions.
func (r *Reader) Suggest(ctx context.Context, caller Caller, o Object, err error) func() error {
	unchanged := func() error { return err }
	v, vaultErr := r.vault(o.Host)
	failed, ok := errors.AsType[*fault.Error](err)
	if vaultErr != nil || !ok {
		return unchanged
	}
	missing := failed.Reason == fault.ObjectNotFound
	search, name := v.otherType, Object{Host: o.Host, Type: o.Type, Name: o.Name}
	if !missing {
		search, name = v.notIssued, o
	}
	if !missing && (failed.Reason != fault.ObjectDisabled || o.Type != request.TypeSecret) {
		return unchanged
	}
	k := key{Principal: caller.Principal, Object: name}
	running := r.suggesting.Add(1)
	if _, known := r.suggestions.Cached(k, time.Time{}); !known {
		if cached, _ := r.suggested.Usage(); int64(cached)+running > maxSuggestions {
			r.suggesting.Add(-1)
			return unchanged
		}
	}
	pending := r.suggestions.Start(ctx, k, Freshness{}, func(ctx context.Context, call *coalesce.Call) (request.Type, coalesce.Life, error) {
		start := r.cfg.Now()
		found := search(throttle.WithTrace(withCaller(ctx, caller), call, nil), name)
		return found, coalesce.Life{Until: start.Add(suggestEvery)}, ctx.Err()
	})
	return func() error {
		defer r.suggesting.Add(-1)
		found, _, searchErr := pending.Wait()
		switch {
		case errors.As(searchErr, new(*fault.Panic)):
			return searchErr
		case searchErr != nil || found == "":
			return err
		case !missing:
			q := question{o, caller.Principal, accessGet}
			return q.notIssued("{objects} in %s is disabled: its certificate is not issued yet")
		}
		better := *failed // which may be shared
		better.Fix = fmt.Sprintf("a %s of that name exists: set objectType to %s, or check objectName", found.Word(), found)
		if o.Version != "" {
			better.Fix += " and objectVersion"
		}
		return &better
	}
}

// otherType finds the type under which the name exists; "" if there is none, whatever the
// reason. A certificate is looked for first: Key Vault stores a key and a secret of the same
// name with it.
func (v *vault) otherType(ctx context.Context, o Object) request.Type {
	for _, t := range []request.Type{request.TypeCert, request.TypeSecret, request.TypeKey} {
		if t == o.Type {
			continue
		}
		if _, err := v.get(ctx, Object{Host: o.Host, Type: t, Name: o.Name}); err == nil {
			return t
		}
	}
	return ""
}

// notIssued is TypeCert if the secret is of a certificate that is not issued, else "".
func (v *vault) notIssued(ctx context.Context, o Object) request.Type {
	o.Type = request.TypeCert
	if _, err := v.get(ctx, o); !errors.Is(err, errNotIssued) {
		return ""
	}
	return o.Type
}
