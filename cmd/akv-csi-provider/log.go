package main

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// maxLogBytes bounds the lines that wait to be written, and those that are being written.
const maxLogBytes = 512 << 10

// logQueue is a writer that never blocks: a goroutine writes what it accepts. If the log were
// written by mounts, a standard error that is not read would block all of them. Lines
// that do not fit are dropped, counted, and reported once lines are written again.
type logQueue struct {
	dropped atomic.Uint64 // lines since the start
	ended   chan struct{} // closed when all is written after stop

	mu       sync.Mutex
	changed  *sync.Cond // of what follows
	lines    []byte     // not written yet
	stopping bool
}

// newLog returns the log. Call stop at the end: it waits at most a second for what is not
// written yet.
func newLog(cfg *config, out io.Writer) (log *slog.Logger, queue *logQueue) {
	direct := newLogger(cfg, out)
	queue = newQueue(out, func(lines uint64) {
		direct.Warn("standard error was not read in time; lines of the log were dropped", "lines", lines)
	})
	return newLogger(cfg, queue), queue
}

// newQueue starts a queue before a writer. report is called, in the goroutine that writes, when
// lines were dropped.
func newQueue(out io.Writer, report func(lines uint64)) *logQueue {
	q := &logQueue{ended: make(chan struct{})}
	q.changed = sync.NewCond(&q.mu)
	go q.run(out, report)
	return q
}

// Write accepts one line, as package slog calls it.
func (q *logQueue) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lines)+len(line) > maxLogBytes {
		q.dropped.Add(1)
	} else {
		q.lines = append(q.lines, line...)
		q.changed.Signal()
	}
	return len(line), nil
}

func (q *logQueue) run(out io.Writer, report func(lines uint64)) {
	defer close(q.ended)
	reported := uint64(0)
	for lines := q.next(); lines != nil; lines = q.next() {
		if n, err := out.Write(lines); err != nil {
			q.dropped.Add(uint64(bytes.Count(lines[n:], []byte("\n"))))
		}
		if n := q.dropped.Load(); n > reported {
			report(n - reported)
			reported = n
		}
	}
}

// next waits for lines; nil is the end.
func (q *logQueue) next() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.lines == nil && !q.stopping {
		q.changed.Wait()
	}
	lines := q.lines
	q.lines = nil
	return lines
}

func (q *logQueue) stop() {
	if q == nil {
		return
	}
	q.mu.Lock()
	q.stopping = true
	q.changed.Signal()
	q.mu.Unlock()
	select {
	case <-q.ended:
	case <-time.After(time.Second):
	}
}
