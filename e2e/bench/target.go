package main

import (
	"fmt"
	"strconv"

	"akv-csi-provider/provider/azuretest"
)

// metric is something a case may have a target for.
type metric struct {
	name, unit string
	// hard metrics do not depend on how fast the machine is. To miss one fails the
	// benchmark.
	hard bool
	of   func(*result) float64
}

// The metrics of every case.
var (
	p50        = metric{"p50", "ms", false, func(r *result) float64 { return milliseconds(r.percentile(50)) }}
	p99        = metric{"p99", "ms", false, func(r *result) float64 { return milliseconds(r.percentile(99)) }}
	wall       = metric{"wall", "ms", false, func(r *result) float64 { return milliseconds(r.wall) }}
	peak       = metric{"peak memory", "MiB", false, func(r *result) float64 { return r.peak }}
	requests   = metric{"requests", "", true, func(r *result) float64 { return float64(total(r.requests)) }}
	lists      = metric{"lists", "", true, func(r *result) float64 { return float64(r.requests[azuretest.List]) }}
	reads      = metric{"reads", "", true, func(r *result) float64 { return float64(r.requests[azuretest.GetSecret]) }}
	handshakes = metric{"handshakes", "", true, func(r *result) float64 { return float64(r.handshakes) }}
	failures   = metric{"failures", "", true, func(r *result) float64 { return float64(r.failed) }}
)

// The metrics that only some cases have.
var (
	requestsPerTTL    = extra("requests per TTL", "", true)
	attemptsPerSecond = extra("attempts per second", "", true)
	wrongErrors       = extra("wrong errors", "", true)
	slowestError      = extra("slowest error", "ms", false)
	idleMemory        = extra("idle memory", "MiB", false)
)

func extra(name, unit string, hard bool) metric {
	return metric{name, unit, hard, func(r *result) float64 { return r.extra[name] }}
}

// target is what a metric must not exceed.
type target struct {
	metric
	most float64
}

func (m metric) atMost(most float64) target { return target{m, most} }

// none is for what is counted.
func (m metric) none() target { return target{m, 0} }

func (t target) String() string {
	if t.most == 0 {
		return "no " + t.name
	}
	return fmt.Sprintf("%s ≤ %s", t.name, quantity(t.most, t.unit))
}

// verdict compares a target with a result.
type verdict struct {
	Target string  `json:"target"`
	Got    float64 `json:"got"`
	OK     bool    `json:"ok"`
	Hard   bool    `json:"hard"`
	got    string
}

func (t target) judge(r *result) verdict {
	got := t.of(r)
	return verdict{Target: t.String(), Got: got, OK: got <= t.most, Hard: t.hard, got: quantity(got, t.unit)}
}

func (v verdict) String() string {
	if v.OK {
		return v.Target + " ok"
	}
	return fmt.Sprintf("%s MISSED (%s)", v.Target, v.got)
}

// quantity writes a number with up to one decimal where it is small.
func quantity(value float64, unit string) string {
	decimals := 0
	if value < 100 && value != float64(int(value)) {
		decimals = 1
	}
	text := strconv.FormatFloat(value, 'f', decimals, 64)
	if unit == "" {
		return text
	}
	return text + " " + unit
}
