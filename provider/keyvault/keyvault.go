// Package keyvault reads objects from Azure Key Vault, each with the access token
// of the caller that asked, and says what must be mended when a vault refuses.
package keyvault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"akv-csi-provider/provider/gate"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/tally"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/tracing"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	lru "github.com/hashicorp/golang-lru/v2"
)

// Config is what a Reader is made of.
type Config struct {
	// Transport sends the requests; required. Its errors should be
	// *transport.Error, which an *Error then wraps.
	Transport policy.Transporter
	// Tracing traces the requests; its zero value traces none.
	Tracing tracing.Provider
	// Gate is that of each vault; its Max is required.
	Gate gate.Config
	// Timeout bounds one read, on whose answer callers with longer deadlines may wait;
	// required.
	Timeout time.Duration
	// Unshared sends a request for each caller: nothing is shared or kept.
	Unshared bool
	// Keep is how long after its request left an answer may serve those whose Need it
	// fits; 0 keeps none.
	Keep time.Duration
	// KeepBytes bounds what is kept.
	KeepBytes int
	// StaleIfError is for how long after its request left an answer may serve the start
	// of a pod while the vault is away or throttles; 0 for never.
	StaleIfError time.Duration
	// Seen, if not nil, hears how each answer came about: one of the Answer constants.
	Seen func(answer string)
	// Now tells the time; nil is time.Now.
	Now func() time.Time
}

// seen tells of an answer.
func (c *Config) seen(ctx context.Context, answer string) {
	if c.Seen != nil {
		c.Seen(answer)
	}
	m := tally.Of(ctx)
	switch {
	case m == nil:
	case answer == AnswerRead:
		m.Read.Add(1)
	case answer == AnswerShared:
		m.Shared.Add(1)
	case answer == AnswerKept:
		m.Kept.Add(1)
	case answer == AnswerStale:
		m.Stale.Add(1)
	}
}

// Bounds of the vaults a Reader remembers. One that drops out and comes back has new
// clients. Gates are small and are kept for longer: who names many vaults must not make
// a throttled one forgotten.
const (
	maxVaults = 256
	maxGates  = 16 * maxVaults
)

// Reader reads from vaults. It is safe for concurrent use.
type Reader struct {
	cfg      Config
	hints    *hints
	values   *shared[Value]
	listings *shared[[]version]

	mu     sync.Mutex // for building a vault once
	vaults *lru.Cache[string, *vault]
	gates  *lru.Cache[string, *gate.Gate]
}

// vault is what the mounts of one vault share: its clients and its gate, never a
// token.
type vault struct {
	secrets      *azsecrets.Client
	keys         *azkeys.Client
	certificates *azcertificates.Client
	gate         *gate.Gate

	mu       sync.Mutex // guards resource
	resource string     // see Reader.Resource
}

// Caller is on whose behalf an object is read.
type Caller struct {
	Principal
	Token   request.Secret // access token for the vault's audience
	Expires time.Time      // of the token
}

// Node is the Authority of the node's managed identity, which no authority of a
// cloud gives.
const Node = "node"

