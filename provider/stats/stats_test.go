package stats_test

import (
	"context"
	"testing"

	"akv-csi-provider/provider/stats"
)

// A request counts for the mount under whose context it is sent, also in work that outlives
// the mount.
func TestRequested(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	first, count := stats.Begin(ctx)
	second, other := stats.Begin(t.Context())
	shared := context.WithoutCancel(first)
	cancel()
	stats.Requested(shared)
	stats.Requested(shared)
	stats.Requested(second)
	if a, b := count.Requests.Load(), other.Requests.Load(); a != 2 || b != 1 {
		t.Errorf("got %d and %d requests", a, b)
	}
	if shared.Err() != nil {
		t.Error("the work ended with the mount")
	}
}

// Without a count nothing is counted, and nothing breaks.
func TestWithoutCount(t *testing.T) {
	stats.Requested(t.Context())
	if stats.FromContext(t.Context()) != nil {
		t.Error("there is a count")
	}
}
