package entra

import (
	"cmp"
	"context"
	"sync"
	"time"

	"akv-csi-provider/provider/tally"
)

// flight lets concurrent callers share one look at something that is the same for
// all of them. Never for what depends on who asks. The zero value is ready.
type flight[T any] struct {
	most time.Duration // bounds the shared work; 0 is flightTime

	mu    sync.Mutex // guards what follows, and the waiters of each
	under map[string]*shared[T]
}

// flightTime bounds the shared work.
const flightTime = 10 * time.Second

// shared is work that is under way.
type shared[T any] struct {
	waiters int
	cancel  context.CancelFunc

	done chan struct{} // closed when what follows is set
	landing[T]
}

// landing is how work ended.
type landing[T any] struct {
	result   T
	err      error
	late     bool // its time was over
	panicked bool
	value    any // of the panic
}

// do returns the result of the work that is under way for the key, or starts it. The
// work has a context of its own, since a caller that gives up must not fail the
// others, and nothing of one caller's context may reach them; it ends when all have
// given up. It has no more time than whoever started it, but for a moment in which that
// one hears why it failed; who joined it and has more starts it once more. Its requests
// are counted for the one that started it. The error is
// the work's, or that of ctx.
func (f *flight[T]) do(ctx context.Context, key string, work func(context.Context) (T, error)) (T, error) {
	var none T
	for {
		if ctx.Err() != nil {
			return none, ctx.Err()
		}
		s, mine := f.join(ctx, key, work)
		select {
		case <-ctx.Done():
			f.leave(key, s)
			return none, ctx.Err()
		case <-s.done:
		}
		switch {
		case s.panicked:
			panic(s.value) // in the mount that waits, which recovers
		case s.err == nil:
			return s.result, nil
		case mine || !s.late:
			return none, s.err
		}
	}
}

// join counts a caller in, and starts the work for the first.
func (f *flight[T]) join(ctx context.Context, key string, work func(context.Context) (T, error)) (s *shared[T], mine bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s = f.under[key]; s != nil {
		s.waiters++
		return s, false
	}
	own, cancel := context.WithTimeout(tally.Of(ctx).Pay(context.Background()), f.time(ctx))
	s = &shared[T]{waiters: 1, cancel: cancel, done: make(chan struct{})}
	if f.under == nil {
		f.under = map[string]*shared[T]{}
	}
	f.under[key] = s
	go func() {
		defer cancel()
		s.landing = land(own, work)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.remove(key, s)
		close(s.done)
	}()
	return s, true
}

// leave counts a caller out. Whoever comes after the last starts anew.
func (f *flight[T]) leave(key string, s *shared[T]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.waiters--; s.waiters == 0 {
		s.cancel()
		f.remove(key, s)
	}
}

func (f *flight[T]) remove(key string, s *shared[T]) {
	if f.under[key] == s {
		delete(f.under, key)
	}
}

// time is how long work may take that this caller starts.
func (f *flight[T]) time(ctx context.Context) time.Duration {
	most := cmp.Or(f.most, flightTime)
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		most = min(most, left-min(left/10, 100*time.Millisecond))
	}
	return most
}

// land does the work. A panic in it would end the process here.
func land[T any](ctx context.Context, work func(context.Context) (T, error)) (end landing[T]) {
	defer func() {
		if value := recover(); value != nil {
			end = landing[T]{panicked: true, value: value}
		}
	}()
	end.result, end.err = work(ctx)
	end.late = ctx.Err() != nil
	return end
}
