package gate_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/gate"
)

var (
	errBusy  = errors.New("busy")
	errAway  = errors.New("away")
	errFinal = errors.New("final")
	errAgain = errors.New("again")
)

func judge(err error) gate.Verdict {
	switch {
	case errors.Is(err, errBusy):
		return gate.Verdict{News: gate.Busy}
	case errors.Is(err, errAway), errors.Is(err, context.DeadlineExceeded):
		return gate.Verdict{News: gate.Away}
	case errors.Is(err, errAgain):
		return gate.Verdict{News: gate.Alive, Again: true}
	case errors.Is(err, context.Canceled):
		return gate.Verdict{News: gate.None}
	}
	return gate.Verdict{News: gate.Alive}
}

func urgent() bool  { return true }
func patient() bool { return false }

// service answers with what it holds, each time 20 ms after it was asked.
type service struct {
	mu    sync.Mutex // guards what follows
	err   error
	asked []time.Duration // since its start
	start time.Time
	names []string
}

func newService() *service { return &service{start: time.Now()} }

func (s *service) is(err error) { s.mu.Lock(); defer s.mu.Unlock(); s.err = err }

func (s *service) try(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		s.mu.Lock()
		s.asked, s.names = append(s.asked, time.Since(s.start)), append(s.names, name)
		err := s.err
		s.mu.Unlock()
		select {
		case <-time.After(20 * time.Millisecond):
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *service) count() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.asked) }

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		name  string
		err   error
		tries int
		most  time.Duration
	}{
		{"success", nil, 1, 20 * time.Millisecond},
		{"refusal", errFinal, 1, 20 * time.Millisecond},
		{"refusal that may pass", errAgain, 4, 2 * time.Second},
		{"away", errAway, 4, 2 * time.Second},
		{"busy", errBusy, 4, 12 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newService()
				s.is(c.err)
				g := gate.New(gate.Config{Max: 2, Retries: 3})
				if err := g.Do(t.Context(), urgent, s.try(""), judge); !errors.Is(err, c.err) || s.count() != c.tries || time.Since(s.start) > c.most {
					t.Errorf("got %v after %d tries in %v", err, s.count(), time.Since(s.start))
				}
			})
		})
	}
}

// A lone failure is over after a tenth of a second.
func TestQuickRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService()
		g := gate.New(gate.Config{Max: 1, Retries: 3})
		s.is(errAway)
		time.AfterFunc(50*time.Millisecond, func() { s.is(nil) })
		if err := g.Do(t.Context(), urgent, s.try(""), judge); err != nil || s.count() != 2 || time.Since(s.start) > 170*time.Millisecond {
			t.Errorf("got %v after %d tries in %v", err, s.count(), time.Since(s.start))
		}
	})
}

func TestMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Max: 3})
		s := newService()
		var group sync.WaitGroup
		for range 30 {
			group.Go(func() {
				if err := g.Do(t.Context(), patient, s.try(""), judge); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if took := time.Since(s.start); took != 200*time.Millisecond {
			t.Errorf("30 tries, 3 at a time, took %v", took)
		}
	})
}

// When a closed gate opens, one goes first and alone; then those that a pod's start
// waits for, in their order, and then the others.
func TestUrgentGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Max: 1, Retries: 3})
		s := newService()
		s.is(errBusy)
		var group sync.WaitGroup
		do := func(name string, urgent func() bool) {
			group.Go(func() {
				if err := g.Do(t.Context(), urgent, s.try(name), judge); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		do("closer", patient)
		time.Sleep(30 * time.Millisecond)
		s.is(nil)
		var becomes atomic.Bool
		do("rotation 1", patient)
		do("joined", becomes.Load)
		do("first 1", urgent)
		do("first 2", urgent)
		becomes.Store(true)
		group.Wait()
		// Who closed it came back before all that came later, but is not urgent.
		if want := []string{"closer", "joined", "first 1", "first 2", "closer", "rotation 1"}; !slices.Equal(s.names, want) {
			t.Errorf("got %q, want %q", s.names, want)
		}
	})
}

