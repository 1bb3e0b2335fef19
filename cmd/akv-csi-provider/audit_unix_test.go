//go:build unix

package main

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A named pipe is refused whether it is read or not, and so is a link to one.
func TestAuditPipeRefused(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	link := filepath.Join(t.TempDir(), "link")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Symlink(pipe, link)); err != nil {
		t.Fatal(err)
	}
	for _, read := range []bool{false, true} {
		if read {
			reader, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
		}
		for _, path := range []string{pipe, link} {
			if _, _, err := newAudit(path, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), path+" is not a regular file") {
				t.Errorf("read %t: %s: %v", read, path, err)
			}
		}
	}
}

// A named pipe that is moved to the path at any moment does not block the log: its lines fail until
// a file is there again.
func TestAuditPipeMovedInPlace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	a := &auditFile{path: path}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
			_, _ = a.Write([]byte("1\n"))
		}
	}()
	place := func(from string, err error) {
		t.Helper()
		if err = errors.Join(err, os.Rename(from, path)); err != nil {
			t.Fatal(err)
		}
	}
	timeout := time.After(20 * time.Second)
	for {
		pipe, file := filepath.Join(dir, "pipe"), filepath.Join(dir, "file")
		place(pipe, syscall.Mkfifo(pipe, 0o600))
		place(file, os.WriteFile(file, nil, 0o600))
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		select {
		case <-ended:
			if n, err := a.Write([]byte("2\n")); n != 2 || err != nil {
				t.Errorf("a file is there again: %d, %v", n, err)
			}
			_ = a.file.Close()
			return
		case <-timeout:
			t.Fatal("the log is blocked")
		default:
		}
	}
}
