package build

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newArtifact makes a file from one source, and counts how often.
func newArtifact(t *testing.T) (a artifact, source string, made *int) {
	t.Helper()
	dir := t.TempDir()
	source, made = filepath.Join(dir, "source"), new(int)
	write(t, source, "one")
	return artifact{filepath.Join(dir, "below", "out"), "options", []string{source}, func(_ context.Context, unfinished string) error {
		*made++
		content, err := os.ReadFile(source)
		return errors.Join(err, os.WriteFile(unfinished, content, 0o644))
	}, false}, source, made
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// An artifact is current until a source, an option or the artifact itself changes.
func TestCurrent(t *testing.T) {
	for name, change := range map[string]func(a *artifact, source string) error{
		"Source":    func(_ *artifact, source string) error { return os.WriteFile(source, []byte("two"), 0o644) },
		"NoSource":  func(_ *artifact, source string) error { return os.Remove(source) },
		"Option":    func(a *artifact, _ string) error { a.options = "others"; return nil },
		"Artifact":  func(a *artifact, _ string) error { return os.Remove(a.out) },
		"MadeFrom":  func(a *artifact, _ string) error { return os.Remove(a.madeFrom()) },
		"Unchanged": func(_ *artifact, source string) error { return os.WriteFile(source, []byte("one"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			a, source, _ := newArtifact(t)
			if current, err := a.current(); err != nil || current {
				t.Fatalf("not built, and current: %t, %v", current, err)
			}
			if err := a.build(t.Context()); err != nil {
				t.Fatal(err)
			}
			if current, err := a.current(); err != nil || !current {
				t.Fatalf("built, and current: %t, %v", current, err)
			}
			if err := change(&a, source); err != nil {
				t.Fatal(err)
			}
			if current, err := a.current(); err != nil || current != (name == "Unchanged") {
				t.Errorf("changed, and current: %t, %v", current, err)
			}
		})
	}
}

// A build that fails leaves what was there; a folder is replaced as a file is.
func TestBuildReplaces(t *testing.T) {
	a, source, _ := newArtifact(t)
	folder := func(_ context.Context, unfinished string) error {
		return errors.Join(os.Mkdir(unfinished, 0o755), os.WriteFile(filepath.Join(unfinished, "file"), nil, 0o644))
	}
	a.make = folder
	for range 2 {
		if err := a.build(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	failed := errors.New("no space left on device")
	a.make = func(ctx context.Context, unfinished string) error {
		return errors.Join(folder(ctx, unfinished), failed)
	}
	if err := a.build(t.Context()); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	if current, err := a.current(); err != nil || !current {
		t.Errorf("after a failed build, current: %t, %v", current, err)
	}
	write(t, source, "two")
	a.make = folder
	if err := a.build(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(a.out, "file")); err != nil {
		t.Error(err)
	}
}

// Runs share the folder. One that builds locks it, and others wait.
func TestLock(t *testing.T) {
	b := &Builder{Out: t.TempDir()}
	a, _, made := newArtifact(t)
	a.out = filepath.Join(b.Out, "program")
	if err := a.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, stale, err := b.use([]artifact{a})
	if err != nil || stale != "" {
		t.Fatal(stale, err)
	}
	second, err := b.tryLock(false)
	if err != nil || second == nil {
		t.Fatalf("two cannot read: %v", err)
	}
	if alone, err := b.tryLock(true); err != nil || alone != nil {
		t.Fatalf("locked while others read: %v", err)
	}
	if err := errors.Join(first(), second()); err != nil {
		t.Fatal(err)
	}
	alone, err := b.tryLock(true)
	if err != nil || alone == nil {
		t.Fatalf("no reader, but no lock: %v", err)
	}
	if _, stale, err := b.use([]artifact{a}); err != nil || stale == "" {
		t.Errorf("used while another builds: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var progress bytes.Buffer
	if _, err := b.lock(ctx, &progress); !errors.Is(err, context.Canceled) || !strings.Contains(progress.String(), "waiting for another run that uses "+b.Out) {
		t.Errorf("%v, %q", err, &progress)
	}
	if err := alone(); err != nil {
		t.Fatal(err)
	}
	if *made != 1 {
		t.Errorf("built %d times", *made)
	}
}
