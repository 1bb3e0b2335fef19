// Package provider mounts: it turns a checked request into the files of a volume
// by signing in as the pod and reading from Key Vault with the pod's own token.
package provider

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"
)

// SignIn exchanges an identity's credential for a token; *entra.Cache does.
type SignIn interface {
	Token(ctx context.Context, id entra.Identity, scope string) (entra.Token, error)
	// Forget makes the next Token a new one, if this is the one that is kept.
	Forget(id entra.Identity, scope string, t entra.Token)
}

// Vaults reads from key vaults; *keyvault.Reader does. Get and Versions return at once;
// what they return waits for the answer and is to be called once.
type Vaults interface {
	Get(ctx context.Context, caller keyvault.Caller, o keyvault.Object, need keyvault.Need) func() (keyvault.Value, error)
	Versions(ctx context.Context, caller keyvault.Caller, o keyvault.Object, n int, need keyvault.Need) func() ([]string, error)
	Resource(ctx context.Context, host, fallback string) (string, error)
}

// Accounts reads what the pod's ServiceAccount says about its identity;
// *entra.Accounts does.
type Accounts interface {
	Lookup(ctx context.Context, namespace, name string) (entra.Annotations, error)
}

// Mounter makes mounts. Its fields are set once; it is safe for concurrent use.
type Mounter struct {
	SignIn SignIn          // required
	Vaults Vaults          // required
	Clouds *cloud.Resolver // required
	// Accounts is asked where a class names no client ID; nil outside a cluster.
	Accounts Accounts
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
	// Now tells the time; nil is time.Now.
	Now func() time.Time
	// StrictObjects refuses what is otherwise let pass with a warning.
	StrictObjects bool
}

// Volume is the whole content of a volume.
type Volume struct {
	Files    []render.File // in the order of the class's objects; paths are unique
	Versions []Version     // likewise
	// Warnings are for the log: what is served although it should not be relied on.
	Warnings []string
	// Lax is what only the vault could tell of mistakes that are let pass.
	Lax []request.Lax
}

// Version says which version of an object the volume holds.
type Version struct {
	ID      string // such as "secret/db-password"
	Version string // of Key Vault
}

// Mount makes the content of one volume: all of it, or an error. last is when the last
// successful mount of the same volume ended, zero if there was none: a pod that starts
// waits for this one, and sees what is in the vault now.
func (m *Mounter) Mount(ctx context.Context, req *request.Mount, last time.Time) (*Volume, error) {
	need := m.need(last)
	if m.StrictObjects {
		if err := request.Strict(req.Lax); err != nil {
			return nil, err
		}
	}
	home, err := m.Clouds.Resolve(req.Cloud.Name, req.Cloud.EnvFile)
	if err != nil {
		return nil, badParameter(err)
	}
	id, err := m.identity(ctx, req, home)
	if err != nil {
		return nil, err
	}
	host := home.VaultHost(req.Vault)
	scope, err := m.scope(ctx, home, host)
	if err != nil {
		return nil, err
	}
	volume, rejected, err := m.mountAs(ctx, req, id, scope, host, need)
	if rejected { // perhaps the token was kept for too long
		volume, _, err = m.mountAs(ctx, req, id, scope, host, need)
	}
	return volume, err
}

// need says how fresh what is read must be. A later mount may be answered by reads that
// are a little older, but by none that left before the last mount ended: what that one
// brought must not go back to an older version.
func (m *Mounter) need(last time.Time) keyvault.Need {
	now := m.now()
	if last.IsZero() {
		return keyvault.Need{Since: now, First: true}
	}
	since := now.Add(-m.RotationTTL)
	if since.Before(last) {
		since = last
	}
	return keyvault.Need{Since: since}
}

// scope is what the token must be for.
func (m *Mounter) scope(ctx context.Context, home cloud.Cloud, host string) (string, error) {
	if !home.Custom {
		return cloud.Scope(home.Resource), nil
	}
	resource, err := m.Vaults.Resource(ctx, host, home.Resource)
	return cloud.Scope(resource), err
}

// mountAs signs in and reads. rejected says that the vault did not take the token,
// which is forgotten then; a token that may not read is forgotten too, since rights
// can be in it.
func (m *Mounter) mountAs(ctx context.Context, req *request.Mount, id entra.Identity, scope, host string, need keyvault.Need) (_ *Volume, rejected bool, _ error) {
	token, err := m.SignIn.Token(ctx, id, scope)
	if err != nil {
		return nil, false, err
	}
	caller := keyvault.Caller{
		Principal: keyvault.Principal{Authority: id.Authority, TenantID: id.TenantID, ClientID: id.ClientID},
		Token:     token.Value, Expires: token.ExpiresOn,
	}
	if id.Mode == entra.ManagedIdentity {
		caller.Authority = keyvault.Node
	}
	volume, err := m.read(ctx, host, caller, req.Objects, need)
	rejected = failedFor(err, keyvault.ReasonTokenRejected)
	if rejected || failedFor(err, keyvault.ReasonAccessDenied) || failedFor(err, keyvault.ReasonWrongTenant) {
		m.SignIn.Forget(id, scope, token)
	}
	return volume, rejected, err
}

