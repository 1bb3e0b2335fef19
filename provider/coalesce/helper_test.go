package coalesce_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/coalesce"
)

// latency is how long the vault takes for an answer.
const latency = 20 * time.Millisecond

// vault has one value that changes. It counts requests, and those whose caller left.
type vault struct {
	life func() coalesce.Life // of answers; nil is none

	mu       sync.Mutex // guards what follows
	value    string
	err      error // in place of the value
	sent     int
	canceled int
}

func (v *vault) set(value string) { v.mu.Lock(); defer v.mu.Unlock(); v.value, v.err = value, nil }

func (v *vault) fail(err error) { v.mu.Lock(); defer v.mu.Unlock(); v.err = err }

// counts returns the number of requests, and of those that were given up.
func (v *vault) counts() (sent, canceled int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.sent, v.canceled
}

// get is a call: it reads the value when the request leaves and returns it later.
func (v *vault) get(ctx context.Context, c *coalesce.Call) (string, coalesce.Life, error) {
	c.Sent()
	v.mu.Lock()
	v.sent++
	value, err := v.value, v.err
	v.mu.Unlock()
	select {
	case <-time.After(latency):
	case <-ctx.Done():
		v.mu.Lock()
		defer v.mu.Unlock()
		v.canceled++
		return "", coalesce.Life{}, ctx.Err()
	}
	if err != nil {
		return "", coalesce.Life{}, err
	}
	c.Answered()
	life := coalesce.Life{}
	if v.life != nil {
		life = v.life()
	}
	return value, life, nil
}

// checkSent checks how many requests there were.
func (v *vault) checkSent(t *testing.T, want int) {
	t.Helper()
	if got, _ := v.counts(); got != want {
		t.Errorf("%d requests, want %d", got, want)
	}
}

type (
	group = coalesce.Group[string, string]
	do    = func(context.Context, *coalesce.Call) (string, coalesce.Life, error)
)

func newGroup(change ...func(*coalesce.Config[string])) *group {
	cfg := coalesce.Config[string]{Timeout: time.Minute}
	for _, f := range change {
		f(&cfg)
	}
	return coalesce.New[string](cfg)
}

// now requires an answer to a request that has not left yet.
func now() coalesce.Freshness { return coalesce.Freshness{NotBefore: time.Now()} }

// anything takes any answer.
func anything() coalesce.Freshness { return coalesce.Freshness{} }

// check calls Do and checks the answer.
func check(t *testing.T, g *group, key string, want coalesce.Freshness, f do, value string, source coalesce.Source) {
	t.Helper()
	got, from, err := g.Do(t.Context(), key, want, f)
	if err != nil || got != value || from != source {
		t.Errorf("got %q (%s), %v, want %q (%s)", got, from, err, value, source)
	}
}

// checkIdle checks, in a bubble, that no call runs once those that were given up have ended.
func checkIdle(t *testing.T, g *group) {
	t.Helper()
	synctest.Wait()
	if running, _, _ := g.State(); running != 0 {
		t.Errorf("calls of %d keys run", running)
	}
}
