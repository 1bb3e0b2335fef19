package provider

import (
	"context"
	"fmt"
	"time"

	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/stats"
)

// session is one mount after its sign-in: the vaults that it reads from, the caller that it
// reads as, and how fresh the answers must be.
type session struct {
	*Mounter
	cloud    cloud.Cloud
	host     string // of the class's vault; "" without one
	caller   keyvault.Caller
	fresh    keyvault.Freshness
	failover *failover // nil without failover vaults
}

// volume reads all objects and puts the volume together. If that fails, or panics, it releases the
// memory that it has reserved.
func (s session) volume(ctx context.Context, objects []request.Object) (v *Volume, _ error) {
	cancel := s.withFailover(ctx, objects)
	defer cancel()
	items, empty, err := s.plan(ctx, objects)
	if err != nil {
		return nil, err
	}
	size := 0
	for i := range items {
		size += items[i].memory()
	}
	release, err := s.reserve(ctx, min(size, volumeFactor*s.MaxBytes))
	if err != nil {
		return nil, err
	}
	defer func() {
		if v == nil && release != nil {
			release()
		}
	}()
	parts, err := s.readAll(ctx, items)
	if err != nil {
		return nil, err
	}
	conflicts, err := s.checkFiles(ctx, items, parts)
	if err != nil {
		return nil, err
	}
	v = assemble(items, parts)
	v.ClassWarnings = append(empty, conflicts...)
	v.Release = release
	return v, nil
}

// What reading takes of the memory of the mounter. An item counts with two copies of the most
// that a secret of Key Vault has, 25 KiB; pieces of a value and documents with two copies of what
// they may become; a volume with two copies of its bound. A list of versions is at most a
// megabyte, a list of objects four.
const (
	itemMemory       = 50 << 10
	piecesMemory     = 512 << 10
	documentMemory   = 2 * maxDocument
	volumeFactor     = 2
	listMemory       = 1 << 20
	objectListMemory = 4 << 20
)

// reserve waits until there is memory for what the mount is going to read; release is nil if
// nothing was reserved.
func (s session) reserve(ctx context.Context, size int) (release func(), err error) {
	if s.Memory == nil {
		return nil, nil
	}
	return s.Memory.Acquire(ctx, fair.Tenant(ctx), int64(size))
}

// turn waits for a turn of the processors: long computations wait, so that the mounts of one
// namespace do not block those of all others.
func (s session) turn(ctx context.Context) (release func(), err error) {
	if s.Processors == nil {
		return func() {}, nil
	}
	return s.Processors.Acquire(ctx, fair.Tenant(ctx), 1)
}

// part is what one item adds to the volume. Of a composite, the files are in the part of the
// member that came last.
type part struct {
	files    []render.File
	version  Version // none of what does not exist
	warnings []string
	expires  *time.Time // of a certificate
	absent   bool
	size     int // bytes of the files' content
}

// readAll reads all objects in parallel and renders them, with results by index. If one fails,
// it continues with the others: the error names every object that cannot be read.
func (s session) readAll(ctx context.Context, items []item) ([]part, error) {
	parts := make([]part, len(items))
	total := 0
	known := newRenderings()
	errs := readEach(ctx, s, len(items), s.MaxConcurrency, func(i int) *request.Object { return &items[i].Object },
		func(ctx context.Context, i int, host string, caller keyvault.Caller) func() (keyvault.Value, error) {
			o := &items[i]
			if o.unread {
				return func() (keyvault.Value, error) { return keyvault.Value{}, nil }
			}
			return s.Vaults.Get(ctx, caller, keyvault.Object{Host: host, Type: o.Type, Name: o.Name, Version: o.Version}, s.fresh)
		}, func(i int, value keyvault.Value, failover bool, err error) error {
			there := err == nil
			if err != nil && !(items[i].Optional && fault.Is(err, fault.ObjectNotFound)) {
				return failed(ctx, &items[i].Object, err)
			}
			if parts[i], err = s.newPart(ctx, &items[i], value, there, known); err != nil {
				return failed(ctx, items[i].entryObject(), err)
			}
			if failover && there {
				parts[i].warnings = append(parts[i].warnings, s.failoverWarning(&items[i].Object))
			}
			if total += parts[i].size; total > s.MaxBytes {
				parts[i].files = nil // refused below; until then only sizes are needed
			}
			return nil
		})
	s.suggest(ctx, items, errs)
	if err := fault.Join(errs); err != nil {
		return nil, err
	}
	if total > s.MaxBytes {
		sizes := make(map[string]int, len(parts))
		for i, p := range parts {
			name := items[i].String()
			if path := items[i].Path; path != items[i].Name && path != "" && items[i].of == nil {
				name += fmt.Sprintf(" as %q", path)
			}
			sizes[name] += p.size
		}
		return nil, TooLarge(total, s.MaxBytes, sizes)
	}
	return parts, nil
}

