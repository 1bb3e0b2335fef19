// Package coalesce lets callers share the answers to equal questions: of each key at most
// one call runs and one waits to run, and answers can be cached.
//
// Who may share an answer is what the key says; how old an answer may be is what each
// caller says. golang.org/x/sync/singleflight knows no freshness and no contexts, and a
// panic in it ends the process; hashicorp/golang-lru/expirable has one expiry for all
// entries and bounds their number, not their bytes.
package coalesce

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Config says how a [Group] works.
type Config[V any] struct {
	// Timeout bounds a call, however many callers wait for it; required.
	Timeout time.Duration
	// Budget bounds what is cached, together with the other groups that have the same one.
	// nil caches nothing.
	Budget *Budget
	// Size is what a value takes of the budget; nil is 1 for each.
	Size func(V) int
	// Idle is after how much time without a use an answer is dropped; 0 is never.
	Idle time.Duration
	// RefreshRetry is how soon a refresh that failed is repeated.
	RefreshRetry time.Duration
	// Evict reports whether an error of a call ends what is cached under its key; nil is never.
	Evict func(error) bool
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Group answers the questions of one kind. It is safe for concurrent use.
type Group[K comparable, V any] struct {
	cfg Config[V]

	mu      *sync.Mutex // the budget's, if there is one; guards what follows, and the calls
	running map[K]*pair[V]
	cached  map[K]*entry[V]
	sweep   *time.Timer // nil while nothing is cached
}

// pair are the calls of one key.
type pair[V any] struct {
	running *call[V]
	next    *call[V] // starts when running ends; nil if nobody needs it
}

// call is one call on behalf of all callers that wait for it.
type call[V any] struct {
	Call
	ctx context.Context // the first caller's values, and nobody's deadline
	do  func(context.Context, *Call) (V, Life, error)

	done     chan struct{} // closed when what follows is set
	value    V
	err      error
	panicked any
}

// Freshness is what a caller asks of an answer. The zero value takes any.
type Freshness struct {
	// NotBefore is the earliest moment at which the request that is answered may have left.
	NotBefore time.Time
	// Urgent says that the start of a pod waits for the answer.
	Urgent bool
}

// Life says for how long an answer may be used.
type Life struct {
	// Until is when the answer ends; zero does not cache it.
	Until time.Time
	// Refresh is from when on the next caller causes another call, for which nobody waits;
	// zero is never.
	Refresh time.Time
}

// Source is how an answer came about.
type Source string

// The sources; the set is closed.
const (
	Own    Source = "own"    // a call that this caller started
	Shared Source = "shared" // a call that another caller had started
	Cached Source = "cached" // a call that ended before
)

// New makes a Group.
func New[K comparable, V any](cfg Config[V]) *Group[K, V] {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Size == nil {
		cfg.Size = func(V) int { return 1 }
	}
	g := &Group[K, V]{cfg: cfg, mu: new(sync.Mutex), running: make(map[K]*pair[V]), cached: make(map[K]*entry[V])}
	if cfg.Budget != nil {
		g.mu = &cfg.Budget.mu
	}
	return g
}

// Do is Start and Wait.
func (g *Group[K, V]) Do(ctx context.Context, key K, want Freshness, do func(context.Context, *Call) (V, Life, error)) (V, Source, error) {
	p := g.Start(ctx, key, want, do)
	return p.Wait()
}

// Pending is an answer that one caller waits for: call Wait once, also if the answer is no
// longer needed.
type Pending[K comparable, V any] struct {
	group  *Group[K, V]
	ctx    context.Context // the caller's, for the time between Start and Wait
	key    K
	call   *call[V] // nil if the answer was cached, or err is set
	joined bool
	value  V     // the cached answer
	err    error // of ctx, if it had ended before
}

// Start answers from the cache, by a call that another caller has started, or by a call of
// do. It returns at once.
//
// do runs in a goroutine of its own. Its context has the values of the caller that caused
// it, for traces and statistics, but not its deadline: a caller that gives up does not fail
// the others. It ends after the group's timeout, or when no caller waits any more. A panic
// in do panics in each caller that waits. A caller whose ctx has ended before causes no call.
func (g *Group[K, V]) Start(ctx context.Context, key K, want Freshness, do func(context.Context, *Call) (V, Life, error)) Pending[K, V] {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := Pending[K, V]{group: g, ctx: ctx, key: key}
	if e := g.lookup(key); e != nil && !e.sent.Before(want.NotBefore) {
		g.refresh(ctx, key, e, do)
		p.value = e.value
		return p
	}
	if p.err = ctx.Err(); p.err == nil {
		p.call, p.joined = g.join(ctx, key, want, do)
	}
	return p
}

// Wait returns the answer. If the caller's ctx ends first, the error is what do last reported
// with [Call.Retrying], if it did and the caller's time was up, and ctx's own otherwise.
func (p *Pending[K, V]) Wait() (V, Source, error) {
	switch {
	case p.err != nil:
		return p.value, Own, p.err
	case p.call == nil:
		return p.value, Cached, nil
	}
	select {
	case <-p.call.done:
	case <-p.ctx.Done():
		var none V
		return none, Own, p.group.leave(p.ctx, p.key, p.call)
	}
	if p.call.panicked != nil {
		panic(p.call.panicked) // in the mount that waits, which recovers
	}
	if p.joined {
		return p.call.value, Shared, p.call.err
	}
	return p.call.value, Own, p.call.err
}

// join returns the call whose answer is fresh enough for the caller, and makes it if there
// is none.
func (g *Group[K, V]) join(ctx context.Context, key K, want Freshness, do func(context.Context, *Call) (V, Life, error)) (c *call[V], joined bool) {
	p := g.running[key]
	switch {
	case p == nil:
		c = g.newCall(ctx, do)
		g.running[key] = &pair[V]{running: c}
		g.start(key, c)
	case p.running.serves(want):
		c, joined = p.running, true
	case p.next != nil:
		c, joined = p.next, true
	default:
		c = g.newCall(ctx, do)
		p.next = c
	}
	c.waiting++
	c.urgent = c.urgent || want.Urgent
	return c, joined
}

func (g *Group[K, V]) newCall(ctx context.Context, do func(context.Context, *Call) (V, Life, error)) *call[V] {
	return &call[V]{Call: Call{mu: g.mu, now: g.cfg.Now}, ctx: context.WithoutCancel(ctx), do: do, done: make(chan struct{})}
}

// start runs a call. The lock is held.
func (g *Group[K, V]) start(key K, c *call[V]) {
	ctx, cancel := context.WithTimeout(c.ctx, g.cfg.Timeout)
	c.cancel = cancel
	go func() {
		defer cancel()
		value, life, panicked, err := c.run(ctx)
		g.mu.Lock()
		defer g.mu.Unlock()
		c.value, c.err, c.panicked = value, err, panicked
		switch {
		case panicked != nil:
		case err == nil:
			g.store(key, value, c.sent, life)
		case g.cfg.Evict != nil && g.cfg.Evict(err):
			g.drop(key)
		}
		close(c.done)
		p := g.running[key]
		if p.running, p.next = p.next, nil; p.running == nil {
			delete(g.running, key)
			return
		}
		g.start(key, p.running)
	}()
}

// run calls do, and keeps its panic for the callers that wait.
func (c *call[V]) run(ctx context.Context) (value V, life Life, panicked any, err error) {
	defer func() { panicked = recover() }()
	value, life, err = c.do(ctx, &c.Call)
	return value, life, nil, err
}

// leave takes a caller off a call and returns its error. The last one ends the call.
func (g *Group[K, V]) leave(ctx context.Context, key K, c *call[V]) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.waiting--; c.waiting == 0 {
		if c.cancel != nil {
			c.cancel()
		} else if p := g.running[key]; p != nil && p.next == c {
			p.next = nil
		}
	}
	if c.failed != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return c.failed
	}
	return ctx.Err()
}

// refresh starts a call for an answer whose time for that has come, unless one runs.
func (g *Group[K, V]) refresh(ctx context.Context, key K, e *entry[V], do func(context.Context, *Call) (V, Life, error)) {
	if now := g.cfg.Now(); e.refresh.IsZero() || now.Before(e.refresh) || g.running[key] != nil {
		return
	}
	e.refresh = g.cfg.Now().Add(g.cfg.RefreshRetry) // should it fail
	c := g.newCall(ctx, do)
	c.waiting = 1 // the cache waits: callers that join and leave do not end the call
	g.running[key] = &pair[V]{running: c}
	g.start(key, c)
}
