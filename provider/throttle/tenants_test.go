package throttle_test

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/throttle"
)

// Requests of one tenant that take their time leave places to those of others, and alone
// use three quarters of all.
func TestTenantsShareThePlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(reply{})
		th := throttle.New(throttle.Config{Max: 80})
		c := newClient(th, transport(func(req *http.Request) (*http.Response, error) {
			if path.Base(req.URL.Path) == "slow" {
				time.Sleep(10 * time.Second)
			}
			return s.Do(req)
		}))
		var group sync.WaitGroup
		for range 500 {
			group.Go(func() { _, _ = c.get(fair.WithTenant(t.Context(), "a"), "slow") })
		}
		synctest.Wait()
		if inUse, waiting, _ := th.State(); inUse != 60 || waiting != 440 {
			t.Errorf("alone: %d places in use, %d requests wait", inUse, waiting)
		}
		for range 100 { // also when places of the first tenant become free
			time.Sleep(99 * time.Millisecond)
			var others sync.WaitGroup
			start := time.Now()
			for i := range 10 {
				others.Go(func() {
					tenant := []string{"b", "c"}[i%2]
					if status, err := c.get(fair.WithTenant(t.Context(), tenant), "fast"); status != http.StatusOK || err != nil || time.Since(start) != latency {
						t.Errorf("%s: got %d, %v after %s", tenant, status, err, time.Since(start))
					}
				})
			}
			others.Wait()
		}
		group.Wait()
		checkFree(t, th)
	})
}

// Of equally urgent requests, that of the tenant with the fewest places goes first. Urgent
// ones precede all others.
func TestTenantWithTheFewestPlacesGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(reply{})
		th := throttle.New(throttle.Config{Max: 1})
		c := newClient(th, s)
		var group sync.WaitGroup
		do := func(tenant, name string, u urgency) {
			ctx := throttle.WithTrace(fair.WithTenant(t.Context(), tenant), u, nil)
			group.Go(func() { _, _ = c.get(ctx, name) })
			synctest.Wait()
		}
		do("a", "a1", urgent)
		do("a", "rotation of a", notUrgent)
		do("b", "rotation of b", notUrgent)
		do("a", "a2", urgent)
		do("b", "b1", urgent)
		group.Wait()
		// With one place, no tenant has one when it becomes free: it goes by arrival.
		if want := []string{"a1", "a2", "b1", "rotation of a", "rotation of b"}; !slices.Equal(s.names, want) {
			t.Errorf("got %q, want %q", s.names, want)
		}
		s.names, c = nil, newClient(throttle.New(throttle.Config{Max: 8}), s)
		for i := range 8 {
			do("a", fmt.Sprint("a", i), urgent) // of which six leave
		}
		for i := range 3 {
			do("b", fmt.Sprint("b", i), urgent) // of which one leaves
		}
		do("c", "c0", notUrgent) // and this one
		group.Wait()
		slices.Sort(s.names[:8])
		if want := []string{"a0", "a1", "a2", "a3", "a4", "a5", "b0", "c0"}; len(s.names) != 12 || !slices.Equal(s.names[:8], want) {
			t.Errorf("got %q, want %q first", s.names, want)
		}
	})
}

// A request that wants no place any more, for whatever reason, takes none of its tenant's.
func TestTenantsPlacesAreReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(reply{})
		th := throttle.New(throttle.Config{Max: 4})
		c := newClient(th, s)
		for range 5 {
			ctx, cancel := context.WithCancel(fair.WithTenant(t.Context(), "a"))
			var group sync.WaitGroup
			for range 20 {
				group.Go(func() { _, _ = c.get(ctx, "x") })
			}
			time.Sleep(latency / 2)
			cancel()
			group.Wait()
			checkFree(t, th)
		}
	})
}
