package azuretest

import (
	"context"
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
	// InnerCode is Key Vault's inner code, or at Entra the AADSTS number in digits.
	InnerCode string
	// Reset cuts the TCP connection, and with it all other requests on an HTTP/2 connection. A Go
	// client quietly repeats a GET once when the connection was not new.
	Reset bool
	// Stall never answers: until the client goes or the box is closed.
	Stall bool
	// HTML sends a proxy's page instead of JSON, with Status or 200.
	HTML bool
	// Times is how often the fault strikes; 0 until it is cleared.
	Times int
	// Every n makes it strike each n-th request of the kind, beginning with the n-th; 0 is every one.
	Every int
}

func (f Fault) none() bool { return f.Status == 0 && !f.Reset && !f.Stall && !f.HTML }

// knobs are the latencies and faults set on a box.
type knobs struct {
	mu      sync.Mutex // guards what follows; never held while waiting
	latency map[Kind]time.Duration
	faults  map[Kind]*activeFault
}

type activeFault struct {
	Fault
	seen, struck int
}

// SetLatency delays every request of the kind, before it is looked at; 0 turns it off.
func (b *Box) SetLatency(k Kind, d time.Duration) {
	b.knobs.mu.Lock()
	defer b.knobs.mu.Unlock()
	if b.knobs.latency == nil {
		b.knobs.latency = map[Kind]time.Duration{}
	}
	b.knobs.latency[k] = d
}

// SetFault makes requests of the kind fail, in place of any fault set before.
func (b *Box) SetFault(k Kind, f Fault) {
	b.knobs.mu.Lock()
	defer b.knobs.mu.Unlock()
	if f.none() {
		delete(b.knobs.faults, k)
		return
	}
	if b.knobs.faults == nil {
		b.knobs.faults = map[Kind]*activeFault{}
	}
	b.knobs.faults[k] = &activeFault{Fault: f}
}

// ClearFaults ends the faults of all kinds, but not the latencies; stalled requests stay stalled.
func (b *Box) ClearFaults() {
	b.knobs.mu.Lock()
	defer b.knobs.mu.Unlock()
	clear(b.knobs.faults)
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

// strike counts a request against the kind's fault.
func (n *knobs) strike(k Kind) Fault {
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.faults[k]
	if f == nil {
		return Fault{}
	}
	f.seen++
	if f.Every > 1 && f.seen%f.Every != 0 || f.Times > 0 && f.struck >= f.Times {
		return Fault{}
	}
	f.struck++
	return f.Fault
}
