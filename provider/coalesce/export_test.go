package coalesce

// State returns the keys for which calls run, the cached answers, and whether a sweep is due.
func (g *Group[K, V]) State() (running, cached int, sweep bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.queues), len(g.cached), g.sweep != nil
}

// Indexed returns how many sets the index has, and whether all members are where they believe to be.
func (g *Group[K, V]) Indexed() (sets int, sound bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for s, all := range g.index {
		for at, m := range all {
			if m.places[s.level] != (place{s, at}) {
				return len(g.index), false
			}
		}
	}
	return len(g.index), true
}

// Left returns what is left of the budget, and the answers that it knows of.
func (b *Budget) Left() (left, answers int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left, b.recent.Len()
}
