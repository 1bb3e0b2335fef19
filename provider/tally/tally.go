// Package tally counts what each mount costs. The count travels in the context, so that
// those who cause the cost need not know who asks for it.
package tally

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel/trace"
)

// Mount is the count of one mount. A nil Mount counts nothing. It is safe for concurrent
// use.
type Mount struct {
	Requests atomic.Int32 // to Azure and to the cluster

	// Answers of vaults, lists of versions among them, by how they came about.
	Read, Shared, Kept, Stale atomic.Int32

	span trace.SpanContext // of the mount, if it is traced
}

type key struct{}

// Begin returns a context with a count of its own.
func Begin(ctx context.Context) (context.Context, *Mount) {
	m := &Mount{span: trace.SpanContextFromContext(ctx)}
	return context.WithValue(ctx, key{}, m), m
}

// Of returns the context's count, nil if it has none.
func Of(ctx context.Context) *Mount {
	m, _ := ctx.Value(key{}).(*Mount)
	return m
}

// Pay returns a context for work on behalf of several mounts, which this one began: its
// requests are this one's, and so are the spans of its trace. Nothing else of this
// mount's context is in it.
func (m *Mount) Pay(ctx context.Context) context.Context {
	if m == nil {
		return ctx
	}
	ctx = context.WithValue(ctx, key{}, m)
	if m.span.IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, m.span)
	}
	return ctx
}

// Requested counts a request that is sent under the context.
func Requested(ctx context.Context) {
	if m := Of(ctx); m != nil {
		m.Requests.Add(1)
	}
}

// Cost is a count that has ended.
type Cost struct{ Requests, Read, Shared, Kept, Stale int }

// Cost returns what was counted so far.
func (m *Mount) Cost() Cost {
	return Cost{int(m.Requests.Load()), int(m.Read.Load()), int(m.Shared.Load()), int(m.Kept.Load()), int(m.Stale.Load())}
}
