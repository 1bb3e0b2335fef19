package throttle

// State returns the places in use, the requests that wait, and those that no longer wait
// but are still in memory, with the tenants that no longer have places.
func (t *Throttle) State() (inUse, waiting, retained int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.waiters[len(t.waiters):cap(t.waiters)] {
		if w != nil {
			retained++
		}
	}
	if t.inUse == 0 {
		retained += len(t.held)
	}
	return t.inUse, len(t.waiters), retained
}
