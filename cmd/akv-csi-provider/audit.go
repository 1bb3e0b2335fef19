package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Values of --audit-log beside the path of a file.
const (
	auditOff    = "off"
	auditStdout = "stdout"
)

// auditMark is the field by which collectors separate the audit log from the log, where both are in
// the container's. It has the name that controllers give it; collectors use "log" themselves.
const auditMark = "logger"

// newAudit opens the audit log, separate JSON lines; nil where it is off. Mounts do not wait
// for it: what cannot be written in time, or at all, is dropped and counted, and the log says so.
func newAudit(where string, log *slog.Logger) (audit *slog.Logger, queue *logQueue, err error) {
	var out io.Writer = os.Stdout
	switch where {
	case auditOff:
		return nil, nil, nil
	case auditStdout:
	default:
		file := &auditFile{path: where}
		if err := file.open(); err != nil {
			return nil, nil, fmt.Errorf("--audit-log: %w", err)
		}
		out = file
	}
	queue = newQueue(out, reportDropped(log))
	audit = slog.New(slog.NewJSONHandler(queue, &slog.HandlerOptions{ReplaceAttr: auditAttr}))
	return audit.With(auditMark, "audit"), queue, nil
}

// auditAttr names the attributes of slog's own: a line is an event, and has no level.
func auditAttr(groups []string, a slog.Attr) slog.Attr {
	switch {
	case len(groups) == 0 && a.Key == slog.LevelKey:
		return slog.Attr{}
	case len(groups) == 0 && a.Key == slog.MessageKey:
		a.Key = "event"
	}
	return a
}

// dropReport is how often dropped lines are reported at most: a disk that is full stays so.
const dropReport = time.Minute

// reportDropped returns what logs that lines of the audit log are missing.
func reportDropped(log *slog.Logger) func(lines uint64) {
	missing, last := uint64(0), time.Time{}
	return func(lines uint64) {
		missing += lines
		if now := time.Now(); now.Sub(last) >= dropReport {
			log.Warn("lines of the audit log were dropped: it was not written in time, or its disk is full", "lines", missing)
			missing, last = 0, now
		}
	}
}

// auditFile appends to a file. When that was renamed, as logrotate does, or removed, the next
// write creates it again: no signal is needed. It is not safe for concurrent use.
type auditFile struct {
	path string
	file *os.File
	torn bool // the last write ended within a line
}

// Write implements io.Writer.
func (a *auditFile) Write(lines []byte) (n int, err error) {
	if !a.inPlace() {
		if err := a.open(); err != nil {
			return 0, err
		}
	}
	if a.torn {
		if _, err := a.file.Write([]byte("\n")); err != nil {
			return 0, err
		}
		a.torn = false
	}
	n, err = a.file.Write(lines)
	a.torn = n > 0 && lines[n-1] != '\n'
	return n, err
}

func (a *auditFile) inPlace() bool {
	if a.file == nil {
		return false
	}
	at, err := os.Stat(a.path)
	if err != nil {
		return false
	}
	own, err := a.file.Stat()
	return err == nil && os.SameFile(at, own)
}

// open opens the file for appending, so that it can be truncated meanwhile too.
func (a *auditFile) open() error {
	if a.file != nil {
		_ = a.file.Close()
		a.file, a.torn = nil, false
	}
	file, err := openRegular(filepath.Clean(a.path))
	if err != nil {
		return err
	}
	a.file = file
	return nil
}

// openRegular opens a file for appending, and creates it. A named pipe could block for as long as it
// likes, at its opening too: the type is checked on what was opened, since another file may be moved
// to the path at any time.
func openRegular(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ENXIO) { // a named pipe that nobody reads, or a socket
		return nil, notRegular(path)
	}
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = file.Close()
		return nil, cmp.Or(err, notRegular(path))
	}
	return file, nil
}

func notRegular(path string) error { return fmt.Errorf("%s is not a regular file", path) }
