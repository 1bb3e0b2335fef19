package entra

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/throttle"
	"akv-csi-provider/provider/transport"
)

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(signer)
		c := cacheOf(t, s, CacheConfig{})
		id, other := podIdentity("a", time.Hour), podIdentity("b", time.Hour)
		first := mustToken(t, c, id)
		mustToken(t, c, other)
		c.Forget(id, "https://other/.default", first)
		c.Forget(other, vault, first)
		if mustToken(t, c, id); s.asked.Load() != 2 {
			t.Error("what belongs to another was forgotten")
		}
		c.Forget(id, vault, first)
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() {
				if got := mustToken(t, c, id); got.Value == first.Value {
					t.Error("the forgotten token came back")
				}
			})
		}
		callers.Wait()
		if s.asked.Load() != 3 {
			t.Errorf("%d exchanges after it", s.asked.Load()-2)
		}
		// A caller that still had the old token does not drop the new one of the others.
		c.Forget(id, vault, first)
		mustToken(t, c, id)
		mustToken(t, c, other)
		if s.asked.Load() != 3 {
			t.Error("the newer token was forgotten")
		}
	})
}

// Concurrent callers share an exchange; one that leaves, or has less time, fails no other.
func TestSharedExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &signer{hook: func(ctx context.Context, _ int64) error {
			select {
			case <-time.After(20 * time.Second): // longer than the caller has that has less time
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		c := cacheOf(t, s, CacheConfig{})
		id := podIdentity("a", time.Hour)
		first, leave := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		callers.Go(func() {
			if _, err := c.Token(first, id, vault); err != context.Canceled {
				t.Errorf("the caller that left got %v", err)
			}
		})
		synctest.Wait()
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			_, err := c.Token(ctx, id, vault)
			var network *fault.Error
			if !errors.As(err, &network) || network.Reason != fault.Timeout || !strings.Contains(network.Cause, "timed out signing in to login.microsoftonline.com") || time.Since(start) != time.Second {
				t.Errorf("the caller whose time was over got %v after %s", err, time.Since(start))
			}
		})
		for range 20 {
			callers.Go(func() { mustToken(t, c, id) })
		}
		time.Sleep(500 * time.Millisecond)
		leave()
		callers.Wait()
		if s.asked.Load() != 1 {
			t.Errorf("%d exchanges", s.asked.Load())
		}
	})
}

// A caller whose time is over while its exchange waits for another attempt has the error of
// the latest one. A caller with the same credential and more time goes on with the exchange.
func TestErrorOfACallerWithLessTime(t *testing.T) {
	for _, mode := range []Mode{WorkloadIdentity, ServicePrincipal, ManagedIdentity} {
		synctest.Test(t, func(t *testing.T) {
			x, s := throttledExchange(t, 1, 429, "6", `{"error":"invalid_request","error_codes":[90055]}`)
			c := cacheOf(t, x, CacheConfig{})
			id := person(mode).Identity
			id.Assertion = podIdentity("a", time.Hour).Assertion
			var callers sync.WaitGroup
			callers.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				start := time.Now()
				_, err := c.Token(ctx, id, vault)
				if checkText(t, err); err.(*fault.Error).Reason != fault.Throttled || mode == ManagedIdentity && !strings.Contains(err.Error(), id.ClientID) || time.Since(start) > 5*time.Second {
					t.Errorf("got %v after %s", err, time.Since(start))
				}
			})
			for range 5 {
				callers.Go(func() { mustToken(t, c, id) })
			}
			callers.Wait()
			if s.asked() != 2 {
				t.Errorf("%d requests", s.asked())
			}
		})
	}
}

// Where a firewall drops what is sent to Entra, the error names the phase.
func TestPhaseOfATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dropping := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
			select {
			case <-time.After(10 * time.Second):
				return nil, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
			case <-req.Context().Done():
				return nil, req.Context().Err()
			}
		}), "").For(transport.PhaseSignIn)
		x, err := NewExchange(Config{Transport: dropping, KnownAuthority: func(string) bool { return true }, Throttle: throttle.Config{Max: 8, Retries: 3}})
		if err != nil {
			t.Fatal(err)
		}
		c := cacheOf(t, x, CacheConfig{})
		var callers sync.WaitGroup
		for i := range 10 {
			callers.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
				defer cancel()
				_, err := c.Token(ctx, podIdentity(fmt.Sprint(i/2), time.Hour), vault)
				if checkNetwork(t, err, fault.Timeout); !strings.Contains(err.Error(), "timed out connecting to login.microsoftonline.com") {
					t.Errorf("got %v", err)
				}
			})
		}
		callers.Wait()
	})
}

func checkNetwork(t testing.TB, err error, reason fault.Reason) {
	t.Helper()
	var network *fault.Error
	if !errors.As(err, &network) || network.Reason != reason {
		t.Fatalf("got %T %v", err, err)
	}
}

// An exchange for which no caller waits any more is canceled, and the next caller starts another.
func TestAbandonedExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan time.Time, 1)
		s := &signer{hook: func(ctx context.Context, n int64) error {
			if n > 1 {
				return nil
			}
			<-ctx.Done()
			ended <- time.Now()
			return ctx.Err()
		}}
		c := cacheOf(t, s, CacheConfig{})
		id := podIdentity("a", time.Hour)
		ctx, leave := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() {
				if _, err := c.Token(ctx, id, vault); err != context.Canceled {
					t.Errorf("got %v", err)
				}
			})
		}
		time.Sleep(time.Second)
		left := time.Now()
		leave()
		callers.Wait()
		mustToken(t, c, id)
		if at := <-ended; at != left || s.asked.Load() != 2 {
			t.Errorf("it ended %s later; %d exchanges", at.Sub(left), s.asked.Load())
		}
	})
}

// A panic in an exchange is the error of the mounts that wait for it.
func TestPanicInAnExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &signer{hook: func(_ context.Context, n int64) error {
			if n == 1 {
				time.Sleep(time.Second)
				panic("broken")
			}
			return nil
		}}
		c := cacheOf(t, s, CacheConfig{})
		id, other := podIdentity("a", time.Hour), podIdentity("b", time.Hour)
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() {
				_, err := c.Token(t.Context(), id, vault)
				if p, ok := errors.AsType[*fault.Panic](err); !ok || p.Value != "broken" {
					t.Errorf("got %T %v", err, err)
				}
			})
		}
		synctest.Wait()
		mustToken(t, c, other)
		callers.Wait()
		mustToken(t, c, id)
	})
}
