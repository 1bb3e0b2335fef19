package main

import (
	"context"
	"fmt"
	"time"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// attack is one row of the table.
type attack struct {
	name, about string
	long        bool          // not a part of the short form
	lasts       time.Duration // at most; the short form has its own bound
	root        bool          // needs root
	setup       setup
	bounds      bounds
	// prepare makes the attack's volumes before its time begins; nil for none.
	prepare func(*siege) ([]*v1alpha1.MountRequest, error)
	// run attacks; nil floods the plugin with the volumes.
	run func(context.Context, *siege) error
}

// How long an attack lasts.
const (
	usual    = 10 * time.Second
	shortest = 3 * time.Second // innocents are watched at least so long
	brief    = 4 * time.Second // at most, in the short form, unless the attack is over earlier
)

// execute runs the attack. An error means that it could not be run.
func (a *attack) execute(ctx context.Context, o *options, l limits) (*result, error) {
	s, err := newSiege(ctx, o, l, a.setup)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err = s.warm(ctx); err == nil && a.prepare != nil {
		s.volumes, err = a.prepare(s)
	}
	if err == nil {
		s.control, err = s.newControl()
	}
	if err == nil {
		err = s.control.read(ctx) // its connections are warm then, as the innocents' are
	}
	if err == nil {
		err = a.against(ctx, s)
	}
	if endErr := s.end(); err == nil {
		err = endErr
	}
	if err != nil {
		return nil, err
	}
	s.verdictOfCodes()
	r := s.result(a)
	r.Seconds = time.Since(begin).Seconds()
	return r, nil
}

// against runs the attack while innocents mount and the health is probed. All end early
// when the plugin dies.
func (a *attack) against(ctx context.Context, s *siege) error {
	interrupted := ctx
	// No deadline: the plugin would see it, and end its work in time.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.until = time.Now().Add(a.duration(s.short))
	defer time.AfterFunc(time.Until(s.until), cancel).Stop()
	watched := make(chan error, 1)
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	go func() { watched <- s.watch(watching) }()
	probed := make(chan struct{})
	go func() { defer close(probed); s.probe(watching) }()
	controlled := make(chan struct{})
	go func() { defer close(controlled); s.control.watch(watching) }()
	go s.guard(watching, cancel)

	least := time.After(shortest)
	run := a.run
	if run == nil {
		run = func(ctx context.Context, s *siege) error { s.flood(ctx, s.volumes); return nil }
	}
	err := run(ctx, s)
	select {
	case <-least:
	case <-ctx.Done():
	}
	stopWatching()
	<-probed
	<-controlled
	if watchErr := <-watched; err == nil {
		err = watchErr
	}
	if ctx.Err() != nil && interrupted.Err() == nil {
		return nil // it was only cut short
	}
	return err
}

func (a *attack) duration(short bool) time.Duration {
	lasts := a.lasts
	if lasts == 0 {
		lasts = usual
	}
	if short && a.lasts == 0 {
		return brief
	}
	return lasts
}

// guard ends the attack when a process dies against the suite's will.
func (s *siege) guard(ctx context.Context, end context.CancelFunc) {
	for ctx.Err() == nil {
		p := s.process()
		select {
		case <-p.ended:
			if p.death() != "" {
				s.settle(p)
				end()
				return
			}
			wait(ctx, 10*time.Millisecond) // a process that the attack ended, until it has another
		case <-ctx.Done():
		}
	}
}

func (s *siege) died() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead != ""
}

// result gathers what the attack did.
func (s *siege) result(a *attack) *result {
	r := &result{
		Attack: a.name, Attempts: s.attempts.Load(),
		Mounts: len(s.seen.latencies), Failed: s.seen.failed, Wrong: s.seen.wrong, Unnamed: s.seen.unnamed,
		P50: milliseconds(percentile(s.seen.latencies, 50)), P99: milliseconds(percentile(s.seen.latencies, 99)),
		Machine: milliseconds(s.control.p99()),
		Peak:    s.peak, CPU: s.process().usage().cpu.Seconds(), Killed: s.dead, Broken: s.broken, Notes: s.notes,
		Probes: s.health.probes.Load(), Unhealthy: s.health.failed.Load(),
	}
	if s.seen.failure != "" {
		r.Notes = append(r.Notes, "the first error: "+s.seen.failure)
	}
	if r.Probes > 0 && r.Unhealthy > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d of %d health checks failed", r.Unhealthy, r.Probes))
	}
	return r
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
