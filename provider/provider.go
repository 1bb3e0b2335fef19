// Package provider mounts: it turns a checked request into the files of a volume
// by signing in as the pod and reading from Key Vault with the pod's own token.
package provider

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"

	"golang.org/x/sync/errgroup"
)

// SignIn exchanges an identity's credential for a token; *entra.Exchange does.
type SignIn interface {
	Token(ctx context.Context, id entra.Identity, scope string) (entra.Token, error)
}

// Vaults reads from key vaults; *keyvault.Reader does.
type Vaults interface {
	Get(ctx context.Context, caller keyvault.Caller, o keyvault.Object) (keyvault.Value, error)
	Versions(ctx context.Context, caller keyvault.Caller, o keyvault.Object, n int) ([]string, error)
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

// Mount makes the content of one volume: all of it, or an error.
func (m *Mounter) Mount(ctx context.Context, req *request.Mount) (*Volume, error) {
	if m.StrictObjects {
		if err := request.Strict(req.Lax); err != nil {
			return nil, err
		}
	}
	home, err := m.Clouds.Resolve(req.Cloud.Name, req.Cloud.EnvFile)
	if err != nil {
		return nil, badParameter(err)
	}
	host := home.VaultHost(req.Vault)
	id, err := m.identity(ctx, req, home)
	if err != nil {
		return nil, err
	}
	caller, err := m.signIn(ctx, id, home, host)
	if err != nil {
		return nil, err
	}
	items, lax, err := m.expand(ctx, host, caller, req.Objects)
	if err != nil {
		return nil, err
	}
	parts, err := m.readAll(ctx, host, caller, items)
	if err != nil {
		return nil, err
	}
	volume := assemble(parts)
	volume.Lax = lax
	return volume, nil
}

// signIn gets a token of the identity for the vault.
func (m *Mounter) signIn(ctx context.Context, id entra.Identity, home cloud.Cloud, host string) (keyvault.Caller, error) {
	resource := home.Resource
	if home.Custom {
		var err error
		if resource, err = m.Vaults.Resource(ctx, host, resource); err != nil {
			return keyvault.Caller{}, err
		}
	}
	token, err := m.SignIn.Token(ctx, id, cloud.Scope(resource))
	if err != nil {
		return keyvault.Caller{}, err
	}
	principal := keyvault.Principal{Authority: id.Authority, TenantID: id.TenantID, ClientID: id.ClientID}
	if id.Mode == entra.ManagedIdentity {
		principal.Authority = keyvault.Node
	}
	return keyvault.Caller{Principal: principal, Token: token.Value}, nil
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

// readAll reads and renders all objects at once, results by index. It goes on
// when one fails: the error names every object that cannot be had.
func (m *Mounter) readAll(ctx context.Context, host string, caller keyvault.Caller, items []item) ([]part, error) {
	parts := make([]part, len(items))
	errs := make([]error, len(items))
	var total atomic.Int64
	var group errgroup.Group
	group.SetLimit(max(m.MaxConcurrency, 1))
	for i, o := range items {
		group.Go(func() error {
			defer Recover(&errs[i])
			parts[i], errs[i] = m.read(ctx, host, caller, o)
			if total.Add(int64(parts[i].size)) > int64(m.MaxBytes) {
				parts[i].files = nil // refused below; until then only sizes are kept
			}
			return nil
		})
	}
	_ = group.Wait() // its functions keep their errors
	if err := join(errs); err != nil {
		return nil, err
	}
	if total := int(total.Load()); total > m.MaxBytes {
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

func (m *Mounter) read(ctx context.Context, host string, caller keyvault.Caller, o item) (part, error) {
	value, err := m.Vaults.Get(ctx, caller, vaultObject(host, o.Object))
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
	now := time.Now
	if m.Now != nil {
		now = m.Now
	}
	switch t := now(); {
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
