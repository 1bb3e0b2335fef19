// Package stats collects what each mount costs, and as whom it reads. That travels in the
// context, so that code that knows it does not depend on code that reports it.
package stats

import (
	"context"
	"sync/atomic"
)

// Mount is the count of one mount. A nil Mount counts nothing. It is safe for concurrent
// use.
type Mount struct {
	ID       uint64       // in the log; unique in the process, 1 and up
	Requests atomic.Int32 // to Azure and to the cluster
	Identity atomic.Pointer[Identity]

	// Responses of vaults, lists among them, by their source.
	Read, Shared, Cached, Stale, Failover atomic.Int32
}

// Identity is as whom a mount reads. None of it is secret.
type Identity struct{ Mode, ClientID, TenantID string }

type key struct{}

var last atomic.Uint64 // ID

// Begin returns a context with its own count. Work that this mount starts on behalf of
// several keeps the context's values, and so is counted for this one.
func Begin(ctx context.Context) (context.Context, *Mount) {
	m := &Mount{ID: last.Add(1)}
	return context.WithValue(ctx, key{}, m), m
}

// FromContext returns the context's count, nil if it has none.
func FromContext(ctx context.Context) *Mount {
	m, _ := ctx.Value(key{}).(*Mount)
	return m
}

// Requested counts a request that is sent under the context.
func Requested(ctx context.Context) {
	if m := FromContext(ctx); m != nil {
		m.Requests.Add(1)
	}
}

// Identified records as whom the context's mount reads.
func Identified(ctx context.Context, id Identity) {
	if m := FromContext(ctx); m != nil {
		m.Identity.Store(&id)
	}
}

// IDOf is the ID of the context's mount; 0 if it has none.
func IDOf(ctx context.Context) uint64 {
	if m := FromContext(ctx); m != nil {
		return m.ID
	}
	return 0
}
