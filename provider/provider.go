// Package provider is the steps of one mount: it turns a checked request into the files of a
// volume, by signing in as the pod and reading from Key Vault with the pod's own token. It
// sends no request itself, so that the steps can be read, and tested, without the network.
package provider

import (
	"context"
	"time"

	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/kube"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/stats"
)

// SignIn exchanges an identity's credential for a token; *entra.Cache does. Its errors are
// a *fault.Error or the context's own, and so are those of Vaults and Accounts.
type SignIn interface {
	// Token returns an access token for the scope, which may be cached.
	Token(ctx context.Context, id entra.Identity, scope string) (entra.Token, error)
	// Forget makes the next Token a new one, if this is the one that is cached.
	Forget(id entra.Identity, scope string, t entra.Token)
}

// Vaults reads from key vaults; *keyvault.Reader does. Get, Versions, List and Suggest start a read and
// return at once. The function that they return waits for the answer; call it exactly once.
type Vaults interface {
	Get(ctx context.Context, caller keyvault.Caller, o keyvault.Object, fresh keyvault.Freshness) func() (keyvault.Value, error)
	Versions(ctx context.Context, caller keyvault.Caller, o keyvault.Object, n int, fresh keyvault.Freshness) func() ([]string, error)
	List(ctx context.Context, caller keyvault.Caller, host string, t request.Type, fresh keyvault.Freshness) func() ([]keyvault.Item, error)
	Suggest(ctx context.Context, caller keyvault.Caller, o keyvault.Object, err error) func() error
	Resource(ctx context.Context, host, fallback string) (string, error)
}

// Accounts reads what the pod's ServiceAccount says about its identity;
// *kube.Accounts does.
type Accounts interface {
	Lookup(ctx context.Context, namespace, name string) (kube.Annotations, error)
}

// Mounter makes mounts. Its fields are set once; it is safe for concurrent use.
type Mounter struct {
	SignIn SignIn          // required
	Vaults Vaults          // required
	Clouds *cloud.Resolver // required
	// Accounts is used where a class names no client ID; nil outside a cluster.
	Accounts Accounts
	// TokenAudience replaces the audience of pods' tokens that a cloud has; may be empty.
	TokenAudience string
	// DefaultTenant is the tenant of a class that names none; may be empty.
	DefaultTenant string
	// Modes are the kinds of identity that may be used; nil for all.
	Modes []entra.Mode
	// NodeNamespaces are the namespaces whose pods may use the node's managed
	// identities; nil for all. It is decided here and not by a policy on classes, which
	// a pod's volumeAttributes override.
	NodeNamespaces []string
	// RotationTTL is how old the reads may be that answer a mount of a volume that was
	// mounted before; 0 for none.
	RotationTTL time.Duration
	// Render are the choices for private keys with their certificates.
	Render render.Options
	// MaxConcurrency bounds the objects of one mount that are read at a time; 0 is 1.
	MaxConcurrency int
	// MaxBytes bounds the content of one volume; required.
	MaxBytes int
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Memory bounds what mounts read at a time, in bytes; nil is no bound.
	Memory *fair.Semaphore
	// Processors bounds what takes a processor for long, such as conversions of certificates; nil
	// is no bound.
	Processors *fair.Semaphore
	// Keystores caches keystores; nil caches none.
	Keystores *Keystores
	// StrictObjects refuses what is otherwise accepted with a warning.
	StrictObjects bool
	// OnFiles, if not nil, is called with the files of an entry or object and what they are made
	// of, in the order of the class and before Mount returns. The plugin does not need it: it is
	// for tools that show where the files of a volume come from.
	OnFiles func([]render.File, []Origin)
}

// Origin is a version of an object that files are made of, without its value.
type Origin struct {
	Type        request.Type
	Name        string
	Version     string
	ContentType string     // of a secret
	Expires     *time.Time // nil if it has no such date
}

// Volume is the whole content of a volume.
type Volume struct {
	Files    []render.File // in the order of the class's objects; paths are unique
	Versions []Version     // likewise; none if the vaults have none of the objects
	// ValueWarnings are for the log: what is served although it should not be relied on.
	ValueWarnings []string
	// ClassWarnings are mistakes in the class that are accepted, and that show only in what
	// the vault returned.
	ClassWarnings []request.Warning
	// Expiries are when the certificates expire, and the secrets behind certificates, as the vaults
	// say; in no order.
	Expiries []time.Time
	// Absent names for the log what the vaults do not have and is optional.
	Absent []string
	// Release, if not nil, releases the memory that the mount has reserved; call it once,
	// when the volume was sent.
	Release func()
}

