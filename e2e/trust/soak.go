package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"akv-csi-provider/provider/azuretest"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// The soak runs all troubles one after another, in each quarter of its time alike, so that the
// quarters can be compared. Then innocents mount alone for longer than idle connections live.
const (
	quarters    = 4
	troubleTime = 15 * time.Second // about
	rest        = 100 * time.Second
	// restFrom is how long a soak must be to have a rest: without one, only quarters are compared.
	restFrom = 10 * time.Minute
)

// soaking is a soak on its way.
type soaking struct {
	*siege
	samples samples
}

// soak is an attack that takes a long time, and leaves curves behind.
func soak(lasts time.Duration, curves string) attack {
	return attack{
		name: "soak", about: "mixed load and faults; memory, goroutines and descriptors must be flat at the end",
		lasts: lasts + rest + time.Minute, // it ends earlier
		setup: setup{http1: true, front: true, pprof: true},
		// One fault reaches the innocents: their vault is unavailable for a moment.
		bounds: bounds{p99: 10 * time.Second, failures: 0.02},
		run: func(ctx context.Context, s *siege) error {
			k := &soaking{siege: s}
			if err := k.run(ctx, lasts); err != nil || ctx.Err() != nil {
				return err
			}
			return writeCurves(curves, k.samples.list(), lasts)
		},
	}
}

// run runs the troubles and watches the process meanwhile.
func (k *soaking) run(ctx context.Context, lasts time.Duration) error {
	k.box.SetTokenLifetime(5 * time.Minute) // shorter than the soak, so that tokens are renewed
	begin := time.Now()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	sampled := make(chan error, 1)
	go func() { sampled <- k.sample(watching, begin, max(lasts/400, 250*time.Millisecond)) }()
	err := k.troubled(ctx, begin, lasts)
	if err == nil && lasts >= restFrom {
		wait(ctx, rest)
	}
	stop()
	if sampleErr := <-sampled; err == nil {
		err = sampleErr
	}
	if err != nil || ctx.Err() != nil {
		return err
	}
	k.judge(lasts)
	return nil
}

// slots is the number of troubles, one after another, in so much time.
func slots(lasts time.Duration) int {
	n := len(troubles())
	return quarters * n * max(1, int(lasts/quarters/(troubleTime*time.Duration(n))))
}

// troubled runs each trouble several times in each quarter.
func (k *soaking) troubled(ctx context.Context, begin time.Time, lasts time.Duration) error {
	all, n := troubles(), slots(lasts)
	for i := range n {
		until := begin.Add(lasts / time.Duration(n) * time.Duration(i+1)) // divided first: nanoseconds of hours are many
		slot, cancel := context.WithDeadline(ctx, until)
		err := all[i%len(all)].run(slot, k, i)
		cancel()
		if err != nil {
			return err
		}
		if !wait(ctx, time.Until(until)) {
			return nil
		}
	}
	return nil
}

// trouble is load or a fault that lasts for a while. What it makes has the number in its
// name: state by name must not grow for good.
type trouble struct {
	name string
	run  func(ctx context.Context, k *soaking, n int) error
}

func troubles() []trouble {
	return []trouble{
		{"new pods of new identities and vaults", newNames},
		{"names of vaults that do not exist", noVaults},
		{"objects that do not exist", noObjects},
		{"refused objects", refusedNames},
		{"large volumes", soakLarge},
		{"rotation of changed secrets", changed},
		{"hostile vaults", hostileNames},
		{"a vault that does not answer, and callers that leave", leaving},
		{"a vault and a client that are throttled", throttledNames},
		{"connections that fall silent", func(_ context.Context, k *soaking, _ int) error { k.front.freeze(); return nil }},
		{"floods of the ports", func(ctx context.Context, k *soaking, _ int) error {
			if err := headers(300, false)(ctx, k.siege); err != nil {
				return err
			}
			return scrapes(100)(ctx, k.siege)
		}},
		{"everything unavailable for a moment", func(ctx context.Context, k *soaking, _ int) error {
			k.box.SetOutage(true)
			wait(ctx, 500*time.Millisecond)
			k.box.SetOutage(false)
			return nil
		}},
	}
}

// steadily floods the plugin with new volumes until ctx ends, some at a time; none is
// mounted for longer than patience.
func (k *soaking) steadily(ctx context.Context, n int, patience time.Duration, volume func(name string) (*v1alpha1.MountRequest, error)) error {
	const some = 16
	for i := 0; ctx.Err() == nil; i += some {
		volumes := make([]*v1alpha1.MountRequest, some)
		for j := range volumes {
			var err error
			if volumes[j], err = volume(fmt.Sprintf("n%d-%d", n, i+j)); err != nil {
				return err
			}
		}
		k.samples.names.Add(some)
		round, cancel := context.WithTimeout(ctx, patience)
		var group sync.WaitGroup
		for _, v := range volumes {
			group.Go(func() { _ = k.attempt(round, v) }) // its error is the plugin's, and counted there
		}
		group.Wait()
		cancel()
		wait(ctx, 100*time.Millisecond)
	}
	return nil
}

// of is a volume of a hostile pod with that name.
func (k *soaking) of(p pod, name string) (*v1alpha1.MountRequest, error) {
	p.namespace, p.name = hostileSpace, "hostile-"+name
	return k.volume(p)
}