// read reads all objects and puts the volume together.
func (m *Mounter) read(ctx context.Context, host string, caller keyvault.Caller, objects []request.Object, need keyvault.Need) (*Volume, error) {
	items, lax, err := m.expand(ctx, host, caller, objects, need)
	if err != nil {
		return nil, err
	}
	parts, err := m.readAll(ctx, host, caller, items, need)
	if err != nil {
		return nil, err
	}
	twice, err := m.checkFiles(items, parts)
	if err != nil {
		return nil, err
	}
	volume := assemble(parts)
	volume.Lax = append(lax, twice...)
	return volume, nil
}

func (m *Mounter) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}

// badParameter tells of a cloud that cannot be used as of the parameter it is.
func badParameter(err error) error {
	var bad *cloud.Error
	if !errors.As(err, &bad) {
		return err
	}
	return &request.Error{Problems: []request.Problem{{Field: bad.Field, Cause: bad.Cause, Fix: bad.Fix}}}
}

// part is what one object adds to the volume.
type part struct {
	files   []render.File
	version Version
	warning string
	size    int // bytes of the files' content
}

// readAll reads all objects at once and renders them, results by index. It goes on when
// one fails: the error names every object that cannot be had.
func (m *Mounter) readAll(ctx context.Context, host string, caller keyvault.Caller, items []item, need keyvault.Need) ([]part, error) {
	parts := make([]part, len(items))
	errs := make([]error, len(items))
	total := 0
	ahead(len(items), m.MaxConcurrency, func(i int) func() (keyvault.Value, error) {
		return m.Vaults.Get(ctx, caller, vaultObject(host, items[i].Object), need)
	}, func(i int, wait func() (keyvault.Value, error)) {
		defer Recover(&errs[i])
		parts[i], errs[i] = m.render(items[i], wait)
		if total += parts[i].size; total > m.MaxBytes {
			parts[i].files = nil // refused below; until then only sizes are kept
		}
	})
	if err := join(errs); err != nil {
		return nil, err
	}
	if total > m.MaxBytes {
		sizes := make(map[string]int, len(parts))
		for i, p := range parts {
			name := items[i].String()
			if items[i].Path != items[i].Name {
				name += fmt.Sprintf(" as %q", items[i].Path)
			}
			sizes[name] = p.size
		}
		return nil, NewTooLargeError(total, m.MaxBytes, sizes)
	}
	return parts, nil
}

// ahead begins n pieces of work in their order, at most so many of them before the
// first is done, and has each done in the same order by the one goroutine.
func ahead[T any](n, atATime int, begin func(i int) T, done func(i int, begun T)) {
	begun := make([]T, n)
	next := 0
	for i := range n {
		for ; next < n && next < i+max(atATime, 1); next++ {
			begun[next] = begin(next)
		}
		done(i, begun[i])
	}
}

// render waits for an object's value and makes its files.
func (m *Mounter) render(o item, wait func() (keyvault.Value, error)) (part, error) {
	value, err := wait()
	if err != nil {
		return part{}, err
	}
	files, err := render.Files(o.Object, value, m.Render)
	if err != nil {
		return part{}, err
	}
	p := part{files: files, version: Version{ID: o.id, Version: value.Version}, warning: m.validity(o.Object, value)}
	for _, f := range files {
		p.size += len(f.Content)
	}
	return p, nil
}

// validity warns of an object outside its dates, which Key Vault serves all the
// same: they are informational.
func (m *Mounter) validity(o request.Object, v keyvault.Value) string {
	switch t := m.now(); {
	case v.Stale:
		return o.String() + " is what the vault answered before; it is away now"
	case v.Expires != nil && t.After(*v.Expires):
		return o.String() + " has expired"
	case v.NotBefore != nil && t.Before(*v.NotBefore):
		return o.String() + " is not valid yet"
	}
	return ""
}

// assemble puts the volume together. Of files with equal paths the last one
// stays, as the driver would have it, which writes a map by path.
func assemble(parts []part) *Volume {
	last := make(map[string]int)
	for i, p := range parts {
		for _, f := range p.files {
			last[f.Path] = i
		}
	}
	v := &Volume{Versions: make([]Version, 0, len(parts))}
	for i, p := range parts {
		v.Versions = append(v.Versions, p.version)
		if p.warning != "" {
			v.Warnings = append(v.Warnings, p.warning)
		}
		for _, f := range p.files {
			if last[f.Path] == i {
				v.Files = append(v.Files, f)
			}
		}
	}
	return v
}

// PanicError is a panic of a goroutine of the mount, as that mount's error: a
// panic that nobody recovers would end the process, and with it every mount of
// the node.
type PanicError struct {
	Value any
	Stack []byte
}

// Error implements error. It tells nothing of the panic: its value could hold
// anything. Log Stack instead.
func (e *PanicError) Error() string { return "a bug in the provider" }

// Recover, deferred, turns a panic into a *PanicError.
func Recover(err *error) {
	if v := recover(); v != nil {
		*err = &PanicError{Value: v, Stack: debug.Stack()}
	}
}
