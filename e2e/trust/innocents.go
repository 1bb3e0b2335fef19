package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// How the innocent pods mount.
const (
	usualPace = 100 * time.Millisecond // between two mounts
	rotation  = 4                      // each so many mounts, one is a rotation
	known     = 5                      // volumes that are rotated
	most      = 200                    // concurrent mounts
	allowance = 30 * time.Second       // for a mount; one that takes longer has failed
	tokenAge  = 40 * time.Minute       // of the known volumes; they are valid for an hour
)

var errFiles = errors.New("wrong files")

// seen is what innocents saw while an attack ran.
type seen struct {
	mu        sync.Mutex      // guards what follows
	latencies []time.Duration // of all mounts, those that failed included
	failed    int
	wrong     int // answers with missing files, or others than those of the vault
	unnamed   int // errors with codes that the plugin must never send
	failure   string
}

func (s *seen) add(took time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latencies = append(s.latencies, took)
	if err == nil {
		return
	}
	s.failed++
	if errors.Is(err, errFiles) {
		s.wrong++
	}
	if !errors.Is(err, errEnded) && forbidden(err) {
		s.unnamed++
	}
	if s.failure == "" {
		s.failure = err.Error()
	}
}

// forbidden reports whether the driver would let a pod start with an empty volume, or
// whether the plugin lost control: no attack may bring out such a code.
func forbidden(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Internal, codes.Unknown:
		return !errors.Is(err, errFiles)
	}
	return false
}

// percentile is the latency that p of 100 did not exceed (nearest rank).
func percentile(latencies []time.Duration, p float64) time.Duration {
	if len(latencies) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(latencies))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// watch has innocent pods mount until ctx ends, at a steady pace whether or not earlier
// mounts have ended, and waits for the last ones. A latency counts from the moment at
// which the mount was due.
func (s *siege) watch(ctx context.Context) error {
	places := make(chan struct{}, most)
	var group sync.WaitGroup
	defer group.Wait()
	ticker := time.NewTicker(s.pace)
	defer ticker.Stop()
	for n := 0; ; n++ {
		due := time.Now()
		volume, err := s.innocent(n)
		if err != nil {
			return err
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		group.Go(func() {
			defer func() { <-places }()
			s.mountInnocent(due, volume)
		})
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// innocent is the volume of the n-th mount: of a new pod, or one of the known ones again. The
// pods' tokens are renewed as kubelet does it.
func (s *siege) innocent(n int) (*v1alpha1.MountRequest, error) {
	if n%rotation == rotation-1 {
		if time.Since(s.minted) > tokenAge {
			if err := s.mint(); err != nil {
				return nil, err
			}
		}
		return s.known[n/rotation%known], nil
	}
	return s.newInnocent(fmt.Sprintf("pod-%d", n))
}

func (s *siege) mountInnocent(due time.Time, volume *v1alpha1.MountRequest) {
	// The mount goes on when the attack ends: it began under it.
	ctx, cancel := context.WithDeadline(context.Background(), due.Add(allowance))
	defer cancel()
	p := s.process()
	response, err := p.mount(ctx, volume)
	if err == nil {
		err = s.check(response)
	}
	if s.replaced(p) && err != nil && !errors.Is(err, errFiles) {
		return // the attack ended that process by its own will
	}
	s.seen.add(time.Since(due), err)
}

// check compares the files of an innocent's volume with the vault.
func (s *siege) check(response *v1alpha1.MountResponse) error {
	files := response.GetFiles()
	if len(files) != innocentSecrets {
		return fmt.Errorf("%w: %d of %d", errFiles, len(files), innocentSecrets)
	}
	for _, f := range files {
		if string(f.GetContents()) != valueOf(f.GetPath()) {
			return fmt.Errorf("%w: content of %s", errFiles, f.GetPath())
		}
	}
	return nil
}

// mint makes the known volumes, with new tokens.
func (s *siege) mint() error {
	s.minted = time.Now()
	for i := range s.known {
		var err error
		if s.known[i], err = s.newInnocent(fmt.Sprintf("known-%d", i)); err != nil {
			return err
		}
	}
	return nil
}

// warm mounts the known volumes, before anything is counted.
func (s *siege) warm(ctx context.Context) error {
	if err := s.mint(); err != nil {
		return err
	}
	for _, volume := range s.known {
		ctx, cancel := context.WithTimeout(ctx, allowance)
		response, err := s.process().mount(ctx, volume)
		cancel()
		if err == nil {
			err = s.check(response)
		}
		if err != nil {
			return fmt.Errorf("first mount, before the attack: %w", err)
		}
	}
	return nil
}
