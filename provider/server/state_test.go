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
