// Package gate stands before one service: it lets as many requests through at a time as
// were allowed, none while the service asks for rest or is away, and those that a pod's
// start waits for before those that only look for changes.
package gate

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Config is what a Gate is made of. The zero value of a duration is its default.
type Config struct {
	// Max bounds the tries under way; required.
	Max int
	// Retries is how often a failed request is tried again.
	Retries int
	// TryTimeout bounds one try; 0 for none.
	TryTimeout time.Duration
	// Closed, if not nil, hears for how long the gate was closed, each time it closes.
	// It must not block.
	Closed func(time.Duration)
}

// How the gate behaves when a service does not say how long to stay away.
const (
	quickRetry = 100 * time.Millisecond // a lone reset or 5xx is over by then
	firstRest  = time.Second
	longRest   = 10 * time.Second // doubled from firstRest up to it
	longestAsk = time.Minute      // of what a service may ask for; mounts do not live as long
	// enough failures in a row, with no answer between, mean that a service is away: of
	// answers that fail one in twenty, so many in a row are one in three million.
	enough = 5
)

// News is what a try tells of the service.
type News int

const (
	Alive News = iota // it answered
	Busy              // it answered that it wants less: 429, or 503 with Retry-After
	Away              // it gave no answer, or 5xx
	None              // nothing is known: the caller left
)

// Verdict is what is to be done after a try.
type Verdict struct {
	News News
	// Rest is how long the service asks to be left alone; 0 if it does not say.
	Rest time.Duration
	// Again says that another try may do better. It follows from Busy and Away.
	Again bool
}

// Gate is one service's. It is safe for concurrent use.
type Gate struct {
	cfg Config

	mu       sync.Mutex // guards what follows
	inUse    int
	failures int       // in a row
	closed   time.Time // until when; zero while open
	probing  bool      // opened to one request, on which it depends what follows
	rest     time.Duration
	last     error     // for which it was closed
	waiters  []*waiter // in the order in which they came
}

// waiter is a try that may not go yet.
type waiter struct {
	urgent func() bool
	go_    chan pass // capacity 1
}

// pass ends a wait.
type pass struct {
	probe bool  // the gate's own look whether the service is back
	err   error // the probe of another failed with it: as if one's own try had
}

// New makes a Gate.
func New(cfg Config) *Gate { return &Gate{cfg: cfg} }

// Do calls try until it succeeds, fails for good, or has been tried often enough, and
// returns its last error. While the service is away, one caller tries for all: its
// failure counts as a try of each that waits, and so may be what Do returns without a
// try. A caller whose deadline comes before the gate opens is not kept.
//
// judge says what an error of try means; it is not called with nil. urgent says whether
// a pod's start waits for this call; it is called with locks held and must not block.
func (g *Gate) Do(ctx context.Context, urgent func() bool, try func(context.Context) error, judge func(error) Verdict) error {
	var last error
	for tries := 0; ; tries++ {
		p, err := g.enter(ctx, urgent)
		switch {
		case err != nil && last != nil:
			return last
		case err != nil:
			return err
		case p.err != nil:
			last = p.err
			if tries >= g.cfg.Retries {
				return last
			}
			continue
		}
		v := g.attempt(ctx, p.probe, try, judge, &last)
		if last == nil || !v.Again || tries >= g.cfg.Retries || ctx.Err() != nil {
			return last
		}
		if v.News != Busy && !sleep(ctx, jitter(quickRetry*time.Duration(pow3(tries)))) {
			return last
		}
	}
}

// attempt is one try, with its place held.
func (g *Gate) attempt(ctx context.Context, probe bool, try func(context.Context) error, judge func(error) Verdict, last *error) Verdict {
	v := Verdict{News: None} // of a panic
	defer func() { g.leave(v, probe, *last) }()
	if g.cfg.TryTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, g.cfg.TryTimeout)
		defer cancel()
	}
	if *last = try(ctx); *last == nil {
		v = Verdict{News: Alive}
		return v
	}
	v = judge(*last)
	v.Again = v.Again || v.News == Busy || v.News == Away
	return v
}

// enter waits for a place. Its error is the context's, or that for which the gate is
// closed for longer than the caller has time.
func (g *Gate) enter(ctx context.Context, urgent func() bool) (pass, error) {
	if ctx.Err() != nil {
		return pass{}, ctx.Err()
	}
	g.mu.Lock()
	if deadline, ok := ctx.Deadline(); ok && !g.closed.IsZero() && deadline.Before(g.closed) {
		defer g.mu.Unlock()
		return pass{}, g.last
	}
	w := &waiter{urgent: urgent, go_: make(chan pass, 1)}
	g.waiters = append(g.waiters, w)
	g.admit()
	g.mu.Unlock()
	select {
	case p := <-w.go_:
		return p, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case p := <-w.go_: // at the same moment: the place is given back
		if p.err == nil {
			g.free(p.probe)
		}
	default:
		g.remove(w)
	}
	return pass{}, ctx.Err()
}

func (g *Gate) remove(w *waiter) {
	for i, other := range g.waiters {
		if other == w {
			g.waiters = append(g.waiters[:i], g.waiters[i+1:]...)
			return
		}
	}
}

// admit lets in whom it may.
func (g *Gate) admit() {
	for len(g.waiters) > 0 {
		probe := !g.closed.IsZero()
		switch {
		case probe && (g.probing || time.Now().Before(g.closed)), !probe && g.inUse >= g.cfg.Max:
			return
		}
		next := 0
		for i, w := range g.waiters {
			if w.urgent() {
				next = i
				break
			}
		}
		w := g.waiters[next]
		g.waiters = append(g.waiters[:next], g.waiters[next+1:]...)
		g.inUse++
		g.probing = probe
		w.go_ <- pass{probe: probe}
	}
}

// free gives back the place of a try that was not made.
func (g *Gate) free(probe bool) {
	g.inUse--
	if probe {
		g.probing = false
	}
	g.admit()
}

// leave gives back a place with what the try told.
func (g *Gate) leave(v Verdict, probe bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch v.News {
	case Alive:
		g.failures = 0
		if probe {
			g.closed, g.rest = time.Time{}, 0
		}
	case Busy:
		if g.closed.IsZero() || probe {
			g.close(v.Rest, probe, err)
		}
	case Away:
		if g.failures++; probe || g.closed.IsZero() && g.failures >= enough {
			g.close(v.Rest, probe, err)
		}
	}
	g.free(probe)
}

// close keeps everybody out for a while. When a probe failed, those that wait have
// failed with it.
func (g *Gate) close(ask time.Duration, probe bool, err error) {
	g.rest = min(max(firstRest, 2*g.rest), longRest)
	rest := jitter(max(g.rest, min(ask, longestAsk)))
	g.closed, g.last = time.Now().Add(rest), err
	if g.cfg.Closed != nil {
		g.cfg.Closed(rest)
	}
	if probe {
		for _, w := range g.waiters {
			w.go_ <- pass{err: err}
		}
		g.waiters = nil
	}
	time.AfterFunc(rest, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.admit()
	})
}

// jitter spreads what would happen at one moment: up to a quarter longer.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/4+1) }

func pow3(n int) (p int) {
	for p = 1; n > 0; n-- {
		p *= 3
	}
	return p
}

// sleep reports whether the time has passed before the context ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
