package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"
)

// result is a row of the table.
type result struct {
	name, want, got string
	took            time.Duration
}

const done = "done"

func (r result) ok() bool { return r.got == r.want }

// say prints a line with the time since the start.
func (t *trial) say(format string, args ...any) {
	line := fmt.Sprintf("[%7s] %s", time.Since(t.started).Round(time.Second), fmt.Sprintf(format, args...))
	fmt.Fprintln(t.out, line)
	fmt.Fprintln(t.log, line)
}

// step runs do as a row that must succeed.
func (t *trial) step(ctx context.Context, name string, do func(context.Context) error) error {
	t.say("%s ...", name)
	begun := time.Now()
	err := do(ctx)
	r := result{name: name, want: done, got: done, took: time.Since(begun)}
	if err != nil {
		r.got = fmt.Sprintf("%.100s", err.Error())
		err = fmt.Errorf("%s: %w", name, err)
	}
	t.add(r)
	return err
}

func (t *trial) add(r result) {
	t.rows = append(t.rows, r)
	verdict := "ok"
	if !r.ok() {
		verdict = fmt.Sprintf("FAILED: want %s, got %s", r.want, r.got)
	}
	t.say("%s: %s (%v)", r.name, verdict, r.took.Round(time.Second))
}

func (t *trial) failed() bool {
	for _, r := range t.rows {
		if !r.ok() {
			return true
		}
	}
	return false
}

// table prints all rows, those that failed marked.
func (t *trial) table() {
	if len(t.rows) == 0 {
		return
	}
	fmt.Fprintln(t.out)
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tROW\tWANT\tGOT\tTIME")
	failed := 0
	for _, r := range t.rows {
		mark := ""
		if !r.ok() {
			mark, failed = "FAILED", failed+1
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%v\n", mark, r.name, r.want, r.got, r.took.Round(time.Second))
	}
	w.Flush()
	fmt.Fprintf(t.out, "\n%d rows, %d failed, %v\n", len(t.rows), failed, time.Since(t.started).Round(time.Second))
}
