package coalesce_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/coalesce"
	"akv-csi-provider/provider/fault"
)

func TestCallersShareACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vault{value: "one"}
		g := newGroup()
		var callers sync.WaitGroup
		want := now()
		callers.Go(func() { check(t, g, "a", want, v.get, "one", coalesce.Own) })
		synctest.Wait()
		for range 20 {
			callers.Go(func() { check(t, g, "a", want, v.get, "one", coalesce.Shared) })
		}
		callers.Wait()
		v.checkSent(t, 1)
		check(t, g, "a", anything(), v.get, "one", coalesce.Own) // nothing is cached
		v.checkSent(t, 2)
		checkIdle(t, g)
	})
}

func TestKeysDoNotShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		var callers sync.WaitGroup
		start := time.Now()
		for _, key := range []string{"a", "b", "c"} {
			callers.Go(func() { check(t, g, key, now(), (&vault{value: key}).get, key, coalesce.Own) })
		}
		callers.Wait()
		if took := time.Since(start); took != latency {
			t.Errorf("took %v", took)
		}
	})
}

// A request that left before a caller came does not answer it. Of any number of callers,
// one call runs and one waits for its end.
func TestOneRunsAndOneWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vault{value: "one"}
		g := newGroup()
		var callers sync.WaitGroup
		callers.Go(func() { check(t, g, "a", now(), v.get, "one", coalesce.Own) })
		time.Sleep(latency / 2)
		v.set("two")
		callers.Go(func() { check(t, g, "a", now(), v.get, "two", coalesce.Own) })
		synctest.Wait()
		for range 100 {
			callers.Go(func() { check(t, g, "a", now(), v.get, "two", coalesce.Shared) })
		}
		callers.Go(func() { check(t, g, "a", anything(), v.get, "one", coalesce.Shared) }) // as a rotation
		start := time.Now()
		callers.Wait()
		v.checkSent(t, 2)
		if took := time.Since(start); took != 2*latency-latency/2 {
			t.Errorf("took %v", took)
		}
		checkIdle(t, g)
	})
}

// A caller that leaves does not fail the others, and the call has nothing of it but the
// values of its context.
func TestCallersThatLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type mark struct{}
		v := &vault{value: "one"}
		g := newGroup()
		var callers sync.WaitGroup
		first, leave := context.WithTimeout(context.WithValue(t.Context(), mark{}, "first"), time.Hour)
		callers.Go(func() {
			_, _, err := g.Do(first, "a", now(), func(ctx context.Context, c *coalesce.Call) (string, coalesce.Life, error) {
				if end, ok := ctx.Deadline(); !ok || time.Until(end) != time.Minute || ctx.Value(mark{}) != "first" {
					t.Errorf("the call has until %v, and the value %v", end, ctx.Value(mark{}))
				}
				return v.get(ctx, c)
			})
			if err != context.Canceled {
				t.Errorf("the caller that left got %v", err)
			}
		})
		synctest.Wait()
		callers.Go(func() { check(t, g, "a", anything(), v.get, "one", coalesce.Shared) })
		synctest.Wait()
		leave()
		callers.Wait()
		if sent, canceled := v.counts(); sent != 1 || canceled != 0 {
			t.Errorf("%d requests, %d given up", sent, canceled)
		}
		if _, _, err := g.Do(first, "a", now(), v.get); err != context.Canceled {
			t.Errorf("a caller that had left before got %v", err)
		}
		synctest.Wait()
		v.checkSent(t, 1)
		checkIdle(t, g)
	})
}

// The last caller that leaves ends the call. One that comes after that is answered by
// another, as soon as the first has ended.
func TestLastCallerEndsTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vault{value: "one"}
		g := newGroup()
		ctx, leave := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() {
				_, _, err := g.Do(ctx, "a", anything(), func(ctx context.Context, c *coalesce.Call) (string, coalesce.Life, error) {
					value, life, err := v.get(ctx, c)
					time.Sleep(latency) // the connection pool needs a moment
					return value, life, err
				})
				if err != context.Canceled {
					t.Errorf("got %v", err)
				}
			})
		}
		synctest.Wait()
		leave()
		callers.Wait()
		start := time.Now()
		check(t, g, "a", anything(), v.get, "one", coalesce.Own)
		if took := time.Since(start); took != 2*latency {
			t.Errorf("took %v", took)
		}
		if sent, canceled := v.counts(); sent != 2 || canceled != 1 {
			t.Errorf("%d requests, %d given up", sent, canceled)
		}
	})
}

