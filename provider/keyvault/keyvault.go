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
type Source = coalesce.Source

// The sources of answers.
const (
	Read          = coalesce.Own
	Shared        = coalesce.Shared
	Cached        = coalesce.Cached
	Stale  Source = "stale" // by a request that ended before, since the vault is unavailable

	FromFailover Source = "failover" // by the failover vault, since the first one is unavailable
	Absent       Source = "absent"   // the vault does not have what is optional
)

// Answer is how a caller got an object.
type Answer struct {
	Object Object // for the log; of a list it has no name
	Source Source
	Age    time.Duration // of a value: since its request left
}

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
	budget      *coalesce.Budget // of values and listings, and of what is missing
	values      *coalesce.Group[key, result[Value]]
	listings    *coalesce.Group[key, result[[]Item]] // of versions, or without a name of objects
	suggestions *coalesce.Group[key, request.Type]
	suggested   *coalesce.Budget // of suggestions
	suggesting  atomic.Int64     // callers that wait for one
	resources   *coalesce.Group[string, string]

	unshared atomic.Uint64 // the latest key.unshared

	mu        sync.Mutex // for building a vault once
	vaults    *lru.Cache[string, *vault]
	throttles *lru.Cache[string, *throttle.Throttle]
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
		values:      group(cfg, budget, Value.size),
		listings:    group(cfg, budget, listSize),
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
func (r *Reader) Get(ctx context.Context, caller Caller, o Object, fresh Freshness) func() (Value, error) {
	v, err := r.vault(o.Host)
	if err != nil {
		return func() (Value, error) { return Value{}, err }
	}
	wait := start(ctx, r, r.values, caller, question{o, caller.Principal, accessGet}, fresh, v.get)
	return func() (Value, error) {
		got, source, err := wait()
		if err == nil {
			r.answered(ctx, caller, source, o, got.sent)
			return got.value, nil
		}
		if old, ok := r.stale(caller, o, fresh, err); ok {
			r.report(ctx, Stale, o, old.sent)
			return old.value, nil
		}
		if caller.Optional && fault.Is(err, fault.ObjectNotFound) {
			r.report(ctx, Absent, o, got.sent)
		}
		return Value{}, err
	}
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
	first := o.Version
	o.Version = "" // callers share one list, whichever part of it they need
	wait := r.list(ctx, caller, question{o, caller.Principal, accessVersions}, fresh, v.versions)
	return func() ([]string, error) {
		all, err := wait()
		if err != nil {
			return nil, err
		}
		return latestFrom(all, first, n), nil
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
	return r.list(ctx, caller, question{Object{Host: host, Type: t}, caller.Principal, accessObjects}, fresh, v.objects)
}

// list starts to read a list, which callers share as they share values.
func (r *Reader) list(ctx context.Context, caller Caller, q question, fresh Freshness, read func(context.Context, Object) ([]Item, error)) func() ([]Item, error) {
	wait := start(ctx, r, r.listings, caller, q, fresh, read)
	return func() ([]Item, error) {
		got, source, err := wait()
		if err != nil {
			return nil, err
		}
		r.answered(ctx, caller, source, q.Object, time.Time{})
		return got.value, nil
	}
}

// context returns the context of the question's requests. It carries what the SDK's methods have
// no parameter for: the caller, for policies apiVersion and authorize, and the call, for the throttle.
func (q question) context(ctx context.Context, caller Caller, call *coalesce.Call) context.Context {
	return throttle.WithTrace(withCaller(ctx, caller), call, q.explain)
}

// answered reports the source of an answer that came from the vault.
func (r *Reader) answered(ctx context.Context, caller Caller, source Source, o Object, sent time.Time) {
	if caller.Failover == IsFailover {
		r.report(ctx, FromFailover, o, sent)
		return
	}
	r.report(ctx, source, o, sent)
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
