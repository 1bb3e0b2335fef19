package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"time"

	"akv-csi-provider/provider/azuretest"

	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// mountTimeout is a budget that lets the case of an outage end soon.
const mountTimeout = 20 * time.Second

// delivery is how long an answer of the plugin may take to its caller on a busy machine.
const delivery = 100 * time.Millisecond

// firstBackoff is how long kubelet waits before it retries a failed volume; each time
// twice as long.
const firstBackoff = 500 * time.Millisecond

// ourError is one line that ends with a reason.
var ourError = regexp.MustCompile(`^[^\n]+ \[[A-Za-z]+\]$`)

// vaultDown lets a warm plugin lose its vault and n new pods start. The time for
// which it watches ends later if a mount does.
func vaultDown(n int, watch time.Duration) drive {
	return func(ctx context.Context, t *trial) error {
		if _, err := t.knownPods(ctx, 1); err != nil {
			return err
		}
		pods, err := t.pods("new", n, false)
		if err != nil {
			return err
		}
		t.box.SetFault(azuretest.GetSecret, azuretest.Fault{Reset: true})
		start := time.Now()
		until := start.Add(watch)
		var mounts []mounted
		if err := t.measure(func() []mounted {
			mounts = t.asKubelet(ctx, pods, until)
			_ = wait(ctx, time.Until(until)) // the trial ends with ctx
			return mounts
		}); err != nil {
			return err
		}
		t.set(wrongErrors, float64(wrong(mounts)))
		t.set(slowestError, milliseconds(slices.Max(t.latencies)))
		t.countAttempts(start)
		return nil
	}
}

// asKubelet mounts each volume until that time, as long as it fails.
func (t *trial) asKubelet(ctx context.Context, volumes []*v1alpha1.MountRequest, until time.Time) []mounted {
	attempts := make([][]mounted, len(volumes))
	var group sync.WaitGroup
	for i, volume := range volumes {
		group.Go(func() {
			for backoff := firstBackoff; ; backoff *= 2 {
				m := t.one(ctx, volume)
				attempts[i] = append(attempts[i], m)
				if m.err == nil || time.Until(until) < backoff || wait(ctx, backoff) != nil {
					return
				}
			}
		})
	}
	group.Wait()
	return slices.Concat(attempts...)
}

// wrong counts the mounts that did not end with one of our errors.
func wrong(mounts []mounted) int {
	n := 0
	for _, m := range mounts {
		if m.err == nil || !ourError.MatchString(status.Convert(m.err).Message()) {
			n++
		}
	}
	return n
}

// countAttempts relates the requests to the vault to the time it was down.
func (t *trial) countAttempts(start time.Time) {
	attempts, early := 0, 0
	for _, r := range t.arrivals() {
		if r.Kind != azuretest.GetSecret && r.Kind != azuretest.Challenge {
			continue
		}
		attempts++
		if r.Time.Sub(start) < time.Second {
			early++
		}
	}
	t.set(attemptsPerSecond, float64(attempts)/t.wall.Seconds())
	t.notes = append(t.notes, fmt.Sprintf("%d attempts in %.0f s, %d of them in the first second", attempts, t.wall.Seconds(), early))
}