// failed records the object without which the mount fails, and returns the error.
func failed(ctx context.Context, o *request.Object, err error) error {
	stats.Failed(ctx, o.Label())
	return err
}

// newPart renders the files of an item. there says whether its object exists.
func (s session) newPart(ctx context.Context, it *item, value keyvault.Value, there bool, known *renderings) (p part, err error) {
	switch {
	case it.unread:
		p.absent = it.of == nil
	case !there:
		p.absent = true
	default:
		p.version, p.warnings = Version{ID: it.id, Version: value.Version}, s.valueWarnings(it.Object, value)
		if it.Type == request.TypeCert || value.Managed {
			p.expires = value.Expires
		}
	}
	switch {
	case it.of != nil:
		p.files, err = s.compose(ctx, it, value, there, known)
	case !p.absent:
		p.files, err = s.files(ctx, &it.Object, value, nil, known)
	}
	if err != nil {
		return part{}, err
	}
	p.warnings = append(p.warnings, known.warned()...)
	for _, f := range p.files {
		p.size += len(f.Content)
	}
	if s.OnFiles != nil {
		s.observe(it, value, there && !it.unread, p.files)
	}
	return p, nil
}

// observe reports the files of an item. Those of a composite come with its last member.
func (s session) observe(it *item, value keyvault.Value, read bool, files []render.File) {
	origins := []Origin{{Type: it.Type, Name: it.Name, Version: value.Version, ContentType: value.ContentType, Expires: value.Expires}}
	if it.of != nil {
		if read {
			it.of.origins = append(it.of.origins, origins...)
		}
		origins = it.of.origins
	}
	if len(files) > 0 {
		s.OnFiles(files, origins)
	}
}

// valueWarnings are about an object that is stale, disabled or outside its dates. Key Vault serves
// all of these but disabled secrets.
func (s session) valueWarnings(o request.Object, v keyvault.Value) []string {
	switch t := s.now(); {
	case v.Stale:
		return []string{o.String() + " is what the vault answered before; it is unavailable now"}
	case v.Disabled:
		return []string{o.String() + " is disabled"}
	case v.Expires != nil && t.After(*v.Expires):
		return []string{o.String() + " has expired"}
	case v.NotBefore != nil && t.Before(*v.NotBefore):
		return []string{o.String() + " is not valid yet"}
	}
	return nil
}

// assemble puts the volume together. Of files with equal paths, the
// last one wins, as in the driver, which writes a map by path.
func assemble(items []item, parts []part) *Volume {
	last := make(map[string]int)
	for i, p := range parts {
		for _, f := range p.files {
			last[f.Path] = i
		}
	}
	v := &Volume{Versions: make([]Version, 0, len(parts))}
	for i, p := range parts {
		if p.version.ID != "" {
			v.Versions = append(v.Versions, p.version)
		}
		if p.absent {
			v.Absent = append(v.Absent, items[i].absence())
		}
		if p.expires != nil {
			v.Expiries = append(v.Expiries, *p.expires)
		}
		v.ValueWarnings = append(v.ValueWarnings, p.warnings...)
		for _, f := range p.files {
			if last[f.Path] == i {
				v.Files = append(v.Files, f)
			}
		}
	}
	return v
}

// absence names what does not exist.
func (i *item) absence() string {
	if i.Find != nil {
		return search{Object: &i.Object, find: *i.Find, path: true}.String()
	}
	return i.Object.String()
}
