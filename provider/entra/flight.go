package entra

import (
	"cmp"
	"context"
	"time"

	"golang.org/x/sync/singleflight"
)

// flight lets concurrent callers share one look at something that is the same for
// all of them. Never for what depends on who asks. The zero value is ready.
type flight[T any] struct {
	group singleflight.Group
	most  time.Duration // bounds the shared work; 0 is flightTime
}

// flightTime bounds the shared work.
const flightTime = 10 * time.Second

// landing is how shared work ended.
type landing[T any] struct {
	result   T
	err      error
	late     bool // its time was over
	panicked bool
	value    any // of the panic
}

// do returns the result of the work that is under way for the key, or starts it. The
// work has a context of its own, since a caller that gives up must not fail the
// others, and nothing of one caller's context may reach them. It has no more time
// than whoever started it, but for a moment in which that one hears why it failed; who
// joined it and has more starts it once more. The error is the work's, or that of ctx.
func (f *flight[T]) do(ctx context.Context, key string, work func(context.Context) (T, error)) (T, error) {
	var none T
	for {
		if ctx.Err() != nil {
			return none, ctx.Err()
		}
		mine, most := false, f.time(ctx)
		done := f.group.DoChan(key, func() (any, error) {
			mine = true
			return land(most, work), nil
		})
		select {
		case <-ctx.Done():
			return none, ctx.Err()
		case r := <-done:
			switch end := r.Val.(landing[T]); {
			case end.panicked:
				panic(end.value) // in the mount that waits, which recovers
			case end.err == nil:
				return end.result, nil
			case mine || !end.late:
				return none, end.err
			}
		}
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

// land does the work. singleflight would end the process with a panic in it.
func land[T any](most time.Duration, work func(context.Context) (T, error)) (end landing[T]) {
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	defer func() {
		if value := recover(); value != nil {
			end = landing[T]{panicked: true, value: value}
		}
	}()
	end.result, end.err = work(ctx)
	end.late = ctx.Err() != nil
	return end
}
