package build

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Registry is where the releases that the suite installs are pushed: an address on the node's
// own loopback, from which containerd pulls over plain HTTP.
const Registry = "127.0.0.1:5000"

// Release is a version of the project as users get it.
type Release struct {
	Version string // with a v
	Dir     string // what make release builds
	commit  string
}

// Releases are the release before and the one of the commit that is checked out; none if the
// project is no git checkout.
func (b *Builder) Releases() []Release {
	head, err := b.git("rev-parse", "HEAD")
	if err != nil || !b.Released {
		return nil
	}
	return []Release{
		{"v0.0.1-e2e.1", filepath.Join(b.Out, "release-before"), b.before(head)},
		{"v0.0.1-e2e.2", filepath.Join(b.Out, "release-now"), head},
	}
}

// before is the commit of the last tag before the present one. As long as there is none, it is the
// first commit that a release can be built from, and in a shallow clone the present one.
func (b *Builder) before(head string) string {
	if tag, err := b.git("describe", "--tags", "--match=v*", "--abbrev=0", "HEAD^"); err == nil {
		if commit, err := b.git("rev-parse", tag+"^{commit}"); err == nil {
			return commit
		}
	}
	first, err := b.git("log", "--diff-filter=A", "-1", "--format=%H", "--", "../../deploy/CHANGELOG.md")
	if err != nil || first == "" {
		return head
	}
	return first
}

func (b *Builder) git(args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = b.Source
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// ReleaseTool is the program that builds and pushes releases.
func (b *Builder) ReleaseTool() string { return filepath.Join(b.Out, "release-tool") }

// releaseArtifacts are the releases, for the platform of the node alone, and the tool.
func (b *Builder) releaseArtifacts() ([]artifact, error) {
	releases := b.Releases()
	if len(releases) == 0 {
		return nil, nil
	}
	tool, err := b.compiled(program{"../tools/image", "./release", "release-tool", "", []string{"../tools/image"}, false})
	if err != nil {
		return nil, err
	}
	all := []artifact{tool}
	for _, r := range releases {
		all = append(all, artifact{r.Dir, r.commit, []string{b.ReleaseTool()}, func(ctx context.Context, unfinished string) error {
			return b.release(ctx, r, unfinished)
		}, false})
	}
	return all, nil
}

// release builds a release from a clone, so that changes that are not committed do not matter.
func (b *Builder) release(ctx context.Context, r Release, to string) error {
	clone := to + ".source"
	defer func() { _ = os.RemoveAll(clone) }()
	if err := os.RemoveAll(clone); err != nil {
		return err
	}
	root, err := filepath.Abs(filepath.Join(b.Source, "../.."))
	if err != nil {
		return err
	}
	if err := run(exec.CommandContext(ctx, "git", "clone", "--quiet", "--no-tags", root, clone)); err != nil {
		return err
	}
	if err := run(exec.CommandContext(ctx, "git", "-C", clone, "checkout", "--quiet", r.commit)); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, b.ReleaseTool(), "build", "--version="+r.Version, "--registry="+Registry, "--url=https://forge.example/akv-csi-provider",
		"--source="+clone, "--out="+to, "--helm="+b.Helm, "--only=linux/"+runtime.GOARCH)
	cmd.Dir = filepath.Join(b.Source, "../tools/image") // with the tools of its module
	return run(cmd)
}
