package coalesce_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/coalesce"
)

const refreshRetry = 30 * time.Second

// authority issues tokens for an hour, which are refreshed in their last ten minutes. The
// requests after the first behave as the test says.
type authority struct {
	later func(context.Context, *coalesce.Call) error

	mu   sync.Mutex // guards what follows
	sent []time.Time
}

func (a *authority) token(ctx context.Context, c *coalesce.Call) (string, coalesce.Life, error) {
	c.Sent()
	a.mu.Lock()
	a.sent = append(a.sent, time.Now())
	n := len(a.sent)
	a.mu.Unlock()
	if n > 1 && a.later != nil {
		if err := a.later(ctx, c); err != nil {
			return "", coalesce.Life{}, err
		}
	}
	end := time.Now().Add(time.Hour)
	return fmt.Sprint("token ", n), coalesce.Life{Until: end, Refresh: end.Add(-10 * time.Minute)}, nil
}

func (a *authority) requests() []time.Time { a.mu.Lock(); defer a.mu.Unlock(); return a.sent }

func newTokens() *group {
	return newGroup(caching(coalesce.NewBudget(100)), func(c *coalesce.Config[string]) {
		c.RefreshRetry = refreshRetry
		c.Evict = func(err error) bool { return err.Error() == "gone" }
	})
}

// However many callers want a token that ends soon, it is refreshed once, and no caller waits.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		a := &authority{later: func(context.Context, *coalesce.Call) error { <-done; return nil }}
		g := newTokens()
		check(t, g, "a", anything(), a.token, "token 1", coalesce.Own)
		time.Sleep(50*time.Minute - 1)
		check(t, g, "a", anything(), a.token, "token 1", coalesce.Cached)
		synctest.Wait()
		if n := len(a.requests()); n != 1 {
			t.Errorf("%d requests before it was time", n)
		}
		time.Sleep(time.Nanosecond)
		start := time.Now()
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				ctx, leave := context.WithCancel(t.Context())
				defer leave() // which does not end the refresh
				if got, source, err := g.Do(ctx, "a", anything(), a.token); got != "token 1" || source != coalesce.Cached || err != nil {
					t.Errorf("got %q (%s), %v", got, source, err)
				}
			})
		}
		callers.Wait()
		synctest.Wait()
		if n := len(a.requests()); n != 2 || time.Since(start) > 0 {
			t.Errorf("%d requests in %v", n, time.Since(start))
		}
		// One that needs a new answer takes that of the refresh, and leaves without ending it.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := g.Do(ctx, "a", coalesce.Freshness{NotBefore: start}, a.token); err != context.DeadlineExceeded {
			t.Errorf("got %v", err)
		}
		callers.Go(func() { check(t, g, "a", coalesce.Freshness{NotBefore: start}, a.token, "token 2", coalesce.Shared) })
		synctest.Wait()
		close(done)
		callers.Wait()
		check(t, g, "a", anything(), a.token, "token 2", coalesce.Cached)
		time.Sleep(49 * time.Minute)
		check(t, g, "a", anything(), a.token, "token 2", coalesce.Cached)
		if n := len(a.requests()); n != 2 {
			t.Errorf("%d requests", n)
		}
	})
}

// While the authority is unavailable, callers with a good token do not notice, and it is
// asked rarely.
func TestRefreshThatFails(t *testing.T) {
	for name, later := range map[string]func(context.Context, *coalesce.Call) error{
		"refuses":   func(context.Context, *coalesce.Call) error { return errors.New("down") },
		"is silent": func(ctx context.Context, _ *coalesce.Call) error { <-ctx.Done(); return ctx.Err() },
		"retries": func(ctx context.Context, c *coalesce.Call) error {
			c.Retrying(errors.New("down"))
			<-ctx.Done()
			return ctx.Err()
		},
		"panics": func(context.Context, *coalesce.Call) error { panic("a bug") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &authority{later: later}
				g := newTokens()
				check(t, g, "a", anything(), a.token, "token 1", coalesce.Own)
				for end := time.Now().Add(time.Hour); time.Now().Before(end); time.Sleep(time.Second) {
					check(t, g, "a", anything(), a.token, "token 1", coalesce.Cached)
				}
				time.Sleep(time.Minute) // the last one ends
				sent := a.requests()[1:]
				if len(sent) < 5 || len(sent) > 20 {
					t.Errorf("%d requests in ten minutes", len(sent))
				}
				for i := 1; i < len(sent); i++ {
					if gap := sent[i].Sub(sent[i-1]); gap < refreshRetry {
						t.Errorf("sent again after %v", gap)
					}
				}
				checkIdle(t, g)
			})
		})
	}
}

// A refresh that the authority refuses for good ends the token.
func TestRefreshEvicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("gone")
		a := &authority{later: func(context.Context, *coalesce.Call) error { return gone }}
		g := newTokens()
		check(t, g, "a", anything(), a.token, "token 1", coalesce.Own)
		time.Sleep(55 * time.Minute)
		check(t, g, "a", anything(), a.token, "token 1", coalesce.Cached)
		synctest.Wait()
		if _, _, err := g.Do(t.Context(), "a", anything(), a.token); err != gone {
			t.Errorf("got %v", err)
		}
	})
}

// A panic of a refresh is the error of callers that have come to wait for it, and of no other.
func TestPanicInARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &authority{later: func(context.Context, *coalesce.Call) error { time.Sleep(time.Second); _, _, err := buggy(); return err }}
		g := newTokens()
		check(t, g, "a", anything(), a.token, "token 1", coalesce.Own)
		time.Sleep(55 * time.Minute)
		check(t, g, "a", anything(), a.token, "token 1", coalesce.Cached)
		_, _, err := g.Do(t.Context(), "a", now(), a.token)
		checkPanic(t, err)
		check(t, g, "a", anything(), a.token, "token 1", coalesce.Cached)
		checkIdle(t, g)
	})
}

// A token that a vault rejects is replaced by asking for one that was issued later. A newer
// one that is there already stays, and a refresh that is under way is as good as any.
func TestRejectedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := false
		a := &authority{later: func(context.Context, *coalesce.Call) error {
			if slow {
				time.Sleep(time.Second)
			}
			return nil
		}}
		g := newTokens()
		rejected := coalesce.Freshness{NotBefore: time.Now().Add(1)} // after the first
		check(t, g, "a", anything(), a.token, "token 1", coalesce.Own)
		time.Sleep(time.Minute)
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() {
				if got, _, err := g.Do(t.Context(), "a", rejected, a.token); got != "token 2" || err != nil {
					t.Errorf("got %q, %v", got, err)
				}
			})
		}
		callers.Wait()
		check(t, g, "a", rejected, a.token, "token 2", coalesce.Cached)
		rejected.NotBefore = a.requests()[1].Add(1) // after the second
		slow = true
		time.Sleep(55 * time.Minute)
		check(t, g, "a", anything(), a.token, "token 2", coalesce.Cached)
		time.Sleep(time.Second / 2)
		check(t, g, "a", rejected, a.token, "token 3", coalesce.Shared)
		if n := len(a.requests()); n != 3 {
			t.Errorf("%d requests", n)
		}
	})
}
