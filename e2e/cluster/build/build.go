// Package build makes what the cluster suite runs: the programs of Kubernetes, etcd and the
// Secrets Store CSI driver from their Go modules, images of them from static binaries, and the
// plugin's image. What exists already and was made from the same sources is reused.
package build

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Versions are the Kubernetes releases that the suite knows, by their minor version; each
// has a module in tools.
var Versions = map[string]string{"1.34": "1.34.4", "1.37": "1.37.2"}

const (
	driverVersion = "v1.6.0"
	syncVersion   = "v0.0.4" // of secrets-store-sync-controller
)

// Builder builds into a folder.
type Builder struct {
	Out        string // the folder, an absolute path; outlives a run and may be shared by clones
	Source     string // e2e/cluster
	Kubernetes string // a key of Versions
	Node       bool   // for our own node; kubectl and the driver's manifests are always made
	Plugin     string // name and tag of the plugin's image; empty to build none
	Released   bool   // releases, too
	Helm       string // the program, for releases
}

// artifacts are all that the suite needs. Those that others are made from come first.
func (b *Builder) artifacts() ([]artifact, error) {
	all, err := b.programs()
	if err != nil {
		return nil, err
	}
	all = append(all, b.manifests(), b.syncChart())
	if b.Node {
		images, err := b.imageArtifacts()
		if err != nil {
			return nil, err
		}
		all = append(all, images...)
	}
	if b.Plugin != "" {
		plugin, err := b.plugin()
		if err != nil {
			return nil, err
		}
		all = append(all, plugin)
	}
	releases, err := b.releaseArtifacts()
	if err != nil {
		return nil, err
	}
	all = append(all, releases...)
	return all, nil
}

// Build makes what is missing or was made from other sources, and writes a line to progress for
// each. It waits for other processes that build into the folder or run tests from it.
func (b *Builder) Build(ctx context.Context, progress io.Writer) error {
	all, err := b.artifacts()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(b.Out, 0o755); err != nil {
		return err
	}
	release, stale, err := b.use(all)
	if err != nil || stale == "" {
		return errorOr(err, release)
	}
	if err := release(); err != nil { // to have the folder alone
		return err
	}
	release, err = b.lock(ctx, progress)
	if err != nil {
		return err
	}
	start := time.Now()
	for i, a := range all {
		err := b.buildOne(ctx, a, fmt.Sprintf("[%d of %d]", i+1, len(all)), progress)
		if err != nil && a.optional && ctx.Err() == nil {
			fmt.Fprintf(progress, "left out, and so are its tests: %v\n", err)
			continue
		}
		if err != nil {
			return errorOr(err, release)
		}
	}
	fmt.Fprintf(progress, "built into %s in %d s\n", b.Out, int(time.Since(start).Seconds()))
	return release()
}

func (b *Builder) buildOne(ctx context.Context, a artifact, position string, progress io.Writer) error {
	if current, err := a.current(); err != nil || current {
		return err
	}
	start := time.Now()
	fmt.Fprintf(progress, "%s building %s ...", position, b.name(a))
	if err := a.build(ctx); err != nil {
		fmt.Fprintln(progress)
		return fmt.Errorf("build %s: %w", b.name(a), err)
	}
	fmt.Fprintf(progress, " %d s\n", int(time.Since(start).Seconds()))
	return nil
}

// Use returns an error unless everything that [Builder.Build] makes exists and is current, but
// for what is optional. The folder then stays as it is until release is called or this process
// ends.
func (b *Builder) Use() (release func() error, err error) {
	all, err := b.artifacts()
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(a artifact) bool { return a.optional })
	if _, err := os.Stat(b.Out); err != nil {
		return nil, err
	}
	release, stale, err := b.use(all)
	if err == nil && stale != "" {
		err = fmt.Errorf("%s is missing in %s or was made from other sources", stale, b.Out)
	}
	if err != nil {
		return nil, errorOr(err, release)
	}
	return release, nil
}

// use takes the folder for reading and returns the name of the first artifact that is not
// current. If another process builds into the folder, nothing is.
func (b *Builder) use(all []artifact) (release func() error, stale string, err error) {
	release, err = b.tryLock(false)
	if err != nil {
		return nil, "", err
	}
	if release == nil {
		return func() error { return nil }, "what another process builds", nil
	}
	for _, a := range all {
		if current, err := a.current(); err != nil || !current {
			return release, b.name(a), err
		}
	}
	return release, "", nil
}

// name is what the user reads.
func (b *Builder) name(a artifact) string {
	if name, err := filepath.Rel(b.Out, a.out); err == nil {
		return name
	}
	return a.out
}

// errorOr returns err if there is one, and releases the lock.
func errorOr(err error, release func() error) error {
	if release == nil {
		return err
	}
	if also := release(); err == nil {
		err = also
	}
	return err
}

// lock takes the folder alone, and waits until it can.
func (b *Builder) lock(ctx context.Context, progress io.Writer) (release func() error, err error) {
	for waited := false; ; waited = true {
		if release, err := b.tryLock(true); err != nil || release != nil {
			return release, err
		}
		if !waited {
			fmt.Fprintf(progress, "waiting for another run that uses %s\n", b.Out)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// tryLock takes the folder, alone or with others that only read. release is nil if other
// processes do not let it.
func (b *Builder) tryLock(alone bool) (release func() error, err error) {
	file, err := os.OpenFile(filepath.Join(b.Out, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if taken, err := flock(file, alone); err != nil || !taken {
		return nil, errorOr(err, file.Close)
	}
	return file.Close, nil
}
