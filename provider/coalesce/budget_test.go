package coalesce_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/coalesce"
)

// Groups that share a budget evict for each other, in the order in which their answers
// were used.
func TestBudgetIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := coalesce.NewBudget(30)
		values := newGroup(caching(b))
		lists := coalesce.New[int](coalesce.Config[[]byte]{Timeout: time.Minute, Budget: b, Size: func(v []byte) int { return len(v) }})
		put := func(key string, size int) {
			t.Helper()
			v := forTTL(strings.Repeat("x", size))
			check(t, values, key, now(), v.get, v.value, coalesce.Own)
		}
		list := func(key, size int) {
			_, _, err := lists.Do(t.Context(), key, now(), func(context.Context, *coalesce.Call) ([]byte, coalesce.Life, error) {
				return make([]byte, size), coalesce.Life{Until: time.Now().Add(ttl)}, nil
			})
			if err != nil {
				t.Error(err)
			}
		}
		var sets int
		want := func(left int, keys ...string) {
			t.Helper()
			sets++
			var got []string
			for _, key := range []string{"a", "b", "c", "d"} {
				if _, ok := values.Cached(key, time.Time{}); ok {
					got = append(got, key)
				}
			}
			for key := range 3 {
				if _, ok := lists.Cached(key, time.Time{}); ok {
					got = append(got, fmt.Sprint(key))
				}
			}
			if now, n := b.Left(); fmt.Sprint(got) != fmt.Sprint(keys) || now != left || n != len(keys) {
				t.Errorf("step %d: %d answers, %q are cached, %d left, want %q, %d", sets, n, got, now, keys, left)
			}
		}
		put("a", 10)
		list(0, 10)
		put("b", 10)
		want(0, "a", "b", "0")
		check(t, values, "a", anything(), nil, strings.Repeat("x", 10), coalesce.Cached) // used
		put("c", 5)
		want(5, "a", "b", "c")
		list(1, 11)
		want(4, "a", "c", "1")
		put("c", 9) // replaces itself
		want(0, "a", "c", "1")
		put("d", 31) // larger than the budget: costs the others nothing
		want(0, "a", "c", "1")
		put("a", 31)
		want(10, "c", "1")
		list(2, 30)
		want(0, "2")
		time.Sleep(2 * time.Minute)
		want(30)
	})
}

// Without a Size each answer counts as one.
func TestSizeIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := coalesce.NewBudget(3)
		g := newGroup(func(c *coalesce.Config[string]) { c.Budget = b })
		for i := range 10 {
			check(t, g, fmt.Sprint(i), now(), forTTL("one").get, "one", coalesce.Own)
		}
		if _, cached, _ := g.State(); cached != 3 {
			t.Errorf("%d are cached", cached)
		}
		if entries, used := b.Usage(); entries != 3 || used != 3 {
			t.Errorf("%d entries, %d used", entries, used)
		}
		check(t, g, "9", anything(), nil, "one", coalesce.Cached)
	})
}

// Answers that are not used leave the memory, and those that have ended; then nothing runs
// any more.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := coalesce.NewBudget(100)
		g := newGroup(caching(b), func(c *coalesce.Config[string]) { c.Idle = 10 * time.Minute })
		for key, life := range map[string]time.Duration{"idle": time.Hour, "used": time.Hour, "short": 90 * time.Second} {
			v := &vault{value: "one", life: func() coalesce.Life { return coalesce.Life{Until: time.Now().Add(life)} }}
			check(t, g, key, now(), v.get, "one", coalesce.Own)
		}
		for minute := 1; minute <= 20; minute++ {
			time.Sleep(time.Minute)
			check(t, g, "used", anything(), nil, "one", coalesce.Cached)
			synctest.Wait()
			want := 3
			if minute > 2 {
				want-- // the short one
			}
			if minute > 11 {
				want--
			}
			if _, cached, sweep := g.State(); minute != 2 && minute != 10 && minute != 11 && cached != want || !sweep {
				t.Errorf("minute %d: %d are cached, want %d; sweep %t", minute, cached, want, sweep)
			}
		}
		if _, ok := g.Cached("used", time.Time{}); !ok { // which is no use
			t.Error("the one that is used is not cached")
		}
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if _, cached, sweep := g.State(); cached != 0 || sweep {
			t.Errorf("%d are cached; sweep %t", cached, sweep)
		}
		if left, n := b.Left(); left != 100 || n != 0 {
			t.Errorf("%d left, %d answers", left, n)
		}
		v := forTTL("one") // and again
		check(t, g, "a", now(), v.get, "one", coalesce.Own)
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, cached, sweep := g.State(); cached != 0 || sweep {
			t.Errorf("%d are cached; sweep %t", cached, sweep)
		}
	})
}