// Version says which version of an object the volume has.
type Version struct {
	ID      string // such as "secret/db-password"
	Version string // of Key Vault
}

// Mount makes the content of one volume: all of it, or an error. lastEnd is when the last
// successful mount of the same volume ended, and zero for the first: a pod that starts waits
// for that one, and sees what is in the vault now. The error is a *fault.Error, a *fault.Panic or
// the context's own, or several of these as fault.Errors.
func (m *Mounter) Mount(ctx context.Context, req *request.Mount, lastEnd time.Time) (*Volume, error) {
	fresh := m.freshness(lastEnd)
	if err := m.strict(req.Warnings); err != nil {
		return nil, err
	}
	env, err := m.Clouds.Resolve(req.Cloud.Name, req.Cloud.EnvFile)
	if err != nil {
		return nil, err
	}
	id, err := m.identity(ctx, req, env)
	if err != nil {
		return nil, err
	}
	stats.Identified(ctx, stats.Identity{Mode: string(id.Mode), ClientID: id.ClientID, TenantID: id.TenantID})
	s := session{Mounter: m, cloud: env, fresh: fresh, caller: keyvault.Caller{APIVersion: env.APIVersion}}
	if req.Vault != "" {
		s.host = env.VaultHost(req.Vault)
	}
	scope, err := s.scope(ctx, &req.Objects[0])
	if err != nil {
		return nil, err
	}
	volume, err := s.mountAs(ctx, id, scope, req.Objects)
	if fault.Is(err, fault.TokenRejected) { // the token may have been revoked while it was cached
		volume, err = s.mountAs(ctx, id, scope, req.Objects)
	}
	return volume, err
}

// freshness says how fresh what is read must be. A rotation may be answered by reads that
// are a little older, but by none that left before the last mount ended: the volume must not
// go back to an older version.
func (m *Mounter) freshness(lastEnd time.Time) keyvault.Freshness {
	now := m.now()
	if lastEnd.IsZero() {
		return keyvault.Freshness{NotBefore: now, Urgent: true}
	}
	oldest := now.Add(-m.RotationTTL)
	if oldest.Before(lastEnd) {
		oldest = lastEnd
	}
	return keyvault.Freshness{NotBefore: oldest}
}

// strict makes warnings errors, with --strict-objects.
func (m *Mounter) strict(warnings []request.Warning) error {
	if !m.StrictObjects {
		return nil
	}
	return request.Strict(warnings)
}

// scope returns the OAuth scope of the token, which is one for all vaults of the class. Only in a
// custom cloud it comes from a vault: that of the first object or, while it is unavailable and a
// pod starts, its failover vault.
func (s session) scope(ctx context.Context, first *request.Object) (string, error) {
	fallback := s.cloud.Resource
	if !s.cloud.Custom {
		return cloud.Scope(fallback), nil
	}
	if !s.fresh.Urgent || first.Failover == "" {
		resource, err := s.Vaults.Resource(ctx, s.hostOf(first.Vault), fallback)
		return cloud.Scope(resource), err
	}
	limited, cancel := context.WithTimeout(ctx, failoverAfter)
	defer cancel()
	resource, err := s.Vaults.Resource(limited, s.hostOf(first.Vault), fallback)
	if unavailable(ctx, err) {
		resource, err = s.Vaults.Resource(ctx, s.hostOf(first.Failover), fallback)
	}
	return cloud.Scope(resource), err
}

// mountAs signs in and reads. A token that the vault rejects is forgotten; so is one that may
// not read, since rights can be in it.
func (s session) mountAs(ctx context.Context, id entra.Identity, scope string, objects []request.Object) (*Volume, error) {
	token, err := s.SignIn.Token(ctx, id, scope)
	if err != nil {
		return nil, err
	}
	s.caller.Principal = keyvault.Principal{Authority: id.Authority, TenantID: id.TenantID, ClientID: id.ClientID}
	s.caller.Token, s.caller.Expires = token.Value, token.ExpiresOn
	if id.Mode == entra.ManagedIdentity {
		s.caller.Authority = keyvault.Node
	}
	volume, err := s.volume(ctx, objects)
	if fault.Is(err, fault.TokenRejected, fault.AccessDenied, fault.WrongTenant) {
		s.SignIn.Forget(id, scope, token)
	}
	return volume, err
}

func (m *Mounter) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}
