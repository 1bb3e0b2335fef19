package entra

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"akv-csi-provider/provider/request"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Signer exchanges a credential for a token; *Exchange does.
type Signer interface {
	Token(ctx context.Context, id Identity, scope string) (Token, error)
}

// CacheConfig bounds a Cache. Its zero value is useful.
type CacheConfig struct {
	// Max is how many tokens are kept; 0 is 4096.
	Max int
	// Timeout bounds an exchange of which no caller has a deadline, and one that only
	// renews a token; 0 is 50 s.
	Timeout time.Duration
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Asked, if not nil, hears of each call of Token whether it was answered from the
	// cache. It must not block.
	Asked func(hit bool)
}

const (
	maxTokens   = 4096
	signInTime  = 50 * time.Second
	keepIdle    = 10 * time.Minute
	sweepEvery  = time.Minute
	renewBefore = 10 * time.Minute // at most; see renewal
	renewAgain  = 30 * time.Second // after a renewal that failed
)

// Cache keeps the tokens of a Signer, each for who presents the very credential that
// it was exchanged for: a token with the claims of another's, or signed by somebody
// else, is another credential. Concurrent callers with one credential share one
// exchange, and a caller that gives up does not fail the others. Errors are not kept.
//
// A token is kept until it or the service-account token it was exchanged for expires,
// whichever is first, or nobody has asked for it for ten minutes. Toward its end it is
// renewed while callers go on with the old one, so that an Entra that is away for some
// minutes fails nobody. Cache is safe for concurrent use.
type Cache struct {
	next  Signer
	cfg   CacheConfig
	signs flight[Token]

	mu      sync.Mutex // guards what follows
	entries *simplelru.LRU[cacheKey, *entry]
	sweeper *time.Timer // nil while there is nothing to sweep
}

// entry is a token that is kept.
type entry struct {
	token    Token
	until    time.Time // not used from then on
	renew    time.Time // renewed from then on; zero for never
	renewing bool
	used     time.Time
}

// NewCache puts a Cache before a Signer.
func NewCache(next Signer, cfg CacheConfig) (*Cache, error) {
	if next == nil || cfg.Max < 0 || cfg.Timeout < 0 {
		return nil, errors.New("token cache: needs a signer, and bounds that are not negative")
	}
	cfg.Max, cfg.Timeout = cmp.Or(cfg.Max, maxTokens), cmp.Or(cfg.Timeout, signInTime)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	entries, err := simplelru.NewLRU[cacheKey, *entry](cfg.Max, nil)
	if err != nil {
		return nil, err
	}
	return &Cache{next: next, cfg: cfg, signs: flight[Token]{most: cfg.Timeout}, entries: entries}, nil
}

// Token returns a token for the scope: a kept one, or that of an exchange. Its error is
// the Signer's, a *transport.Error when the caller's time is over, or the context's own.
func (c *Cache) Token(ctx context.Context, id Identity, scope string) (Token, error) {
	key, ok := keyOf(id, scope)
	if !ok {
		return c.next.Token(ctx, id, scope)
	}
	token, hit := c.kept(key, id, scope)
	if c.cfg.Asked != nil {
		c.cfg.Asked(hit)
	}
	if hit {
		return token, nil
	}
	token, err := c.signs.do(ctx, string(key[:]), func(ctx context.Context) (Token, error) {
		if token, ok := c.kept(key, id, scope); ok { // of an exchange that has just ended
			return token, nil
		}
		return c.exchange(ctx, key, id, scope)
	})
	return token, inTime(err, c.host(id))
}

// Forget drops a token that a vault does not take. A newer one in its place stays.
func (c *Cache) Forget(id Identity, scope string, t Token) {
	key, ok := keyOf(id, scope)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries.Peek(key); ok && e.token.Value == t.Value {
		c.entries.Remove(key)
	}
}

// kept returns the token under the key, and has it renewed when it is time.
func (c *Cache) kept(key cacheKey, id Identity, scope string) (Token, bool) {
	now := c.cfg.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries.Get(key)
	if !ok || !now.Before(e.until) {
		return Token{}, false
	}
	e.used = now
	if !e.renew.IsZero() && !now.Before(e.renew) && !e.renewing {
		e.renewing = true
		go c.renew(key, e, id, scope)
	}
	return e.token, true
}

