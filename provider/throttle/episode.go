package throttle

import "time"

// Service is what a [Throttle] stands before, for the log.
type Service struct {
	Host     string
	TenantID string // whose requests it throttles; "" for those of all
	ClientID string // likewise
}

// Episode is a time in which a circuit was open: from its first opening until it has been closed
// for a minute. A service that throttles opens and closes its circuit every second or two.
type Episode struct {
	Service
	Began time.Time
	// Lasted is the time from then until now or, once it is over, until the circuit closed.
	Lasted time.Duration

	// Of the last opening: for how long, at which response or error, and for which tenant
	// (see package fair) the attempt was.
	Pause     time.Duration
	Throttled bool  // the service limits requests; otherwise it is unavailable
	Status    int   // of the response; 0 without one
	Err       error // without a response
	Tenant    string

	Openings int
	Open     time.Duration // the pauses in all
	Waited   int           // requests that waited for the circuit
	Refused  int           // requests that failed without another attempt, since it was open for too long

	// Logged is for OnOpen and OnClose; zero in a new episode.
	Logged time.Time
}

// calm is for how long a circuit is closed at the end of an episode.
const calm = time.Minute

// visit is one request's, for all of its attempts.
type visit struct {
	trace   Trace
	openFor time.Duration // for which the circuit had been open in all when the request came
	counted bool          // in Waited
}

// waits counts a request that waits for the open circuit. The lock is held.
func (t *Throttle) waits(v *visit) {
	if !v.counted {
		v.counted = true
		t.episode.Waited++
	}
}

// refused is the admission of a request that does not wait for the circuit any longer. The lock
// is held.
func (t *Throttle) refused() admission {
	t.episode.Refused++
	return admission{answer: t.cause, final: true}
}

// recordOpening adds an opening to the episode, and reports it. The lock is held.
func (t *Throttle) recordOpening(r Result, tenant string, pause time.Duration) {
	now := time.Now()
	if t.episode == nil {
		t.episode = &Episode{Service: t.cfg.Service, Began: now}
	}
	if t.calm != nil {
		t.calm.Stop()
	}
	e := t.episode
	e.Lasted, e.Pause, e.Throttled, e.Tenant = now.Sub(e.Began), pause, r.Outcome == Throttled, tenant
	e.Status, e.Err = 0, t.cause.err
	if t.cause.resp != nil {
		e.Status = t.cause.resp.StatusCode
	}
	e.Openings++
	e.Open += pause
	for _, w := range t.waiters {
		t.waits(w.visit)
	}
	if t.cfg.OnOpen != nil {
		t.cfg.OnOpen(e)
	}
}

// recordClosing ends the episode in a while. The lock is held.
func (t *Throttle) recordClosing() {
	t.episode.Lasted = time.Since(t.episode.Began)
	t.calm = time.AfterFunc(calm, t.endEpisode)
}

// endEpisode ends the episode, unless the circuit opened at the same moment.
func (t *Throttle) endEpisode() {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.episode
	if e == nil || !t.open.IsZero() || time.Since(e.Began)-e.Lasted < calm {
		return
	}
	t.episode = nil
	if t.cfg.OnClose != nil {
		t.cfg.OnClose(e)
	}
}
