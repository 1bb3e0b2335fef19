package provider

import (
	"context"
	"fmt"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"
)

// session is one mount after its sign-in: the vault that it reads from, the caller that it
// reads as, and how fresh the answers must be.
type session struct {
	*Mounter
	host   string
	caller keyvault.Caller
	fresh  keyvault.Freshness
}

// volume reads all objects and puts the volume together.
func (s session) volume(ctx context.Context, objects []request.Object) (*Volume, error) {
	items, empty, err := s.expand(ctx, objects)
	if err != nil {
		return nil, err
	}
	parts, err := s.readAll(ctx, items)
	if err != nil {
		return nil, err
	}
	conflicts, err := s.checkFiles(ctx, items, parts)
	if err != nil {
		return nil, err
	}
	v := assemble(parts)
	v.ClassWarnings = append(empty, conflicts...)
	return v, nil
}

// part is what one object adds to the volume.
type part struct {
	files   []render.File
	version Version
	warning string
	size    int // bytes of the files' content
}

// readAll reads all objects in parallel and renders them, with results by index. If one fails,
// it continues with the others: the error names every object that cannot be read.
func (s session) readAll(ctx context.Context, items []item) ([]part, error) {
	parts := make([]part, len(items))
	total := 0
	err := each(ctx, len(items), s.MaxConcurrency, func(i int) func() (keyvault.Value, error) {
		return s.Vaults.Get(ctx, s.caller, s.object(items[i].Object), s.fresh)
	}, func(i int, value keyvault.Value) (err error) {
		parts[i], err = s.newPart(items[i], value)
		if total += parts[i].size; total > s.MaxBytes {
			parts[i].files = nil // refused below; until then only sizes are needed
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if total > s.MaxBytes {
		sizes := make(map[string]int, len(parts))
		for i, p := range parts {
			name := items[i].String()
			if items[i].Path != items[i].Name {
				name += fmt.Sprintf(" as %q", items[i].Path)
			}
			sizes[name] = p.size
		}
		return nil, TooLarge(total, s.MaxBytes, sizes)
	}
	return parts, nil
}

// each makes n reads, at most window of them at a time. start(i) starts read i and returns at
// once; the function that it returns waits for the answer, which done(i) then receives. Both are
// called in the order of i, in the goroutine of the mount: a goroutine for each read of each mount
// would take 5 MiB when 500 pods start. The errors of all reads are joined, and a panic is the
// error of its read. When ctx ends, no further read starts.
func each[T any](ctx context.Context, n, window int, start func(i int) func() (T, error), done func(i int, value T) error) error {
	errs := make([]error, n)
	waits := make([]func() (T, error), n)
	started := 0
	for i := range n {
		for ; started < n && started < i+max(window, 1) && ctx.Err() == nil; started++ {
			waits[started] = startOne(started, start)
		}
		if i == started {
			errs[i] = ctx.Err() // nothing more starts
			break
		}
		errs[i] = finishOne(i, waits[i], done)
		waits[i] = nil
	}
	return fault.Join(errs)
}

// startOne starts a read. A panic becomes the error for which its caller waits.
func startOne[T any](i int, start func(i int) func() (T, error)) (wait func() (T, error)) {
	var err error
	defer func() {
		if err != nil {
			wait = func() (none T, _ error) { return none, err }
		}
	}()
	defer fault.Recover(&err)
	return start(i)
}

// finishOne waits for a read and passes on its answer.
func finishOne[T any](i int, wait func() (T, error), done func(i int, value T) error) (err error) {
	defer fault.Recover(&err)
	value, err := wait()
	if err != nil {
		return err
	}
	return done(i, value)
}

// newPart renders the files of an object.
func (s session) newPart(o item, value keyvault.Value) (part, error) {
	files, err := render.Files(o.Object, value, s.Render)
	if err != nil {
		return part{}, err
	}
	p := part{files: files, version: Version{ID: o.id, Version: value.Version}, warning: s.valueWarning(o.Object, value)}
	for _, f := range files {
		p.size += len(f.Content)
	}
	return p, nil
}

// object is the object of the class, as the vault names it.
func (s session) object(o request.Object) keyvault.Object {
	return keyvault.Object{Host: s.host, Type: o.Type, Name: o.Name, Version: o.Version}
}

// valueWarning is about an object that is stale, or outside its dates, which Key Vault serves all
// the same: they are informational.
func (s session) valueWarning(o request.Object, v keyvault.Value) string {
	switch t := s.now(); {
	case v.Stale:
		return o.String() + " is what the vault answered before; it is away now"
	case v.Expires != nil && t.After(*v.Expires):
		return o.String() + " has expired"
	case v.NotBefore != nil && t.Before(*v.NotBefore):
		return o.String() + " is not valid yet"
	}
	return ""
}

// assemble puts the volume together. Of files with equal paths, the
// last one wins, as in the driver, which writes a map by path.
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
			v.ValueWarnings = append(v.ValueWarnings, p.warning)
		}
		for _, f := range p.files {
			if last[f.Path] == i {
				v.Files = append(v.Files, f)
			}
		}
	}
	return v
}
