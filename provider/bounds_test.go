package provider_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
)

// Volumes are read as far as there is memory for them; a mount of another namespace takes
// precedence over further ones of the first, and a failed mount releases what it reserved.
func TestVolumesWaitForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		v := &vaults{values: map[string]string{"a": "A"}, hook: func(string) { <-release }}
		m := newMounter(&signIn{}, v)
		m.Memory = fair.New(8*50<<10, fair.ThreeQuarters) // of volumes with one object
		req := parse(t, secrets("a"), nil)
		missing := parse(t, secrets("gone"), nil)
		var volumes []*provider.Volume
		var mu sync.Mutex // guards volumes
		mount := func(namespace string, n int) {
			for range n {
				go func() {
					volume, err := m.Mount(fair.WithTenant(t.Context(), namespace), req, time.Time{})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					volumes = append(volumes, volume)
				}()
			}
			synctest.Wait()
		}
		reads := func() int { v.mu.Lock(); defer v.mu.Unlock(); return len(v.reads) }
		mount("shop", 20)
		if n := reads(); n != 6 {
			t.Errorf("%d volumes are read at a time, want three quarters of 8", n)
		}
		mount("bank", 1)
		if n := reads(); n != 7 {
			t.Errorf("the other namespace waits: %d volumes are read", n)
		}
		close(release)
		for sent := 0; sent < 21; { // each releases its memory when it was sent
			synctest.Wait()
			mu.Lock()
			for ; sent < len(volumes); sent++ {
				volumes[sent].Release()
			}
			mu.Unlock()
		}
		for range 20 {
			if _, err := m.Mount(fair.WithTenant(t.Context(), "shop"), missing, time.Time{}); err == nil {
				t.Fatal("mounted")
			}
		}
	})
}

// A mount that panics releases what it reserved, wherever it panics.
func TestMemoryAfterPanic(t *testing.T) {
	m := newMounter(&signIn{}, &vaults{values: map[string]string{"a": "A"}})
	m.Memory = fair.New(1<<30, fair.ThreeQuarters)
	read := false
	m.OnFiles = func([]render.File, []provider.Origin) { read = true }
	_, err := func() (v *provider.Volume, err error) {
		defer fault.Recover(&err)
		return m.Mount(buggyContext{t.Context(), &read}, parse(t, secrets("a"), nil), time.Time{})
	}()
	if n := m.Memory.Used(); n != 0 || !errors.As(err, new(*fault.Panic)) {
		t.Errorf("%v: %d bytes are reserved, and no mount runs", err, n)
	}
}

// buggyContext stands for a bug in what is done after all objects were read.
type buggyContext struct {
	context.Context
	read *bool
}

func (b buggyContext) Err() error {
	if *b.read {
		panic("a bug")
	}
	return b.Context.Err()
}

// An object that a class names many times is rendered once.
func TestEqualObjectsShareContent(t *testing.T) {
	v := &vaults{values: map[string]string{"a": "A"}}
	var class strings.Builder
	for i := range 100 {
		fmt.Fprintf(&class, "- {objectName: a, objectType: secret, objectAlias: f%d, filePermission: 0%03o}\n", i, i%64)
	}
	class.WriteString("- {objectName: a, objectType: secret, objectAlias: hex, objectEncoding: hex}\n")
	v.values["a"] = "4142"
	volume, err := newMounter(&signIn{}, v).Mount(t.Context(), parse(t, class.String(), nil), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	first := volume.Files[0]
	for i, f := range volume.Files[:100] {
		if f.Path != fmt.Sprint("f", i) || int(f.Mode) != i%64 || &f.Content[0] != &first.Content[0] {
			t.Errorf("file %d is %s, %s, and not of the same content", i, f.Path, f.Mode)
		}
	}
	if hex := volume.Files[100]; string(hex.Content) != "AB" {
		t.Errorf("another encoding results in %q", hex.Content)
	}
}

// A mount whose first objects all fail ends before it reads thousands more.
func TestHopelessMountEnds(t *testing.T) {
	names, _ := numbered(4000)
	v := &vaults{}
	volume, err := newMounter(&signIn{}, v).Mount(t.Context(), parse(t, secrets(names...), nil), time.Time{})
	refused(t, volume, err, `"s0"`, `"s49"`, "more")
	if n := len(v.reads); n > 110 {
		t.Errorf("%d reads", n)
	}
}

// Answers that are cached come after the caller has left: nothing is made of them.
func TestCallerThatLeftCostsNothing(t *testing.T) {
	names, values := numbered(200)
	ctx, cancel := context.WithCancel(t.Context())
	m := newMounter(&signIn{}, nil)
	m.Vaults = &cached{vaults: &vaults{values: values}, after: cancel}
	if _, err := m.Mount(ctx, parse(t, secrets(names...), nil), time.Time{}); !errors.Is(err, context.Canceled) || fault.Is(err, fault.ContentInvalid) {
		t.Errorf("got %v", err)
	}
}

// cached answers without checking the context.
type cached struct {
	*vaults
	after func() // called with the second read
	n     int
}

func (c *cached) Get(_ context.Context, caller keyvault.Caller, o keyvault.Object, fresh keyvault.Freshness) func() (keyvault.Value, error) {
	if c.n++; c.n == 2 {
		c.after()
	}
	return c.vaults.Get(context.Background(), caller, o, fresh)
}
