package coalesce

import "slices"

// index finds the cached answers and the running calls of a set of keys without a pass over all.
type index map[set][]*member

// set is the set of keys that have a number in common at a level; see NewIndexed.
type set struct {
	level  int
	number uint64
}

// member is a cached answer or a queue of calls.
type member struct {
	// forget drops the answer, or has that of the running call not cached unless by is that call.
	forget func(by *Call)
	places []place // one for each level
}

// place is where a member is in the index.
type place struct {
	set set
	at  int
}

func (x index) add(m *member, sets []uint64) {
	m.places = make([]place, len(sets))
	for level, number := range sets {
		s := set{level, number}
		m.places[level] = place{s, len(x[s])}
		x[s] = append(x[s], m)
	}
}

func (x index) remove(m *member) {
	for level, p := range m.places {
		all := x[p.set]
		last := all[len(all)-1]
		all[p.at], last.places[level].at = last, p.at
		all[len(all)-1] = nil
		if x[p.set] = all[:len(all)-1]; len(all) == 1 {
			delete(x, p.set)
		}
	}
}

// ForgetSet drops the cached answers of all keys that are in one set with the key; level says which of
// its sets. It does not cache those of requests that are under way: they may be older than the reason
// to forget. It does cache that of the call by, if not nil, whose answer is that reason.
func (g *Group[K, V]) ForgetSet(key K, level int, by *Call) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range slices.Clone(g.index[set{level, g.sets(key)[level]}]) {
		m.forget(by)
	}
}

// enter adds a cached answer or a queue of the key to the index. The lock is held.
func (g *Group[K, V]) enter(key K, m *member) {
	if g.sets != nil {
		g.index.add(m, g.sets(key))
	}
}
