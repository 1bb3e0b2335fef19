package coalesce_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"akv-csi-provider/provider/coalesce"
)

// What a rotation costs that is answered from the cache.
func BenchmarkCached(b *testing.B) {
	g := newGroup(caching(coalesce.NewBudget(100)))
	answer := func(context.Context, *coalesce.Call) (string, coalesce.Life, error) {
		return "one", coalesce.Life{Until: time.Now().Add(time.Hour)}, nil
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := g.Do(b.Context(), "a", anything(), answer); err != nil {
			b.Fatal(err)
		}
	}
}

// What one caller's call costs beside its requests.
func BenchmarkCall(b *testing.B) {
	for name, g := range map[string]*group{"uncached": newGroup(), "to be cached": newGroup(caching(coalesce.NewBudget(100)))} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _, err := g.Do(b.Context(), "a", now(), func(_ context.Context, c *coalesce.Call) (string, coalesce.Life, error) {
					c.Sent()
					c.Answered()
					return "one", coalesce.Life{Until: time.Now().Add(time.Hour)}, nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What it costs to forget the answers of one key among those that a budget of 16 MiB has room for.
func BenchmarkForgetSet(b *testing.B) {
	g := newIndexed(coalesce.NewBudget(1 << 20))
	for i := range 32_704 {
		_, _, _ = g.Do(b.Context(), fmt.Sprint("a", i), now(), func(context.Context, *coalesce.Call) (string, coalesce.Life, error) {
			return "one", coalesce.Life{Until: time.Now().Add(time.Hour)}, nil
		})
	}
	b.ReportAllocs()
	for b.Loop() {
		g.ForgetSet("b0", 1, nil)
	}
}
