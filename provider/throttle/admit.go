package throttle

import (
	"net/http"
	"slices"
	"time"

	"akv-csi-provider/provider/fair"
)

// waiter is an attempt that may not leave yet.
type waiter struct {
	visit    *visit
	tenant   string
	admitted chan admission // capacity 1
}

// admission ends a wait: with a place, or with an answer instead.
type admission struct {
	tenant string  // that has the place
	probe  bool    // the place is for the one request that goes through an open circuit
	answer *answer // of another request's attempt, which counts as one of this request; nil for a place
	final  bool    // this request has no time for another attempt
}

// enter waits for a place, but not once the circuit has been open for maxOpenWait since the
// request came. Its error is the context's.
func (t *Throttle) enter(req *http.Request, v *visit) (admission, error) {
	ctx := req.Context()
	if ctx.Err() != nil {
		return admission{}, ctx.Err()
	}
	t.mu.Lock()
	if !t.open.IsZero() {
		cause := t.cause
		deadline, ok := ctx.Deadline()
		if ok && deadline.Before(t.open) || time.Until(t.open) > t.patience(v) {
			defer t.mu.Unlock()
			return t.refused(), nil
		}
		if t.probing || time.Now().Before(t.open) {
			t.waits(v)
		}
		t.mu.Unlock()
		v.trace.Retrying(cause.failure(req)) // before it waits: a panic must not occupy a place
		t.mu.Lock()
	}
	w := &waiter{visit: v, tenant: fair.Tenant(ctx), admitted: make(chan admission, 1)}
	t.waiters = append(t.waiters, w)
	t.admit()
	t.mu.Unlock()
	timer := time.NewTimer(maxOpenWait)
	defer timer.Stop()
	for {
		select {
		case a := <-w.admitted:
			return a, nil
		case <-timer.C:
			if a, over := t.expired(w, timer); over {
				return a, nil
			}
			continue
		case <-ctx.Done():
		}
		break
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case a := <-w.admitted: // at the same moment, so the place is released
		if a.answer == nil {
			t.release(a)
		}
	default:
		t.remove(w)
	}
	return admission{}, ctx.Err()
}

// expired ends the wait of a request for which the circuit was open for too long, with the
// failure that opened it. Otherwise it sets the timer to when that may be.
func (t *Throttle) expired(w *waiter, timer *time.Timer) (a admission, over bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := t.patience(w.visit)
	if t.open.IsZero() || left > 0 || len(w.admitted) > 0 {
		timer.Reset(max(left, time.Second))
		return a, false
	}
	t.remove(w)
	return t.refused(), true
}

// patience is for how much longer a request waits for an open circuit. The lock is held.
func (t *Throttle) patience(v *visit) time.Duration {
	return maxOpenWait - (t.openTime() - v.openFor)
}

// openTime is for how long the circuit has been open in all. The lock is held.
func (t *Throttle) openTime() time.Duration {
	if t.open.IsZero() {
		return t.wasOpen
	}
	return t.wasOpen + time.Since(t.opened)
}

// remove removes a request that gave up. The lock is held.
func (t *Throttle) remove(w *waiter) {
	if i := slices.Index(t.waiters, w); i >= 0 {
		t.waiters = slices.Delete(t.waiters, i, i+1) // which also drops its visit, and what that refers to
	}
}

// admit gives free places to the requests that wait. The lock is held.
func (t *Throttle) admit() {
	for len(t.waiters) > 0 {
		probe := !t.open.IsZero()
		if probe && (t.probing || time.Now().Before(t.open)) {
			return
		}
		next := t.next(probe)
		if next < 0 {
			return
		}
		w := t.waiters[next]
		t.waiters = slices.Delete(t.waiters, next, next+1)
		t.inUse++
		t.held[w.tenant]++
		t.probing = probe
		w.admitted <- admission{tenant: w.tenant, probe: probe}
	}
}

// next returns the index of the waiter that is admitted next, -1 if none may be: urgent ones
// first, then those of the tenant with the fewest places, otherwise in the order in which they
// came. A probe needs no free place. The lock is held.
func (t *Throttle) next(probe bool) int {
	next, urgent, held := -1, false, 0
	if !probe && t.inUse >= t.cfg.Max {
		return next
	}
	for i, w := range t.waiters {
		has := t.held[w.tenant]
		if next >= 0 && urgent && has >= held || !probe && !fair.ThreeQuarters.Fits(int64(t.cfg.Max), int64(t.inUse), int64(has), 1) {
			continue
		}
		if u := w.visit.trace.Urgent(); next < 0 || u && !urgent || u == urgent && has < held {
			next, urgent, held = i, u, has
		}
		if urgent && held == 0 {
			break // none has a higher priority
		}
	}
	return next
}

// release frees a place. The lock is held.
func (t *Throttle) release(place admission) {
	t.inUse--
	if t.held[place.tenant]--; t.held[place.tenant] == 0 {
		delete(t.held, place.tenant)
	}
	if place.probe {
		t.probing = false
	}
	t.admit()
}

// leave frees the place of an attempt, and opens or closes the circuit by its result.
func (t *Throttle) leave(r Result, place admission, last *answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.release(place) // also if OnOpen panics
	switch r.Outcome {
	case OK:
		t.failures = 0
		if place.probe {
			t.wasOpen = t.openTime()
			t.open, t.backoff, t.cause = time.Time{}, 0, nil
			t.recordClosing()
		}
	case Throttled:
		if t.open.IsZero() || place.probe {
			t.openCircuit(r, place, last.copied())
		}
	case Unavailable:
		if t.failures++; place.probe || t.open.IsZero() && t.failures >= failureThreshold {
			t.openCircuit(r, place, last.copied())
		}
	}
}

// openCircuit admits no request for a while. If a probe failed, the requests that wait fail
// with it. The lock is held.
func (t *Throttle) openCircuit(r Result, place admission, cause *answer) {
	t.backoff = min(max(minBackoff, 2*t.backoff), maxBackoff)
	pause := jitter(max(t.backoff, min(r.RetryAfter, maxRetryAfter)))
	if t.open.IsZero() {
		t.opened = time.Now()
	}
	t.open, t.cause = time.Now().Add(pause), cause
	if place.probe {
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
	t.recordOpening(r, place.tenant, pause)
}
