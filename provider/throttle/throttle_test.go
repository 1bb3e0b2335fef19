package throttle_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/throttle"
)

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		name     string
		reply    reply
		attempts int
		most     time.Duration
	}{
		{"success", reply{}, 1, latency},
		{"not found", reply{status: 404}, 1, latency},
		{"not implemented", reply{status: 501}, 1, latency},
		{"error that a retry repeats", reply{err: errPermanent}, 1, latency},
		{"cancellation", reply{err: context.Canceled}, 1, latency},
		{"server error", reply{status: 500}, 3, 2 * time.Second},
		{"unavailable", reply{status: 503}, 3, 2 * time.Second},
		{"reset", reply{err: errReset}, 3, 2 * time.Second},
		{"time over", reply{err: context.DeadlineExceeded}, 3, 2 * time.Second},
		{"too many requests", reply{status: 429}, 3, 5 * time.Second},
		{"unavailable for a second", reply{status: 503, retryAfter: "1"}, 3, 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newService(c.reply)
				th := throttle.New(throttle.Config{Max: 2, Retries: 2})
				status, err := newClient(th, s).get(t.Context(), "x")
				if !errors.Is(err, c.reply.err) || err == nil && status != cmp.Or(c.reply.status, http.StatusOK) {
					t.Errorf("got %d, %v", status, err)
				}
				if took := time.Since(s.start); s.count() != c.attempts || took > c.most {
					t.Errorf("%d attempts in %v", s.count(), took)
				}
				checkFree(t, th)
			})
		})
	}
}

// An isolated failure is over after a tenth of a second.
func TestQuickRetry(t *testing.T) {
	for name, failed := range map[string]reply{"5xx": {status: 502}, "reset": {err: errReset}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newService(reply{})
				s.next = []reply{failed}
				newClient(throttle.New(throttle.Config{Max: 1, Retries: 3}), s).must(t, "x")
				if took := time.Since(s.start); s.count() != 2 || took < 140*time.Millisecond || took > 170*time.Millisecond {
					t.Errorf("%d attempts in %v", s.count(), took)
				}
			})
		})
	}
}

// Each further retry comes three times later.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(reply{})
		s.next = []reply{{status: 500}, {err: errReset}, {status: 504}}
		newClient(throttle.New(throttle.Config{Max: 1, Retries: 3}), s).must(t, "x")
		for i, pause := range []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, 900 * time.Millisecond} {
			if got := s.sent[i+1] - s.sent[i] - latency; got < pause || got > pause*5/4 {
				t.Errorf("retry %d after %v", i+1, got)
			}
		}
	})
}

// Each attempt sends the whole body.
func TestBodyIsSentWithEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(reply{body: "answer"})
		s.next = []reply{{status: 500}, {err: errReset}, {status: 429}}
		c := newClient(throttle.New(throttle.Config{Max: 1, Retries: 3}), s)
		resp, err := c.send(t.Context(), "x", "client_assertion=x")
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		if want := slices.Repeat([]string{"client_assertion=x"}, 4); !slices.Equal(s.bodies, want) {
			t.Errorf("sent %q", s.bodies)
		}
	})
}

func TestMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(reply{})
		th := throttle.New(throttle.Config{Max: 3})
		c := newClient(th, s)
		var group sync.WaitGroup
		for i := range 30 {
			group.Go(func() { _, _ = c.get(fair.WithTenant(t.Context(), fmt.Sprint(i)), "x") })
		}
		group.Wait()
		if took := time.Since(s.start); took != 10*latency || s.most != 3 {
			t.Errorf("30 requests took %v, %d at a time", took, s.most)
		}
		checkFree(t, th)
	})
}

// Requests that the start of a pod waits for take precedence over those that came earlier,
// also if they became urgent while they waited.
func TestUrgentRequestsGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(reply{})
		c := newClient(throttle.New(throttle.Config{Max: 1}), s)
		var joined atomic.Bool
		var group sync.WaitGroup
		for _, r := range []struct {
			name  string
			trace throttle.Trace
		}{
			{"first", urgency(notUrgent)}, {"rotation 1", urgency(notUrgent)}, {"rotation 2", urgency(notUrgent)}, {"joined", urgency(joined.Load)},
			{"pod", urgency(urgent)}, {"plain", nil},
		} {
			ctx := t.Context()
			if r.trace != nil {
				ctx = throttle.WithTrace(ctx, r.trace, nil)
			}
			group.Go(func() { _, _ = c.get(ctx, r.name) })
			synctest.Wait()
		}
		joined.Store(true)
		group.Wait()
		if want := []string{"first", "joined", "pod", "plain", "rotation 1", "rotation 2"}; !slices.Equal(s.names, want) {
			t.Errorf("got %q, want %q", s.names, want)
		}
	})
}

// A caller that leaves while it waits, while it is served or while it backs off gives its
// place back.
func TestCallersThatLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := throttle.New(throttle.Config{Max: 1, Retries: 3})
		s := newService(reply{})
		c := newClient(th, s)
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() {
				if _, err := c.get(ctx, "x"); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			})
		}
		synctest.Wait()
		cancel()
		group.Wait()
		checkFree(t, th)
		if _, err := c.get(ctx, "x"); !errors.Is(err, context.Canceled) || s.count() != 1 {
			t.Errorf("got %v after %d attempts", err, s.count())
		}
		s.next = []reply{{err: errReset}}
		ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := c.get(ctx, "x"); !errors.Is(err, errReset) || ctx.Err() == nil || s.count() != 2 {
			t.Errorf("got %v after %d attempts", err, s.count())
		}
		for range 3 {
			c.must(t, "x")
		}
		checkFree(t, th)
	})
}

func TestPanicReleasesThePlace(t *testing.T) {
	th := throttle.New(throttle.Config{Max: 1, Retries: 3})
	broken := newClient(th, transport(func(*http.Request) (*http.Response, error) { panic("a bug") }))
	for range 10 { // a bug says nothing of the service
		func() {
			defer func() {
				if v := recover(); v != "a bug" {
					t.Errorf("recovered %v", v)
				}
			}()
			_, _ = broken.get(t.Context(), "x")
		}()
	}
	checkFree(t, th)
	newClient(th, newService(reply{})).must(t, "x")
}

// A service that does not answer costs the time of its attempts, not of the caller.
func TestAttemptsThatTimeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(reply{})
		attempts := 0
		th := throttle.New(throttle.Config{Max: 1, Retries: 2})
		c := newClient(th, bounded(time.Second, func(req *http.Request) (*http.Response, error) {
			if attempts++; attempts < 3 {
				<-req.Context().Done()
				return nil, req.Context().Err()
			}
			return s.Do(req)
		}))
		c.must(t, "x")
		if took := time.Since(s.start); took < 2*time.Second || took > 3*time.Second {
			t.Errorf("took %v", took)
		}
		attempts = -10
		if _, err := c.get(t.Context(), "x"); !errors.Is(err, context.DeadlineExceeded) || attempts != -7 {
			t.Errorf("got %v after %d attempts", err, attempts+10)
		}
	})
}
