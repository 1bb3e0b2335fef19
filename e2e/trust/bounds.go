package main

import (
	"cmp"
	"fmt"
	"time"
)

// bounds are what an attack must not exceed. The zero value is for most attacks: innocents mount a little slower than this machine lets them, none of them fails, and
// the plugin stays clear of its limit of memory.
type bounds struct {
	p99      time.Duration // in place of the usual, where the attack itself takes time from innocents
	above    time.Duration // in place of the usual: how much slower than without the attack
	failures float64       // share of the innocents' mounts, 0 to 1
	memory   float64       // share of the limit; 0 for usualMemory
	health   bool          // health checks may fail
}

const (
	// usualSlower is how much slower than without the plugin, or without the attack, a mount may
	// be: it goes through two more processes, and its steps wait for the processors one by one.
	usualSlower = 4
	// noise is what a healthy plugin may need besides.
	noise       = 600 * time.Millisecond
	usualMemory = 0.9
)

// mostP99 is the bound where the same requests took so long without the plugin at the same
// time, or without the attack.
func (b bounds) mostP99(machine time.Duration) time.Duration {
	switch {
	case b.p99 > 0:
		return b.p99
	case b.above > 0:
		return b.above + machine
	}
	return noise + usualSlower*machine
}

func (b bounds) mostMemory(limit int64) float64 {
	return cmp.Or(b.memory, usualMemory) * mebibytes(limit)
}

func (b bounds) String() string {
	p99 := fmt.Sprintf("p99 ≤ %s + %d x that of the machine", noise, usualSlower)
	switch {
	case b.p99 > 0:
		p99 = fmt.Sprintf("p99 ≤ %s", b.p99)
	case b.above > 0:
		p99 = fmt.Sprintf("p99 ≤ %s + that of the machine", b.above)
	}
	failures := "no failures"
	if b.failures > 0 {
		failures = fmt.Sprintf("failures ≤ %g %%", b.failures*100)
	}
	return fmt.Sprintf("%s, %s, memory ≤ %g %% of the limit", p99, failures, cmp.Or(b.memory, usualMemory)*100)
}

// judge compares a result with the bounds and returns what is broken; calm is the p99 of
// innocents without an attack.
func (b bounds) judge(r *result, calm time.Duration, limit int64) []string {
	var broken []string
	if r.Killed != "" {
		broken = append(broken, r.Killed)
	}
	machine := max(calm, time.Duration(r.Machine*float64(time.Millisecond)))
	if most := milliseconds(b.mostP99(machine)); r.P99 > most {
		broken = append(broken, fmt.Sprintf("p99 %.0f > %.0f ms", r.P99, most))
	}
	if r.Mounts == 0 {
		broken = append(broken, "no innocent mounted")
	}
	if share := r.share(); share > b.failures {
		broken = append(broken, fmt.Sprintf("%d of %d failed", r.Failed, r.Mounts))
	}
	if r.Wrong > 0 {
		broken = append(broken, fmt.Sprintf("%d with wrong files", r.Wrong))
	}
	if r.Unnamed > 0 {
		broken = append(broken, fmt.Sprintf("%d with a code that may never be sent", r.Unnamed))
	}
	if most := b.mostMemory(limit); r.Peak > most {
		broken = append(broken, fmt.Sprintf("%.0f > %.0f MiB", r.Peak, most))
	}
	if r.Unhealthy > 0 && !b.health {
		broken = append(broken, fmt.Sprintf("%d of %d health checks failed", r.Unhealthy, r.Probes))
	}
	return append(broken, r.Broken...)
}
