package build

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// artifact is a file or folder that the suite needs.
type artifact struct {
	out     string // in Builder.Out
	options string // what besides the sources decides on the content
	sources []string
	make    func(ctx context.Context, unfinished string) error
	// optional is what is not available everywhere. Without it, the test that needs it is skipped.
	optional bool
}

// digest says what the artifact is made from: sources of that content, the version of Go, and
// the options. Times of files are ignored: in a fresh clone all are new.
func (a artifact) digest() (string, error) {
	sum := sha256.New()
	fmt.Fprintf(sum, "%s %s/%s %s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, a.options)
	for _, source := range a.sources {
		content, err := os.ReadFile(source)
		if err != nil {
			return "", err
		}
		if filepath.IsAbs(source) { // of the machine or built: where does not matter
			source = filepath.Base(source)
		}
		fmt.Fprintf(sum, "%s %x\n", filepath.ToSlash(source), sha256.Sum256(content))
	}
	return fmt.Sprintf("%x\n", sum.Sum(nil)), nil
}

// madeFrom is the file beside the artifact with its digest. It exists only while it is true.
func (a artifact) madeFrom() string { return a.out + ".madefrom" }

// current reports whether the artifact exists and was made from what is here now.
func (a artifact) current() (bool, error) {
	if _, err := os.Stat(a.out); err != nil {
		return false, nil
	}
	known, err := os.ReadFile(a.madeFrom())
	if err != nil {
		return false, nil
	}
	digest, err := a.digest()
	if errors.Is(err, fs.ErrNotExist) { // a source that is built itself
		return false, nil
	}
	return err == nil && string(known) == digest, err
}

// build makes the artifact. An interrupt leaves nothing that is taken for it.
func (a artifact) build(ctx context.Context) error {
	digest, err := a.digest()
	if err != nil {
		return err
	}
	unfinished := a.out + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(a.out), 0o755); err != nil {
		return err
	}
	if err := a.make(ctx, unfinished); err != nil {
		return err
	}
	if err := os.RemoveAll(a.madeFrom()); err != nil {
		return err
	}
	if err := os.RemoveAll(a.out); err != nil {
		return err
	}
	if err := os.Rename(unfinished, a.out); err != nil {
		return err
	}
	return os.WriteFile(a.madeFrom(), []byte(digest), 0o644)
}
