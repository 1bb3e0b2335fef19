package provider

import (
	"context"
	"errors"

	"akv-csi-provider/provider/fault"
)

// each makes n reads, at most window of them at a time. start(i) starts read i and returns at
// once; the function that it returns waits for the answer or error, which done(i) then receives. Both are
// called in the order of i, in the goroutine of the mount: a goroutine for each read of each mount
// would take 5 MiB when 500 pods start. The errors are by index, and a panic is the
// error of its read. When ctx ends, no further read starts; nor when the first maxFailed have all
// failed, as their errors take memory, and the others would likely fail alike.
func each[T any](ctx context.Context, n, window int, start func(i int) func() (T, error), done func(i int, value T, err error) error) []error {
	errs := make([]error, n)
	waits := make([]func() (T, error), n)
	started, failed := 0, 0
	for i := range n {
		hopeless := failed == i && failed >= maxFailed
		for ; started < n && started < i+max(window, 1) && ctx.Err() == nil && !hopeless; started++ {
			waits[started] = startOne(started, start)
		}
		if i == started {
			errs[i] = ctx.Err() // nothing more starts
			break
		}
		if errs[i] = finishOne(ctx, i, waits[i], done); errs[i] != nil {
			failed++
		}
		waits[i] = nil
	}
	return errs
}

// maxFailed is how many reads of a mount may fail with none that succeeds.
const maxFailed = 2 * fault.MaxNamed

// startOne starts a read. A panic becomes the error for which its caller waits.
func startOne[T any](i int, start func(i int) func() (T, error)) (wait func() (T, error)) {
	var err error
	defer func() {
		if err != nil {
			wait = func() (none T, _ error) { return none, err }
		}
	}()
	defer fault.Recover(&err)
	return start(i)
}

// finishOne waits for a read and passes on its answer, unless the caller has left: answers that
// are cached come all the same, and what is done with them takes time.
func finishOne[T any](ctx context.Context, i int, wait func() (T, error), done func(i int, value T, err error) error) (err error) {
	defer fault.Recover(&err)
	value, err := wait()
	if err == nil && errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return done(i, value, err)
}
