package throttle_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/throttle"
)

// episodes records what a throttle reports.
type episodes struct {
	mu             sync.Mutex // guards what follows
	opened, closed []throttle.Episode
}

func (e *episodes) config(c throttle.Config) throttle.Config {
	c.Service = throttle.Service{Host: "contoso.vault.azure.net", TenantID: "t", ClientID: "c"}
	c.OnOpen = func(now *throttle.Episode) { e.mu.Lock(); defer e.mu.Unlock(); e.opened = append(e.opened, *now) }
	c.OnClose = func(now *throttle.Episode) { e.mu.Lock(); defer e.mu.Unlock(); e.closed = append(e.closed, *now) }
	return c
}

// after waits for so long, and returns all openings and ends until then.
func (e *episodes) after(d time.Duration) (opened, closed []throttle.Episode) {
	time.Sleep(d)
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.opened, e.closed
}

// A service that throttles every second request is one episode, which ends when the circuit has
// been closed for a minute; then another one begins.
func TestEpisode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e episodes
		s := newService(reply{})
		c := newClient(throttle.New(e.config(throttle.Config{Max: 4, Retries: 3})), s)
		ctx := fair.WithTenant(t.Context(), "shop")
		for range 9 {
			s.next = []reply{{status: 429}}
			if status, err := c.get(ctx, "x"); status != 200 || err != nil {
				t.Fatal(status, err)
			}
		}
		lasted := time.Since(s.start) - latency // since the first answer
		opened, closed := e.after(time.Minute - 1)
		if len(opened) != 9 || len(closed) != 0 {
			t.Fatalf("opened %d times; over %d times before a minute has passed", len(opened), len(closed))
		}
		_, closed = e.after(time.Hour)
		if len(closed) != 1 {
			t.Fatalf("over %d times", len(closed))
		}
		first, got := opened[0], closed[0]
		if first.Openings != 1 || first.Open != first.Pause || first.Pause < time.Second || first.Lasted != 0 || first.Began != s.start.Add(latency) {
			t.Errorf("first %+v", first)
		}
		if got.Openings != 9 || got.Lasted != lasted || got.Open > lasted || got.Open < lasted-18*latency ||
			!got.Throttled || got.Status != 429 || got.Err != nil || got.Tenant != "shop" ||
			got.Host != "contoso.vault.azure.net" || got.TenantID != "t" || got.ClientID != "c" {
			t.Errorf("lasted %v, got %+v", lasted, got)
		}
		if got.Waited != 9 || got.Refused != 0 { // each request once
			t.Errorf("%d requests waited, %d were refused", got.Waited, got.Refused)
		}
		s.next = slices.Repeat([]reply{{err: errReset}}, 5)
		_, _ = c.get(t.Context(), "x")
		c.must(t, "x")
		opened, _ = e.after(0)
		if again := opened[len(opened)-1]; again.Openings != 1 || again.Throttled || again.Status != 0 || again.Err != errReset || again.Open != again.Pause || again.Tenant != "" {
			t.Errorf("another %+v", again)
		}
	})
}

// An episode goes on for as long as the circuit opens again within a minute, and while no request
// has shown that the service is back.
func TestEpisodeGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e episodes
		s := newService(reply{})
		c := newClient(throttle.New(e.config(throttle.Config{Max: 4, Retries: 3})), s)
		for range 10 {
			s.next = []reply{{status: 429}}
			c.must(t, "x")
			time.Sleep(57 * time.Second)
		}
		opened, closed := e.after(0)
		if n := len(opened); n != 10 || opened[9].Openings != 10 || len(closed) != 0 {
			t.Errorf("%d openings, %+v, over %d times", n, opened[n-1], len(closed))
		}
		s.set(reply{status: 429})
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _ = c.get(short, "x")
		_, closed = e.after(time.Hour)
		if len(closed) != 0 {
			t.Errorf("over, although nobody asked: %+v", closed)
		}
		s.set(reply{})
		c.must(t, "x")
		_, closed = e.after(time.Hour)
		if len(closed) != 1 || closed[0].Openings != 11 || closed[0].Lasted < time.Hour || closed[0].Open > 15*time.Second {
			t.Errorf("at the end: %+v", closed)
		}
	})
}

// The episode counts the requests that waited, whatever became of them, and those that were
// refused: since they have too little time, or after they waited for too long.
func TestEpisodeCountsRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e episodes
		s := newService(reply{status: 429})
		c := newClient(throttle.New(e.config(throttle.Config{Max: 1, Retries: 9})), s)
		var group sync.WaitGroup
		send := func(n int, least time.Duration) {
			for range n {
				group.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), least)
					defer cancel()
					_, _ = c.get(ctx, "x")
				})
			}
			synctest.Wait()
		}
		send(3, time.Minute) // one of them opens it, while the others wait for a place
		time.Sleep(latency)
		synctest.Wait()
		send(4, time.Minute)      // while it is open
		send(5, time.Millisecond) // with too little time
		group.Wait()              // nobody waits for longer than 8 s
		s.set(reply{})
		time.Sleep(time.Minute)
		c.must(t, "x") // waits for nothing: it is the probe
		_, closed := e.after(2 * time.Minute)
		if len(closed) != 1 || closed[0].Waited != 7 || closed[0].Refused != 5+7 {
			t.Errorf("got %+v", closed)
		}
		s.next = []reply{{status: 429}}
		send(3, time.Minute) // two of which wait for a place when it opens
		group.Wait()
		_, closed = e.after(2 * time.Minute)
		if len(closed) != 2 || closed[1].Waited != 3 || closed[1].Refused != 0 {
			t.Errorf("got %+v", closed)
		}
	})
}
