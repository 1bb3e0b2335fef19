package main

import (
	"math"
	"slices"
	"time"

	"akv-csi-provider/provider/azuretest"
)

// result is what one case cost.
type result struct {
	latencies []time.Duration // of all mounts, those that failed included
	failed    int
	failure   string        // the first error of a mount
	wall      time.Duration // from the first mount to the end of the last, pauses left out
	cpu       time.Duration // of the plugin
	peak      float64       // memory of the plugin, MiB

	// What follows is of a part of the case: as many mounts as of says. Of several
	// such parts it is the most.
	of         int
	requests   map[azuretest.Kind]int
	handshakes int
	http       []string // versions of HTTP they came in

	extra map[string]float64 // what only some cases measure, by the name of the metric
	notes []string           // for the reader
}

// mounted is how one mount went.
type mounted struct {
	took time.Duration
	err  error
}

// sample is what a part of a case cost.
type sample struct {
	mounts     []mounted
	wall, cpu  time.Duration
	peak       float64
	requests   map[azuretest.Kind]int
	handshakes int
	http       []string
}

func (r *result) add(s sample) {
	for _, m := range s.mounts {
		r.latencies = append(r.latencies, m.took)
		if m.err == nil {
			continue
		}
		r.failed++
		if r.failure == "" {
			r.failure = m.err.Error()
		}
	}
	r.wall += s.wall
	r.cpu += s.cpu
	r.peak = max(r.peak, s.peak)
	r.of = len(s.mounts)
	r.handshakes = max(r.handshakes, s.handshakes)
	if r.requests == nil || total(s.requests) > total(r.requests) {
		r.requests, r.http = s.requests, s.http
	}
}

func (r *result) set(m metric, value float64) {
	if r.extra == nil {
		r.extra = map[string]float64{}
	}
	r.extra[m.name] = value
}

// percentile is the latency that p of 100 mounts did not exceed (nearest rank).
func (r *result) percentile(p float64) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(r.latencies))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

func (r *result) cpuPerMount() time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	return r.cpu / time.Duration(len(r.latencies))
}

func total(counts map[azuretest.Kind]int) int {
	n := 0
	for _, count := range counts {
		n += count
	}
	return n
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
