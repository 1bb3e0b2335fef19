package coalesce

import (
	"container/list"
	"sync"
	"time"
)

// Budget bounds what groups cache, in the unit of their Size. When it is spent, the least
// recently used answer is dropped, whichever group has it. It is safe for concurrent use.
type Budget struct {
	mu     sync.Mutex // guards what follows and the groups that share the budget
	size   int
	left   int
	recent list.List // of *member, which are entries; the most recently used first
}

// NewBudget makes a Budget.
func NewBudget(size int) *Budget { return &Budget{size: size, left: size} }

// Usage is how many answers are cached, and what they take of the budget.
func (b *Budget) Usage() (entries, used int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.recent.Len(), b.size - b.left
}

// entry is a cached answer.
type entry[V any] struct {
	value   V
	sent    time.Time
	until   time.Time
	refresh time.Time // zero for never
	used    time.Time
	size    int
	place   *list.Element // in the budget
	member                // of the index
}

// longestSweep bounds how long an answer that has ended stays in memory.
const longestSweep = time.Minute

// Cached returns the cached answer if its request left at or after that moment. This is not a
// use of the answer; see Config.Idle.
func (g *Group[K, V]) Cached(key K, notBefore time.Time) (value V, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.cached[key]
	if e == nil || !g.cfg.Now().Before(e.until) || e.sent.Before(notBefore) {
		return value, false
	}
	return e.value, true
}

// Forget drops the cached answer if the function reports that it is the one to drop. The
// function must not call the group.
func (g *Group[K, V]) Forget(key K, is func(V) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := g.cached[key]; e != nil && is(e.value) {
		g.drop(key)
	}
}

// lookup returns the cached answer, nil if there is none or it has ended, and counts as a use
// of it. The lock is held.
func (g *Group[K, V]) lookup(key K) *entry[V] {
	e := g.cached[key]
	now := g.cfg.Now()
	if e == nil || !now.Before(e.until) {
		return nil
	}
	e.used = now
	g.cfg.Budget.recent.MoveToFront(e.place)
	return e
}

// store caches an answer, unless it has ended. An answer that is older than the cached one is
// ignored. A newer one always removes the cached one, even if it cannot be cached itself: a
// volume must not go back to an older version. The lock is held.
func (g *Group[K, V]) store(key K, value V, sent time.Time, life Life) {
	now := g.cfg.Now()
	budget := g.cfg.Budget
	if budget == nil {
		return
	}
	if old := g.cached[key]; old != nil && old.sent.After(sent) {
		return
	}
	g.drop(key)
	if !now.Before(life.Until) {
		return
	}
	e := &entry[V]{value: value, sent: sent, until: life.Until, refresh: life.Refresh, used: now, size: g.cfg.Size(value)}
	if e.size > budget.size {
		return // larger than the whole budget
	}
	for budget.left < e.size {
		budget.recent.Back().Value.(*member).forget(nil)
	}
	budget.left -= e.size
	e.forget = func(*Call) { g.drop(key) }
	e.place = budget.recent.PushFront(&e.member)
	g.cached[key] = e
	g.enter(key, &e.member)
	g.scheduleSweep(life.Until.Sub(now))
}

// drop forgets an answer. The lock is held.
func (g *Group[K, V]) drop(key K) {
	if e := g.cached[key]; e != nil {
		g.cfg.Budget.left += e.size
		g.cfg.Budget.recent.Remove(e.place)
		g.index.remove(&e.member)
		delete(g.cached, key)
	}
}

// scheduleSweep has the cache swept after a while. The lock is held.
func (g *Group[K, V]) scheduleSweep(after time.Duration) {
	if g.sweep == nil {
		g.sweep = time.AfterFunc(min(max(after, time.Second), longestSweep), g.sweepNow)
	}
}

// sweepNow forgets answers that have ended or are idle.
func (g *Group[K, V]) sweepNow() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now, next := g.cfg.Now(), longestSweep
	for key, e := range g.cached {
		if !now.Before(e.until) || g.cfg.Idle > 0 && now.Sub(e.used) >= g.cfg.Idle {
			g.drop(key)
			continue
		}
		next = min(next, e.until.Sub(now))
	}
	if g.sweep = nil; len(g.cached) > 0 {
		g.scheduleSweep(next)
	}
}
