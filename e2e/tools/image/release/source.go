package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"

	image "akv-csi-provider/e2e/tools/image/build"
)

// clone checks out the commit into its own folder with the version's tag. So Go finds the
// version there that is being built, and nothing that is not in the commit gets into a release.
func (r *release) clone(ctx context.Context) error {
	if err := r.checkTree(ctx); err != nil {
		return err
	}
	if _, err := git(ctx, r.options.source, "clone", "--quiet", "--no-tags", ".", r.checkout); err != nil {
		return err
	}
	// A tag without a message is a name only: it has neither author nor time. Go wants the
	// folder of a nested module before its version.
	for _, tag := range []string{r.version, "cmd/" + toolName + "/" + r.version} {
		if _, err := git(ctx, r.checkout, "tag", "--no-sign", tag); err != nil {
			return err
		}
	}
	var err error
	if r.source, err = image.Describe(ctx, r.checkout); err != nil {
		return err
	}
	r.source.URL = r.url
	revision, err := git(ctx, r.checkout, "rev-parse", "HEAD")
	r.source.Revision = revision
	r.step("%s of commit %s, %s", r.version, revision, r.source.Time.Format("2006-01-02 15:04:05Z"))
	return err
}

// checkTree refuses what is not a commit, and a version that is already another commit's.
func (r *release) checkTree(ctx context.Context) error {
	head, err := git(ctx, r.options.source, "rev-parse", "HEAD")
	if err != nil {
		return fmt.Errorf("a release is made of a git commit: %w", err)
	}
	changed, err := git(ctx, r.options.source, "status", "--porcelain")
	if err != nil {
		return err
	}
	if changed != "" {
		return fmt.Errorf("the working tree is not what was committed; commit or stash these first:\n%s", changed)
	}
	tagged, err := git(ctx, r.options.source, "rev-parse", "--quiet", "--verify", "refs/tags/"+r.version+"^{commit}")
	if err == nil && tagged != head {
		return fmt.Errorf("tag %s is commit %s, but %s is checked out: run git checkout %s", r.version, tagged, head, r.version)
	}
	return nil
}

func git(ctx context.Context, folder string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = folder
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
