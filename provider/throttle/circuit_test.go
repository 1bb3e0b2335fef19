package throttle_test

import (
	"context"
	"errors"
	"net/http"
	"path"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/throttle"
)

// The circuit opens at once if the service throttles, and at the fifth failure in a row.
func TestCircuitOpens(t *testing.T) {
	ok, failed := reply{}, reply{status: 500}
	for _, c := range []struct {
		name    string
		replies []reply
		opens   bool
	}{
		{"429", []reply{{status: 429}}, true},
		{"503 with Retry-After", []reply{{status: 503, retryAfter: "1"}}, true},
		{"503", []reply{{status: 503}}, false},
		{"500 with Retry-After", []reply{{status: 500, retryAfter: "1"}}, false},
		{"four failures", []reply{failed, failed, {err: errReset}, failed}, false},
		{"five failures", []reply{failed, failed, {err: errReset}, failed, failed}, true},
		{"failures with an answer between", []reply{failed, failed, failed, failed, ok, failed, failed, failed, {status: 404}, failed}, false},
		{"failures that say nothing of the service between", []reply{failed, failed, {err: errPermanent}, failed, failed, failed}, true},
		{"refusals", slices.Repeat([]reply{{status: 403}}, 10), false},
		{"permanent errors", slices.Repeat([]reply{{err: errPermanent}}, 10), false},
		{"cancellations", slices.Repeat([]reply{{err: context.Canceled}}, 10), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var opened []time.Duration
				s := newService(ok)
				s.next = c.replies
				client := newClient(throttle.New(throttle.Config{Max: 2, OnOpen: func(e *throttle.Episode) { opened = append(opened, e.Pause) }}), s)
				for range c.replies {
					_, _ = client.get(t.Context(), "x")
				}
				if (len(opened) == 1) != c.opens || len(opened) > 1 {
					t.Errorf("opened for %v", opened)
				}
				start := time.Now()
				client.must(t, "x")
				if took := time.Since(start) - latency; c.opens && took != opened[0] || !c.opens && took != 0 {
					t.Errorf("the next request waited for %v, opened for %v", took, opened)
				}
			})
		})
	}
}

// Of requests that are under way together, the first refusal opens the circuit; the others
// say nothing new.
func TestCircuitOpensOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var opened []time.Duration
		s := newService(reply{})
		s.next = slices.Repeat([]reply{{status: 429}, {status: 500}}, 8)
		c := newClient(throttle.New(throttle.Config{Max: 32, Retries: 1, OnOpen: func(e *throttle.Episode) { opened = append(opened, e.Pause) }}), s)
		var group sync.WaitGroup
		for range 16 {
			group.Go(func() { c.must(t, "x") })
		}
		group.Wait()
		if len(opened) != 1 || opened[0] > 1250*time.Millisecond {
			t.Errorf("opened for %v", opened)
		}
	})
}

// The circuit stays open for as long as the service says, within reason.
func TestRetryAfterIsHonored(t *testing.T) {
	for text, least := range map[string]time.Duration{"": time.Second, "0": time.Second, "5": 5 * time.Second, "60": time.Minute, "86400": time.Minute, "soon": time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := newService(reply{})
			s.next = []reply{{status: 429, retryAfter: text}}
			c := newClient(throttle.New(throttle.Config{Max: 1, Retries: 1}), s)
			for s.count() < 2 { // requests do not wait for that long
				_, _ = c.get(t.Context(), "x")
				time.Sleep(time.Millisecond)
			}
			if pause := s.sent[1] - s.sent[0] - latency; pause < least || pause > least*5/4+time.Millisecond {
				t.Errorf("%q: sent again after %v", text, pause)
			}
		})
	}
}

// When the circuit closes, one request goes first and alone; then urgent ones, in their
// order, and then the others.
func TestOneProbeThenUrgentRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(reply{})
		s.next = []reply{{status: 429}}
		c := newClient(throttle.New(throttle.Config{Max: 1, Retries: 3}), s)
		var group sync.WaitGroup
		do := func(name string, u urgency) {
			group.Go(func() {
				if status, err := c.get(throttle.WithTrace(t.Context(), u, nil), name); status != http.StatusOK || err != nil {
					t.Error(status, err)
				}
			})
			synctest.Wait()
		}
		do("opened it", notUrgent)
		time.Sleep(2 * latency)
		do("rotation", notUrgent)
		do("pod 1", urgent)
		do("pod 2", urgent)
		group.Wait()
		if want := []string{"opened it", "pod 1", "pod 2", "opened it", "rotation"}; !slices.Equal(s.names, want) {
			t.Errorf("got %q, want %q", s.names, want)
		}
	})
}

