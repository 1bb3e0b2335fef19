// Package keyvault reads objects from Azure Key Vault, and says what must be fixed when a vault
// refuses. It exists beside the Azure SDK since one SDK client must serve all pods of a node,
// each with its own access token, and since pods of one identity share what they read.
package keyvault

import (
	"context"
	"errors"
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
	// OnRead, if not nil, is called with each answer.
	OnRead func(context.Context, Answer)
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Source is where an answer came from; the set is closed.
type Source string

// The sources of answers.
const (
	Read   Source = "read"   // by the caller's own request
	Shared Source = "shared" // by a request of another caller that was under way
	Cached Source = "cached" // by one that ended before
	Stale  Source = "stale"  // by one that ended before, since the vault is unavailable

	FromFailover Source = "failover" // by the failover vault, since the first one is unavailable
	Absent       Source = "absent"   // the vault does not have what is optional
)

// Answer is how a caller got an object.
type Answer struct {
	Object Object // for the log; of a list it has no name
	Source Source
	Age    time.Duration // of a value: since its request left
}

// sources are those of package coalesce.
var sources = map[coalesce.Source]Source{coalesce.Own: Read, coalesce.Shared: Shared, coalesce.Cached: Cached}

// Freshness is how fresh an answer must be. Urgent is set for the start of a pod.
type Freshness = coalesce.Freshness

// Bounds of the vaults a Reader remembers. One that drops out and comes back has new
// clients. Throttles are small and are remembered for longer: a caller that names many
// vaults must not make the node forget that one of them throttles.
const (
	maxVaults    = 256
	maxThrottles = 16 * maxVaults
)

// Reader reads from vaults. It is safe for concurrent use.
type Reader struct {
	cfg         Config
	budget      *coalesce.Budget // of values and listings
	values      *coalesce.Group[key, Value]
	listings    *coalesce.Group[key, []Item] // of versions, or without a name of objects
	suggestions *coalesce.Group[key, request.Type]
	suggested   *coalesce.Budget // of suggestions
	suggesting  atomic.Int64     // callers that wait for one
	resources   *coalesce.Group[string, string]

	unshared atomic.Uint64 // the latest key.unshared

	mu        sync.Mutex // for building a vault once
	vaults    *lru.Cache[string, *vault]
	throttles *lru.Cache[string, *throttle.Throttle]
}

// key is what callers must have in common to share an answer: each of them has proved by its
// own sign-in that it is the principal.
type key struct {
	Principal
	Object
	unshared uint64 // unique where nothing is shared, else 0
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
	budget, suggested := coalesce.NewBudget(cfg.CacheBytes), coalesce.NewBudget(maxSuggestions)
	r := &Reader{
		cfg:         cfg,
		budget:      budget,
		values:      coalesce.New[key](coalesce.Config[Value]{Timeout: cfg.Timeout, Budget: budget, Size: Value.size, Now: cfg.Now}),
		listings:    coalesce.New[key](coalesce.Config[[]Item]{Timeout: cfg.Timeout, Budget: budget, Size: listSize, Now: cfg.Now}),
		suggestions: coalesce.New[key](coalesce.Config[request.Type]{Timeout: cfg.Timeout, Budget: suggested, Now: cfg.Now}),
		suggested:   suggested,
		resources:   coalesce.New[string](coalesce.Config[string]{Timeout: cfg.Timeout, Budget: coalesce.NewBudget(maxVaults), Now: cfg.Now}),
	}
	var errs [2]error
	r.vaults, errs[0] = lru.New[string, *vault](maxVaults)
	r.throttles, errs[1] = lru.New[string, *throttle.Throttle](maxThrottles)
	return r, errors.Join(errs[:]...)
}

// Cached is how many values and lists are cached, and how many bytes they take.
func (r *Reader) Cached() (entries, bytes int) { return r.budget.Usage() }

// Get starts to read a version of an object, the latest if the object names none, and returns
// at once. The function that it returns waits for the answer; call it exactly once. Its error
// is a *fault.Error or the context's own.
//
// The request itself is sent in the function that the group runs, by an SDK client whose
// policies newVault lists.
func (r *Reader) Get(ctx context.Context, caller Caller, o Object, fresh Freshness) func() (Value, error) {
	v, err := r.vault(o.Host)
	if err != nil {
		return func() (Value, error) { return Value{}, err }
	}
	k := r.key(caller, o)
	read := func(ctx context.Context, call *coalesce.Call) (Value, coalesce.Life, error) {
		q := question{o, caller.Principal, getting}
		value, err := v.get(q.context(ctx, caller, call), o)
		value.sent = call.SentAt()
		return value, r.life(call, caller), r.forgetIfRefused(k, q.explain(err))
	}
	pending := r.values.Start(ctx, k, fresh, read)
	return func() (Value, error) {
		value, source, err := pending.Wait()
		if rejectedForAnother(source, err) {
			value, source, err = r.values.Do(ctx, k, fresh, read)
		}
		if err == nil {
			r.answered(ctx, caller, source, o, value.sent)
			return value, nil
		}
		err = asTimeout(err, o)
		if old, ok := r.stale(k, caller, fresh, err); ok {
			r.report(ctx, Stale, o, old.sent)
			return old, nil
		}
		if caller.Optional && fault.Is(err, fault.ObjectNotFound) {
			r.report(ctx, Absent, o, time.Time{})
		}
		return Value{}, err
	}
}

// rejectedForAnother reports whether a call failed because the vault rejects the token of
// another caller, who made it. This caller's token may be a newer one.
func rejectedForAnother(source coalesce.Source, err error) bool {
	return source == coalesce.Shared && fault.Is(err, fault.TokenRejected)
}

// stale returns what was read before, for the start of a pod that would fail with err; see
// Config.StaleIfError.
func (r *Reader) stale(k key, caller Caller, fresh Freshness, err error) (Value, bool) {
	if r.cfg.StaleIfError <= 0 || caller.Failover == HasFailover || !fresh.Urgent || !fault.Is(err, fault.Throttled, fault.ServiceUnavailable, fault.Timeout) {
		return Value{}, false
	}
	old, ok := r.values.Cached(k, r.cfg.Now().Add(-r.cfg.StaleIfError))
	old.Stale = true
	return old, ok
}

// forgetIfRefused drops all that was read from the vault for the principal, if the error is a
// refusal: it may apply to all objects by now. If the error says that an object is missing or
// disabled, that there is no such vault, or that the request is not valid, it drops all versions
// of the object. It returns the error.
func (r *Reader) forgetIfRefused(k key, err error) error {
	refused := fault.Is(err, fault.AccessDenied, fault.VaultFirewall, fault.WrongTenant, fault.TokenRejected)
	if refused || fault.Is(err, fault.ObjectNotFound, fault.ObjectDisabled, fault.VaultNotFound, fault.VaultRefused) {
		same := func(other key) bool {
			return other.Principal == k.Principal && other.Host == k.Host && (refused || other.Type == k.Type && other.Name == k.Name)
		}
		r.values.ForgetKeys(same)
		r.listings.ForgetKeys(same)
	}
	return err
}

// Versions starts to list the enabled versions of an object from the one it names on, or the
// latest: newest first, at most n of them, none if there is no such version. It needs the
// right to list. The function that it returns waits for the answer; call it exactly once. Its
// error is a *fault.Error or the context's own.
func (r *Reader) Versions(ctx context.Context, caller Caller, o Object, n int, fresh Freshness) func() ([]string, error) {
	v, err := r.vault(o.Host)
	if err != nil {
		return func() ([]string, error) { return nil, err }
	}
	start := o.Version
	o.Version = "" // callers share one list, whichever part of it they need
	wait := r.startList(ctx, caller, question{o, caller.Principal, listing}, fresh, v.versions)
	return func() ([]string, error) {
		all, err := wait()
		if err != nil {
			return nil, err
		}
		return latestFrom(all, start, n), nil
	}
}

// List starts to list the objects of a type in a vault, by name. It needs the right to list. The
// function that it returns waits for the answer; call it exactly once. Its error is a *fault.Error
// or the context's own.
func (r *Reader) List(ctx context.Context, caller Caller, host string, t request.Type, fresh Freshness) func() ([]Item, error) {
	v, err := r.vault(host)
	if err != nil {
		return func() ([]Item, error) { return nil, err }
	}
	return r.startList(ctx, caller, question{Object{Host: host, Type: t}, caller.Principal, finding}, fresh, v.objects)
}

// startList starts to read a list, which callers share as they share values.
func (r *Reader) startList(ctx context.Context, caller Caller, q question, fresh Freshness, read func(context.Context, Object) ([]Item, error)) func() ([]Item, error) {
	k := r.key(caller, q.Object)
	list := func(ctx context.Context, call *coalesce.Call) ([]Item, coalesce.Life, error) {
		all, err := read(q.context(ctx, caller, call), q.Object)
		return all, r.life(call, caller), r.forgetIfRefused(k, q.explain(err))
	}
	pending := r.listings.Start(ctx, k, fresh, list)
	return func() ([]Item, error) {
		all, source, err := pending.Wait()
		if rejectedForAnother(source, err) {
			all, source, err = r.listings.Do(ctx, k, fresh, list)
		}
		if err != nil {
			return nil, asTimeout(err, q.Object)
		}
		r.answered(ctx, caller, source, q.Object, time.Time{})
		return all, nil
	}
}

// key returns the key under which the caller shares answers.
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

// context returns the context of the question's requests. It carries what the SDK's methods have
// no parameter for: the caller, for policies apiVersion and authorize, and the call, for the throttle.
func (q question) context(ctx context.Context, caller Caller, call *coalesce.Call) context.Context {
	return throttle.WithTrace(withCaller(ctx, caller), call, q.explain)
}

// answered reports the source of an answer that came from the vault.
func (r *Reader) answered(ctx context.Context, caller Caller, source coalesce.Source, o Object, sent time.Time) {
	if caller.Failover == IsFailover {
		r.report(ctx, FromFailover, o, sent)
		return
	}
	r.report(ctx, sources[source], o, sent)
}

// report calls OnRead. sent is when the request of the answer left; zero for none.
func (r *Reader) report(ctx context.Context, s Source, o Object, sent time.Time) {
	if r.cfg.OnRead == nil {
		return
	}
	a := Answer{Object: o, Source: s}
	if !sent.IsZero() {
		a.Age = r.cfg.Now().Sub(sent)
	}
	r.cfg.OnRead(ctx, a)
}

// asTimeout names the vault and the object in the error of a caller whose own time was up.
func asTimeout(err error, o Object) error {
	if errors.Is(err, context.DeadlineExceeded) && !fault.Is(err, fault.Timeout) {
		return networkError(transport.Timeout(o.Host, transport.PhaseRead), o)
	}
	return err
}
