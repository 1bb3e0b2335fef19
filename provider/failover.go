package provider

import (
	"context"
	"errors"
	"fmt"
	"time"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

// failoverAfter is how long vaults with a failover vault have for all of their answers, so that a
// pod starts within 5 s although they are silent. In a custom cloud, session.scope may wait as long
// before that for the vault that names the token's resource.
const failoverAfter = 4 * time.Second

// failover is what a mount knows of the vaults that have a failover vault.
type failover struct {
	first context.Context // of reads from these vaults; stored, since all of a mount have one deadline
	down  map[string]bool // the hosts of those that were unavailable; no further reads are sent there
}

// withFailover prepares for vaults that have a failover vault, if there are any. Only pods that
// start use it: one that runs keeps its files.
func (s *session) withFailover(ctx context.Context, objects []request.Object) (cancel context.CancelFunc) {
	for i := range objects {
		if s.fresh.Urgent && objects[i].Failover != "" {
			f := &failover{down: make(map[string]bool)}
			f.first, cancel = context.WithTimeout(ctx, failoverAfter)
			s.failover = f
			return cancel
		}
	}
	return func() {}
}

// hostOf is the DNS name of a vault; "" is that of the class.
func (s session) hostOf(vault string) string {
	if vault == "" {
		return s.host
	}
	return s.cloud.VaultHost(vault)
}

// readFrom is the DNS name of the vault that the object is read from: its own or, once that was
// unavailable, its failover vault.
func (s session) readFrom(o *request.Object) string {
	host := s.hostOf(o.Vault)
	if o.Failover != "" && s.failover != nil && s.failover.down[host] {
		return s.hostOf(o.Failover)
	}
	return host
}

// ask starts to read i for the caller at the host, and returns at once.
type ask[T any] func(ctx context.Context, i int, host string, caller keyvault.Caller) (wait func() (T, error))

// readEach is each for reads of objects from their vaults or, where one of these is unavailable,
// from its failover vault. A 401, 403 or 404 of the first one is final. done is called
// with whether the answer is from the failover vault. The errors are by index.
func readEach[T any](ctx context.Context, s session, n, window int, object func(i int) *request.Object, start ask[T], done func(i int, value T, failover bool, err error) error) []error {
	caller := s.caller
	if s.failover == nil {
		return each(ctx, n, window, func(i int) func() (T, error) {
			caller.Optional = object(i).Optional
			return start(ctx, i, s.hostOf(object(i).Vault), caller)
		}, func(i int, value T, err error) error { return done(i, value, false, err) })
	}
	atFailover := make(map[int]bool)
	var again []int
	var causes []error
	fromFailover := func(i int) func() (T, error) {
		caller.Optional, caller.Failover = object(i).Optional, keyvault.IsFailover
		return start(ctx, i, s.hostOf(object(i).Failover), caller)
	}
	errs := each(ctx, n, window, func(i int) func() (T, error) {
		o := object(i)
		host := s.hostOf(o.Vault)
		caller.Optional, caller.Failover = o.Optional, keyvault.NoFailover
		switch {
		case o.Failover == "":
			return start(ctx, i, host, caller)
		case s.failover.down[host]:
			atFailover[i] = true
			return fromFailover(i)
		}
		caller.Failover = keyvault.HasFailover
		return start(s.failover.first, i, host, caller)
	}, func(i int, value T, err error) error {
		if o := object(i); o.Failover != "" && !atFailover[i] && unavailable(ctx, err) {
			s.failover.down[s.hostOf(o.Vault)] = true
			again, causes = append(again, i), append(causes, err)
			return nil
		}
		return done(i, value, atFailover[i], err)
	})
	if fault.Join(errs) != nil {
		return errs
	}
	failed := each(ctx, len(again), window, func(k int) func() (T, error) { return fromFailover(again[k]) }, func(k int, value T, err error) error {
		if err != nil {
			err = fault.Errors{causes[k], err}
		}
		return done(again[k], value, true, err)
	})
	for k, err := range failed {
		errs[again[k]] = err
	}
	return errs
}

// unavailable reports whether a vault did not answer, has failed itself, or throttles.
func unavailable(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false // the mount ends, not its first vaults' time
	}
	return fault.Is(err, fault.ServiceUnavailable, fault.Throttled, fault.Timeout) || errors.Is(err, context.DeadlineExceeded)
}

// failoverWarning is about an object that was read from a failover vault.
func (s session) failoverWarning(o *request.Object) string {
	return fmt.Sprintf("%s is read from %s, since %s is unavailable", o, s.hostOf(o.Failover), s.hostOf(o.Vault))
}
