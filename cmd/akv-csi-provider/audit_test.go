package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// The audit log is JSON lines without a level, marked as its, in a file that only its owner reads.
func TestAuditFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	audit, queue, err := newAudit(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	audit.Info("start", "pod", "web-0")
	queue.stop()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var line map[string]string
	if err := json.Unmarshal(text, &line); err != nil || line["time"] == "" {
		t.Errorf("%v: %s", err, text)
	}
	if want := fmt.Sprintf(`{"time":%q,"event":"start","logger":"audit","pod":"web-0"}`, line["time"]); string(text) != want+"\n" {
		t.Errorf("got %s, want %s", text, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// logrotate renames the file, removes it, or truncates it; the next line is in a file at the path.
func TestAuditFileRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a := &auditFile{path: path}
	write := func(text string) {
		t.Helper()
		if n, err := a.Write([]byte(text + "\n")); err != nil || n != len(text)+1 {
			t.Fatal(n, err)
		}
	}
	content := func(path string) string {
		text, _ := os.ReadFile(path)
		return strings.ReplaceAll(string(text), "\n", " ")
	}
	write("1")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write("2")
	write("3")
	if old, now := content(path+".1"), content(path); old != "1 " || now != "2 3 " {
		t.Errorf("renamed: %q, %q", old, now)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	write("4")
	if now := content(path); now != "4 " {
		t.Errorf("truncated: %q", now)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write("5")
	if now := content(path); now != "5 " {
		t.Errorf("removed: %q", now)
	}
	_ = a.file.Close()
}

// What is no regular file could block for as long as it likes, and a folder that does not exist
// must be noticed at the start.
func TestAuditFileRefused(t *testing.T) {
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none", "audit.log"), os.DevNull} {
		if _, _, err := newAudit(path, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "--audit-log: ") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// fullDisk accepts so many bytes.
type fullDisk struct {
	left int
	text strings.Builder
}

func (d *fullDisk) Write(p []byte) (int, error) {
	n := min(len(p), d.left)
	d.left -= n
	d.text.Write(p[:n])
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// Lines that do not fit on a full disk are counted, each once, and reported once a minute.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &fullDisk{left: 35}
		var log strings.Builder
		queue := newQueue(disk, reportDropped(slog.New(slog.NewTextHandler(&log, nil))))
		start := time.Now()
		for range 10 {
			if n, err := queue.Write([]byte("123456789\n")); n != 10 || err != nil {
				t.Fatal(n, err)
			}
			synctest.Wait()
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("a mount waits for %v", took)
		}
		if n := queue.dropped.Load(); n != 7 || strings.Count(log.String(), "lines=") != 1 {
			t.Errorf("dropped %d lines, log %s", n, log.String())
		}
		time.Sleep(dropReport)
		_, _ = queue.Write([]byte("123456789\n"))
		queue.stop()
		if !strings.Contains(log.String(), "lines=7") { // the first was reported alone
			t.Errorf("log %s", log.String())
		}
	})
}

// A line that is written in part ends before the next one.
func TestTornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a := &auditFile{path: path}
	if err := a.open(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.file.WriteString(`{"event":"sta`); err != nil {
		t.Fatal(err)
	}
	a.torn = true
	if _, err := a.Write([]byte("{}\n")); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "{\"event\":\"sta\n{}\n" {
		t.Errorf("%q, %v", text, err)
	}
	_ = a.file.Close()
}
