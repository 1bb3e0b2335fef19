package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"akv-csi-provider/provider/azuretest"
)

// row is a case with its result as it is printed.
type row struct {
	Case        string         `json:"case"`
	Error       string         `json:"error,omitempty"` // why it could not be measured
	P50         float64        `json:"p50Ms"`
	P99         float64        `json:"p99Ms"`
	Wall        float64        `json:"wallMs"`
	Mounts      int            `json:"mounts"`
	Failed      int            `json:"failed"`
	Of          int            `json:"of"`   // mounts that requests and handshakes are of
	HTTP        string         `json:"http"` // versions that the plugin spoke
	Requests    map[string]int `json:"requests"`
	Total       int            `json:"requestsTotal"`
	Handshakes  int            `json:"handshakes"`
	Peak        float64        `json:"peakMiB"`
	CPUPerMount float64        `json:"cpuMsPerMount"`
	Floor       string         `json:"floor,omitempty"`
	Verdicts    []verdict      `json:"targets"`
	Notes       []string       `json:"notes,omitempty"`
}

func (c *benchmark) row(r *result, err error) row {
	if err != nil {
		return row{Case: c.name, Error: err.Error()}
	}
	out := row{
		Case: c.name, P50: p50.of(r), P99: p99.of(r), Wall: wall.of(r),
		Mounts: len(r.latencies), Failed: r.failed, Of: r.of,
		HTTP: strings.Join(r.http, "+"), Requests: map[string]int{}, Total: total(r.requests), Handshakes: r.handshakes,
		Peak: r.peak, CPUPerMount: milliseconds(r.cpuPerMount()), Notes: r.notes,
	}
	for kind, n := range r.requests {
		out.Requests[string(kind)] = n
	}
	if c.floor.time > 0 {
		out.Floor = fmt.Sprintf("%s %d", c.floor.of.name, c.floor.time.Milliseconds())
	}
	for _, t := range c.targets {
		out.Verdicts = append(out.Verdicts, t.judge(r))
	}
	if r.failure != "" {
		out.Notes = append(out.Notes, "the first error: "+r.failure)
	}
	return out
}

// met reports whether the row was measured and no target was missed; those of time
// and memory count only if strict.
func (r row) met(strict bool) bool {
	for _, v := range r.Verdicts {
		if !v.OK && (v.Hard || strict) {
			return false
		}
	}
	return r.Error == ""
}

// why a row could not be measured, on one line. What the plugin itself said stands last.
func (r row) why() string {
	return strings.Join(strings.Split(strings.TrimSpace(r.Error), "\n"), "; ")
}

// column of the table. Those of mounts are empty for a case without any.
type column struct {
	heading  string
	ofMounts bool
	cell     func(row) string
}

var columns = []column{
	{"p50", true, func(r row) string { return fmt.Sprintf("%.0f", r.P50) }},
	{"p99", true, func(r row) string { return fmt.Sprintf("%.0f", r.P99) }},
	{"wall", true, func(r row) string { return fmt.Sprintf("%.0f", r.Wall) }},
	{"failed", true, func(r row) string { return fmt.Sprint(r.Failed) }},
	{"of", true, func(r row) string { return fmt.Sprint(r.Of) }},
	{"HTTP", true, func(r row) string { return r.HTTP }},
	{"requests", true, func(r row) string { return fmt.Sprint(r.Total) }},
	count("meta", azuretest.Metadata),
	count("token", azuretest.Token),
	count("chal", azuretest.Challenge),
	count("get", azuretest.GetSecret),
	count("list", azuretest.List),
	{"TLS", true, func(r row) string { return fmt.Sprint(r.Handshakes) }},
	{"MiB", false, func(r row) string { return fmt.Sprintf("%.1f", r.Peak) }},
	{"CPU", true, func(r row) string { return fmt.Sprintf("%.1f", r.CPUPerMount) }},
	{"floor", true, func(r row) string { return r.Floor }},
}

// count is the column of one kind of requests. What is of no such kind is in the sum
// only.
func count(heading string, k azuretest.Kind) column {
	return column{heading, true, func(r row) string { return fmt.Sprint(r.Requests[string(k)]) }}
}

// cells are a row's texts, the verdicts last.
func (r row) cells() []string {
	cells := []string{r.Case}
	for _, c := range columns {
		text := ""
		if r.Error == "" && (r.Mounts > 0 || !c.ofMounts) {
			text = c.cell(r)
		}
		cells = append(cells, cmp.Or(text, "-"))
	}
	if r.Error != "" {
		return append(cells, "NOT MEASURED: "+r.why())
	}
	return append(cells, join(r.Verdicts))
}

func headings() []string {
	texts := []string{"case"}
	for _, c := range columns {
		texts = append(texts, c.heading)
	}
	return append(texts, "targets")
}

func printTable(out io.Writer, rows []row) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(headings(), "\t"))
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r.cells(), "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		for _, note := range r.Notes {
			fmt.Fprintf(out, "%s: %s\n", r.Case, note)
		}
	}
	_, err := fmt.Fprint(out, legend)
	return err
}

const legend = `
p50, p99, wall, CPU (of the plugin, per mount) and floor are milliseconds. The floor is the sum of the round
trips that must wait for each other, at 20 ms per read, 40 ms per token and 20 ms per discovery document.
Requests by kind and TLS handshakes are those of as many mounts as "of" says; of several such, the most.
MiB is the plugin's peak.
`

func join(verdicts []verdict) string {
	texts := make([]string, len(verdicts))
	for i, v := range verdicts {
		texts[i] = v.String()
	}
	return strings.Join(texts, ", ")
}

func printJSON(out io.Writer, rows []row) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(rows)
}

// progress prints one line on how a case went.
func (r row) progress(out io.Writer, took time.Duration) {
	word := "ok"
	switch {
	case r.Error != "":
		word = "not measured: " + r.why()
	case !r.met(false):
		word = "MISSED"
	case !r.met(true):
		word = "slow or large"
	}
	fmt.Fprintf(out, "%6.1f s  %s\n", took.Seconds(), word)
}
