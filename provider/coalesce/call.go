package coalesce

import (
	"context"
	"sync"
	"time"
)

// Call is how a running call reports its progress, which decides who may still join it, and how
// it learns whether the start of a pod waits for it. It implements throttle.Trace. Its methods
// are safe for concurrent use.
type Call struct {
	mu  *sync.Mutex // the group's; guards what follows
	now func() time.Time

	sent      time.Time // when the running request left, or the first one that was answered
	underWay  bool      // a request is under way, or one was answered
	answered  bool      // a request was: later ones continue from its answer
	forgotten bool      // its set was forgotten since that request left: its answer is not cached
	failed    error     // the latest request, which will be sent again; nil once one is answered
	waiting   int       // number of callers
	urgent    bool
	cancel    context.CancelFunc // nil until the call starts
}

// Sent reports that a request leaves.
func (c *Call) Sent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.underWay = true; !c.answered {
		c.sent, c.forgotten = c.now(), false
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

// SentAt is when the request left that decides on the age of the answer; zero if the call has
// reported none.
func (c *Call) SentAt() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}

// serves reports whether the answer will be fresh enough. A call without waiting
// callers was canceled. The lock is held.
func (c *Call) serves(want Freshness) bool {
	return c.waiting > 0 && (!c.underWay || !c.sent.Before(want.NotBefore))
}
