package coalesce

import (
	"context"
	"sync"
	"time"
)

// Call is what a running call reports of itself, and how it learns who waits for it. Its methods are safe
// for concurrent use.
type Call struct {
	mu  *sync.Mutex // the group's; guards what follows
	now func() time.Time

	sent     time.Time // when the request left that runs, or was the first to be answered
	underWay bool      // a request runs, or one was answered
	answered bool      // one was: the rest of the call continues from there
	failed   error     // of the latest request that failed and is sent again, until one is answered
	waiting  int       // callers
	urgent   bool
	cancel   context.CancelFunc // nil until the call starts
}

// Sent reports that a request leaves.
func (c *Call) Sent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.underWay = true; !c.answered {
		c.sent = c.now()
	}
}

// Answered reports that the request was answered. What the call sends after that continues
// from this answer, so that it is as old as this one.
func (c *Call) Answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered, c.failed = true, nil
}

// Retrying reports that the call waits before it sends a request again, and why the latest
// one failed. Several callers may get this error, and read it at the same time.
func (c *Call) Retrying(failed error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.underWay, c.failed = c.answered, failed
}

// Urgent reports whether the start of a pod waits for the call. It changes while the call
// waits: a pod may join a call that a rotation has started.
func (c *Call) Urgent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.urgent
}

// SentAt is when the request left that the answer is as old as; zero if the call never
// reported one.
func (c *Call) SentAt() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}

// serves reports whether the answer will be fresh enough. A call that nobody waits for was
// given up. The lock is held.
func (c *Call) serves(want Freshness) bool {
	return c.waiting > 0 && (!c.underWay || !c.sent.Before(want.NotBefore))
}
