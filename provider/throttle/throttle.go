// Package throttle stands between the Azure SDK's clients and one service: it limits the
// requests under way, divides them between tenants, gives those of starting pods priority,
// retries with back-off, honors Retry-After, and opens a circuit while the service is
// unavailable or throttles.
//
// It is a policy for azcore's PerCallPolicies, with the SDK's own retries off (MaxRetries -1):
// each attempt is a clone of one request, so that users of a client make plain calls. The SDK's
// retry policy cannot do this: it knows one request, and not the others to the same service.
// One [Throttle] is for all clients of one service, whichever caller they send for.
package throttle

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// Config says how a [Throttle] works. The zero value of a duration is its default.
type Config struct {
	// Max bounds the attempts under way; required. One tenant, see package fair, takes at most
	// three quarters of them.
	Max int
	// Retries is how often a request that failed is sent again.
	Retries int
	// Classify says what an attempt shows about the service; nil is [Classify]. Of the response
	// and the error, one is nil. The body can be read with azcore's runtime.Payload.
	Classify func(*http.Response, error) Result
	// Service is what the throttle is for.
	Service Service
	// OnOpen, if not nil, is called each time the circuit opens, and OnClose when it has then been
	// closed for a minute. They must not block, and the episode is theirs only while they run. A
	// panic of OnClose ends the process.
	OnOpen, OnClose func(*Episode)
	// OnRetry, if not nil, is called each time a request is sent again. It must not block.
	OnRetry func()
}

// How a Throttle behaves when a service does not say when to come back.
const (
	quickRetry    = 100 * time.Millisecond // an isolated reset or 5xx is over by then
	minBackoff    = time.Second
	maxBackoff    = 10 * time.Second // doubled from minBackoff up to it
	maxOpenWait   = 8 * time.Second  // of one request for an open circuit; its caller then gets the cause
	maxRetryAfter = time.Minute      // of what a service may request; mounts do not live longer
	// failureThreshold opens the circuit: so many failures in a row, with no answer between.
	// Of responses of which one in twenty fails, five in a row are one in three million.
	failureThreshold = 5
)

// Throttle is one service's. It is safe for concurrent use.
type Throttle struct {
	cfg Config

	mu       sync.Mutex // guards what follows
	inUse    int
	held     map[string]int // of inUse, by tenant
	failures int            // in a row
	open     time.Time      // the circuit is open until then; zero while it is closed
	opened   time.Time      // when it opened
	wasOpen  time.Duration  // in all, before it opened or until it closed
	probing  bool           // one request goes through the open circuit, to decide what follows
	backoff  time.Duration
	cause    *answer   // for which the circuit opened
	waiters  []*waiter // in the order in which they came
	episode  *Episode  // nil once the circuit has been closed for a while
	calm     *time.Timer
}

// New makes a Throttle.
func New(cfg Config) *Throttle {
	if cfg.Classify == nil {
		cfg.Classify = Classify
	}
	return &Throttle{cfg: cfg, held: make(map[string]int)}
}

// Do implements policy.Policy: it sends the request until an attempt succeeds or fails for
// good, or the retries are used up, and returns the last response or error.
//
// While the circuit is open, one request probes the service for all. Its failure counts as an
// attempt of each request that waits, so Do may return without having sent the request. If the
// circuit stays open until after the request's deadline, or for more than some seconds, Do
// returns the failure that opened it.
func (t *Throttle) Do(req *policy.Request) (*http.Response, error) {
	ctx := req.Raw().Context()
	t.mu.Lock()
	v := &visit{trace: TraceOf(ctx), openFor: t.openTime()}
	t.mu.Unlock()
	var last *answer
	for attempts := 0; ; attempts++ {
		place, err := t.enter(req.Raw(), v)
		switch {
		case err != nil && last != nil:
			return last.to(req)
		case err != nil:
			return nil, err
		case place.answer != nil:
			last = place.answer
			if place.final || attempts >= t.cfg.Retries {
				return last.to(req)
			}
			continue
		}
		if attempts > 0 && t.cfg.OnRetry != nil {
			t.cfg.OnRetry()
		}
		var result Result
		last, result = t.attempt(req, place, v.trace)
		if !result.again() || attempts >= t.cfg.Retries || ctx.Err() != nil {
			return last.to(req)
		}
		v.trace.Retrying(last.failure(req.Raw()))
		if result.Outcome != Throttled && !sleep(ctx, jitter(quickRetry*time.Duration(pow3(attempts)))) {
			return last.to(req)
		}
	}
}

// attempt sends a clone of the request, and then frees its place.
func (t *Throttle) attempt(req *policy.Request, place admission, trace Trace) (last *answer, result Result) {
	result.Outcome = Unknown // of a panic
	defer func() { t.leave(result, place, last) }()
	clone := req.Clone(req.Raw().Context())
	if err := clone.RewindBody(); err != nil {
		return &answer{err: err}, result
	}
	trace.Sent()
	last = new(answer)
	last.resp, last.err = clone.Next()
	if last.err != nil { // azcore's retry policy returns both if the context ends while the response comes
		if last.resp != nil && last.resp.Body != nil {
			_ = last.resp.Body.Close()
		}
		last.resp = nil
	}
	if result = t.cfg.Classify(last.resp, last.err); !result.again() && last.err == nil {
		trace.Answered()
	}
	return last, result
}

// jitter makes a wait up to a quarter longer, so that waits do not end at the same moment.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/4+1) }

func pow3(n int) (p int) {
	for p = 1; n > 0; n-- {
		p *= 3
	}
	return p
}

// sleep reports whether the time has passed before the context ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
