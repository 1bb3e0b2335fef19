// Package coalesce lets callers share the answers to equal questions: for each key, at most one
// call runs and one waits to run, and answers can be cached.
//
// The key decides who may share an answer, and each caller decides how old its answer may be.
// golang.org/x/sync/singleflight knows no freshness and no contexts, and a
// panic in it ends the process; hashicorp/golang-lru/expirable has one expiry for all
// entries and bounds their number, not their bytes.
package coalesce

import (
	"context"
	"errors"
	"sync"
	"time"

	"akv-csi-provider/provider/fault"
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
	cfg  Config[V]
	sets func(K) []uint64 // nil without an index

	mu     *sync.Mutex     // the budget's, if there is one; guards what follows, and the calls
	queues map[K]*queue[V] // of the keys for which a call runs
	cached map[K]*entry[V]
	index  index
	sweep  *time.Timer // nil while nothing is cached
}

// Func is the work of a call: it sends the request, and returns the answer and how long that may
// be used. It reports its requests to the Call.
type Func[V any] func(context.Context, *Call) (V, Life, error)

// queue has the calls of one key.
type queue[V any] struct {
	running *flight[V]
	next    *flight[V] // starts when running ends; nil if no caller needs it
	member             // of the index
}

// flight is a call with its result, for all callers that wait for it.
type flight[V any] struct {
	Call
	ctx context.Context // the first caller's without its deadline; stored, since the call may have to wait to start
	do  Func[V]

	done  chan struct{} // closed when what follows is set
	value V
	err   error
}

// Freshness is how fresh a caller's answer must be. The zero value accepts any.
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
	// Refresh is from when on the next caller starts another call without waiting for it; zero
	// is never.
	Refresh time.Time
}

// Source is where an answer came from.
type Source string

// The sources of a Group. Packages around one may have more.
const (
	Own    Source = "read"   // a call that this caller started
	Shared Source = "shared" // a call that another caller had started
	Cached Source = "cached" // a call that ended before
)

// New makes a Group.
func New[K comparable, V any](cfg Config[V]) *Group[K, V] { return NewIndexed[K](cfg, nil) }

// NewIndexed makes a Group with sets of keys, for ForgetSet. The function returns those that a key belongs
// to, as many for each key: hashes of what the keys of a set have in common.
func NewIndexed[K comparable, V any](cfg Config[V], sets func(K) []uint64) *Group[K, V] {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Size == nil {
		cfg.Size = func(V) int { return 1 }
	}
	g := &Group[K, V]{cfg: cfg, sets: sets, mu: new(sync.Mutex), queues: make(map[K]*queue[V]), cached: make(map[K]*entry[V]), index: make(index)}
	if cfg.Budget != nil {
		g.mu = &cfg.Budget.mu
	}
	return g
}

// Do is Start and Wait.
func (g *Group[K, V]) Do(ctx context.Context, key K, want Freshness, do Func[V]) (V, Source, error) {
	p := g.Start(ctx, key, want, do)
	return p.Wait()
}

// Pending is an answer that one caller waits for. Call Wait exactly once, even if the answer is
// no longer needed: the call counts its callers.
type Pending[K comparable, V any] struct {
	group  *Group[K, V]
	ctx    context.Context // the caller's, for the time between Start and Wait
	key    K
	flight *flight[V] // nil if the answer was cached, or err is set
	joined bool
	value  V     // the cached answer
	err    error // of ctx, if it had ended before
}

// Start answers from the cache, by a call that another caller has started, or by a call of
// do. It returns at once.
//
// do runs in its own goroutine. Its context has the values of the caller that caused
// it, for traces and statistics, but not its deadline: a caller that gives up does not fail
// the others. It ends after the group's timeout, or when no caller waits any more. A panic in
// do is the error of each caller, a *fault.Panic with the stack of do. If ctx has already ended, no call starts.
func (g *Group[K, V]) Start(ctx context.Context, key K, want Freshness, do Func[V]) Pending[K, V] {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := Pending[K, V]{group: g, ctx: ctx, key: key}
	if e := g.lookup(key); e != nil && !e.sent.Before(want.NotBefore) {
		g.refresh(ctx, key, e, do)
		p.value = e.value
		return p
	}
	if p.err = ctx.Err(); p.err == nil {
		p.flight, p.joined = g.join(ctx, key, want, do)
	}
	return p
}

