// Package fair divides what is bounded between tenants, which are the namespaces of pods: a
// weighted semaphore of which no tenant alone can take all, and whose waiters are served
// tenant by tenant. golang.org/x/sync/semaphore serves them in the order in which they came,
// so that one tenant with many waiters blocks all others.
package fair

import (
	"context"
	"sync"
)

// Semaphore bounds the weight of what is admitted at a time. Make it with New. It is safe
// for concurrent use.
type Semaphore struct {
	size  int64
	share Share

	mu      sync.Mutex // guards what follows
	used    int64
	held    map[string]int64     // of used, by tenant
	waiting map[string][]*waiter // by tenant, in the order in which they came
	turns   []string             // the tenants that wait; the one to be served next is the first
}

type waiter struct {
	weight   int64
	admitted chan struct{} // closed with the lock held
}

// Share is how much of what is bounded one tenant takes alone: a multiple of what stays free.
type Share int64

// The shares. Half is for places that are occupied for long: what others wait for there does
// not become free within the time that they have.
const (
	Half          Share = 1
	ThreeQuarters Share = 3
)

// New makes a semaphore of that size.
func New(size int64, most Share) *Semaphore {
	return &Semaphore{size: size, share: most, held: make(map[string]int64), waiting: make(map[string][]*waiter)}
}

// Fits reports whether a tenant that uses so much gets more. The first always fits where
// so much is free. After it, a tenant gets no more than its share of what the others left, so
// that newcomers find the rest.
func (s Share) Fits(size, used, held, weight int64) bool {
	free := size - used - weight
	return free >= 0 && (held == 0 || held+weight <= int64(s)*free)
}

// Acquire waits until the weight fits, or ctx ends, and returns what releases it; call it
// once. A weight above the size counts as the size. The error is ctx's own.
func (s *Semaphore) Acquire(ctx context.Context, tenant string, weight int64) (release func(), _ error) {
	weight = min(max(weight, 1), s.size)
	s.mu.Lock()
	w := &waiter{weight: weight, admitted: make(chan struct{})}
	if len(s.waiting[tenant]) == 0 {
		s.turns = append(s.turns, tenant)
	}
	s.waiting[tenant] = append(s.waiting[tenant], w)
	s.admit()
	s.mu.Unlock()
	select {
	case <-w.admitted:
	case <-ctx.Done():
		if !s.leave(tenant, w) {
			s.release(tenant, weight) // admitted at the same moment
		}
		return nil, ctx.Err()
	}
	return sync.OnceFunc(func() { s.release(tenant, weight) }), nil
}

// TryAcquire is Acquire for a caller that does not wait.
func (s *Semaphore) TryAcquire(tenant string, weight int64) (release func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	weight = min(max(weight, 1), s.size)
	if !s.share.Fits(s.size, s.used, s.held[tenant], weight) {
		return nil, false
	}
	s.take(tenant, weight)
	return sync.OnceFunc(func() { s.release(tenant, weight) }), true
}

// Used is the weight of what is admitted now.
func (s *Semaphore) Used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

func (s *Semaphore) take(tenant string, weight int64) {
	s.used += weight
	s.held[tenant] += weight
}

func (s *Semaphore) release(tenant string, weight int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= weight
	if s.held[tenant] -= weight; s.held[tenant] == 0 {
		delete(s.held, tenant)
	}
	s.admit()
}

// leave takes a waiter out of its queue, unless it was admitted.
func (s *Semaphore) leave(tenant string, w *waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, other := range s.waiting[tenant] {
		if other == w {
			s.dequeue(tenant, i)
			s.admit() // it may have blocked others of its tenant
			return true
		}
	}
	return false
}

// dequeue removes a waiter of a tenant, and the tenant with the last of them.
func (s *Semaphore) dequeue(tenant string, i int) {
	queue := s.waiting[tenant]
	copy(queue[i:], queue[i+1:])
	queue[len(queue)-1] = nil
	if s.waiting[tenant] = queue[:len(queue)-1]; len(queue) > 1 {
		return
	}
	delete(s.waiting, tenant)
	for n, t := range s.turns {
		if t == tenant {
			s.turns = append(s.turns[:n], s.turns[n+1:]...)
			return
		}
	}
}

// admit serves the tenants that wait in turn, each the first of its waiters, until none
// fits. The lock is held.
func (s *Semaphore) admit() {
	for i := 0; i < len(s.turns); {
		tenant := s.turns[i]
		w := s.waiting[tenant][0]
		if !s.share.Fits(s.size, s.used, s.held[tenant], w.weight) {
			i++
			continue
		}
		s.take(tenant, w.weight)
		close(w.admitted)
		s.dequeue(tenant, 0)
		if len(s.waiting[tenant]) > 0 { // to the end of the turns
			s.turns = append(append(s.turns[:i], s.turns[i+1:]...), tenant)
		}
		i = 0
	}
}

type tenantKey struct{}

// WithTenant returns the context of work for a tenant.
func WithTenant(ctx context.Context, tenant string) context.Context {
	return context.WithValue(ctx, tenantKey{}, tenant)
}

// Tenant is the tenant of the context, "" if it has none.
func Tenant(ctx context.Context) string {
	tenant, _ := ctx.Value(tenantKey{}).(string)
	return tenant
}
