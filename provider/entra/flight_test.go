package entra

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Callers that come while work is under way wait for it, each as long as it likes.
func TestFlightIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type mark struct{}
		var f flight[int]
		started, gate := 0, make(chan struct{})
		work := func(ctx context.Context) (int, error) {
			started++
			if ctx.Value(mark{}) != nil {
				t.Error("the context of one caller is in the shared work")
			}
			select {
			case <-gate:
				return 7, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		first, leave := context.WithCancel(context.WithValue(t.Context(), mark{}, 1))
		var callers sync.WaitGroup
		callers.Go(func() {
			if _, err := f.do(first, "key", work); !errors.Is(err, context.Canceled) {
				t.Errorf("who left got %v", err)
			}
		})
		synctest.Wait()
		for range 20 {
			callers.Go(func() {
				if got, err := f.do(t.Context(), "key", work); got != 7 || err != nil {
					t.Errorf("got %d, %v", got, err)
				}
			})
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		close(gate)
		callers.Wait()
		if started != 1 {
			t.Errorf("the work was started %d times", started)
		}
	})
}

// Work that nobody ends is ended, on the bubble's clock.
func TestFlightIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flight[int]
		_, err := f.do(t.Context(), "key", func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// A panic is that of every mount that waits, not of the process.
func TestFlightPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flight[int]
		gate := make(chan struct{})
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() {
				defer func() {
					if value := recover(); value != "broken" {
						t.Errorf("recovered %v", value)
					}
				}()
				_, _ = f.do(t.Context(), "key", func(context.Context) (int, error) {
					<-gate
					panic("broken")
				})
			})
		}
		synctest.Wait()
		close(gate)
		callers.Wait()
		if got, err := f.do(t.Context(), "key", func(context.Context) (int, error) { return 1, nil }); got != 1 || err != nil {
			t.Errorf("after it: %d, %v", got, err)
		}
	})
}

// When all have given up, the work ends, and whoever comes next does not wait for it.
func TestFlightThatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flight[int]
		ended := make(chan struct{})
		ctx, leave := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() {
				_, err := f.do(ctx, "key", func(ctx context.Context) (int, error) {
					<-ctx.Done()
					time.Sleep(time.Second) // it does not heed its context at once
					close(ended)
					return 0, ctx.Err()
				})
				if !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			})
		}
		synctest.Wait()
		leave()
		callers.Wait()
		start := time.Now()
		if got, err := f.do(t.Context(), "key", func(context.Context) (int, error) { return 1, nil }); got != 1 || err != nil || time.Since(start) > 0 {
			t.Errorf("after it: %d, %v in %s", got, err, time.Since(start))
		}
		// What ended late does not take the place of what is under way.
		slow := func(context.Context) (int, error) { time.Sleep(3 * time.Second); return 2, nil }
		callers.Go(func() { _, _ = f.do(t.Context(), "key", slow) })
		<-ended
		synctest.Wait()
		if got, err := f.do(t.Context(), "key", nil); got != 2 || err != nil {
			t.Errorf("got %d, %v", got, err)
		}
		callers.Wait()
		if len(f.under) != 0 {
			t.Errorf("%d are under way", len(f.under))
		}
	})
}

// Who shares the time of another, and has more, starts the work once more; who has none
// does not start it.
func TestFlightOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flight[int]
		started := 0
		work := func(ctx context.Context) (int, error) {
			if started++; started > 1 {
				return 7, nil
			}
			<-ctx.Done()
			return 0, errors.New("mute")
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var callers sync.WaitGroup
		callers.Go(func() {
			if _, err := f.do(short, "key", work); err == nil || err.Error() != "mute" {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		for range 3 {
			callers.Go(func() {
				if got, err := f.do(t.Context(), "key", work); got != 7 || err != nil {
					t.Errorf("got %d, %v", got, err)
				}
			})
		}
		callers.Wait()
		cancel()
		before := started
		if _, err := f.do(short, "key", work); err == nil || started != before {
			t.Errorf("got %v; started %d times", err, started-before)
		}
	})
}
