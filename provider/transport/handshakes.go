package transport

import (
	"context"
	"crypto/tls"
	"sync"
	"time"

	"akv-csi-provider/provider/fair"
)

// Bounds of TLS handshakes under way. They take more of the processor than all else that a mount
// does, and with hundreds at a time, such as those of a namespace that starts to read many vaults,
// each step of everybody else's mounts waits for all of them.
const (
	maxHandshakes = 16
	// handshakeCounts is for how long a handshake counts: one whose peer is silent takes no
	// processor time, and must not keep out the others of its namespace.
	handshakeCounts = 100 * time.Millisecond
	// maxHandshakeWait is far above what a wait takes, and clear of TLSHandshakeTimeout, of which it
	// is a part.
	maxHandshakeWait = 3 * time.Second
)

// handshake is the TLS handshakes of one request: one, unless it is sent again. Its methods are
// hooks of httptrace, and net/http calls the first right before a handshake.
type handshake struct {
	places *fair.Semaphore
	ctx    context.Context // of the request; it ends the wait. Stored, since the hooks get none

	mu       sync.Mutex // guards what follows
	releases []func()   // of the handshakes under way
}

// start waits until there is a place for the handshake. One that waited for too long goes on
// without.
func (h *handshake) start() {
	ctx, cancel := context.WithTimeout(h.ctx, maxHandshakeWait)
	defer cancel()
	release, err := h.places.Acquire(ctx, fair.Tenant(ctx), 1)
	if err != nil {
		return
	}
	timer := time.AfterFunc(handshakeCounts, release)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.releases = append(h.releases, func() { timer.Stop(); release() })
}

// done releases the place of a handshake. It may be that of another one of the same request, which
// ends later: neither counts for long.
func (h *handshake) done(tls.ConnectionState, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.releases); n > 0 {
		h.releases[n-1]()
		h.releases = h.releases[:n-1]
	}
}
