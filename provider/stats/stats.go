// Package stats collects what each mount costs, as whom it reads, and which objects it fails to
// get. That travels in the context, so that code that knows it does not depend on code that reports it.
package stats

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// Mount is the count of one mount. It is safe for concurrent use.
type Mount struct {
	ID       uint64       // in the log; unique in the process, 1 and up; 0 outside a mount
	Requests atomic.Int32 // to Azure and to the cluster
	Identity atomic.Pointer[Identity]

	// Responses of vaults, lists among them, by their source.
	Read, Shared, Cached, Stale, Failover atomic.Int32

	mu       sync.Mutex // guards what follows
	failed   []string   // the first MaxFailed of the failures
	last     string     // of them
	failures int
}

// MaxFailed bounds the failed objects that a Mount names: a class may contain thousands.
const MaxFailed = 256

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

// FromContext returns the context's count; without one, a count that nothing reads.
func FromContext(ctx context.Context) *Mount {
	if m, ok := ctx.Value(key{}).(*Mount); ok {
		return m
	}
	return new(Mount)
}

// Requested counts a request that is sent under the context.
func Requested(ctx context.Context) { FromContext(ctx).Requests.Add(1) }

// Identified records as whom the context's mount reads.
func Identified(ctx context.Context, id Identity) { FromContext(ctx).Identity.Store(&id) }

// Failed records an object, such as secret/db-password, without which the context's mount fails.
// One that is recorded twice in a row counts once.
func Failed(ctx context.Context, object string) {
	m := FromContext(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last == object {
		return
	}
	m.last = object
	if m.failures++; m.failures <= MaxFailed {
		m.failed = append(m.failed, object)
	}
}

// Failures are the first MaxFailed of the objects that failed, and how many all are.
func (m *Mount) Failures() (first []string, all int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.failed), m.failures
}
