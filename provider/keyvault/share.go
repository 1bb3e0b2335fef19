package keyvault

import (
	"context"
	"sync"
	"time"

	"akv-csi-provider/provider/tally"
)

// Need is how fresh an answer must be, and what waits for it.
type Need struct {
	// Since is the earliest moment at which the request that is answered may have left.
	Since time.Time
	// First says that the start of a pod waits for the answer.
	First bool
}

// Ways to come to an answer; the set is closed.
const (
	AnswerRead   = "read"   // by a request of one's own
	AnswerShared = "shared" // by a request of another caller that was under way
	AnswerKept   = "kept"   // by one that ended before
	AnswerStale  = "stale"  // by one that ended before, since the vault is away
)

// readKey is what callers must have in common to share an answer: each of them has
// proved by a sign-in of its own that it is the principal.
type readKey struct {
	Principal
	Object
}

// shared lets callers share the answers to one kind of question. Of each key at most one
// read is under way, and one waits for it to end: who cannot take the answer of the
// first, because its request left too early, takes that of the second, with all who
// come meanwhile. It is safe for concurrent use.
type shared[V any] struct {
	kept    *keep[V]
	now     func() time.Time
	timeout time.Duration // of one read, however many wait for it
	seen    func(ctx context.Context, answer string)

	mu    *sync.Mutex // the room's; guards what follows, the reads and what is kept
	pairs map[readKey]*pair[V]
}

func newShared[V any](cfg Config, room *room, size func(V) int) (s *shared[V], err error) {
	s = &shared[V]{now: cfg.Now, timeout: cfg.Timeout, seen: cfg.seen, mu: &room.mu, pairs: make(map[readKey]*pair[V])}
	s.kept, err = newKeep(max(cfg.Keep, cfg.StaleIfError), room, cfg.Now, size, func(d time.Duration) { time.AfterFunc(d, s.sweep) })
	return s, err
}

type pair[V any] struct {
	running *read[V]
	next    *read[V] // nil, or starts when running ends
}

// read is one read on behalf of all who wait for it, with the token of the first.
type read[V any] struct {
	key     readKey
	token   Caller
	ask     func(context.Context, *try) (V, error)
	cancel  context.CancelFunc // nil until it starts
	try     *try
	waiting int
	payer   *tally.Mount // of the mount for which it was made

	done     chan struct{} // closed when what follows is there
	value    V
	err      error
	panicked any
}

// try is what a read under way tells of itself. Its owner's mutex guards it.
type try struct {
	mu     *sync.Mutex
	now    func() time.Time
	left   time.Time // when the request left that is under way, or was answered first
	part   bool      // a request was answered: the others go on from there
	away   bool      // no request is under way: it waits for its next try
	last   error     // of the try before
	urgent bool
}

// request runs one try and notes when it left.
func (t *try) request(ctx context.Context, do func(context.Context) error) error {
	t.mu.Lock()
	if t.away = false; !t.part {
		t.left = t.now()
	}
	t.mu.Unlock()
	err := do(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.part = t.part || err == nil
	t.away, t.last = err != nil && !t.part, err
	return err
}

// isUrgent is for the gate.
func (t *try) isUrgent() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.urgent
}

// begin answers from what is kept, from a read that is under way, or by one of its own,
// without waiting: call what it returns for the answer, once. A caller whose ctx ends
// does not fail the others; a read that nobody waits for ends. The error is the read's
// or, if ctx ends before, gaveUp's of the last try.
func (s *shared[V]) begin(ctx context.Context, caller Caller, o Object, need Need, ask func(context.Context, *try) (V, error), gaveUp func(last error) error) func() (V, error) {
	key := readKey{caller.Principal, o}
	s.mu.Lock()
	defer s.mu.Unlock()
	if value, ok := s.kept.get(key, need.Since); ok {
		return func() (V, error) {
			s.seen(ctx, AnswerKept)
			return value, nil
		}
	}
	r, joined := s.join(key, need, func() *read[V] {
		return &read[V]{key: key, token: caller, ask: ask, payer: tally.Of(ctx), done: make(chan struct{}), try: &try{mu: s.mu, now: s.now, away: true}}
	})
	r.waiting++
	r.try.urgent = r.try.urgent || need.First
	return func() (V, error) { return s.wait(ctx, r, joined, gaveUp) }
}

func (s *shared[V]) wait(ctx context.Context, r *read[V], joined bool, gaveUp func(last error) error) (V, error) {
	select {
	case <-r.done:
		if r.panicked != nil {
			panic(r.panicked) // in the mount that waits, which recovers
		}
		answer := AnswerRead
		if joined {
			answer = AnswerShared
		}
		s.seen(ctx, answer)
		return r.value, r.err
	case <-ctx.Done():
		var none V
		return none, gaveUp(s.leave(r))
	}
}

// join finds the read whose answer is fresh enough, or makes it.
func (s *shared[V]) join(key readKey, need Need, make func() *read[V]) (_ *read[V], joined bool) {
	p := s.pairs[key]
	switch {
	case p == nil:
		p = &pair[V]{running: make()}
		s.pairs[key] = p
		s.start(p.running)
		return p.running, false
	case p.running.waiting > 0 && (p.running.try.away || !p.running.try.left.Before(need.Since)): // without a waiter it was given up
		return p.running, true
	case p.next != nil:
		return p.next, true
	}
	p.next = make()
	return p.next, false
}

// leave takes a caller off a read and returns how its last try failed, if it did.
func (s *shared[V]) leave(r *read[V]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.waiting--; r.waiting == 0 {
		if r.cancel != nil {
			r.cancel()
		} else if p := s.pairs[r.key]; p != nil && p.next == r {
			p.next = nil
		}
	}
	return r.try.last
}

// start runs a read under a context of its own: nothing of one caller's must reach the
// others. Its requests are counted for the one that made it.
func (s *shared[V]) start(r *read[V]) {
	ctx, cancel := context.WithTimeout(r.payer.Pay(context.Background()), s.timeout)
	r.cancel = cancel
	go func() {
		defer cancel()
		value, panicked, err := run(withCaller(ctx, r.token), r)
		s.mu.Lock()
		defer s.mu.Unlock()
		r.value, r.err, r.panicked = value, err, panicked
		switch {
		case err == nil && panicked == nil:
			s.kept.put(r.key, value, r.try.left, r.token.Expires)
		case isFinal(err):
			s.kept.remove(r.key)
		}
		close(r.done)
		p := s.pairs[r.key]
		if p.running, p.next = p.next, nil; p.running == nil {
			delete(s.pairs, r.key)
			return
		}
		s.start(p.running)
	}()
}

// run keeps a panic, which would end the process here, for those who wait.
func run[V any](ctx context.Context, r *read[V]) (value V, panicked any, err error) {
	defer func() { panicked = recover() }()
	value, err = r.ask(ctx, r.try)
	return value, nil, err
}

// stale returns what was read last, if its request left at or after since.
func (s *shared[V]) stale(caller Caller, o Object, since time.Time) (V, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept.get(readKey{caller.Principal, o}, since)
}

// sweep forgets what is kept and over.
func (s *shared[V]) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept.sweep()
}
