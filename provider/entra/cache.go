package entra

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"akv-csi-provider/provider/coalesce"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/throttle"
	"akv-csi-provider/provider/transport"
)

// Exchanger exchanges a credential for a token; *Exchange does.
type Exchanger interface {
	Token(ctx context.Context, id Identity, scope string) (Token, error)
	// Host is where the identity signs in, for messages.
	Host(id Identity) string
}

// CacheConfig bounds a Cache. Its zero value is useful.
type CacheConfig struct {
	// Timeout bounds an exchange; 0 is 50 s.
	Timeout time.Duration
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// OnToken, if not nil, is called for each call of Token, with whether the cache answered
	// it. It must not block.
	OnToken func(ctx context.Context, hit bool)
}

const (
	maxTokens   = 4096
	signInTime  = 50 * time.Second
	maxIdle     = 10 * time.Minute
	renewBefore = 10 * time.Minute // at most; see renewal
	renewAgain  = 30 * time.Second // after a renewal that failed
)

// Cache caches the tokens of an Exchanger, each for callers that present the very credential that
// it was exchanged for: a token with another's claims, or with another signature, is
// another credential. Concurrent callers with one credential share one
// exchange, and a caller that gives up does not fail the others. Errors are not cached.
//
// A token is cached until it or the service-account token it was exchanged for expires,
// whichever is first, or it was not used for ten minutes. Toward its end it is
// renewed while callers continue with the old one, so that a short outage of Entra fails no
// caller. Cache is safe for concurrent use.
type Cache struct {
	next   Exchanger
	cfg    CacheConfig
	budget *coalesce.Budget
	tokens *coalesce.Group[cacheKey, Token]
}

// NewCache puts a Cache before an Exchanger.
func NewCache(next Exchanger, cfg CacheConfig) (*Cache, error) {
	if next == nil || cfg.Timeout < 0 {
		return nil, errors.New("token cache: an exchanger and a timeout that is not negative are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	budget := coalesce.NewBudget(maxTokens)
	return &Cache{next: next, cfg: cfg, budget: budget, tokens: coalesce.New[cacheKey](coalesce.Config[Token]{
		Timeout: cmp.Or(cfg.Timeout, signInTime), Budget: budget,
		Idle: maxIdle, RefreshRetry: renewAgain, Now: cfg.Now,
	})}, nil
}

// Cached is how many tokens are cached.
func (c *Cache) Cached() (entries int) {
	entries, _ = c.budget.Usage()
	return entries
}

// Token returns a token for the scope: a cached one, or that of an exchange. Its error is
// the Exchanger's, a *fault.Error when the caller's time is over, or the context's own.
func (c *Cache) Token(ctx context.Context, id Identity, scope string) (Token, error) {
	key, ok := keyOf(id, scope)
	if !ok {
		return c.next.Token(ctx, id, scope)
	}
	token, source, err := c.tokens.Do(ctx, key, coalesce.Freshness{Urgent: true}, func(ctx context.Context, call *coalesce.Call) (Token, coalesce.Life, error) {
		token, err := c.next.Token(throttle.WithTrace(ctx, call, nil), id, scope)
		return token, life(token, id, c.cfg.Now()), err
	})
	if c.cfg.OnToken != nil {
		c.cfg.OnToken(ctx, source == coalesce.Cached)
	}
	if err == context.DeadlineExceeded {
		err = transport.Timeout(c.next.Host(id), transport.PhaseSignIn)
	}
	return token, err
}

// Forget drops a token that a vault rejects. A newer one in its place stays.
func (c *Cache) Forget(id Identity, scope string, t Token) {
	if key, ok := keyOf(id, scope); ok {
		c.tokens.Forget(key, func(cached Token) bool { return cached.Value == t.Value })
	}
}

// life is how long a token may be cached, if at all. The expiry of the service-account token is
// not verified here, and need not be: Entra has just done so.
func life(token Token, id Identity, now time.Time) coalesce.Life {
	until := token.ExpiresOn.Round(0) // without the monotonic clock, which stops while a node is suspended
	l := coalesce.Life{Until: until, Refresh: renewal(now, until)}
	if id.Mode == WorkloadIdentity || id.Mode == IdentityBinding {
		end, ok := expiry(id.Assertion)
		if !ok {
			return coalesce.Life{}
		}
		if !end.After(until) { // another exchange would not last longer
			l = coalesce.Life{Until: end}
		}
	}
	return l
}

// renewal is from when on a token is renewed: for the last fifth of its life, but for
// no more than ten minutes.
func renewal(now, until time.Time) time.Time {
	return until.Add(-min(until.Sub(now)/5, renewBefore))
}

// Format implements [fmt.Formatter]: printing a Cache reveals no token.
func (*Cache) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "entra.Cache") }

// cacheKey is a digest of the credential, of what it is presented for, and of what an error
// would quote: callers that share an exchange share its error.
type cacheKey [sha256.Size]byte

// Format implements [fmt.Formatter].
func (cacheKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "entra.cacheKey") }

// keyOf returns the key, unless the identity has no credential that could prove it.
func keyOf(id Identity, scope string) (cacheKey, bool) {
	kind, account := string(id.Mode), ""
	var credential request.Secret
	switch id.Mode {
	case WorkloadIdentity, IdentityBinding:
		account, credential = id.ServiceAccount, id.Assertion
	case ServicePrincipal:
		if credential = id.ClientSecret; credential == "" {
			kind, credential = kind+" by certificate", id.ClientCertificate
		}
	case ManagedIdentity: // which the node itself proves; see managedIdentityCredential
	default:
		return cacheKey{}, false
	}
	if credential == "" && id.Mode != ManagedIdentity {
		return cacheKey{}, false
	}
	text := make([]byte, 0, 2<<10)
	for _, part := range []string{
		kind, id.Authority, id.TenantID, id.TenantIDFrom, id.ClientID, id.ClientIDFrom, account, id.Audience, scope, string(credential),
	} {
		text = binary.AppendUvarint(text, uint64(len(part)))
		text = append(text, part...)
	}
	defer clear(text)
	return sha256.Sum256(text), true
}
