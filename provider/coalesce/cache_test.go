package coalesce_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/coalesce"
)

// ttl is how long answers of these tests may be used.
const ttl = 30 * time.Second

// forTTL is a vault whose answers may be used for the TTL from the end of their call.
func forTTL(value string) *vault {
	return &vault{value: value, life: func() coalesce.Life { return coalesce.Life{Until: time.Now().Add(ttl)} }}
}

// caching changes a group so that it caches within a budget.
func caching(b *coalesce.Budget) func(*coalesce.Config[string]) {
	return func(c *coalesce.Config[string]) {
		c.Budget, c.Size = b, func(v string) int { return len(v) }
	}
}

func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := forTTL("one")
		g := newGroup(caching(coalesce.NewBudget(100)))
		start := time.Now()
		check(t, g, "a", now(), v.get, "one", coalesce.Own)
		v.set("two")
		for range 50 {
			check(t, g, "a", anything(), v.get, "one", coalesce.Cached)
			check(t, g, "a", coalesce.Freshness{NotBefore: start}, v.get, "one", coalesce.Cached)
		}
		v.checkSent(t, 1)
		time.Sleep(ttl - time.Nanosecond)
		check(t, g, "a", anything(), v.get, "one", coalesce.Cached)
		time.Sleep(time.Nanosecond)
		check(t, g, "a", anything(), v.get, "two", coalesce.Own)
		v.checkSent(t, 2)
	})
}

// A first mount sees what is in the vault now, and from then on the others do as well.
func TestCacheIsNoAnswerForFirstMounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := forTTL("one")
		g := newGroup(caching(coalesce.NewBudget(100)))
		check(t, g, "a", now(), v.get, "one", coalesce.Own)
		v.set("two")
		check(t, g, "a", now(), v.get, "two", coalesce.Own)
		check(t, g, "a", anything(), v.get, "two", coalesce.Cached)
	})
}

// Answers that have ended by the time their call ends are not cached, nor are those that
// never may be.
func TestAnswersThatMayNotBeCached(t *testing.T) {
	for name, life := range map[string]func() coalesce.Life{
		"zero":  nil,
		"past":  func() coalesce.Life { return coalesce.Life{Until: time.Now().Add(-time.Second)} },
		"ended": func() coalesce.Life { return coalesce.Life{Until: time.Now()} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := coalesce.NewBudget(100)
				g := newGroup(caching(b))
				v := &vault{value: "one", life: life}
				check(t, g, "a", anything(), v.get, "one", coalesce.Own)
				check(t, g, "a", anything(), v.get, "one", coalesce.Own)
				if _, cached, sweep := g.State(); cached != 0 || sweep {
					t.Errorf("%d cached, sweep %t", cached, sweep)
				}
			})
		})
	}
}

// An answer never replaces one whose request left later, whatever the clock does:
// a volume must not go back to an older version.
func TestOlderAnswersReplaceNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back time.Duration
		v := forTTL("newer")
		g := newGroup(caching(coalesce.NewBudget(100)), func(c *coalesce.Config[string]) {
			c.Now = func() time.Time { return time.Now().Add(-back) }
		})
		check(t, g, "a", now(), v.get, "newer", coalesce.Own)
		back = time.Second
		v.set("older")
		check(t, g, "a", now(), v.get, "older", coalesce.Own)
		check(t, g, "a", anything(), v.get, "newer", coalesce.Cached)
	})
}

// Nor does a cached answer outlive one that is newer but cannot be cached: too large, or
// read with a token that is about to end.
func TestNewerAnswersEndOlderOnes(t *testing.T) {
	for name, newer := range map[string]*vault{
		"has ended": {value: "newer", life: func() coalesce.Life { return coalesce.Life{Until: time.Now()} }},
		"too large": forTTL(strings.Repeat("x", 101)),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := coalesce.NewBudget(100)
				g := newGroup(caching(b))
				check(t, g, "a", now(), forTTL("older").get, "older", coalesce.Own)
				check(t, g, "a", now(), newer.get, newer.value, coalesce.Own)
				if got, ok := g.Cached("a", time.Time{}); ok {
					t.Errorf("got %q", got)
				}
				if left, n := b.Left(); left != 100 || n != 0 {
					t.Errorf("%d left, %d answers", left, n)
				}
			})
		})
	}
}