// renew exchanges the credential once more, for nobody who waits: an error, or a
// panic, is left to whoever asks when the old token has expired.
func (c *Cache) renew(key cacheKey, e *entry, id Identity, scope string) {
	defer func() {
		_ = recover()
		c.mu.Lock()
		defer c.mu.Unlock()
		e.renewing, e.renew = false, c.cfg.Now().Add(renewAgain)
	}()
	_, _ = c.signs.do(context.Background(), string(key[:]), func(ctx context.Context) (Token, error) {
		return c.exchange(ctx, key, id, scope)
	})
}

// exchange asks the Signer and keeps what it gives.
func (c *Cache) exchange(ctx context.Context, key cacheKey, id Identity, scope string) (Token, error) {
	token, err := c.next.Token(ctx, id, scope)
	if err != nil {
		return Token{}, err
	}
	now := c.cfg.Now()
	e, ok := life(token, id, now)
	if !ok {
		return token, nil
	}
	e.used = now
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Add(key, e)
	c.sweepLater()
	return token, nil
}

// life is how long a token may be kept, if at all. What the service-account token says
// of its own end is not verified here, and need not be: Entra has just done so.
func life(token Token, id Identity, now time.Time) (*entry, bool) {
	e := &entry{token: token, until: token.ExpiresOn.Round(0)} // without the monotonic clock, which stops while a node is suspended
	e.renew = renewal(now, e.until)
	if id.Mode == WorkloadIdentity || id.Mode == IdentityBinding {
		end, ok := expiry(id.Assertion)
		if !ok {
			return nil, false
		}
		if !end.After(e.until) { // another exchange would not last longer
			e.until, e.renew = end, time.Time{}
		}
	}
	return e, now.Before(e.until)
}

// renewal is from when on a token is renewed: for the last fifth of its life, but for
// no more than ten minutes.
func renewal(now, until time.Time) time.Time {
	return until.Add(-min(until.Sub(now)/5, renewBefore))
}

// sweepLater sees to it that what is no longer used leaves the memory. The lock is held.
func (c *Cache) sweepLater() {
	if c.sweeper == nil && c.entries.Len() > 0 {
		c.sweeper = time.AfterFunc(sweepEvery, c.sweep)
	}
}

func (c *Cache) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.cfg.Now()
	for _, key := range c.entries.Keys() {
		if e, ok := c.entries.Peek(key); ok && (!now.Before(e.until) || now.Sub(e.used) >= keepIdle) {
			c.entries.Remove(key)
		}
	}
	c.sweeper = nil
	c.sweepLater()
}

// host is where the identity signs in, as the Signer's own errors name it.
func (c *Cache) host(id Identity) string {
	if x, ok := c.next.(interface{ hostOf(Identity) string }); ok {
		return x.hostOf(id)
	}
	return id.host()
}

// Format implements [fmt.Formatter]: printing a Cache tells no token.
func (*Cache) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "entra.Cache") }

// Format implements [fmt.Formatter], since fmt does not ask a Secret in a field that is
// not exported.
func (*entry) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "entra.entry") }

// cacheKey is a digest of the credential, of what it is presented for, and of what an
// error would say of it: whoever shares an exchange shares its error.
type cacheKey [sha256.Size]byte

// Format implements [fmt.Formatter].
func (cacheKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "entra.cacheKey") }

// keyOf returns the key, unless the identity has no credential that could prove it.
func keyOf(id Identity, scope string) (cacheKey, bool) {
	var account string
	var credential request.Secret
	switch id.Mode {
	case WorkloadIdentity, IdentityBinding:
		account, credential = id.ServiceAccount, id.Assertion
	case ServicePrincipal:
		credential = id.ClientSecret
	case ManagedIdentity: // which the node itself proves; see Exchange.managedIdentity
	default:
		return cacheKey{}, false
	}
	if credential == "" && id.Mode != ManagedIdentity {
		return cacheKey{}, false
	}
	text := make([]byte, 0, 2<<10)
	for _, part := range []string{
		string(id.Mode), id.Authority, id.TenantID, id.TenantIDFrom, id.ClientID, id.ClientIDFrom, account, scope, string(credential),
	} {
		text = binary.AppendUvarint(text, uint64(len(part)))
		text = append(text, part...)
	}
	defer clear(text)
	return sha256.Sum256(text), true
}
