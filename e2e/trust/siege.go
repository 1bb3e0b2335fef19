package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// siege is an attack on its way, against a process and its own Azure.
type siege struct {
	*world
	start    start
	limits   limits
	short    bool
	attempts atomic.Int64 // of the attack: mounts, connections, kills
	seen     seen
	known    [known]*v1alpha1.MountRequest // of innocents
	minted   time.Time                     // when the known ones were made
	volumes  []*v1alpha1.MountRequest      // of the attack
	health   health
	control  *control
	ports    ports
	pace     time.Duration // of the innocents
	until    time.Time     // the end of the attack's time
	closes   []func()      // at the end

	mu     sync.Mutex // guards what follows
	plugin *process
	dead   string   // why a process died against the suite's will
	peak   float64  // MiB, of all processes
	broken []string // what the attack itself found wrong
	notes  []string
	codes  map[codes.Code]int // of the attack's mounts
	slow   time.Duration      // the longest of them
	cause  string             // the first error of them
}

// newSiege makes the world and starts the plugin in it.
func newSiege(ctx context.Context, o *options, l limits, s setup) (_ *siege, err error) {
	w, err := newWorld(s)
	if err != nil {
		return nil, err
	}
	g := &siege{world: w, limits: l, short: o.short, codes: map[codes.Code]int{}, pace: cmp.Or(s.pace, usualPace)}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.end())
		}
	}()
	if g.ports, err = freePorts(); err != nil {
		return nil, err
	}
	log, closeLog, err := s.log.open()
	if err != nil {
		return nil, err
	}
	g.closes = append(g.closes, closeLog)
	env, err := w.environ(s)
	if err != nil {
		return nil, err
	}
	g.start = start{
		binary: o.provider, dir: w.dir, env: append(env, l.env...), memory: l.memory, files: s.files, stderr: log,
		flags: append(append(slices.Clone(l.args), g.ports.flags()...), s.flags...),
	}
	if s.pprof {
		g.start.flags = append(g.start.flags, "--enable-pprof")
	}
	if s.dns {
		if g.start.before, err = w.front.resolve(w.dir); err != nil {
			return nil, err
		}
	}
	if s.api {
		if err := g.useAPIServer(); err != nil {
			return nil, err
		}
	}
	return g, g.startPlugin(ctx)
}

// startPlugin starts a process in place of the one before, if any, which has ended.
func (s *siege) startPlugin(ctx context.Context) error {
	p, err := startProcess(ctx, s.start)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plugin = p
	return nil
}

func (s *siege) process() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plugin
}

// replaced reports whether an attack ended the process by its own will.
func (s *siege) replaced(p *process) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wanted
}

// settle notes what the process used and how it died, if it did.
func (s *siege) settle(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peak = max(s.peak, p.usage().peak)
	if s.dead == "" {
		s.dead = p.death()
	}
}

// end stops the plugin and its world.
func (s *siege) end() error {
	if p := s.process(); p != nil {
		if err := p.stop(s.limits.grace); err != nil {
			s.expect(false, "%v", err)
		}
		s.settle(p)
	}
	for _, f := range s.closes {
		f()
	}
	return s.world.close()
}

// expect notes what the attack found wrong.
func (s *siege) expect(ok bool, format string, args ...any) {
	if ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = append(s.broken, fmt.Sprintf(format, args...))
}

// note notes what the attack found, once.
func (s *siege) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text := fmt.Sprintf(format, args...); !slices.Contains(s.notes, text) {
		s.notes = append(s.notes, text)
	}
}

// kubeletTimeout is how long kubelet lets the driver mount a volume.
const kubeletTimeout = 2 * time.Minute

// kubelet's wait before it retries a failed volume; each time twice as long.
const firstBackoff = 500 * time.Millisecond

// flood mounts all volumes at once, and again while they fail, as kubelet does, until ctx
// ends.
func (s *siege) flood(ctx context.Context, volumes []*v1alpha1.MountRequest) {
	var group sync.WaitGroup
	for _, volume := range volumes {
		group.Go(func() {
			for backoff := firstBackoff; ; backoff *= 2 {
				if err := s.attempt(ctx, volume); err == nil || errors.Is(err, errEnded) || !wait(ctx, backoff) {
					return
				}
			}
		})
	}
	group.Wait()
}

// attempt mounts one volume of the attack.
func (s *siege) attempt(ctx context.Context, volume *v1alpha1.MountRequest) error {
	s.attempts.Add(1)
	begin := time.Now()
	call, cancel := context.WithTimeout(ctx, kubeletTimeout)
	defer cancel()
	_, err := s.process().mount(call, volume)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !errors.Is(err, errEnded) && ctx.Err() == nil {
		s.codes[status.Code(err)]++
		s.slow = max(s.slow, time.Since(begin))
		if strings.ContainsAny(status.Convert(err).Message(), "\n\x1b") {
			s.broken = append(s.broken, fmt.Sprintf("an error of several lines: %q", err))
		}
		if err != nil && s.cause == "" {
			s.cause = err.Error()
		}
	}
	return err
}

// verdictOfCodes checks that the attack brought out none of the codes that may never be
// sent, and describes them all.
func (s *siege) verdictOfCodes() {
	var texts []string
	for code, n := range s.codes {
		texts = append(texts, fmt.Sprintf("%d %s", n, code))
		// A dying process cuts connections.
		s.expect(s.dead != "" || !forbidden(status.Error(code, "")), "%d hostile mounts got %s", n, code)
	}
	if s.cause != "" {
		s.note("the first error of a hostile mount: %s", s.cause)
	}
	if slices.Sort(texts); len(texts) > 0 {
		s.note("hostile mounts: %s; the longest took %.1f s", strings.Join(texts, ", "), s.slow.Seconds())
	}
}

// socket is the path of the plugin's socket.
func (s *siege) socket() string { return filepath.Join(s.dir, "azure.sock") }

// wait reports whether the time has passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
