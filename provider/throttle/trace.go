package throttle

import "context"

// Trace accompanies a request in its context, in the manner of net/http/httptrace: the throttle
// calls it to learn how urgent the request is and to report its progress. *coalesce.Call is
// one. Its methods must not block, and Urgent is called with the throttle's lock held.
type Trace interface {
	// Urgent reports whether the start of a pod waits for the request. The answer may change
	// while the request waits.
	Urgent() bool
	// Sent is called before each attempt.
	Sent()
	// Answered is called when the service has answered. No retry of this request follows, but other
	// requests with the same trace may: the next page of a list, the token after metadata.
	Answered()
	// Retrying is called with the error of the latest failure, of this request or of
	// another, while the request waits for an attempt.
	Retrying(failed error)
}

type traceKey struct{}

// explained is a trace that gets the errors of its package.
type explained struct {
	Trace
	explain func(error) error
}

// Retrying implements Trace.
func (t explained) Retrying(failed error) { t.Trace.Retrying(t.explain(failed)) }

// WithTrace returns a context whose requests the trace accompanies. explain turns the errors
// that it is called with into those of its package; nil leaves them as they are.
func WithTrace(ctx context.Context, t Trace, explain func(error) error) context.Context {
	if explain != nil {
		t = explained{t, explain}
	}
	return context.WithValue(ctx, traceKey{}, t)
}

// WithExplain adds an explain function to the trace that the context has.
func WithExplain(ctx context.Context, explain func(error) error) context.Context {
	return WithTrace(ctx, TraceOf(ctx), explain)
}

// TraceOf returns the trace that the context has, or one that does nothing.
func TraceOf(ctx context.Context) Trace {
	if t, ok := ctx.Value(traceKey{}).(Trace); ok {
		return t
	}
	return none{}
}

// none is the trace of requests without one. They count as urgent.
type none struct{}

func (none) Urgent() bool   { return true }
func (none) Sent()          {}
func (none) Answered()      {}
func (none) Retrying(error) {}