// Wait returns the answer. If the caller's ctx ends first, the error is ctx's own; if ctx has
// reached its deadline and the call was about to retry, it is the error of [Call.Retrying].
func (p *Pending[K, V]) Wait() (V, Source, error) {
	switch {
	case p.err != nil:
		return p.value, Own, p.err
	case p.flight == nil:
		return p.value, Cached, nil
	}
	select {
	case <-p.flight.done:
	case <-p.ctx.Done():
		var none V
		return none, Own, p.group.leave(p.ctx, p.key, p.flight)
	}
	if p.joined {
		return p.flight.value, Shared, p.flight.err
	}
	return p.flight.value, Own, p.flight.err
}

// join returns the call whose answer is fresh enough for the caller, and makes one if there is
// none. The lock is held.
func (g *Group[K, V]) join(ctx context.Context, key K, want Freshness, do Func[V]) (f *flight[V], joined bool) {
	q := g.queues[key]
	switch {
	case q == nil:
		f = g.newFlight(ctx, do)
		g.begin(key, f)
	case q.running.serves(want):
		f, joined = q.running, true
	case q.next != nil:
		f, joined = q.next, true
	default:
		f = g.newFlight(ctx, do)
		q.next = f
	}
	f.waiting++
	f.urgent = f.urgent || want.Urgent
	return f, joined
}

func (g *Group[K, V]) newFlight(ctx context.Context, do Func[V]) *flight[V] {
	return &flight[V]{Call: Call{mu: g.mu, now: g.cfg.Now}, ctx: context.WithoutCancel(ctx), do: do, done: make(chan struct{})}
}

// begin starts a call of a key for which none runs. The lock is held.
func (g *Group[K, V]) begin(key K, f *flight[V]) {
	q := &queue[V]{running: f}
	q.forget = func(by *Call) {
		if &q.running.Call != by {
			q.running.forgotten = true
		}
	}
	g.queues[key] = q
	g.enter(key, &q.member)
	g.start(key, f)
}

// start runs a call. The lock is held.
func (g *Group[K, V]) start(key K, f *flight[V]) {
	ctx, cancel := context.WithTimeout(f.ctx, g.cfg.Timeout)
	f.cancel = cancel
	go func() {
		defer cancel()
		value, life, err := f.run(ctx)
		g.mu.Lock()
		defer g.mu.Unlock()
		f.value, f.err = value, err
		switch {
		case err == nil && f.forgotten:
		case err == nil:
			g.store(key, value, f.sent, life)
		case g.cfg.Evict != nil && g.cfg.Evict(err):
			g.drop(key)
		}
		close(f.done)
		q := g.queues[key]
		if q.running, q.next = q.next, nil; q.running == nil {
			delete(g.queues, key)
			g.index.remove(&q.member)
			return
		}
		g.start(key, q.running)
	}()
}

// run calls do. It recovers here, where the stack still shows the bug.
func (f *flight[V]) run(ctx context.Context) (value V, life Life, err error) {
	defer fault.Recover(&err)
	return f.do(ctx, &f.Call)
}

// leave ends the wait of a caller and returns its error. The last one to leave cancels the call.
func (g *Group[K, V]) leave(ctx context.Context, key K, f *flight[V]) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.waiting--; f.waiting == 0 {
		if f.cancel != nil {
			f.cancel()
		} else if q := g.queues[key]; q != nil && q.next == f {
			q.next = nil
		}
	}
	if f.failed != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return f.failed
	}
	return ctx.Err()
}

// refresh starts a call for an answer that is due for it, unless one runs. The lock is held.
func (g *Group[K, V]) refresh(ctx context.Context, key K, e *entry[V], do Func[V]) {
	if now := g.cfg.Now(); e.refresh.IsZero() || now.Before(e.refresh) || g.queues[key] != nil {
		return
	}
	e.refresh = g.cfg.Now().Add(g.cfg.RefreshRetry) // should it fail
	f := g.newFlight(ctx, do)
	f.waiting = 1 // the cache waits: callers that join and leave do not end the call
	g.begin(key, f)
}
