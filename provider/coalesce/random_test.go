package coalesce_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/coalesce"
	"akv-csi-provider/provider/fault"
)

var (
	errUnavailable = errors.New("unavailable")
	errForbidden   = errors.New("forbidden")
	errFailed      = errors.New("failed") // what calls report while they retry
)

// reading is an answer that says where it comes from.
type reading struct {
	key   string
	sent  time.Time // when the request left that was answered first
	until time.Time
}

// model is a world of random calls and callers, and what must be true in it.
type model struct {
	t *testing.T
	g *coalesce.Group[string, reading]

	mu      sync.Mutex // guards what follows
	random  *rand.Rand
	running map[string]int       // calls, by key
	newest  map[string]time.Time // of the readings that callers got, by key
}

func (m *model) number(n int) int { m.mu.Lock(); defer m.mu.Unlock(); return m.random.IntN(n) }

// pause waits for up to n milliseconds, or until the context ends.
func (m *model) pause(ctx context.Context, n int) error {
	select {
	case <-time.After(time.Duration(m.number(n)) * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// call returns a call of the key.
func (m *model) call(key string) func(context.Context, *coalesce.Call) (reading, coalesce.Life, error) {
	return func(ctx context.Context, c *coalesce.Call) (r reading, life coalesce.Life, err error) {
		m.mu.Lock()
		if m.running[key]++; m.running[key] > 1 {
			m.t.Errorf("%d calls of %s run", m.running[key], key)
		}
		m.mu.Unlock()
		defer func() {
			time.Sleep(time.Duration(m.number(20)) * time.Millisecond) // also of a call that was given up
			m.mu.Lock()
			defer m.mu.Unlock()
			m.running[key]--
		}()
		if err := m.pause(ctx, 50); err != nil { // for a place
			return r, life, err
		}
		first, err := m.request(ctx, c)
		for range m.number(3) {
			if err == nil {
				_, err = m.request(ctx, c) // the next page
			}
		}
		if err != nil {
			return r, life, err
		}
		r.key, r.sent = key, first
		now := time.Now()
		r.until = now.Add(time.Duration(m.number(2000)) * time.Millisecond)
		life.Until = r.until
		if m.number(2) == 0 {
			life.Refresh = now.Add(time.Duration(m.number(1000)) * time.Millisecond)
		}
		return r, life, nil
	}
}

// request sends a request until it is answered or fails for good, and returns when it left.
func (m *model) request(ctx context.Context, c *coalesce.Call) (time.Time, error) {
	for {
		c.Sent()
		sent := time.Now()
		if err := m.pause(ctx, 100); err != nil {
			return sent, err
		}
		switch m.number(20) {
		case 0:
			return sent, errUnavailable
		case 1:
			return sent, errForbidden
		case 2:
			_, _, _ = buggy()
		case 3, 4, 5, 6:
			c.Retrying(errFailed)
			if err := m.pause(ctx, 100); err != nil {
				return sent, err
			}
			continue
		}
		c.Answered()
		return sent, nil
	}
}

// keySets are all keys, and the key alone.
func keySets(key string) []uint64 { return []uint64{0, uint64(key[len(key)-1])} }

// caller calls at some moment, with some deadline, and checks the result.
func (m *model) caller() {
	time.Sleep(time.Duration(m.number(5000)) * time.Millisecond)
	key := fmt.Sprint("key ", m.number(3))
	ctx, cancel := context.WithCancel(m.t.Context())
	defer cancel()
	switch m.number(5) {
	case 0:
		ctx, cancel = context.WithTimeout(ctx, time.Duration(m.number(200))*time.Millisecond)
		defer cancel()
	case 1:
		defer time.AfterFunc(time.Duration(m.number(200))*time.Millisecond, cancel).Stop()
	}
	want := coalesce.Freshness{Urgent: m.number(2) == 0}
	if m.number(2) == 0 {
		want.NotBefore = time.Now().Add(-time.Duration(m.number(3)*m.number(500)) * time.Millisecond)
	}
	m.mu.Lock()
	newest := m.newest[key]
	m.mu.Unlock()
	if level := m.number(10); level < 2 {
		m.g.ForgetSet(key, level, nil)
	}
	if _, sound := m.g.Indexed(); !sound {
		m.t.Error("the index is not sound")
	}
	got, source, err := m.g.Do(ctx, key, want, m.call(key))
	m.judge(ctx, key, want, newest, got, source, err)
}

func (m *model) judge(ctx context.Context, key string, want coalesce.Freshness, newest time.Time, got reading, source coalesce.Source, err error) {
	switch {
	case err == nil:
	case got != (reading{}):
		m.t.Errorf("an answer with the error %v", err)
		return
	case errors.Is(err, errUnavailable), errors.Is(err, errForbidden):
		return
	case errors.As(err, new(*fault.Panic)):
		checkPanic(m.t, err)
		return
	case errors.Is(err, errFailed):
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			m.t.Errorf("got %v, the caller's %v", err, ctx.Err())
		}
		return
	default:
		if ctx.Err() == nil || err != ctx.Err() {
			m.t.Errorf("got %v, the caller's %v", err, ctx.Err())
		}
		return
	}
	if got.key != key {
		m.t.Errorf("%s got the answer of %s", key, got.key)
	}
	if got.sent.Before(want.NotBefore) {
		m.t.Errorf("%s answer: sent %v too early", source, want.NotBefore.Sub(got.sent))
	}
	if got.sent.Before(newest) {
		m.t.Errorf("%s answer: %v older than one that was there before", source, newest.Sub(got.sent))
	}
	if source == coalesce.Cached && !time.Now().Before(got.until) {
		m.t.Errorf("cached for %v too long", time.Since(got.until))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if got.sent.After(m.newest[key]) {
		m.newest[key] = got.sent
	}
}

// Whatever calls and callers do: an answer left when the caller said or later, of a key at
// most one call runs, answers do not get older, and finally nothing is left.
func TestRandomCallers(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const size = 2 // of three keys
				b := coalesce.NewBudget(size)
				m := &model{t: t, random: rand.New(rand.NewPCG(seed, 0)), running: map[string]int{}, newest: map[string]time.Time{}}
				cfg := coalesce.Config[reading]{
					Timeout: time.Minute, Idle: time.Duration(seed%3) * time.Second, RefreshRetry: time.Duration(seed%4) * 50 * time.Millisecond,
					Evict: func(err error) bool { return errors.Is(err, errForbidden) },
				}
				if seed%5 > 0 {
					cfg.Budget = b
				}
				m.g = coalesce.NewIndexed[string](cfg, keySets)
				var callers sync.WaitGroup
				for range 300 {
					callers.Go(m.caller)
				}
				callers.Wait()
				time.Sleep(time.Hour)
				synctest.Wait()
				if running, cached, sweep := m.g.State(); running != 0 || cached != 0 || sweep {
					t.Errorf("calls of %d keys run, %d are cached, sweep %t", running, cached, sweep)
				}
				if n, sound := m.g.Indexed(); n != 0 || !sound {
					t.Errorf("%d sets, sound %t", n, sound)
				}
				if left, n := b.Left(); left != size || n != 0 {
					t.Errorf("%d left of the budget, %d answers", left, n)
				}
				got, source, err := reading{}, coalesce.Own, errors.New("none")
				for i := 0; i < 100 && err != nil; i++ {
					got, source, err = m.g.Do(t.Context(), "key 0", now(), m.call("key 0"))
				}
				if err != nil || got.key != "key 0" {
					t.Errorf("finally: got %+v (%s), %v", got, source, err)
				}
				time.Sleep(time.Hour)
			})
		})
	}
}
