package stats_test

import (
	"context"
	"fmt"
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

// The objects that fail are named up to a bound, and all are counted.
func TestFailed(t *testing.T) {
	ctx, count := stats.Begin(t.Context())
	for i := range 300 {
		stats.Failed(ctx, fmt.Sprint("secret/", i))
		stats.Failed(ctx, fmt.Sprint("secret/", i))
	}
	first, all := count.Failures()
	if len(first) != stats.MaxFailed || first[0] != "secret/0" || first[255] != "secret/255" || all != 300 {
		t.Errorf("%d names of %d: %v", len(first), all, first)
	}
}

// Without a count nothing is counted, and nothing breaks.
func TestWithoutCount(t *testing.T) {
	stats.Requested(t.Context())
	stats.Failed(t.Context(), "secret/x")
	stats.Identified(t.Context(), stats.Identity{})
	if m := stats.FromContext(t.Context()); m.ID != 0 || m.Requests.Load() != 0 {
		t.Errorf("there is a count: %d", m.ID)
	}
}