// While a service is away, one try is made for all, less and less often, and all that
// wait fail with it.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed []time.Duration
		g := gate.New(gate.Config{Max: 32, Retries: 3, Closed: func(d time.Duration) { closed = append(closed, d) }})
		s := newService()
		s.is(errAway)
		for range 2 { // after which it is away
			_ = g.Do(t.Context(), urgent, s.try(""), judge)
		}
		time.Sleep(time.Minute)
		before, start := s.count(), time.Now()
		var group sync.WaitGroup
		for range 500 {
			group.Go(func() {
				if err := g.Do(t.Context(), urgent, s.try(""), judge); !errors.Is(err, errAway) {
					t.Errorf("got %v", err)
				}
			})
		}
		group.Wait()
		if took := time.Since(start); s.count()-before != 4 || took > 2*time.Minute {
			t.Errorf("%d tries for 500 callers in %v", s.count()-before, took)
		}
		if len(closed) < 6 || closed[0] > 2*time.Second || slices.Max(closed) > 13*time.Second || slices.Max(closed) < 10*time.Second {
			t.Errorf("closed for %v", closed)
		}
		s.is(nil)
		if err := g.Do(t.Context(), urgent, s.try(""), judge); err != nil {
			t.Error(err)
		}
		if err := g.Do(t.Context(), urgent, s.try(""), judge); err != nil || g == nil {
			t.Error(err)
		}
	})
}

// Some failures among many successes close nothing.
func TestSomeFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Max: 8, Closed: func(time.Duration) { t.Error("closed") }})
		for i := range 100 {
			_ = g.Do(t.Context(), urgent, func(context.Context) error {
				if i%4 > 0 {
					return errAway
				}
				return nil
			}, judge)
		}
	})
}

func TestRestAsItIsAskedFor(t *testing.T) {
	for ask, most := range map[time.Duration]time.Duration{5 * time.Second: 7 * time.Second, 24 * time.Hour: 80 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			g := gate.New(gate.Config{Max: 1, Retries: 1})
			s := newService()
			s.is(errBusy)
			time.AfterFunc(time.Second, func() { s.is(nil) })
			err := g.Do(t.Context(), urgent, s.try(""), func(err error) gate.Verdict { return gate.Verdict{News: gate.Busy, Rest: ask} })
			if took := time.Since(s.start); err != nil || took < min(ask, time.Minute) || took > most {
				t.Errorf("got %v after %v", err, took)
			}
		})
	}
}

// Who has less time than the gate stays closed is told so at once.
func TestTooLittleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Max: 1})
		s := newService()
		s.is(errBusy)
		_ = g.Do(t.Context(), urgent, s.try(""), judge)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		start := time.Now()
		if err := g.Do(ctx, urgent, s.try(""), judge); !errors.Is(err, errBusy) || time.Since(start) > 0 || s.count() != 1 {
			t.Errorf("got %v after %v and %d tries", err, time.Since(start), s.count())
		}
	})
}

// A caller that goes while it waits, or while it tries, costs nobody a place.
func TestCallersThatLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Max: 1})
		s := newService()
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() {
				if err := g.Do(ctx, urgent, s.try(""), judge); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			})
		}
		synctest.Wait()
		cancel()
		group.Wait()
		if err := g.Do(ctx, urgent, s.try(""), judge); !errors.Is(err, context.Canceled) || s.count() != 1 {
			t.Errorf("got %v after %d tries", err, s.count())
		}
		for range 3 {
			if err := g.Do(t.Context(), urgent, s.try(""), judge); err != nil {
				t.Error(err)
			}
		}
	})
}

// A probe that nobody waits for any more says nothing; the next caller is the probe.
func TestProbeThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Max: 1})
		s := newService()
		s.is(errBusy)
		_ = g.Do(t.Context(), urgent, s.try(""), judge)
		time.Sleep(2 * time.Second)
		s.is(nil)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		if err := g.Do(ctx, urgent, s.try(""), judge); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if err := g.Do(t.Context(), urgent, s.try(""), judge); err != nil {
			t.Error(err)
		}
	})
}

func TestPanicGivesThePlaceBack(t *testing.T) {
	g := gate.New(gate.Config{Max: 1})
	for range 2 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			_ = g.Do(t.Context(), urgent, func(context.Context) error { panic("a bug") }, judge)
		}()
	}
	if err := g.Do(t.Context(), urgent, func(context.Context) error { return nil }, judge); err != nil {
		t.Error(err)
	}
}

func TestTryTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Max: 1, Retries: 1, TryTimeout: time.Second})
		start := time.Now()
		err := g.Do(t.Context(), urgent, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, judge)
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took < 2*time.Second || took > 3*time.Second {
			t.Errorf("got %v after %v", err, took)
		}
	})
}
