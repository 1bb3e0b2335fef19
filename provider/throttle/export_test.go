package throttle

// State returns the places in use, the requests that wait, and those that no longer wait
// but are still in memory.
func (t *Throttle) State() (inUse, waiting, retained int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.waiters[len(t.waiters):cap(t.waiters)] {
		if w != nil {
			retained++
		}
	}
	return t.inUse, len(t.waiters), retained
}