// A call that waits for its start does not start if no caller waits for it any more.
func TestQueuedCallIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vault{value: "one"}
		g := newGroup()
		var callers sync.WaitGroup
		callers.Go(func() { check(t, g, "a", now(), v.get, "one", coalesce.Own) })
		time.Sleep(latency / 2)
		ctx, leave := context.WithCancel(t.Context())
		for range 2 {
			callers.Go(func() {
				if _, _, err := g.Do(ctx, "a", now(), v.get); err != context.Canceled {
					t.Errorf("got %v", err)
				}
			})
		}
		synctest.Wait()
		leave()
		callers.Wait()
		v.checkSent(t, 1)
		checkIdle(t, g)
	})
}

// A caller whose time is over learns why the call had to retry, if it had to; one that
// leaves does not.
func TestErrorOfCallersThatLeave(t *testing.T) {
	throttled := errors.New("throttled")
	for name, c := range map[string]struct {
		do               func(*coalesce.Call)
		timeout, leaving error
	}{
		"nothing reported":      {func(c *coalesce.Call) { c.Sent() }, context.DeadlineExceeded, context.Canceled},
		"waits for a retry":     {func(c *coalesce.Call) { c.Sent(); c.Retrying(throttled) }, throttled, context.Canceled},
		"waits for a place":     {func(c *coalesce.Call) { c.Retrying(throttled) }, throttled, context.Canceled},
		"retries":               {func(c *coalesce.Call) { c.Sent(); c.Retrying(throttled); c.Sent() }, throttled, context.Canceled},
		"was answered in part":  {func(c *coalesce.Call) { c.Sent(); c.Retrying(throttled); c.Sent(); c.Answered() }, context.DeadlineExceeded, context.Canceled},
		"retries the next page": {func(c *coalesce.Call) { c.Sent(); c.Answered(); c.Sent(); c.Retrying(throttled) }, throttled, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGroup()
				stuck := func(ctx context.Context, call *coalesce.Call) (string, coalesce.Life, error) {
					c.do(call)
					<-ctx.Done()
					return "", coalesce.Life{}, ctx.Err()
				}
				late, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, _, err := g.Do(late, "a", anything(), stuck); err != c.timeout {
					t.Errorf("the time is over: got %v", err)
				}
				left, leave := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, leave)
				if _, _, err := g.Do(left, "a", anything(), stuck); err != c.leaving {
					t.Errorf("left: got %v", err)
				}
			})
		})
	}
}

// A call is bounded, however long its callers would wait.
func TestCallIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		start := time.Now()
		_, source, err := g.Do(t.Context(), "a", anything(), func(ctx context.Context, _ *coalesce.Call) (string, coalesce.Life, error) {
			<-ctx.Done()
			return "", coalesce.Life{}, ctx.Err()
		})
		if err != context.DeadlineExceeded || source != coalesce.Own || time.Since(start) != time.Minute {
			t.Errorf("got %v (%s) after %v", err, source, time.Since(start))
		}
	})
}

// A panic is the error of each caller that waits, with the stack of the call that panicked.
func TestPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		v := &vault{value: "one"}
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() {
				_, _, err := g.Do(t.Context(), "a", anything(), func(_ context.Context, c *coalesce.Call) (string, coalesce.Life, error) {
					c.Sent()
					time.Sleep(latency)
					return buggy()
				})
				checkPanic(t, err)
			})
		}
		time.Sleep(latency / 2)
		callers.Go(func() { check(t, g, "a", now(), v.get, "one", coalesce.Own) }) // it waits behind the broken one
		callers.Wait()
		check(t, g, "a", now(), v.get, "one", coalesce.Own)
		checkIdle(t, g)
	})
}

func buggy() (string, coalesce.Life, error) { panic("a bug") }

// checkPanic checks that the error is the panic of buggy.
func checkPanic(t *testing.T, err error) {
	t.Helper()
	p, ok := errors.AsType[*fault.Panic](err)
	if !ok || p.Value != "a bug" || !strings.Contains(string(p.Stack), "buggy") {
		t.Errorf("got %T %v", err, err)
	}
}

// Errors are those of all that wait, and of no later caller.
func TestErrorsAreSharedAndNotCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("refused")
		v := &vault{life: func() coalesce.Life { return coalesce.Life{Until: time.Now().Add(time.Hour)} }}
		v.fail(refused)
		g := newGroup(func(c *coalesce.Config[string]) { c.Budget = coalesce.NewBudget(10) })
		var callers sync.WaitGroup
		for range 5 {
			callers.Go(func() {
				if got, _, err := g.Do(t.Context(), "a", anything(), v.get); err != refused || got != "" {
					t.Errorf("got %q, %v", got, err)
				}
			})
		}
		callers.Wait()
		v.set("one")
		check(t, g, "a", anything(), v.get, "one", coalesce.Own)
		v.checkSent(t, 2)
	})
}