func newNames(ctx context.Context, k *soaking, n int) error {
	return k.steadily(ctx, n, 5*time.Second, func(name string) (*v1alpha1.MountRequest, error) {
		p, _ := k.small("kv-" + name)
		return k.of(p, name)
	})
}

func noVaults(ctx context.Context, k *soaking, n int) error {
	p, _ := k.small("kv-hostile")
	return k.steadily(ctx, n, 300*time.Millisecond, func(name string) (*v1alpha1.MountRequest, error) {
		p.vault = "kv-none-" + name
		return k.of(p, name)
	})
}

func noObjects(ctx context.Context, k *soaking, n int) error {
	p, _ := k.small("kv-hostile")
	return k.steadily(ctx, n, time.Second, func(name string) (*v1alpha1.MountRequest, error) {
		p.objects = objects(10, func(i int) string { return fmt.Sprintf("objectName: none-%s-%d", name, i) })
		return k.of(p, name)
	})
}

func refusedNames(ctx context.Context, k *soaking, n int) error {
	p := pod{client: k.newClient(), vault: innocentVault}
	return k.steadily(ctx, n, time.Second, func(name string) (*v1alpha1.MountRequest, error) {
		p.objects = objects(50, func(i int) string { return fmt.Sprintf("objectName: no-%s-%d", name, i) })
		return k.of(p, name)
	})
}

func soakLarge(ctx context.Context, k *soaking, n int) error {
	volumes, err := largeVolumes(k.siege)
	if err != nil {
		return err
	}
	k.flood(ctx, volumes[:8])
	return nil
}

func changed(ctx context.Context, k *soaking, n int) error {
	p, vault := k.small("kv-rotated")
	volumes, err := k.alike(5, p)
	if err != nil {
		return err
	}
	for i := 0; ctx.Err() == nil; i++ {
		vault.SetSecret("x", azuretest.Secret{Value: fmt.Sprint(n, i)})
		k.flood(ctx, volumes)
		wait(ctx, time.Second)
	}
	return nil
}

func hostileNames(ctx context.Context, k *soaking, n int) error {
	families := []string{"slow", "endless", "odd", "floods"}
	volumes, err := hostileVaults(families[n/len(troubles())%len(families)], 2)(k.siege)
	if err != nil {
		return err
	}
	k.flood(ctx, volumes)
	return nil
}

func leaving(ctx context.Context, k *soaking, n int) error {
	p, vault := k.small("kv-stalls")
	vault.SetFault(azuretest.Fault{Stall: true})
	return k.steadily(ctx, n, 300*time.Millisecond, func(name string) (*v1alpha1.MountRequest, error) { return k.of(p, name) })
}

func throttledNames(ctx context.Context, k *soaking, n int) error {
	volumes, err := foreign429(k.siege)
	if err != nil {
		return err
	}
	p, vault := k.small("kv-throttles")
	vault.SetFault(azuretest.Fault{Status: 429, RetryAfter: "1", Every: 2})
	more, err := k.hostile(8, p, nil)
	k.flood(ctx, slices.Concat(volumes, more))
	return err
}

// curve is something of which there must not be more and more.
type curve struct {
	name, unit string
	of         func(sample) float64
	// The median of the last quarter exceeds that of the one before by less than this share,
	// and this much.
	share, slack float64
}

var watchedCurves = []curve{
	{"goroutines", "", func(s sample) float64 { return s.Goroutines }, 0.1, 20},
	{"open files", "", func(s sample) float64 { return s.Files }, 0.1, 20},
	{"memory (RSS)", "MiB", func(s sample) float64 { return s.RSS }, 0.05, 4},
	// The caches, whose keys contain names, are in it.
	{"heap after a collection", "MiB", func(s sample) float64 { return s.Heap }, 0.05, 1},
}

// judge compares the last two quarters, and the end of the rest with the time before the troubles.
func (k *soaking) judge(lasts time.Duration) {
	all := k.samples.list()
	quarter := lasts / quarters
	for _, c := range watchedCurves {
		third, last := c.median(all, 2*quarter, 3*quarter), c.median(all, 3*quarter, 4*quarter)
		k.note("%s: %.1f %s in the third quarter, %.1f in the last", c.name, third, c.unit, last)
		k.expect(last <= third*(1+c.share)+c.slack, "%s: not flat, a median of %.1f %s in the third quarter and %.1f in the last", c.name, third, c.unit, last)
	}
	k.note("%d names of pods, vaults and objects besides the innocents'", k.samples.names.Load())
	if lasts < restFrom {
		return
	}
	for _, c := range watchedCurves[:2] {
		before, after := all[0], all[len(all)-1]
		k.note("%s: %.0f before the troubles, %.0f %s after them", c.name, c.of(before), c.of(after), rest)
		k.expect(c.of(after) <= c.of(before)+c.slack, "%s: %.0f before the troubles, %.0f %s after them", c.name, c.of(before), c.of(after), rest)
	}
}

// median is that of the samples in that part of the time.
func (c curve) median(all []sample, from, to time.Duration) float64 {
	var values []float64
	for _, s := range all {
		if s.At >= from && s.At < to {
			values = append(values, c.of(s))
		}
	}
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[len(values)/2]
}
