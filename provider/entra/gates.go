package entra

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"

	"akv-csi-provider/provider/gate"
	"akv-csi-provider/provider/transport"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// maxGates is high, since a gate is small: who names many tenants must not make one
	// that asked for rest forgotten.
	maxGates  = 4096
	nodeTries = 5 // what the metadata service takes at a time ("How to use managed identities on a VM")
)

// gates are those before what an Exchange asks. The zero value is ready.
type gates struct {
	mu   sync.Mutex // guards what follows
	kept *lru.Cache[string, *gate.Gate]
}

// before returns the gate for a sign-in. Each tenant has one of its own: Entra limits
// tenants, and that of one pod must not keep the others out.
func (g *gates) before(s signIn, cfg gate.Config) *gate.Gate {
	if s.Mode == ManagedIdentity {
		cfg.Max = min(cfg.Max, nodeTries)
	}
	key := s.host() + "\n" + strings.ToLower(s.TenantID)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.kept == nil {
		g.kept, _ = lru.New[string, *gate.Gate](maxGates) // fails for no size only
	}
	found, ok := g.kept.Get(key)
	if !ok {
		found = gate.New(cfg)
		g.kept.Add(key, found)
	}
	return found
}

// through tries a sign-in until it succeeds or there is no use in it: behind the gate,
// if there are any, and else as the SDK does.
func (x *Exchange) through(ctx context.Context, s signIn, try func(context.Context) (Token, error)) (Token, error) {
	if x.Gate.Max <= 0 {
		return try(ctx)
	}
	var token Token
	var own error
	err := x.gates.before(s, x.Gate).Do(ctx, urgent, func(ctx context.Context) error {
		token, own = try(ctx)
		return own
	}, judge)
	if err == nil || own != nil && errors.Is(err, own) {
		return token, err
	}
	return Token{}, s.instead(err)
}

// urgent is what every sign-in is.
func urgent() bool { return true }

// instead puts this caller into an error that the gate kept of another. Only those that
// tell of the service reach others; of them one names whose sign-in it was.
func (s signIn) instead(err error) error {
	var other *Error
	if errors.As(err, &other) && other.reason == ReasonThrottled {
		e := throttled(s)
		e.Code = other.Code
		return e
	}
	return inTime(err, s.host())
}

// judge says what an error of a sign-in tells of the service.
func judge(err error) gate.Verdict {
	var own *Error
	var network *transport.Error
	var final interface{ NonRetriable() }
	switch {
	case errors.Is(err, context.Canceled):
		return gate.Verdict{News: gate.None}
	case errors.As(err, &own):
		return own.verdict
	case errors.As(err, &final), !errors.As(err, &network),
		network.Reason() == transport.ReasonHostNotFound, network.Reason() == transport.ReasonTLSUntrusted:
		return gate.Verdict{News: gate.None}
	}
	return gate.Verdict{News: gate.Away}
}

// verdictOf judges a refusal of Entra.
func verdictOf(resp *http.Response, code int) gate.Verdict {
	rest := gate.RetryAfter(resp.Header)
	switch {
	case code == 50196: // meant for this client alone, and made longer by what it sends
		return gate.Verdict{News: gate.Alive}
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusServiceUnavailable && rest > 0:
		return gate.Verdict{News: gate.Busy, Rest: rest}
	case resp.StatusCode >= http.StatusInternalServerError, resp.StatusCode == http.StatusRequestTimeout,
		code == 90033, code == 90055:
		return gate.Verdict{News: gate.Away}
	}
	return gate.Verdict{News: gate.Alive}
}

// notTheService is what an answer tells that is not the service's.
var notTheService = gate.Verdict{News: gate.None}
