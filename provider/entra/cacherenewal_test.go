package entra

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A token is returned until it ends, or the service-account token does, and not at that
// moment.
func TestNothingOutlivesItsToken(t *testing.T) {
	for name, c := range map[string]struct{ token, account, end time.Duration }{
		"the token ends first":                 {time.Hour, 2 * time.Hour, time.Hour},
		"the service account's ends first":     {time.Hour, 10 * time.Minute, 10 * time.Minute},
		"a token that has ended":               {-time.Second, time.Hour, 0},
		"a service account's that has ended":   {time.Hour, -time.Second, 0},
		"a token for less than the back-off":   {20 * time.Second, time.Hour, 20 * time.Second},
		"one that ends with the other":         {time.Hour, time.Hour, time.Hour},
		"a service account's of a day, a year": {24 * time.Hour, 24 * 365 * time.Hour, 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				gone := errors.New("gone")
				s := &signer{life: c.token, hook: func(_ context.Context, n int64) error {
					if n > 1 {
						return gone
					}
					return nil
				}}
				cache := cacheOf(t, s, CacheConfig{})
				id := podIdentity("a", c.account)
				mustToken(t, cache, id)
				for step := min(c.end/50, 5*time.Minute); step > 0 && time.Since(start) < c.end; time.Sleep(step) {
					mustToken(t, cache, id)
				}
				time.Sleep(time.Until(start.Add(c.end)))
				if _, err := cache.Token(t.Context(), id, vault); err != gone {
					t.Errorf("got %v after %s", err, time.Since(start))
				}
			})
		})
	}
}

// An idle token is removed from memory.
func TestIdleTokensGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cacheOf(t, new(signer), CacheConfig{})
		idle, used, short := podIdentity("idle", time.Hour), podIdentity("used", time.Hour), podIdentity("short", 90*time.Second)
		mustToken(t, c, idle)
		mustToken(t, c, used)
		mustToken(t, c, short)
		for minute := 1; minute <= 12; minute++ {
			time.Sleep(time.Minute)
			mustToken(t, c, used)
			synctest.Wait()
			if c.has(short) != (minute == 1) || minute < 10 && !c.has(idle) || minute > 11 && c.has(idle) || !c.has(used) {
				t.Errorf("minute %d: cached: idle %t, used %t, short %t", minute, c.has(idle), c.has(used), c.has(short))
			}
		}
		time.Sleep(maxIdle + 2*time.Minute)
		if c.has(used) {
			t.Error("an idle token is cached")
		}
	})
}

// However many callers request a token that ends soon, it is renewed once, and no caller waits.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &signer{hook: func(ctx context.Context, n int64) error {
			if n == 2 {
				<-release
			}
			return ctx.Err()
		}}
		c := cacheOf(t, s, CacheConfig{})
		id := podIdentity("a", 24*time.Hour)
		first := mustToken(t, c, id)
		use := func(d time.Duration) { // so that it is not dropped as idle
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Minute) {
				mustToken(t, c, id)
			}
		}
		use(50 * time.Minute)
		if s.asked.Load() != 1 {
			t.Errorf("%d exchanges before it was time", s.asked.Load())
		}
		start := time.Now()
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				if got, err := c.Token(ctx, id, vault); err != nil || got.Value != first.Value {
					t.Errorf("got %v", err)
				}
			})
		}
		callers.Wait()
		synctest.Wait()
		if time.Since(start) > 0 || s.asked.Load() != 2 {
			t.Errorf("%d exchanges in %s", s.asked.Load(), time.Since(start))
		}
		close(release)
		synctest.Wait()
		if got := mustToken(t, c, id); got.Value == first.Value {
			t.Error("the renewed token is not used")
		}
		if use(49 * time.Minute); s.asked.Load() != 2 {
			t.Errorf("%d exchanges", s.asked.Load())
		}
	})
}

// While Entra is unavailable, callers with a good token notice nothing, and it gets few
// requests.
func TestEntraDownTokensGood(t *testing.T) {
	for name, fail := range map[string]func(context.Context) error{
		"refuses": func(context.Context) error { return errors.New("down") },
		"is mute": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"panics":  func(context.Context) error { panic("broken") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var down atomic.Bool
				var mu sync.Mutex // guards attempts
				var attempts []time.Time
				s := &signer{hook: func(ctx context.Context, _ int64) error {
					if !down.Load() {
						return nil
					}
					mu.Lock()
					attempts = append(attempts, time.Now())
					mu.Unlock()
					return fail(ctx)
				}}
				c := cacheOf(t, s, CacheConfig{})
				id := podIdentity("a", 24*time.Hour)
				mustToken(t, c, id)
				down.Store(true)
				for end := time.Now().Add(59*time.Minute + 59*time.Second); time.Now().Before(end); time.Sleep(time.Second) {
					for range 3 {
						mustToken(t, c, id)
					}
				}
				time.Sleep(time.Minute) // the last one ends
				mu.Lock()
				defer mu.Unlock()
				if n := len(attempts); n < 5 || n > 20 {
					t.Errorf("%d requests in ten minutes", n)
				}
				for i := 1; i < len(attempts); i++ {
					if gap := attempts[i].Sub(attempts[i-1]); gap < renewAgain {
						t.Errorf("another request after %s", gap)
					}
				}
			})
		})
	}
}

// A renewal that brings no more time, as IMDS caches its tokens, is not repeated at once.
func TestRenewalThatBringsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := time.Now().Add(20 * time.Minute)
		var asked atomic.Int64
		c := cacheOf(t, fake(func(context.Context, Identity, string) (Token, error) {
			asked.Add(1)
			return Token{Value: "CANARY", ExpiresOn: end}, nil
		}), CacheConfig{})
		for time.Now().Before(end) {
			mustToken(t, c, Identity{Mode: ManagedIdentity})
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if n := asked.Load(); n < 2 || n > 10 {
			t.Errorf("%d requests", n)
		}
	})
}

// A renewal that is under way is as good as an exchange.
func TestForgetWhileRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &signer{hook: func(_ context.Context, n int64) error {
			if n == 2 {
				<-release
			}
			return nil
		}}
		c := cacheOf(t, s, CacheConfig{})
		id := podIdentity("a", 24*time.Hour)
		first := mustToken(t, c, id)
		for range 10 {
			time.Sleep(5 * time.Minute)
			mustToken(t, c, id)
		}
		c.Forget(id, vault, first)
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() {
				if got := mustToken(t, c, id); got.Value == first.Value {
					t.Error("the forgotten token came back")
				}
			})
		}
		synctest.Wait()
		close(release)
		callers.Wait()
		if mustToken(t, c, id); s.asked.Load() != 2 {
			t.Errorf("%d exchanges", s.asked.Load())
		}
	})
}
