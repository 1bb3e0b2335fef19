package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// signalAttacks end the process. Innocents' mounts may fail by a signal, but none may
// get a part of its files, and the next one must work.
func signalAttacks() []attack {
	return []attack{{
		name: "SIGTERM under stalls", about: "SIGTERM while a vault does not answer ten mounts", long: true,
		lasts: time.Minute, bounds: bounds{health: true}, prepare: stalls(10), run: terminate,
	}, {
		name: "SIGTERM under load", about: "SIGTERM while 16 volumes of PFX are rendered", long: true,
		lasts: time.Minute, bounds: bounds{health: true}, prepare: pfx(rsaPFX, 16, 4096), run: terminate,
	}, {
		name: "kill -9, 200 times", about: "SIGKILL at a random moment, a new process, a mount", long: true,
		lasts: 3 * time.Minute, bounds: bounds{health: true}, run: kills(200),
	}, {
		name: "kill -9, 10 times", about: "the same, fewer times",
		lasts: 20 * time.Second, bounds: bounds{health: true}, run: kills(10),
	}}
}

// terminate sends SIGTERM while the volumes are mounted, by a client that does not
// retry, and checks the codes that they get and the time until the process has ended.
func terminate(ctx context.Context, s *siege) error {
	conn, err := grpc.NewClient("unix://"+s.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := v1alpha1.NewCSIDriverProviderClient(conn)
	got := make([]codes.Code, len(s.volumes))
	var group sync.WaitGroup
	for i, volume := range s.volumes {
		group.Go(func() {
			s.attempts.Add(1)
			_, err := client.Mount(ctx, volume)
			got[i] = status.Code(err)
		})
	}
	wait(ctx, time.Second)
	p := s.process()
	begin := time.Now()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		s.note("it ended after %.1f s", time.Since(begin).Seconds())
	case <-time.After(s.limits.grace):
		s.expect(false, "it had not ended %s after SIGTERM", s.limits.grace)
		p.kill()
	case <-ctx.Done():
	}
	group.Wait()
	counts := map[codes.Code]int{}
	for _, code := range got {
		counts[code]++
	}
	s.expect(counts[codes.Unavailable] == 0, "%d mounts got Unavailable", counts[codes.Unavailable])
	s.note("codes: %v", counts)
	return nil
}

func kills(times int) func(context.Context, *siege) error {
	return func(ctx context.Context, s *siege) error {
		random := rand.New(rand.NewPCG(9, 9)) // the same moments each time
		for i := range times {
			s.attempts.Add(1)
			cut := s.mountsUnderWay(ctx, 6, i)
			if !wait(ctx, time.Duration(random.Int64N(int64(100*time.Millisecond)))) {
				s.expect(false, "only %d of %d rounds in time", i, times)
				return nil
			}
			p := s.process()
			p.kill()
			s.settle(p)
			cut.Wait()
			if err := s.startPlugin(ctx); err != nil {
				return err
			}
			volume, err := s.newInnocent(fmt.Sprintf("after-%d", i))
			if err != nil {
				return err
			}
			response, err := s.process().mount(ctx, volume)
			if err == nil {
				err = s.check(response)
			}
			s.expect(err == nil || ctx.Err() != nil, "after kill %d the next mount failed: %v", i, err)
		}
		return nil
	}
}

// mountsUnderWay starts mounts that a kill will cut.
func (s *siege) mountsUnderWay(ctx context.Context, n, round int) *sync.WaitGroup {
	var group sync.WaitGroup
	p := s.process()
	for i := range n {
		group.Go(func() {
			volume, err := s.newInnocent(fmt.Sprintf("cut-%d-%d", round, i))
			if err != nil {
				return
			}
			if response, err := p.mount(ctx, volume); err == nil {
				err = s.check(response)
				s.expect(err == nil, "a killed process answered with %v", err)
			}
		})
	}
	return &group
}