// Of an error that ends what was read before, nothing stays; of another, all.
func TestEvict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forbidden, unavailable := errors.New("forbidden"), errors.New("unavailable")
		g := newGroup(caching(coalesce.NewBudget(100)), func(c *coalesce.Config[string]) {
			c.Evict = func(err error) bool { return errors.Is(err, forbidden) }
		})
		v := forTTL("one")
		check(t, g, "a", now(), v.get, "one", coalesce.Own)
		check(t, g, "b", now(), v.get, "one", coalesce.Own)
		v.fail(unavailable)
		if _, _, err := g.Do(t.Context(), "a", now(), v.get); err != unavailable {
			t.Errorf("got %v", err)
		}
		check(t, g, "a", anything(), v.get, "one", coalesce.Cached)
		v.fail(forbidden)
		if _, _, err := g.Do(t.Context(), "a", now(), v.get); err != forbidden {
			t.Errorf("got %v", err)
		}
		if _, ok := g.Cached("a", time.Time{}); ok {
			t.Error("still cached")
		}
		if _, _, err := g.Do(t.Context(), "a", anything(), v.get); err != forbidden {
			t.Errorf("got %v", err)
		}
		check(t, g, "b", anything(), v.get, "one", coalesce.Cached) // another key
	})
}

// Cached is for those that decide themselves how old an answer may be.
func TestCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(caching(coalesce.NewBudget(100)))
		v := forTTL("one")
		start := time.Now()
		check(t, g, "a", now(), v.get, "one", coalesce.Own)
		for name, c := range map[string]struct {
			key   string
			since time.Time
			want  string
		}{
			"any age":     {"a", time.Time{}, "one"},
			"sent then":   {"a", start, "one"},
			"sent before": {"a", start.Add(1), ""},
			"another key": {"b", time.Time{}, ""},
		} {
			if got, ok := g.Cached(c.key, c.since); got != c.want || ok != (c.want != "") {
				t.Errorf("%s: got %q, %t", name, got, ok)
			}
		}
		time.Sleep(ttl)
		if got, ok := g.Cached("a", time.Time{}); ok {
			t.Errorf("got %q after its end", got)
		}
		if _, ok := newGroup().Cached("a", time.Time{}); ok {
			t.Error("a group without a budget caches")
		}
	})
}

// sets are the first letter of a key, and the first two.
func sets(key string) []uint64 {
	return []uint64{uint64(key[0]), uint64(key[0])<<8 + uint64(key[1])}
}

func newIndexed(b *coalesce.Budget) *group {
	cfg := coalesce.Config[string]{Timeout: time.Minute}
	caching(b)(&cfg)
	return coalesce.NewIndexed[string](cfg, sets)
}

// Answers of the keys of a set are dropped, and give their part of the budget back; others stay.
func TestForgetSet(t *testing.T) {
	for level, want := range [][]string{{"bx1"}, {"ay1", "bx1"}} {
		synctest.Test(t, func(t *testing.T) {
			b := coalesce.NewBudget(100)
			v := forTTL("1")
			g := newIndexed(b)
			for _, key := range []string{"ax1", "ax2", "ay1", "bx1"} {
				check(t, g, key, anything(), v.get, "1", coalesce.Own)
			}
			g.ForgetSet("ax9", level, nil)
			g.ForgetSet("ax9", level, nil)
			if left, n := b.Left(); left != 100-len(want) || n != len(want) {
				t.Errorf("%d left, %d answers", left, n)
			}
			for _, key := range want {
				check(t, g, key, anything(), nil, "1", coalesce.Cached)
			}
			check(t, g, "ax1", anything(), v.get, "1", coalesce.Own)
			time.Sleep(time.Hour)
			if n, sound := g.Indexed(); n != 0 || !sound {
				t.Errorf("%d sets, sound %t", n, sound)
			}
		})
	}
}

// An answer that was under way is older than the reason to forget. One to a request that left after that
// is not.
func TestForgetSetUnderWay(t *testing.T) {
	for name, tt := range map[string]struct {
		again  bool // the request is sent again after ForgetSet
		itself bool // the call is the reason to forget
		source coalesce.Source
	}{
		"under way":  {false, false, coalesce.Own},
		"sent again": {true, false, coalesce.Cached},
		"the reason": {false, true, coalesce.Cached},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := &vault{value: "one", life: func() coalesce.Life { return coalesce.Life{Until: time.Now().Add(time.Minute)} }}
				g := newIndexed(coalesce.NewBudget(100))
				check(t, g, "aa", anything(), func(ctx context.Context, c *coalesce.Call) (string, coalesce.Life, error) {
					c.Sent()
					by := c
					if !tt.itself {
						by = new(coalesce.Call)
					}
					g.ForgetSet("ab", 0, by)
					if tt.again {
						c.Retrying(errors.New("connection reset"))
						c.Sent()
					}
					c.Answered()
					return "one", v.life(), nil
				}, "one", coalesce.Own)
				check(t, g, "aa", anything(), v.get, "one", tt.source)
			})
		})
	}
}
