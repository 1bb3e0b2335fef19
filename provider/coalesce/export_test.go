package coalesce

// State returns the keys for which calls run, the cached answers, and whether a sweep is due.
func (g *Group[K, V]) State() (running, cached int, sweep bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.queues), len(g.cached), g.sweep != nil
}

// Left returns what is left of the budget, and the answers that it knows of.
func (b *Budget) Left() (left, answers int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left, b.recent.Len()
}
