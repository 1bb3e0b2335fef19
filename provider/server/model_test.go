package server_test

import (
	"flag"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	modelSequences = flag.Int("model", 30, "number of sequences of TestIsolationModel; 10000 is the long form")
	modelSeed      = flag.Uint64("model-seed", 1, "seed of the first sequence of TestIsolationModel")
)

// Random pods, ServiceAccounts, identities, grants, revocations, rotations, deletions, outages,
// restarts and clock steps, with mounts that overlap, against a model of who may see which version
// when:
//
//   - A pod's start gets what was current, and what its identity could read, at some moment of the mount.
//   - A rotation may be older by the rotation TTL, but not older than the end of the mount before.
//   - With --stale-if-error and something unavailable, a start may be older by that time, but not older than
//     the latest refusal.
//   - An optional object may be left out if it did not exist at such a moment, but never because something is
//     unavailable.
//   - Either takes a sign-in with the very credential that was presented, whose token is still valid.
//   - A mount that nothing stands against succeeds.
//
// A sequence that breaks the model is shortened before it is reported. What happens in a sequence, and
// how long each request takes, follows from its seed; only the throttle's jitter after faults does not.
//
// The long form is:
//
//	go test ./provider/server -run TestIsolationModel -timeout 0 -model 10000
func TestIsolationModel(t *testing.T) {
	var failed atomic.Bool
	for i := range uint64(*modelSequences) {
		t.Run(fmt.Sprint("seed ", *modelSeed+i), func(t *testing.T) {
			t.Parallel()
			if failed.Load() {
				return // one shortened sequence is enough to read
			}
			s := newSequence(*modelSeed + i)
			broken := check(t, s)
			if broken == "" {
				return
			}
			failed.Store(true)
			shortest, broken := shorten(t, s, broken)
			t.Errorf("%s\n%v", broken, shortest)
		})
	}
}

// check runs a sequence and returns the first answer that the model forbids; "" if there is none.
func check(t *testing.T, s sequence) (broken string) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := simulate(t, dir, s)
		for _, m := range h.attempts {
			if broken = h.judge(m); broken != "" {
				return
			}
		}
	})
	return broken
}

// shorten removes operations for as long as the sequence breaks the model without them: halves
// first, single ones last (Zeller's delta debugging). Operations keep their times.
func shorten(t *testing.T, s sequence, broken string) (sequence, string) {
	end := time.Now().Add(2 * time.Minute)
	for size := len(s.ops) / 2; size > 0; {
		removed := false
		for at := 0; at < len(s.ops) && time.Now().Before(end); {
			shorter := s
			shorter.ops = slices.Delete(slices.Clone(s.ops), at, min(at+size, len(s.ops)))
			why := ""
			for range 3 { // the throttle's jitter may hide it once
				if why = check(t, shorter); why != "" {
					break
				}
			}
			if why == "" {
				at += size
				continue
			}
			s, broken, removed = shorter, why, true
		}
		if !removed || size > 1 {
			size /= 2
		}
	}
	return s, broken
}
