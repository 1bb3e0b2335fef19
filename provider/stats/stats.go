// Package stats counts what each mount costs. The count travels in the context, so that
// code that causes a cost does not depend on code that reports it.
package stats

import (
	"context"
	"sync/atomic"
)

// Mount is the count of one mount. A nil Mount counts nothing. It is safe for concurrent
// use.
type Mount struct {
	Requests atomic.Int32 // to Azure and to the cluster

	// Responses of vaults, lists among them, by their source.
	Read, Shared, Cached, Stale, Failover atomic.Int32
}

type key struct{}

// Begin returns a context with a count of its own. Work that this mount starts on behalf of
// several keeps the context's values, and so is counted for this one.
func Begin(ctx context.Context) (context.Context, *Mount) {
	m := new(Mount)
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