// Principal is who a token of the caller speaks for. It is comparable: two callers
// with one Principal have the same rights in every vault.
type Principal struct {
	Authority string // that gave the token: a URL, or Node
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

	// Stale says that the vault is away and this is what it answered before.
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
	if cfg.Transport == nil || cfg.Gate.Max < 1 || cfg.Timeout <= 0 {
		return nil, errors.New("keyvault: a transport, a positive concurrency and a timeout are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	r := &Reader{cfg: cfg}
	room := &room{left: cfg.KeepBytes}
	var errs [5]error
	r.vaults, errs[0] = lru.New[string, *vault](maxVaults)
	r.gates, errs[1] = lru.New[string, *gate.Gate](maxGates)
	r.hints, errs[2] = newHints()
	r.values, errs[3] = newShared(cfg, room, Value.size)
	r.listings, errs[4] = newShared(cfg, room, func(all []version) int { return len(all) * perVersion })
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("keyvault: %w", err)
	}
	return r, nil
}

// size is about what a value takes in memory.
func (v Value) size() int {
	n := len(v.Text) + len(v.ContentType) + len(v.CER)
	if v.Key != nil {
		n += len(v.Key.N) + len(v.Key.E) + len(v.Key.X) + len(v.Key.Y)
	}
	return n
}

// perVersion is about what an entry of a list takes.
const perVersion = 96

// Get begins to read a version of an object, the latest if the object names none, and
// returns at once: call what it returns for the answer, once. Its error is an *Error or
// the context's own.
func (r *Reader) Get(ctx context.Context, caller Caller, o Object, need Need) func() (Value, error) {
	v, err := r.vault(o.Host)
	if err != nil {
		return func() (Value, error) { return Value{}, err }
	}
	wait := resolve(ctx, r, r.values, v, caller, o, need, getting, func(ctx context.Context, ask asker) (value Value, err error) {
		err = ask(ctx, func(ctx context.Context) (err error) {
			value, err = v.get(ctx, o)
			return err
		})
		if err == nil && value.Version == "" {
			err = errForeign
		}
		return value, err
	})
	return func() (Value, error) {
		value, err := wait()
		if err == nil {
			return value, nil
		}
		if r.cfg.StaleIfError > 0 && need.First && isAway(err) {
			if old, ok := r.values.stale(caller, o, r.cfg.Now().Add(-r.cfg.StaleIfError)); ok {
				r.cfg.seen(ctx, AnswerStale)
				old.Stale = true
				return old, nil
			}
		}
		return Value{}, r.hint(ctx, v, caller, o, err)
	}
}

// Versions begins to list the enabled versions of an object from the one it names on,
// or the latest: newest first, at most n of them, none if there is no such version. It
// needs the right to list. Call what it returns for the answer, once. Its error is an
// *Error or the context's own.
func (r *Reader) Versions(ctx context.Context, caller Caller, o Object, n int, need Need) func() ([]string, error) {
	v, err := r.vault(o.Host)
	if err != nil {
		return func() ([]string, error) { return nil, err }
	}
	first := o.Version
	o.Version = "" // one list serves whatever part of it is asked for
	wait := resolve(ctx, r, r.listings, v, caller, o, need, listing, func(ctx context.Context, ask asker) ([]version, error) {
		return v.versions(ctx, o, ask)
	})
	return func() ([]string, error) {
		all, err := wait()
		if err != nil {
			return nil, err
		}
		return newest(all, first, n), nil
	}
}

// asker makes one request of a vault, with tries as its gate allows.
type asker func(ctx context.Context, request func(context.Context) error) error

// resolve begins to get the answer to one kind of question, shared with other callers
// if that is allowed. The error is explained.
func resolve[V any](ctx context.Context, r *Reader, s *shared[V], v *vault, caller Caller, o Object, need Need, to access,
	question func(context.Context, asker) (V, error)) func() (V, error) {
	ask := func(ctx context.Context, t *try) (V, error) {
		value, err := question(ctx, func(ctx context.Context, request func(context.Context) error) error {
			return v.gate.Do(ctx, t.isUrgent, func(ctx context.Context) error {
				return t.request(ctx, func(ctx context.Context) error { return classify(request(ctx)) })
			}, judge)
		})
		if err != nil {
			err = explain(ctx, err, o, caller, to)
		}
		return value, err
	}
	if r.cfg.Unshared {
		alone := &read[V]{token: caller, ask: ask, done: make(chan struct{}), try: &try{mu: new(sync.Mutex), now: r.cfg.Now, urgent: need.First}}
		go func() {
			defer close(alone.done)
			alone.value, alone.panicked, alone.err = run(withCaller(ctx, caller), alone)
		}()
		return func() (V, error) { // it ends with ctx
			return s.wait(context.WithoutCancel(ctx), alone, false, nil)
		}
	}
	return s.begin(ctx, caller, o, need, ask, func(last error) error {
		if last != nil && !errors.Is(ctx.Err(), context.Canceled) {
			return explain(context.Background(), last, o, caller, to)
		}
		return gaveUp(ctx, o)
	})
}

// vault returns what is shared for the host, building it when needed.
func (r *Reader) vault(host string) (*vault, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, ok := r.vaults.Get(host); ok {
		return v, nil
	}
	v, err := r.newVault(host)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", host, err)
	}
	r.vaults.Add(host, v)
	return v, nil
}

func (r *Reader) newVault(host string) (*vault, error) {
	options := azcore.ClientOptions{
		Transport:        r.cfg.Transport,
		TracingProvider:  r.cfg.Tracing,
		Retry:            policy.RetryOptions{MaxRetries: -1}, // the gate tries again
		PerRetryPolicies: []policy.Policy{authorize{host: host}},
	}
	url := "https://" + host
	secrets, err := azsecrets.NewClient(url, refuseToSignIn{}, &azsecrets.ClientOptions{ClientOptions: options})
	if err != nil {
		return nil, err
	}
	keys, err := azkeys.NewClient(url, refuseToSignIn{}, &azkeys.ClientOptions{ClientOptions: options})
	if err != nil {
		return nil, err
	}
	certificates, err := azcertificates.NewClient(url, refuseToSignIn{}, &azcertificates.ClientOptions{ClientOptions: options})
	if err != nil {
		return nil, err
	}
	door, ok := r.gates.Get(host)
	if !ok {
		door = gate.New(r.cfg.Gate)
		r.gates.Add(host, door)
	}
	return &vault{secrets: secrets, keys: keys, certificates: certificates, gate: door}, nil
}
