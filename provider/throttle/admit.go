package throttle

import (
	"net/http"
	"slices"
	"time"
)

// waiter is an attempt that may not leave yet.
type waiter struct {
	trace    Trace
	admitted chan admission // capacity 1
}

// admission ends a wait: with a place, or with an answer instead.
type admission struct {
	probe  bool    // the place is for the one request that goes through an open circuit
	answer *answer // of another request's attempt, which counts as one of this request; nil for a place
	final  bool    // this request has no time for another attempt
}

// enter waits for a place. Its error is the context's.
func (t *Throttle) enter(req *http.Request, trace Trace) (admission, error) {
	ctx := req.Context()
	if ctx.Err() != nil {
		return admission{}, ctx.Err()
	}
	t.mu.Lock()
	if !t.open.IsZero() {
		cause := t.cause
		if deadline, ok := ctx.Deadline(); ok && deadline.Before(t.open) {
			defer t.mu.Unlock()
			return admission{answer: cause, final: true}, nil
		}
		t.mu.Unlock()
		trace.Retrying(cause.failure(req)) // before it waits: a panic must not keep a place
		t.mu.Lock()
	}
	w := &waiter{trace: trace, admitted: make(chan admission, 1)}
	t.waiters = append(t.waiters, w)
	t.admit()
	t.mu.Unlock()
	select {
	case a := <-w.admitted:
		return a, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case a := <-w.admitted: // at the same moment, so the place is given back
		if a.answer == nil {
			t.release(a.probe)
		}
	default:
		t.remove(w)
	}
	return admission{}, ctx.Err()
}

// remove removes a request that gave up. The lock is held.
func (t *Throttle) remove(w *waiter) {
	if i := slices.Index(t.waiters, w); i >= 0 {
		t.waiters = slices.Delete(t.waiters, i, i+1) // which also drops its trace, and what that refers to
	}
}

// admit gives free places to the requests that wait: urgent ones first, otherwise in the order
// in which they came. The lock is held.
func (t *Throttle) admit() {
	for len(t.waiters) > 0 {
		probe := !t.open.IsZero()
		switch {
		case probe && (t.probing || time.Now().Before(t.open)), !probe && t.inUse >= t.cfg.Max:
			return
		}
		next := 0
		for i, w := range t.waiters {
			if w.trace.Urgent() {
				next = i
				break
			}
		}
		w := t.waiters[next]
		t.waiters = slices.Delete(t.waiters, next, next+1)
		t.inUse++
		t.probing = probe
		w.admitted <- admission{probe: probe}
	}
}

// release gives back a place. The lock is held.
func (t *Throttle) release(probe bool) {
	t.inUse--
	if probe {
		t.probing = false
	}
	t.admit()
}

// leave gives back the place of an attempt, and opens or closes the circuit by its result.
func (t *Throttle) leave(r Result, probe bool, last *answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.release(probe) // also if OnOpen panics
	switch r.Outcome {
	case OK:
		t.failures = 0
		if probe {
			t.open, t.backoff, t.cause = time.Time{}, 0, nil
		}
	case Throttled:
		if t.open.IsZero() || probe {
			t.openCircuit(r.RetryAfter, probe, last.copied())
		}
	case Unavailable:
		if t.failures++; probe || t.open.IsZero() && t.failures >= failureThreshold {
			t.openCircuit(r.RetryAfter, probe, last.copied())
		}
	}
}

// openCircuit admits no request for a while. If a probe failed, the requests that wait fail
// with it. The lock is held.
func (t *Throttle) openCircuit(after time.Duration, probe bool, cause *answer) {
	t.backoff = min(max(minBackoff, 2*t.backoff), maxBackoff)
	pause := jitter(max(t.backoff, min(after, maxRetryAfter)))
	t.open, t.cause = time.Now().Add(pause), cause
	if probe {
		for _, w := range t.waiters {
			w.admitted <- admission{answer: cause}
		}
		t.waiters = nil
	}
	time.AfterFunc(pause, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.admit()
	})
	if t.cfg.OnOpen != nil {
		t.cfg.OnOpen(pause)
	}
}
