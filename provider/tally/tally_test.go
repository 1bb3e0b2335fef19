package tally_test

import (
	"context"
	"testing"

	"akv-csi-provider/provider/tally"

	"go.opentelemetry.io/otel/trace"
)

// Work that a mount begins for several is on its bill, and on nobody else's.
func TestPay(t *testing.T) {
	type own struct{}
	first, bill := tally.Begin(context.WithValue(t.Context(), own{}, "the first mount's"))
	second, other := tally.Begin(t.Context())
	work := tally.Of(first).Pay(context.Background())
	tally.Requested(work)
	tally.Requested(work)
	tally.Requested(second)
	if got := bill.Cost(); got != (tally.Cost{Requests: 2}) {
		t.Errorf("the first: got %+v", got)
	}
	if got := other.Cost(); got != (tally.Cost{Requests: 1}) {
		t.Errorf("the second: got %+v", got)
	}
	if work.Value(own{}) != nil {
		t.Error("the work has something of the mount's context")
	}
}

// Without a count nothing is counted, and nothing breaks.
func TestWithout(t *testing.T) {
	tally.Requested(t.Context())
	if ctx := tally.Of(t.Context()).Pay(t.Context()); tally.Of(ctx) != nil {
		t.Error("there is a count")
	}
}

// Work for several belongs to the trace of the mount that began it.
func TestTrace(t *testing.T) {
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	_, m := tally.Begin(trace.ContextWithSpanContext(t.Context(), span))
	if got := trace.SpanContextFromContext(m.Pay(t.Context())); !got.Equal(span) {
		t.Errorf("got %v", got)
	}
	_, m = tally.Begin(t.Context())
	if got := trace.SpanContextFromContext(m.Pay(t.Context())); got.IsValid() {
		t.Errorf("without a trace: got %v", got)
	}
}
