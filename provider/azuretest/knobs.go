package azuretest

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Fault is a failure put in the place of an answer. Of Stall, Reset, HTML and Status the first that
// is set decides; the zero Fault removes the kind's fault.
type Fault struct {
	// Status answers with this status and the body the service really sends with it.
	Status int
	// RetryAfter is the value of that header; "" sends none.
	RetryAfter string
	// InnerCode is Key Vault's inner code, with Status 401 AKV10046, or at Entra the AADSTS number in
	// digits.
	InnerCode string
	// Reset cuts the TCP connection, and with it all other requests on an HTTP/2 connection. A Go
	// client quietly repeats a GET once when the connection was not new.
	Reset bool
	// Stall never answers: until the client goes or the fake is closed.
	Stall bool
	// HTML sends a proxy's page instead of JSON, with Status or 200.
	HTML bool
	// Body is sent instead of the service's with Status, and nothing but Header as headers: what
	// another server would answer, or the service in its own way.
	Body   string
	Header http.Header
	// Times is how often the fault strikes; 0 until it is cleared.
	Times int
	// Every n makes it strike each n-th request of the kind, beginning with the n-th; 0 is every one.
	Every int
}

func (f Fault) none() bool { return f.Status == 0 && !f.Reset && !f.Stall && !f.HTML }

// knobs are the latencies, faults and quotas set on a fake, by kind, or on one vault or tenant, where
// one stands for all kinds: [every].
type knobs struct {
	mu      sync.Mutex // guards what follows; never held while waiting
	latency map[Kind]time.Duration
	faults  map[Kind]*activeFault
	quotas  map[Kind]*quota
}

type activeFault struct {
	Fault
	seen, struck int
}

// quota is how many requests a service answers in any stretch of time of one length.
type quota struct {
	n       int
	per     time.Duration
	clock   func() time.Time
	granted []time.Time // of the last n requests that were answered, a ring once it is full
	oldest  int         // index of the one to be overwritten next
}

// every is the kind of the knobs of one vault or tenant.
const every Kind = ""

// SetLatency delays every request of the kind, before it is handled; 0 turns it off.
func (b *Box) SetLatency(k Kind, d time.Duration) { b.knobs.setLatency(k, d) }

// SetLatency delays every request to the vault, besides the fake's latency; 0 turns it off.
func (v *Vault) SetLatency(d time.Duration) { v.knobs.setLatency(every, d) }

func (n *knobs) setLatency(k Kind, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.latency == nil {
		n.latency = map[Kind]time.Duration{}
	}
	n.latency[k] = d
}

// SetFault makes requests of the kind fail, in place of any fault set before.
func (b *Box) SetFault(k Kind, f Fault) { b.knobs.setFault(k, f) }

// SetFault makes all requests to the vault fail, in place of any fault of it set before. A fault of
// the fake strikes first.
func (v *Vault) SetFault(f Fault) { v.knobs.setFault(every, f) }

// SetFault makes requests to Entra for the tenant fail, as [Vault.SetFault] does for a vault.
func (t *Tenant) SetFault(f Fault) { t.knobs.setFault(every, f) }

func (n *knobs) setFault(k Kind, f Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f.none() {
		delete(n.faults, k)
		return
	}
	if n.faults == nil {
		n.faults = map[Kind]*activeFault{}
	}
	n.faults[k] = &activeFault{Fault: f}
}

// ClearFaults ends the fake's faults of all kinds, but not latencies and quotas, nor what was set on a
// vault or tenant; stalled requests stay stalled.
func (b *Box) ClearFaults() {
	b.knobs.mu.Lock()
	defer b.knobs.mu.Unlock()
	clear(b.knobs.faults)
}

// SetQuota makes the service answer at most n requests of the kind in any stretch of that length, by the
// fake's clock, and throttle those beyond as a [Fault] with Status 429 does; they use up nothing. It
// replaces any quota set before; n = 0 ends it. A request that a fault strikes uses up nothing.
func (b *Box) SetQuota(k Kind, n int, per time.Duration) {
	b.knobs.mu.Lock()
	defer b.knobs.mu.Unlock()
	if n <= 0 {
		delete(b.knobs.quotas, k)
		return
	}
	if b.knobs.quotas == nil {
		b.knobs.quotas = map[Kind]*quota{}
	}
	b.knobs.quotas[k] = &quota{n: n, per: per, clock: b.clock}
}

// hinder waits out the latencies that a request meets and returns the fault that strikes it, if any.
// Its error is the context's.
func (x *exchange) hinder(ctx context.Context, b *Box) (Fault, error) {
	f, err := b.knobs.hinder(ctx, x.kind)
	if err != nil || !f.none() {
		return f, err
	}
	if v := x.place.vault; v != nil {
		return v.knobs.hinder(ctx, every)
	}
	if x.place.authority != nil {
		id, _, _ := strings.Cut(strings.TrimPrefix(x.URL.Path, "/"), "/")
		if t := b.findTenant(id); t != nil {
			return t.knobs.hinder(ctx, every)
		}
	}
	return Fault{}, nil
}

// hinder waits out the latency of the kind and returns the fault that strikes this request, if any.
// Its error is the context's.
func (n *knobs) hinder(ctx context.Context, k Kind) (Fault, error) {
	n.mu.Lock()
	delay := n.latency[k]
	n.mu.Unlock()
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return Fault{}, ctx.Err()
		}
	}
	f := n.strike(k)
	if f.Stall {
		<-ctx.Done()
		return Fault{}, ctx.Err()
	}
	return f, nil
}

// strike counts a request against the kind's fault, or else against its quota.
func (n *knobs) strike(k Kind) Fault {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f := n.faults[k]; f != nil && f.strikes() {
		return f.Fault
	}
	if q := n.quotas[k]; q != nil && !q.grant() {
		return Fault{Status: http.StatusTooManyRequests}
	}
	return Fault{}
}

// strikes counts a request and reports whether the fault strikes it.
func (f *activeFault) strikes() bool {
	f.seen++
	if f.Every > 1 && f.seen%f.Every != 0 || f.Times > 0 && f.struck >= f.Times {
		return false
	}
	f.struck++
	return true
}

// grant reports whether one more request may be answered now, and counts it if so.
func (q *quota) grant() bool {
	now := q.clock()
	if len(q.granted) < q.n {
		q.granted = append(q.granted, now)
		return true
	}
	if now.Sub(q.granted[q.oldest]) < q.per {
		return false
	}
	q.granted[q.oldest] = now
	q.oldest = (q.oldest + 1) % q.n
	return true
}