// While a service is unavailable, one request probes for all, less and less often, and all
// that wait fail with it.
func TestUnavailableService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var opened []time.Duration
		th := throttle.New(throttle.Config{Max: 32, Retries: 3, OnOpen: func(e *throttle.Episode) { opened = append(opened, e.Pause) }})
		s := newService(reply{status: 503})
		c := newClient(th, s)
		for range 2 { // after which the circuit is open
			_, _ = c.get(t.Context(), "x")
		}
		for range 6 {
			time.Sleep(time.Minute)
			before, start := s.count(), time.Now()
			var group sync.WaitGroup
			for range 500 {
				group.Go(func() {
					if status, err := c.get(t.Context(), "x"); status != 503 || err != nil {
						t.Errorf("got %d, %v", status, err)
					}
				})
			}
			group.Wait()
			if took := time.Since(start); s.count()-before > 4 || took > 10*time.Second {
				t.Errorf("%d attempts for 500 requests in %v", s.count()-before, took)
			}
		}
		if len(opened) < 6 || opened[0] > 2*time.Second || slices.Max(opened) > 13*time.Second || slices.Max(opened) < 10*time.Second {
			t.Errorf("open for %v", opened)
		}
		s.set(reply{})
		time.Sleep(time.Minute)
		c.must(t, "x")
		s.set(reply{status: 429}) // the back-off starts again
		n := len(opened)
		_, _ = c.get(t.Context(), "x")
		if opened[n] > 2*time.Second {
			t.Errorf("open for %v", opened[n])
		}
		time.Sleep(time.Hour)
		checkFree(t, th)
	})
}

// Some failures among many successes do not open the circuit.
func TestSomeFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(reply{})
		c := newClient(throttle.New(throttle.Config{Max: 8, OnOpen: func(*throttle.Episode) { t.Error("opened") }}), s)
		for i := range 100 {
			s.set(reply{status: 500})
			if i%4 == 0 {
				s.set(reply{})
			}
			_, _ = c.get(t.Context(), "x")
		}
	})
}

// A request with less time than the circuit stays open fails at once, with what is known.
func TestTooLittleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(reply{status: 429, body: "slow down"})
		th := throttle.New(throttle.Config{Max: 1, Retries: 3})
		c := newClient(th, s)
		first, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if status, err := c.get(first, "x"); status != 429 || err != nil || time.Since(s.start) != latency {
			t.Errorf("got %d, %v after %v", status, err, time.Since(s.start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		start := time.Now()
		resp, err := c.send(ctx, "other", "")
		if err != nil || resp.StatusCode != 429 || path.Base(resp.Request.URL.Path) != "other" || time.Since(start) > 0 || s.count() != 1 {
			t.Errorf("got %v, %v after %v and %d attempts", resp, err, time.Since(start), s.count())
		}
		checkFree(t, th)
	})
}

// A probe whose caller leaves says nothing; the next request is the probe.
func TestProbeThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(reply{status: 429})
		th := throttle.New(throttle.Config{Max: 1})
		c := newClient(th, s)
		_, _ = c.get(t.Context(), "x")
		time.Sleep(2 * time.Second)
		s.set(reply{})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(latency/2, cancel)
		var group sync.WaitGroup
		group.Go(func() {
			if _, err := c.get(ctx, "x"); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		start := time.Now()
		c.must(t, "x")
		if took := time.Since(start); took != latency+latency/2 {
			t.Errorf("took %v", took)
		}
		group.Wait()
		checkFree(t, th)
	})
}

// A request does not wait for an open circuit for longer than some seconds, whether the
// service fails, requests a pause or is silent: its caller gets the known failure.
func TestOpenCircuitIsNotWaitedForLong(t *testing.T) {
	for name, r := range map[string]reply{"fails": {status: 500}, "requests a minute": {status: 429, retryAfter: "60"}, "requests six seconds": {status: 429, retryAfter: "6"}, "silent": {err: context.DeadlineExceeded}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				th := throttle.New(throttle.Config{Max: 32, Retries: 3})
				s := newService(r)
				c := newClient(th, bounded(15*time.Second, func(req *http.Request) (*http.Response, error) {
					if r.err != nil {
						<-req.Context().Done()
					}
					return s.Do(req)
				}))
				for range 5 {
					_, _ = c.get(t.Context(), "x")
				}
				var group sync.WaitGroup
				late := 0
				for i := range 200 {
					group.Go(func() {
						time.Sleep(time.Duration(i) * 250 * time.Millisecond)
						start, before := time.Now(), s.count()
						status, err := c.get(t.Context(), "x")
						if status != r.status || !errors.Is(err, r.err) {
							t.Errorf("got %d, %v", status, err)
						}
						if time.Since(start) > 10*time.Second {
							if late++; r.err == nil || s.count() == before { // a probe takes the time of its attempt
								t.Errorf("answered after %s", time.Since(start))
							}
						}
					})
				}
				group.Wait()
				if late > 10 {
					t.Errorf("%d late answers", late)
				}
				checkFree(t, th)
			})
		})
	}
}
