package provider

import (
	"context"
	"errors"
	"fmt"

	"akv-csi-provider/provider/fair"
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
func (s session) volume(ctx context.Context, objects []request.Object) (_ *Volume, err error) {
	items, empty, err := s.expand(ctx, objects)
	if err != nil {
		return nil, err
	}
	release, err := s.reserve(ctx, min(len(items)*itemMemory, volumeFactor*s.MaxBytes))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && release != nil {
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
	v := assemble(parts)
	v.ClassWarnings = append(empty, conflicts...)
	v.Release = release
	return v, nil
}

// What reading takes of the memory of the mounter. An item counts with two copies of the most
// that a secret of Key Vault has, 25 KiB; a volume with two copies of its bound. A list of
// versions is at most a megabyte.
const (
	itemMemory   = 50 << 10
	volumeFactor = 2
	listMemory   = 1 << 20
)

// reserve waits until there is memory for what the mount is going to read; release is nil if
// nothing was reserved.
func (s session) reserve(ctx context.Context, size int) (release func(), err error) {
	if s.Memory == nil {
		return nil, nil
	}
	return s.Memory.Acquire(ctx, fair.Tenant(ctx), int64(size))
}

// part is what one object adds to the volume.
type part struct {
	files    []render.File
	version  Version
	warnings []string
	size     int // bytes of the files' content
}

// readAll reads all objects in parallel and renders them, with results by index. If one fails,
// it continues with the others: the error names every object that cannot be read.
func (s session) readAll(ctx context.Context, items []item) ([]part, error) {
	parts := make([]part, len(items))
	total := 0
	known := make(renderings)
	err := each(ctx, len(items), s.MaxConcurrency, func(i int) func() (keyvault.Value, error) {
		return s.Vaults.Get(ctx, s.caller, s.object(items[i].Object), s.fresh)
	}, func(i int, value keyvault.Value) (err error) {
		parts[i], err = s.newPart(ctx, items[i], value, known)
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
// error of its read. When ctx ends, no further read starts; nor when the first maxFailed have all
// failed, as their errors take memory, and the others would likely fail alike.
func each[T any](ctx context.Context, n, window int, start func(i int) func() (T, error), done func(i int, value T) error) error {
	errs := make([]error, n)
	waits := make([]func() (T, error), n)
	started, failed := 0, 0
	for i := range n {
		hopeless := failed == i && failed >= maxFailed
		for ; started < n && started < i+max(window, 1) && ctx.Err() == nil && !hopeless; started++ {
			waits[started] = startOne(started, start)
		}
		if i == started {
			errs[i] = ctx.Err() // nothing more starts
			break
		}
		if errs[i] = finishOne(ctx, i, waits[i], done); errs[i] != nil {
			failed++
		}
		waits[i] = nil
	}
	return fault.Join(errs)
}

// maxFailed is how many reads of a mount may fail with none that succeeds; a message names half
// as many objects.
const maxFailed = 100

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

// finishOne waits for a read and passes on its answer, unless the caller has left: answers that
// are cached come all the same, and what is done with them takes time.
func finishOne[T any](ctx context.Context, i int, wait func() (T, error), done func(i int, value T) error) (err error) {
	defer fault.Recover(&err)
	value, err := wait()
	if err != nil {
		return err
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return done(i, value)
}

// renderings are the files that were rendered for one mount, by what they depend on: a class
// may name one object thousands of times. Their paths are without the object's.
type renderings map[rendering][]render.File

type rendering struct {
	object  request.Object // without path and mode
	version string
}

// newPart renders the files of an object.
func (s session) newPart(ctx context.Context, o item, value keyvault.Value, known renderings) (part, error) {
	p := part{version: Version{ID: o.id, Version: value.Version}, warnings: s.valueWarnings(o.Object, value)}
	key := rendering{o.Object, value.Version}
	key.object.Path, key.object.Mode = "", 0
	files, ok := known[key]
	if !ok {
		var (
			warnings []string
			err      error
		)
		if files, warnings, err = s.render(ctx, key.object, value); render.Convertible(err) {
			files, warnings, err = s.renderConverted(ctx, key.object, value, err)
		}
		if err != nil {
			return part{}, err
		}
		known[key] = files
		p.warnings = append(p.warnings, warnings...)
	}
	p.files = make([]render.File, len(files))
	for i, f := range files {
		p.files[i] = render.File{Path: o.Path + f.Path, Mode: o.Mode, Content: f.Content}
		p.size += len(f.Content)
	}
	return p, nil
}

// render renders a value. What takes the processor for long waits for its turn, so that the
// mounts of one namespace do not take it from all others.
func (s session) render(ctx context.Context, o request.Object, value keyvault.Value) ([]render.File, []string, error) {
	if s.Processors != nil && value.Managed {
		release, err := s.Processors.Acquire(ctx, fair.Tenant(ctx), 1)
		if err != nil {
			return nil, nil, err
		}
		defer release()
	}
	return render.Files(o, value, s.Render)
}

// renderConverted renders a PFX that render cannot decode, for the reason given, after the vault
// has converted it. That fails with the same reason if the vault cannot do so either.
func (s session) renderConverted(ctx context.Context, o request.Object, value keyvault.Value, reason error) ([]render.File, []string, error) {
	object := s.object(o)
	object.Version, object.AsPEM = value.Version, true
	converted, err := s.Vaults.Get(ctx, s.caller, object, s.fresh)()
	switch {
	case err == nil && converted.Text != value.Text:
		value.PEM = converted.Text
		return s.render(ctx, o, value)
	case ctx.Err() != nil, fault.Is(err, fault.Throttled, fault.ServiceUnavailable, fault.Timeout, fault.TokenRejected):
		return nil, nil, err // the next attempt may succeed
	}
	return nil, nil, reason
}

// object is the object of the class, as the vault names it.
func (s session) object(o request.Object) keyvault.Object {
	return keyvault.Object{Host: s.host, Type: o.Type, Name: o.Name, Version: o.Version}
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
		v.ValueWarnings = append(v.ValueWarnings, p.warnings...)
		for _, f := range p.files {
			if last[f.Path] == i {
				v.Files = append(v.Files, f)
			}
		}
	}
	return v
}
