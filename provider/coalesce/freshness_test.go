package coalesce_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/coalesce"
)

// A caller that comes after one second joins the call that runs if its answer is fresh
// enough, which depends on what the call has done until then.
func TestJoin(t *testing.T) {
	failed := errors.New("failed")
	second := func() { time.Sleep(time.Second) }
	for name, c := range map[string]struct {
		before  func(*coalesce.Call) // takes up to a second; then the caller comes
		after   func(*coalesce.Call)
		joins   bool // a caller that needs a request from now on
		rotates bool // one that needs a request from half a second ago
	}{
		"not sent yet": {func(*coalesce.Call) { second() }, (*coalesce.Call).Sent, true, true},
		"sent before":  {func(c *coalesce.Call) { c.Sent(); second() }, nil, false, false},
		"sent a moment ago": {func(c *coalesce.Call) { time.Sleep(time.Second * 3 / 4); c.Sent(); time.Sleep(time.Second / 4) },
			nil, false, true},
		"sent now":             {func(c *coalesce.Call) { second(); c.Sent() }, nil, true, true},
		"waits for a place":    {func(c *coalesce.Call) { c.Retrying(failed); second() }, (*coalesce.Call).Sent, true, true},
		"waits for a retry":    {func(c *coalesce.Call) { c.Sent(); c.Retrying(failed); second() }, (*coalesce.Call).Sent, true, true},
		"retries":              {func(c *coalesce.Call) { c.Sent(); c.Retrying(failed); c.Sent(); second() }, nil, false, false},
		"retries now":          {func(c *coalesce.Call) { c.Sent(); c.Retrying(failed); second(); c.Sent() }, nil, true, true},
		"has the first page":   {func(c *coalesce.Call) { c.Sent(); c.Answered(); second() }, (*coalesce.Call).Sent, false, false},
		"reads the next page":  {func(c *coalesce.Call) { c.Sent(); c.Answered(); second(); c.Sent() }, nil, false, false},
		"retries a later page": {func(c *coalesce.Call) { c.Sent(); c.Answered(); c.Sent(); c.Retrying(failed); second() }, (*coalesce.Call).Sent, false, false},
		"retried the first page": {func(c *coalesce.Call) { c.Sent(); c.Retrying(failed); second(); c.Sent(); c.Answered() },
			(*coalesce.Call).Sent, true, true},
	} {
		for caller, joins := range map[string]bool{"first mount": c.joins, "rotation": c.rotates, "anything": true} {
			t.Run(name+", "+caller, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := newGroup()
					var callers sync.WaitGroup
					callers.Go(func() {
						check(t, g, "a", now(), func(_ context.Context, call *coalesce.Call) (string, coalesce.Life, error) {
							c.before(call)
							time.Sleep(time.Millisecond)
							if c.after != nil {
								c.after(call)
							}
							time.Sleep(time.Second)
							return "one", coalesce.Life{}, nil
						}, "one", coalesce.Own)
					})
					time.Sleep(time.Second)
					synctest.Wait()
					want := now()
					switch caller {
					case "rotation":
						want.NotBefore = want.NotBefore.Add(-time.Second / 2)
					case "anything":
						want = anything()
					}
					value, source := "two", coalesce.Own
					if joins {
						value, source = "one", coalesce.Shared
					}
					check(t, g, "a", want, (&vault{value: "two"}).get, value, source)
					callers.Wait()
				})
			})
		}
	}
}

// An answer is as old as the request of which it is the answer.
func TestSentAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		start := time.Now()
		_, _, err := g.Do(t.Context(), "a", anything(), func(_ context.Context, c *coalesce.Call) (string, coalesce.Life, error) {
			step := func(what string, report func(), want time.Duration) {
				time.Sleep(time.Second)
				report()
				if got := c.SentAt().Sub(start); got != want {
					t.Errorf("%s: sent at %v, want %v", what, got, want)
				}
			}
			if !c.SentAt().IsZero() {
				t.Errorf("sent at %v", c.SentAt())
			}
			step("sent", c.Sent, time.Second)
			step("retrying", func() { c.Retrying(errors.New("failed")) }, time.Second)
			step("sent again", c.Sent, 3*time.Second)
			step("answered", c.Answered, 3*time.Second)
			step("next page", c.Sent, 3*time.Second)
			step("retrying the page", func() { c.Retrying(errors.New("failed")) }, 3*time.Second)
			step("page sent again", c.Sent, 3*time.Second)
			return "", coalesce.Life{}, nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// A call becomes urgent with the first caller for which a pod waits, also while it runs or
// waits for its start.
func TestUrgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		var first, second *coalesce.Call
		hold := make(chan struct{})
		holding := func(to **coalesce.Call) do {
			return func(_ context.Context, c *coalesce.Call) (string, coalesce.Life, error) {
				*to = c
				c.Sent()
				<-hold
				return "", coalesce.Life{}, nil
			}
		}
		var callers sync.WaitGroup
		call := func(want coalesce.Freshness, f do) {
			callers.Go(func() { _, _, _ = g.Do(t.Context(), "a", want, f) })
			synctest.Wait()
		}
		call(anything(), holding(&first))
		if first.Urgent() {
			t.Error("a rotation is urgent")
		}
		time.Sleep(time.Second)
		fresh := now()
		call(fresh, holding(&second)) // waits for its start
		call(coalesce.Freshness{NotBefore: fresh.NotBefore, Urgent: true}, nil)
		call(fresh, nil)
		if first.Urgent() {
			t.Error("urgent for a caller of the next call")
		}
		call(coalesce.Freshness{Urgent: true}, nil)
		if !first.Urgent() {
			t.Error("not urgent")
		}
		hold <- struct{}{}
		synctest.Wait()
		if !second.Urgent() {
			t.Error("the next call is not urgent")
		}
		close(hold)
		callers.Wait()
		checkIdle(t, g)
	})
}
