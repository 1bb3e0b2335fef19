package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"akv-csi-provider/provider/azuretest"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// drive is how a case is run.
type drive = func(context.Context, *trial) error

// cold mounts one pod in each of several fresh processes.
func cold(processes int) drive {
	return func(ctx context.Context, t *trial) error {
		pods, err := t.pods("cold", processes, false)
		if err != nil {
			return err
		}
		for _, pod := range pods {
			if err := t.start(ctx); err != nil {
				return err
			}
			if err := t.oneByOne(ctx, pod); err != nil {
				return err
			}
		}
		return nil
	}
}

// warm mounts one pod again and again.
func warm(times int) drive {
	return func(ctx context.Context, t *trial) error {
		pods, err := t.knownPods(ctx, 1)
		if err != nil {
			return err
		}
		return t.oneByOne(ctx, slices.Repeat(pods, times)...)
	}
}

// newPods mounts one new pod after another.
func newPods(n int) drive {
	return func(ctx context.Context, t *trial) error {
		if _, err := t.knownPods(ctx, 1); err != nil {
			return err
		}
		pods, err := t.pods("new", n, false)
		if err != nil {
			return err
		}
		return t.oneByOne(ctx, pods...)
	}
}

// oneByOne measures each mount alone.
func (t *trial) oneByOne(ctx context.Context, volumes ...*v1alpha1.MountRequest) error {
	for _, volume := range volumes {
		if err := t.measure(func() []mounted { return []mounted{t.one(ctx, volume)} }); err != nil {
			return err
		}
	}
	return nil
}

// knownPods starts the plugin and mounts n pods of one service account.
func (t *trial) knownPods(ctx context.Context, n int) ([]*v1alpha1.MountRequest, error) {
	pods, err := t.pods("known", n, false)
	if err != nil {
		return nil, err
	}
	if err := t.start(ctx); err != nil {
		return nil, err
	}
	return pods, t.known(ctx, pods)
}

// crowd mounts n new pods, so many at a time.
func crowd(n, parallel int, ownIdentity bool) drive {
	return func(ctx context.Context, t *trial) error {
		// Another process before it, so that Entra knows the keys of the cluster's tokens: they
		// are read for the first pod of a cluster, and would be in the time of these.
		if _, err := t.knownPods(ctx, 1); err != nil {
			return err
		}
		pods, err := t.pods("crowd", n, ownIdentity)
		if err != nil {
			return err
		}
		if err := t.start(ctx); err != nil {
			return err
		}
		return t.measure(func() []mounted { return t.all(ctx, pods, parallel) })
	}
}

// trouble is what befalls Azure.
type trouble = func(*azuretest.Box)

func fault(f azuretest.Fault, kinds ...azuretest.Kind) trouble {
	return func(b *azuretest.Box) {
		for _, kind := range kinds {
			b.SetFault(kind, f)
		}
	}
}

func quota(reads int, per time.Duration) trouble {
	return func(b *azuretest.Box) { b.SetQuota(azuretest.GetSecret, reads, per) }
}

// under drives in trouble from the start.
func under(befall trouble, d drive) drive {
	return func(ctx context.Context, t *trial) error {
		befall(t.box)
		return d(ctx, t)
	}
}

// rotations mounts n known pods again, round after round; the trouble, if any, begins
// after the first mounts.
func rotations(n, rounds int, befall trouble) drive {
	return func(ctx context.Context, t *trial) error {
		pods, err := t.knownPods(ctx, n)
		if err != nil {
			return err
		}
		if befall != nil {
			befall(t.box)
		}
		return t.measure(func() (mounts []mounted) {
			for range rounds {
				mounts = append(mounts, t.all(ctx, pods, parallel)...)
			}
			return mounts
		})
	}
}

// scattered mounts n known pods again, each at a random moment of a stretch of time.
func scattered(n int, over time.Duration) drive {
	return func(ctx context.Context, t *trial) error {
		pods, err := t.knownPods(ctx, n)
		if err != nil {
			return err
		}
		random := rand.New(rand.NewPCG(4, 75)) // the same moments each time
		moments := make([]time.Duration, n)
		for i := range moments {
			moments[i] = time.Duration(random.Int64N(int64(over)))
		}
		if err := t.measure(func() []mounted {
			mounts := make([]mounted, n)
			var group sync.WaitGroup
			for i, pod := range pods {
				group.Go(func() {
					if err := wait(ctx, moments[i]); err != nil {
						mounts[i].err = err
						return
					}
					mounts[i] = t.one(ctx, pod)
				})
			}
			group.Wait()
			return mounts
		}); err != nil {
			return err
		}
		// Reads that the plugin sends a TTL apart may arrive a little less apart.
		t.set(requestsPerTTL, float64(mostWithin(t.arrivals(), ttl-100*time.Millisecond)))
		return nil
	}
}

// mostWithin is how many requests arrived in the busiest stretch of that length.
func mostWithin(arrivals []azuretest.Request, length time.Duration) int {
	most, first := 0, 0
	for last, r := range arrivals {
		for r.Time.Sub(arrivals[first].Time) >= length {
			first++
		}
		most = max(most, last-first+1)
	}
	return most
}

// idle only measures a plugin that has nothing to do.
func idle(d time.Duration) drive {
	return func(ctx context.Context, t *trial) error {
		if err := t.start(ctx); err != nil {
			return err
		}
		if err := wait(ctx, d); err != nil {
			return err
		}
		memory, err := t.plugin.memory("VmRSS")
		if err != nil {
			return err
		}
		t.set(idleMemory, memory)
		t.peak, err = t.plugin.memory("VmHWM")
		return err
	}
}
