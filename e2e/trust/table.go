package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// result is an attack as it is printed.
type result struct {
	Attack    string   `json:"attack"`
	Skipped   string   `json:"skipped,omitempty"` // why it was not run
	Error     string   `json:"error,omitempty"`   // why it could not be run
	Attempts  int64    `json:"attempts"`
	Mounts    int      `json:"mounts"` // of innocents
	Failed    int      `json:"failed"`
	Wrong     int      `json:"wrongFiles"`
	Unnamed   int      `json:"forbiddenCodes"`
	P50       float64  `json:"p50Ms"`
	P99       float64  `json:"p99Ms"`
	Machine   float64  `json:"machineP99Ms"` // the same requests without the plugin, at the same time
	Peak      float64  `json:"peakMiB"`
	CPU       float64  `json:"cpuSeconds"` // of the last process
	Killed    string   `json:"killed,omitempty"`
	Probes    int64    `json:"healthChecks"`
	Unhealthy int64    `json:"healthChecksFailed"`
	Seconds   float64  `json:"seconds"`
	Broken    []string `json:"broken,omitempty"` // bounds
	Notes     []string `json:"notes,omitempty"`
}

func (r *result) share() float64 {
	if r.Mounts == 0 {
		return 0
	}
	return float64(r.Failed) / float64(r.Mounts)
}

// ok reports whether no bound was broken. What this machine cannot run counts as
// skipped, not as broken.
func (r *result) ok() bool { return r.Error == "" && len(r.Broken) == 0 }

func (r *result) verdict() string {
	switch {
	case r.Error != "":
		return "NOT RUN: " + oneLine(r.Error)
	case r.Skipped != "":
		return "skipped: " + r.Skipped
	case r.ok():
		return "ok"
	}
	return "BROKEN: " + oneLine(strings.Join(r.Broken, "; "))
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func printTable(out io.Writer, results []*result) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "attack\tattempts\tmounts\tp50\tp99\tmachine\tfailed\tMiB\tCPU\tverdict")
	for _, r := range results {
		if r.Error != "" || r.Skipped != "" {
			fmt.Fprintf(t, "%s\t-\t-\t-\t-\t-\t-\t-\t-\t%s\n", r.Attack, r.verdict())
			continue
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%.0f\t%.0f\t%.0f\t%d\t%.0f\t%.1f\t%s\n",
			r.Attack, r.Attempts, r.Mounts, r.P50, r.P99, r.Machine, r.Failed, r.Peak, r.CPU, r.verdict())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		for _, note := range r.Notes {
			fmt.Fprintf(out, "%s: %.300s\n", r.Attack, oneLine(note))
		}
	}
	_, err := fmt.Fprint(out, legend)
	return err
}

const legend = `
Mounts, p50, p99 (milliseconds) and failed are those of innocent pods while the attack ran. Attempts are the
attack's mounts, connections or kills. Machine is the p99 of the same requests to the fake Azure without the
plugin, at the same time. MiB is the plugin's peak (VmHWM), read until shortly before its end, and CPU the
processor time that it used, in seconds.
`

func printJSON(out io.Writer, results []*result) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(results)
}
