package fair_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fair"
)

// take admits as many as fit without waiting.
func take(s *fair.Semaphore, tenant string, weight int64) (n int, release []func()) {
	for {
		give, ok := s.TryAcquire(tenant, weight)
		if !ok {
			return n, release
		}
		n, release = n+1, append(release, give)
	}
}

// One tenant alone takes three quarters, or half; each newcomer finds a place.
func TestShares(t *testing.T) {
	for _, test := range []struct {
		most          fair.Share
		first, second int
	}{{fair.ThreeQuarters, 36, 9}, {fair.Half, 24, 12}} {
		s := fair.New(48, test.most)
		if n, _ := take(s, "a", 1); n != test.first {
			t.Errorf("the first tenant has %d of 48, want %d", n, test.first)
		}
		if n, _ := take(s, "b", 1); n != test.second {
			t.Errorf("the second has %d of the %d left, want %d", n, 48-test.first, test.second)
		}
		for i := range 48 - test.first - test.second {
			if _, ok := s.TryAcquire(fmt.Sprint("newcomer ", i), 1); !ok {
				t.Errorf("newcomer %d has no place", i)
			}
		}
		if _, ok := s.TryAcquire("too late", 1); ok {
			t.Error("more than the size is admitted")
		}
	}
}

// What is released is free again, and a second release changes nothing.
func TestRelease(t *testing.T) {
	s := fair.New(4, fair.ThreeQuarters)
	_, release := take(s, "a", 1)
	for range 3 {
		release[0]()
	}
	if n, _ := take(s, "a", 1); n != 1 {
		t.Errorf("%d places after one was released", n)
	}
}

// A weight above the size, or none, is one that can be had.
func TestOddWeights(t *testing.T) {
	s := fair.New(10, fair.ThreeQuarters)
	release, err := s.Acquire(t.Context(), "a", 1000)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.TryAcquire("b", 0); ok {
		t.Error("something fits beside all of it")
	}
	release()
	if n, _ := take(s, "b", 0); n != 7 {
		t.Errorf("%d of weight 0 are admitted", n)
	}
}

// Tenants that wait are served in turn, however many waiters one of them has.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fair.New(1, fair.ThreeQuarters)
		hold, err := s.Acquire(t.Context(), "a", 1)
		if err != nil {
			t.Fatal(err)
		}
		order := make(chan string, 100)
		wait := func(tenant string, n int) {
			for range n {
				go func() {
					release, err := s.Acquire(t.Context(), tenant, 1)
					if err != nil {
						t.Error(err)
						return
					}
					order <- tenant
					time.Sleep(time.Second)
					release()
				}()
				synctest.Wait()
			}
		}
		wait("a", 5)
		wait("b", 2)
		wait("c", 1)
		hold()
		got := ""
		for range 8 {
			got += <-order
		}
		time.Sleep(time.Minute)
		if got != "abcabaaa" {
			t.Errorf("served %s", got)
		}
	})
}

// A caller that leaves gives up its turn, also at the moment at which it is admitted.
func TestLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fair.New(1, fair.ThreeQuarters)
		hold, _ := s.TryAcquire("a", 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Acquire(ctx, "b", 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		hold()
		if _, ok := s.TryAcquire("c", 1); !ok {
			t.Error("the place of the caller that left is lost")
		}
	})
}

// Whatever happens, no more than the size is admitted, everything is released, and every
// waiter is served.
func TestRandom(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			size := 1 + random.Int64N(20)
			s := fair.New(size, fair.ThreeQuarters)
			used, left, served := int64(0), 0, 0
			const callers = 60
			done := make(chan int64, callers) // what was admitted; 0 for a caller that left
			for range callers {
				tenant, weight := fmt.Sprint(random.IntN(4)), 1+random.Int64N(size)
				patience, work := time.Duration(1+random.IntN(50))*time.Second, time.Duration(random.IntN(3000))*time.Millisecond
				if random.IntN(3) > 0 {
					patience = time.Hour
				}
				start := time.Duration(random.IntN(10)) * time.Second
				go func() {
					time.Sleep(start)
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					release, err := s.Acquire(ctx, tenant, weight)
					if err != nil {
						done <- 0
						return
					}
					done <- weight
					time.Sleep(work)
					done <- -weight
					release()
				}()
			}
			for left+served < callers || used > 0 {
				switch n := <-done; {
				case n == 0:
					left++
				case n > 0:
					served++
					used += n
				default:
					used += n
				}
				if used > size {
					t.Fatalf("seed %d: %d of %d admitted", seed, used, size)
				}
			}
			synctest.Wait()
			if _, ok := s.TryAcquire("x", size); !ok {
				t.Fatalf("seed %d: not all was released", seed)
			}
		})
	}
}

func TestTenant(t *testing.T) {
	if got := fair.Tenant(t.Context()); got != "" {
		t.Errorf("got %q", got)
	}
	if got := fair.Tenant(fair.WithTenant(t.Context(), "shop")); got != "shop" {
		t.Errorf("got %q", got)
	}
}
