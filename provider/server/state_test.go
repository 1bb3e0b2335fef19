package server_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/server"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// scripted makes the volumes that it is given.
type scripted func(ctx context.Context) (*provider.Volume, error)

func (s scripted) Mount(ctx context.Context, _ *request.Mount, _ time.Time) (*provider.Volume, error) {
	return s(ctx)
}

// The state is about volumes that the driver still mounts: how long the worst of them waits for a
// successful mount, and when certificates expire.
func TestState(t *testing.T) {
	cfg := config(t, nil)
	synctest.Test(t, func(t *testing.T) {
		failing, expiries := false, []time.Time(nil)
		cfg.Mounter = scripted(func(context.Context) (*provider.Volume, error) {
			if failing {
				return nil, errors.New("unavailable")
			}
			return &provider.Volume{Versions: []provider.Version{{ID: "secret/x", Version: "1"}}, Expiries: expiries}, nil
		})
		s, err := server.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		mount := func(path string) {
			t.Helper()
			if _, err := s.Call(t.Context(), fromVault(path, "shop")); (err != nil) != failing {
				t.Fatal(err)
			}
		}
		if got := s.State(); got != (server.State{Places: 48}) {
			t.Errorf("at first: %+v", got)
		}
		now := time.Now()
		for _, days := range []int{100, 20, 5, -1} {
			expiries = append(expiries, now.AddDate(0, 0, days))
		}
		mount("one")
		expiries = []time.Time{now.AddDate(0, 0, 2)}
		mount("two")
		want := server.State{Places: 48, NextExpiry: now.AddDate(0, 0, -1), Expiring: [3]int{1, 3, 4}}
		if got := s.State(); got != want {
			t.Errorf("two volumes: %+v, want %+v", got, want)
		}
		// The pod of volume one ends, which is not reported, and rotations of two fail.
		failing = true
		for range 15 {
			time.Sleep(2 * time.Minute)
			mount("two")
		}
		want = server.State{Places: 48, OldestRotation: 30 * time.Minute, NextExpiry: now.AddDate(0, 0, 2), Expiring: [3]int{0, 1, 1}}
		if got := s.State(); got != want {
			t.Errorf("one pod, whose rotation fails: %+v, want %+v", got, want)
		}
		failing = false
		mount("two")
		if got := s.State(); got.OldestRotation != 0 {
			t.Errorf("after a rotation: %+v", got)
		}
		time.Sleep(server.Recent + time.Second)
		if got := s.State(); got != (server.State{Places: 48}) {
			t.Errorf("without pods: %+v", got)
		}
	})
}

// A volume that an earlier process mounted, and whose rotation has failed since, counts from its
// first failure on. One that fails first when all earlier ones have been called for is new: its pod
// waits for its start.
func TestStateAfterRestart(t *testing.T) {
	cfg := config(t, nil)
	contains := []*v1alpha1.ObjectVersion{{Id: "secret/x", Version: "1"}}
	for name, c := range map[string]struct {
		after    time.Duration // the start of the process
		contains []*v1alpha1.ObjectVersion
		want     time.Duration
	}{
		"driver 1.6":             {after: 2 * time.Minute, want: time.Hour},
		"a new pod":              {after: server.Recent},
		"driver 1.5":             {after: 2 * time.Minute, contains: contains, want: time.Hour},
		"driver 1.5, much later": {after: 2 * server.Recent, contains: contains, want: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				failing := true
				cfg.Mounter = scripted(func(context.Context) (*provider.Volume, error) {
					if failing {
						return nil, errors.New("unavailable")
					}
					return &provider.Volume{Versions: []provider.Version{{ID: "secret/x", Version: "1"}}}, nil
				})
				s, err := server.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				mount := func() {
					req := fromVault("one", "shop")
					req.CurrentObjectVersion = c.contains
					if _, err := s.Call(t.Context(), req); (err != nil) != failing {
						t.Fatal(err)
					}
				}
				time.Sleep(c.after)
				mount()
				for range 30 {
					time.Sleep(2 * time.Minute)
					mount()
				}
				if got := s.State().OldestRotation; got != c.want {
					t.Errorf("after an hour of failures: %v, want %v", got, c.want)
				}
				failing = false
				mount()
				failing = true
				time.Sleep(2 * time.Minute)
				mount()
				if got := s.State().OldestRotation; got != 2*time.Minute {
					t.Errorf("two minutes after a success: %v", got)
				}
				time.Sleep(server.Recent + time.Second)
				if got := s.State().OldestRotation; got != 0 {
					t.Errorf("after the end of its pod: %v", got)
				}
			})
		})
	}
}

// Mounts in progress and the places that they leave are counted, and released.
func TestStateOfMounts(t *testing.T) {
	cfg := config(t, nil)
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		cfg.Mounter = scripted(func(ctx context.Context) (*provider.Volume, error) {
			<-release
			return &provider.Volume{Versions: []provider.Version{{ID: "secret/x"}}}, nil
		})
		s, err := server.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"red", "green", "blue"} {
			go func() { _, _ = s.Call(context.Background(), fromVault(path, path)) }()
		}
		synctest.Wait()
		if got := s.State(); got.Mounts != 3 || got.Places != 45 {
			t.Errorf("%+v", got)
		}
		close(release)
		synctest.Wait()
		if got := s.State(); got.Mounts != 0 || got.Places != 48 {
			t.Errorf("%+v", got)
		}
	})
}
