package entra

import (
	"context"
	"time"

	"golang.org/x/sync/singleflight"
)

// flight lets concurrent callers share one look at something that is the same for
// all of them. Never for what depends on who asks. The zero value is ready.
type flight[T any] struct{ group singleflight.Group }

// flightTime bounds the shared work.
const flightTime = 10 * time.Second

// do returns the result of the work that is under way for the key, or starts it. The
// work has a context of its own, since a caller that gives up must not fail the
// others, and nothing of one caller's context may reach them. The error is the
// work's, or that of ctx.
func (f *flight[T]) do(ctx context.Context, key string, work func(context.Context) (T, error)) (T, error) {
	type panicked struct{ value any }
	done := f.group.DoChan(key, func() (result any, err error) {
		ctx, cancel := context.WithTimeout(context.Background(), flightTime)
		defer cancel()
		// singleflight would end the process; see below.
		defer func() {
			if value := recover(); value != nil {
				result, err = panicked{value}, nil
			}
		}()
		return work(ctx)
	})
	var none T
	select {
	case <-ctx.Done():
		return none, ctx.Err()
	case r := <-done:
		if p, ok := r.Val.(panicked); ok {
			panic(p.value) // in the mount that waits, which recovers
		}
		if r.Err != nil {
			return none, r.Err
		}
		return r.Val.(T), nil
	}
}
