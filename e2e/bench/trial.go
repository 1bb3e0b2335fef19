package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// benchmark is one case: a row of the table.
type benchmark struct {
	name, about string
	http2       bool    // where the vault offers it; else HTTP/1.1
	secrets     int     // of each pod, each with its own entry
	content     content // what pods mount instead of these
	flags       []string
	floor       floor
	targets     []target
	run         func(context.Context, *trial) error
}

// floor is what one of a case's times cannot be below: the round trips that need each
// other's answers.
type floor struct {
	of   metric
	time time.Duration
}

// trial is a case on its way, with its own Azure.
type trial struct {
	*world
	binary string
	flags  []string
	plugin *process // nil before start
	result
}

// measure runs a case. An error means that it could not be measured.
func (c *benchmark) measure(ctx context.Context, binary string) (r *result, err error) {
	fill := c.content
	if fill == nil {
		fill = listed(c.secrets)
	}
	w, err := newWorld(c.http2, fill)
	if err != nil {
		return nil, err
	}
	t := &trial{world: w, binary: binary, flags: c.flags}
	defer func() { err = errors.Join(err, t.stop(), w.box.Close()) }()
	if err := c.run(ctx, t); err != nil {
		return nil, err
	}
	return &t.result, context.Cause(ctx)
}

// start starts a fresh plugin for the trial.
func (t *trial) start(ctx context.Context) error {
	if err := t.stop(); err != nil {
		return err
	}
	var err error
	t.plugin, err = t.startProcess(ctx, t.binary, t.flags)
	return err
}

func (t *trial) stop() error {
	if t.plugin == nil {
		return nil
	}
	p := t.plugin
	t.plugin = nil
	if err := p.stop(); err != nil {
		log := p.Log()
		return fmt.Errorf("the plugin did not end well: %w\n%s", err, log[max(0, len(log)-maxLog):])
	}
	return nil
}

// maxLog is how much of a log's end is shown.
const maxLog = 1000

// measure adds to the result what the mounts of a part of the case cost.
func (t *trial) measure(part func() []mounted) error {
	before, err := t.plugin.cpu()
	if err != nil {
		return err
	}
	t.box.ResetCounts()
	start := time.Now()
	s := sample{mounts: part()}
	s.wall = time.Since(start)
	s.requests, s.handshakes, s.http = t.counts(), t.box.Handshakes(), t.versions()
	after, err := t.plugin.cpu()
	if err != nil {
		return err
	}
	s.cpu = after - before
	if s.peak, err = t.plugin.memory("VmHWM"); err != nil {
		return err
	}
	t.add(s)
	return nil
}

// one mounts a volume.
func (t *trial) one(ctx context.Context, volume *v1alpha1.MountRequest) mounted {
	start := time.Now()
	err := t.plugin.mount(ctx, volume, t.volume.files)
	return mounted{time.Since(start), err}
}

// all mounts the volumes, so many at a time.
func (t *trial) all(ctx context.Context, volumes []*v1alpha1.MountRequest, parallel int) []mounted {
	results := make([]mounted, len(volumes))
	places := make(chan struct{}, parallel)
	var group sync.WaitGroup
	for i, volume := range volumes {
		places <- struct{}{}
		group.Go(func() {
			results[i] = t.one(ctx, volume)
			<-places
		})
	}
	group.Wait()
	return results
}

// known mounts the volumes for the first time, without measuring it.
func (t *trial) known(ctx context.Context, volumes []*v1alpha1.MountRequest) error {
	for _, m := range t.all(ctx, volumes, parallel) {
		if m.err != nil {
			return fmt.Errorf("first mount: %w", m.err)
		}
	}
	return nil
}

// wait is a pause of the case.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
