package keyvault

import (
	"context"
	"errors"
	"hash/maphash"
	"time"

	"akv-csi-provider/provider/coalesce"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/transport"
)

// key is what callers must have in common to share an answer: each of them has proved by its
// own sign-in that it is the principal.
type key struct {
	Principal
	Object
	unshared uint64 // unique where nothing is shared, else 0
}

// result is what callers share: a value, or that the vault does not have the object. Its absence is
// cached as values are: an optional object that does not exist is not read more often than others.
type result[V any] struct {
	value   V
	missing *fault.Error // ObjectNotFound, in place of the value
	sent    time.Time    // when its request left
}

// size is about what a result takes in memory.
func (x result[V]) size(ofValue func(V) int) int {
	if x.missing != nil {
		return perEntry + perError + len(x.missing.Error())
	}
	return ofValue(x.value)
}

// group makes a group of results.
func group[V any](cfg Config, budget *coalesce.Budget, size func(V) int) *coalesce.Group[key, result[V]] {
	return coalesce.NewIndexed[key](coalesce.Config[result[V]]{
		Timeout: cfg.Timeout, Budget: budget, Now: cfg.Now, Size: func(x result[V]) int { return x.size(size) },
	}, key.sets)
}

// The sets of keys that are forgotten together: all of a principal and a vault, and the versions of one
// object of these.
const (
	ofVault = iota
	ofObject
)

var seed = maphash.MakeSeed()

func (k key) sets() []uint64 {
	type vault struct {
		Principal
		host string
	}
	type object struct {
		vault
		kind request.Type
		name string
	}
	of := vault{k.Principal, k.Host}
	return []uint64{maphash.Comparable(seed, of), maphash.Comparable(seed, object{of, k.Type, k.Name})}
}

// start starts to answer a question, for all callers that may share the answer. The function that it
// returns waits.
//
// The request itself is sent in the function that the group runs, by an SDK client whose
// policies newVault lists.
func start[V any](ctx context.Context, r *Reader, g *coalesce.Group[key, result[V]], caller Caller, q question, fresh Freshness,
	read func(context.Context, Object) (V, error)) func() (result[V], Source, error) {
	k := r.key(caller, q.Object)
	do := func(ctx context.Context, call *coalesce.Call) (result[V], coalesce.Life, error) {
		value, err := read(q.context(ctx, caller, call), q.Object)
		err = q.explain(err)
		r.forgetIfRefused(k, call, err)
		if missing, ok := errors.AsType[*fault.Error](err); ok && missing.Reason == fault.ObjectNotFound {
			return result[V]{missing: missing, sent: call.SentAt()}, r.life(call, caller, r.cfg.CacheTTL), nil
		}
		return result[V]{value: value, sent: call.SentAt()}, r.life(call, caller, max(r.cfg.CacheTTL, r.cfg.StaleIfError)), err
	}
	pending := g.Start(ctx, k, fresh, do)
	return func() (result[V], Source, error) {
		got, source, err := pending.Wait()
		if rejectedForAnother(source, err) {
			got, source, err = g.Do(ctx, k, fresh, do)
		}
		if got.missing != nil {
			return got, source, got.missing
		}
		return got, source, asTimeout(err, q.Object)
	}
}

// rejectedForAnother reports whether a call failed because the vault rejects the token of
// another caller, who made it. This caller's token may be a newer one.
func rejectedForAnother(source Source, err error) bool {
	return source == coalesce.Shared && fault.Is(err, fault.TokenRejected)
}

// stale returns what was read before, for the start of a pod that would fail with err; see
// Config.StaleIfError.
func (r *Reader) stale(caller Caller, o Object, fresh Freshness, err error) (result[Value], bool) {
	if r.cfg.StaleIfError <= 0 || caller.Failover == HasFailover || !fresh.Urgent || !fault.Is(err, fault.Throttled, fault.ServiceUnavailable, fault.Timeout) {
		return result[Value]{}, false
	}
	old, ok := r.values.Cached(r.key(caller, o), r.cfg.Now().Add(-r.cfg.StaleIfError))
	old.value.Stale = true
	return old, ok && old.missing == nil
}

// forgetIfRefused drops all that was read from the vault for the principal, if the error is a
// refusal: it may apply to all objects by now. If the error says that an object is missing or
// disabled, that there is no such vault, or that the request is not valid, it drops all versions
// of the object. What the call itself returns is not dropped.
func (r *Reader) forgetIfRefused(k key, call *coalesce.Call, err error) {
	which := ofObject
	switch {
	case fault.Is(err, fault.AccessDenied, fault.VaultFirewall, fault.WrongTenant, fault.TokenRejected):
		which = ofVault
	case !fault.Is(err, fault.ObjectNotFound, fault.ObjectDisabled, fault.VaultNotFound, fault.VaultRefused):
		return
	}
	r.values.ForgetSet(k, which, call)
	r.listings.ForgetSet(k, which, call)
}

// key returns the key under which the caller shares answers.
func (r *Reader) key(caller Caller, o Object) key {
	k := key{Principal: caller.Principal, Object: o}
	if r.cfg.Unshared {
		k.unshared = r.unshared.Add(1)
	}
	return k
}

// life is how long an answer is cached: not longer than the token that read it.
func (r *Reader) life(call *coalesce.Call, caller Caller, most time.Duration) coalesce.Life {
	if r.cfg.Unshared {
		return coalesce.Life{}
	}
	until := call.SentAt().Add(most)
	if caller.Expires.Before(until) {
		until = caller.Expires
	}
	return coalesce.Life{Until: until}
}

// asTimeout names the vault and the object in the error of a caller whose own time was up.
func asTimeout(err error, o Object) error {
	if errors.Is(err, context.DeadlineExceeded) && !fault.Is(err, fault.Timeout) {
		return networkError(transport.Timeout(o.Host, transport.PhaseRead), o)
	}
	return err
}
