package main

import (
	"cmp"
	"fmt"
	"time"
)

// bounds are what an attack must not exceed. The zero value is what most attacks are held
// to: innocents mount a few times slower than without an attack, none of them fails, and
// the plugin stays clear of its limit of memory.
type bounds struct {
	slower   float64       // times the baseline's p99; 0 for usualSlower
	p99      time.Duration // in place of that, where the attack itself takes time from innocents
	failures float64       // share of the innocents' mounts, 0 to 1
	memory   float64       // share of the limit; 0 for usualMemory
	health   bool          // health checks may fail
}

const (
	usualSlower = 8
	usualMemory = 0.9
	// noise is what the p99 of a healthy plugin may be on a busy machine.
	noise = time.Second
)

// heavy are the bounds of attacks that keep the machine itself busy, on which the fake Azure
// runs too.
var heavy = bounds{slower: 30}

func (b bounds) mostP99(baseline time.Duration) time.Duration {
	if b.p99 > 0 {
		return b.p99
	}
	return max(noise, time.Duration(cmp.Or(b.slower, usualSlower)*float64(baseline)))
}

func (b bounds) mostMemory(limit int64) float64 {
	return cmp.Or(b.memory, usualMemory) * mebibytes(limit)
}

func (b bounds) String() string {
	p99 := fmt.Sprintf("p99 ≤ %g x baseline, or %s", cmp.Or(b.slower, usualSlower), noise)
	if b.p99 > 0 {
		p99 = fmt.Sprintf("p99 ≤ %s", b.p99)
	}
	failures := "no failures"
	if b.failures > 0 {
		failures = fmt.Sprintf("failures ≤ %g %%", b.failures*100)
	}
	return fmt.Sprintf("%s, %s, memory ≤ %g %% of the limit", p99, failures, cmp.Or(b.memory, usualMemory)*100)
}

// judge compares a result with the bounds and returns what is broken.
func (b bounds) judge(r *result, baseline time.Duration, limit int64) []string {
	var broken []string
	if r.Killed != "" {
		broken = append(broken, r.Killed)
	}
	if most := milliseconds(b.mostP99(baseline)); r.P99 > most {
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
