// Package keyvault reads objects from Azure Key Vault, each with the access token
// of the caller that asked, and says what must be fixed when a vault refuses.
package keyvault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"akv-csi-provider/provider/coalesce"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/throttle"
	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/tracing"
	lru "github.com/hashicorp/golang-lru/v2"
)

// Config is what a Reader is made of.
type Config struct {
	// Transport sends the requests; required. Its errors should be those of
	// transport.Client.
	Transport policy.Transporter
	// Tracing traces the requests; its zero value traces none.
	Tracing tracing.Provider
	// Throttle is that of each vault; its Max is required, its Classify is set here.
	Throttle throttle.Config
	// Timeout bounds one read, for which callers with longer deadlines may wait; required.
	Timeout time.Duration
	// Unshared sends a request for each caller: nothing is shared or cached.
	Unshared bool
	// CacheTTL is how long after its request left an answer may serve those whose
	// Freshness it fits; 0 caches none.
	CacheTTL time.Duration
	// CacheBytes bounds what is cached.
	CacheBytes int
	// StaleIfError is for how long after its request left an answer may serve the start
	// of a pod while the vault is unavailable or throttles; 0 for never.
	StaleIfError time.Duration
	// OnRead, if not nil, is called with the source of each answer.
	OnRead func(context.Context, Source)
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Source is how an answer came about; the set is closed.
type Source string

// The sources of answers.
const (
	Read   Source = "read"   // by a request of the caller's own
	Shared Source = "shared" // by a request of another caller that was under way
	Cached Source = "kept"   // by one that ended before
	Stale  Source = "stale"  // by one that ended before, since the vault is unavailable
)

// sources are those of package coalesce.
var sources = map[coalesce.Source]Source{coalesce.Own: Read, coalesce.Shared: Shared, coalesce.Cached: Cached}

// Freshness is how fresh an answer must be; Urgent for the start of a pod.
type Freshness = coalesce.Freshness

// Bounds of the vaults a Reader remembers. One that drops out and comes back has new
// clients. Throttles are small and are remembered for longer: a caller that names many
// vaults must not make the node forget that one of them asked for fewer requests.
const (
	maxVaults    = 256
	maxThrottles = 16 * maxVaults
)

// Reader reads from vaults. It is safe for concurrent use.
type Reader struct {
	cfg         Config
	values      *coalesce.Group[key, Value]
	listings    *coalesce.Group[key, []version]
	suggestions *coalesce.Group[key, request.Type]
	resources   *coalesce.Group[string, string]

	unshared atomic.Uint64 // the latest key.unshared

	mu        sync.Mutex // for building a vault once
	vaults    *lru.Cache[string, *vault]
	throttles *lru.Cache[string, *throttle.Throttle]
}

// key is what callers must have in common to share an answer: each of them has proved by a
// sign-in of its own that it is the principal.
type key struct {
	Principal
	Object
	unshared uint64 // unique where nothing is shared, else 0
}

// Caller is on whose behalf an object is read.
type Caller struct {
	Principal
	Token   request.Secret // access token for the vault's audience
	Expires time.Time      // of the token
}

// Node is the Authority of the node's managed identity, which belongs to no cloud's
// authority.
const Node = "node"

// Principal is who a token of the caller speaks for. It is comparable: two callers
// with one Principal have the same rights in every vault.
type Principal struct {
	Authority string // that issued the token: a URL, or Node
	TenantID  string // "" for the node's managed identity
	ClientID  string // "" for the node's system-assigned identity
}

// String names the principal in messages.
func (p Principal) String() string {
	switch {
	case p.Authority == Node && p.ClientID == "":
		return "the node's system-assigned managed identity"
	case p.Authority == Node:
		return fmt.Sprintf("the node's managed identity %q", p.ClientID)
	}
	return fmt.Sprintf("client %q in tenant %q", p.ClientID, p.TenantID)
}

// Value is one version of an object. Its slices must not be changed: callers may
// share them.
type Value struct {
	Version   string
	NotBefore *time.Time // informational: Key Vault serves the object all the same
	Expires   *time.Time // likewise

	// Of a secret.
	Text        string
	ContentType string
	Managed     bool // it is the private side of a certificate

	// Of a certificate: DER (RFC 5280), which Key Vault calls CER.
	CER []byte

	// Of a key.
	Key *Key

	// Stale says that the vault is unavailable and this is what it returned before.
	Stale bool
}

// Key is the public side of a key as JSON Web Key (RFC 7517, RFC 7518 section 6).
// Numbers are big-endian.
type Key struct {
	Type  string // kty, such as RSA or EC-HSM
	Curve string // crv of an elliptic-curve key
	N, E  []byte // modulus and exponent of an RSA key
	X, Y  []byte // point of an elliptic-curve key
}

// NewReader makes a Reader.
func NewReader(cfg Config) (*Reader, error) {
	if cfg.Transport == nil || cfg.Throttle.Max < 1 || cfg.Timeout <= 0 {
		return nil, errors.New("keyvault: a transport, a positive concurrency and a timeout are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Throttle.Classify = classify
	budget := coalesce.NewBudget(cfg.CacheBytes)
	r := &Reader{
		cfg:         cfg,
		values:      coalesce.New[key](coalesce.Config[Value]{Timeout: cfg.Timeout, Budget: budget, Size: Value.size, Evict: isFinal, Now: cfg.Now}),
		listings:    coalesce.New[key](coalesce.Config[[]version]{Timeout: cfg.Timeout, Budget: budget, Size: sizeOf, Evict: isFinal, Now: cfg.Now}),
		suggestions: coalesce.New[key](coalesce.Config[request.Type]{Timeout: cfg.Timeout, Budget: coalesce.NewBudget(maxSuggestions), Now: cfg.Now}),
		resources:   coalesce.New[string](coalesce.Config[string]{Timeout: cfg.Timeout, Budget: coalesce.NewBudget(maxVaults), Now: cfg.Now}),
	}
	var errs [2]error
	r.vaults, errs[0] = lru.New[string, *vault](maxVaults)
	r.throttles, errs[1] = lru.New[string, *throttle.Throttle](maxThrottles)
	return r, errors.Join(errs[:]...)
}

// perEntry is about what a cached answer takes beside its content.
const perEntry = 512

// size is about what a value takes in memory.
func (v Value) size() int {
	n := perEntry + len(v.Text) + len(v.ContentType) + len(v.CER)
	if v.Key != nil {
		n += len(v.Key.N) + len(v.Key.E) + len(v.Key.X) + len(v.Key.Y)
	}
	return n
}

// sizeOf is about what a list takes in memory.
func sizeOf(all []version) int { return perEntry + 96*len(all) }

// Get starts to read a version of an object, the latest if the object names none, and returns
// at once. Call what it returns for the answer, once. Its error is a *fault.Error or the
// context's own.
func (r *Reader) Get(ctx context.Context, caller Caller, o Object, fresh Freshness) func() (Value, error) {
	v, err := r.vault(o.Host)
	if err != nil {
		return func() (Value, error) { return Value{}, err }
	}
	k := r.key(caller, o)
	pending := r.values.Start(ctx, k, fresh, func(ctx context.Context, call *coalesce.Call) (Value, coalesce.Life, error) {
		q := question{o, caller.Principal, getting}
		value, err := v.get(q.context(ctx, caller.Token, call), o)
		return value, r.life(call, caller), q.explain(err)
	})
	return func() (Value, error) {
		value, source, err := pending.Wait()
		if err == nil {
			r.report(ctx, sources[source])
			return value, nil
		}
		if r.cfg.StaleIfError > 0 && fresh.Urgent && fault.Is(err, fault.Throttled, fault.ServiceUnavailable, fault.Timeout) {
			if old, ok := r.values.Cached(k, r.cfg.Now().Add(-r.cfg.StaleIfError)); ok {
				r.report(ctx, Stale)
				old.Stale = true
				return old, nil
			}
		}
		return Value{}, r.suggest(ctx, v, caller, o, inTime(err, o))
	}
}

// Versions starts to list the enabled versions of an object from the one it names on, or the
// latest: newest first, at most n of them, none if there is no such version. It needs the
// right to list. Call what it returns for the answer, once. Its error is a *fault.Error or the
// context's own.
func (r *Reader) Versions(ctx context.Context, caller Caller, o Object, n int, fresh Freshness) func() ([]string, error) {
	v, err := r.vault(o.Host)
	if err != nil {
		return func() ([]string, error) { return nil, err }
	}
	start := o.Version
	o.Version = "" // one list serves whatever part of it is asked for
	pending := r.listings.Start(ctx, r.key(caller, o), fresh, func(ctx context.Context, call *coalesce.Call) ([]version, coalesce.Life, error) {
		q := question{o, caller.Principal, listing}
		all, err := v.versions(q.context(ctx, caller.Token, call), o)
		return all, r.life(call, caller), q.explain(err)
	})
	return func() ([]string, error) {
		all, source, err := pending.Wait()
		if err != nil {
			return nil, inTime(err, o)
		}
		r.report(ctx, sources[source])
		return latestFrom(all, start, n), nil
	}
}

// key is under what the caller's answers are shared.
func (r *Reader) key(caller Caller, o Object) key {
	k := key{Principal: caller.Principal, Object: o}
	if r.cfg.Unshared {
		k.unshared = r.unshared.Add(1)
	}
	return k
}

// life is how long an answer is cached: not longer than the token that read it.
func (r *Reader) life(call *coalesce.Call, caller Caller) coalesce.Life {
	if r.cfg.Unshared {
		return coalesce.Life{}
	}
	until := call.SentAt().Add(max(r.cfg.CacheTTL, r.cfg.StaleIfError))
	if caller.Expires.Before(until) {
		until = caller.Expires
	}
	return coalesce.Life{Until: until}
}

func (r *Reader) report(ctx context.Context, s Source) {
	if r.cfg.OnRead != nil {
		r.cfg.OnRead(ctx, s)
	}
}

// isFinal reports whether the error says that what was read before is over.
func isFinal(err error) bool {
	return fault.Is(err, fault.AccessDenied, fault.VaultFirewall, fault.WrongTenant, fault.TokenRejected,
		fault.ObjectNotFound, fault.ObjectDisabled, fault.VaultNotFound)
}

// inTime gives the error of a caller whose own time was up the object it waited for.
func inTime(err error, o Object) error {
	if errors.Is(err, context.DeadlineExceeded) && !fault.Is(err, fault.Timeout) {
		return networkError(transport.Timeout(o.Host, transport.PhaseRead), o)
	}
	return err
}
