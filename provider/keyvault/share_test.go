package keyvault_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

const rtt = 20 * time.Millisecond

// store is a vault with one value that changes, whose answers take a while.
type store struct {
	mu       sync.Mutex // guards what follows
	value    string
	status   int // of an answer in place of the value; 0 for none
	requests []string
	canceled int
	delay    time.Duration // 0 is rtt
}

func (s *store) set(value string) { s.mu.Lock(); defer s.mu.Unlock(); s.value = value }

func (s *store) fail(status int) { s.mu.Lock(); defer s.mu.Unlock(); s.status = status }

func (s *store) count() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.requests) }

// RoundTrip reads the value when the request arrives and answers later.
func (s *store) answer(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	value, status, delay := s.value, s.status, s.delay
	if delay == 0 {
		delay = rtt
	}
	s.requests = append(s.requests, req.Header.Get("Authorization"))
	s.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-req.Context().Done():
		s.mu.Lock()
		s.canceled++
		s.mu.Unlock()
		return nil, req.Context().Err()
	}
	switch status {
	case 0:
		return secret(req, value)
	case noHost:
		return nil, &fault.Error{Reason: fault.ServiceUnavailable, Err: &net.DNSError{IsNotFound: true}}
	case http.StatusForbidden:
		return answer(status, `{"error":{"code":"Forbidden","innererror":{"code":"ForbiddenByRbac"}}}`)
	}
	return answer(status, `{"error":{"code":"Failed"}}`)
}

// noHost is the status of a vault whose name does not exist any more.
const noHost = -1

const ttl = 30 * time.Second

// shares runs a test in a bubble with a reader that shares and caches.
func shares(t *testing.T, test func(t *testing.T, s *store, r *keyvault.Reader), change ...func(*keyvault.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &store{value: "one"}
		r := configured(t, s.answer, func(c *keyvault.Config) {
			c.CacheTTL = ttl
			for _, f := range change {
				f(c)
			}
		})
		test(t, s, r)
		time.Sleep(time.Hour) // what is armed ends
	})
}

// later is the need of a volume that was mounted before.
func later() keyvault.Freshness { return keyvault.Freshness{NotBefore: time.Now().Add(-ttl)} }

func read(t *testing.T, r *keyvault.Reader, who string, need keyvault.Freshness) string {
	t.Helper()
	v, err := r.Get(t.Context(), caller(who), object(request.TypeSecret, "s"), need)()
	if err != nil {
		t.Fatal(err)
	}
	return v.Text
}

func TestRotationsShareTheCache(t *testing.T) {
	shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
		_ = read(t, r, "a", fresh())
		s.set("two")
		for range 50 {
			if got := read(t, r, "a", later()); got != "one" {
				t.Errorf("got %q", got)
			}
		}
		if s.count() != 1 {
			t.Errorf("%d requests", s.count())
		}
		time.Sleep(ttl)
		if got := read(t, r, "a", later()); got != "two" || s.count() != 2 {
			t.Errorf("after the TTL: got %q after %d requests", got, s.count())
		}
	})
}

// A new pod sees what is in the vault now, in the middle of a rotation window.
func TestFirstMountIsFresh(t *testing.T) {
	shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
		_ = read(t, r, "a", fresh())
		s.set("two")
		time.Sleep(time.Second)
		if got := read(t, r, "a", fresh()); got != "two" {
			t.Errorf("got %q", got)
		}
		if got := read(t, r, "a", later()); got != "two" || s.count() != 2 {
			t.Errorf("the rotation went back to %q, %d requests", got, s.count())
		}
	})
}

// A request that left before the pod came does not answer it, and what it brings later
// does not hide what is newer. Of any number of callers, one read is under way and one
// waits.
func TestOlderReadUnderWay(t *testing.T) {
	shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
		var group sync.WaitGroup
		group.Go(func() {
			if got := read(t, r, "a", fresh()); got != "one" {
				t.Errorf("the first got %q", got)
			}
		})
		time.Sleep(rtt / 2)
		s.set("two")
		for range 100 {
			group.Go(func() {
				if got := read(t, r, "a", fresh()); got != "two" {
					t.Errorf("a later one got %q", got)
				}
			})
		}
		group.Go(func() { // a rotation takes what is under way
			if got := read(t, r, "a", later()); got != "one" {
				t.Errorf("the rotation got %q", got)
			}
		})
		start := time.Now()
		group.Wait()
		if s.count() != 2 || time.Since(start) > 2*rtt {
			t.Errorf("%d requests in %v", s.count(), time.Since(start))
		}
		if got := read(t, r, "a", later()); got != "two" {
			t.Errorf("went back to %q", got)
		}
	})
}

func TestPrincipalsDoNotShare(t *testing.T) {
	shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
		base := caller("a")
		others := []keyvault.Caller{base, base, base, base}
		others[1].ClientID, others[2].TenantID, others[3].Authority = "b", "other", "https://login.microsoftonline.us"
		var group sync.WaitGroup
		for _, c := range others {
			group.Go(func() {
				if _, err := r.Get(t.Context(), c, object(request.TypeSecret, "s"), later())(); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if s.count() != len(others) {
			t.Errorf("%d requests of %d principals", s.count(), len(others))
		}
		for _, o := range []keyvault.Object{object(request.TypeSecret, "other"), {Host: host, Type: request.TypeSecret, Name: "s", Version: version}} {
			_, _ = r.Get(t.Context(), base, o, later())()
		}
		if s.count() != len(others)+2 {
			t.Errorf("%d requests of other objects", s.count()-len(others))
		}
	})
}

func TestUnshared(t *testing.T) {
	shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
		var group sync.WaitGroup
		for range 5 {
			group.Go(func() { _ = read(t, r, "a", later()) })
		}
		group.Wait()
		_ = read(t, r, "a", later())
		if s.count() != 6 {
			t.Errorf("%d requests, want 6", s.count())
		}
	}, func(c *keyvault.Config) { c.Unshared = true })
}

func TestNothingOutlivesItsToken(t *testing.T) {
	shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
		short := caller("a")
		short.Expires = time.Now().Add(10 * time.Second)
		if _, err := r.Get(t.Context(), short, object(request.TypeSecret, "s"), fresh())(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second)
		_ = read(t, r, "a", later())
		if s.count() != 1 {
			t.Errorf("%d requests while the token is good", s.count())
		}
		time.Sleep(time.Second)
		_ = read(t, r, "a", later())
		if s.count() != 2 {
			t.Errorf("%d requests after its end", s.count())
		}
	})
}

// A refusal is not cached, and ends what was read before.
func TestRefusalsAreNotCached(t *testing.T) {
	for _, status := range []int{http.StatusForbidden, http.StatusConflict, http.StatusUnauthorized} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
				_ = read(t, r, "a", fresh())
				s.fail(status)
				if _, err := r.Get(t.Context(), caller("a"), object(request.TypeSecret, "s"), fresh())(); err == nil {
					t.Error("no error")
				}
				asked := s.count()
				if _, err := r.Get(t.Context(), caller("a"), object(request.TypeSecret, "s"), later())(); err == nil || s.count() == asked {
					t.Errorf("a rotation was answered with %v without a request", err)
				}
				s.fail(0)
				s.set("two")
				if got := read(t, r, "a", later()); got != "two" {
					t.Errorf("got %q", got)
				}
			})
		})
	}
}

func TestCallersThatGiveUp(t *testing.T) {
	shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			if _, err := r.Get(ctx, caller("a"), object(request.TypeSecret, "s"), fresh())(); !errors.Is(err, context.Canceled) {
				t.Errorf("the first got %v", err)
			}
		})
		synctest.Wait()
		group.Go(func() { _ = read(t, r, "a", later()) })
		synctest.Wait()
		cancel()
		group.Wait()
		if s.count() != 1 || s.canceled != 0 {
			t.Errorf("%d requests, %d of them given up", s.count(), s.canceled)
		}
		// A read without waiting callers ends; so does the one behind it, if it begins at all.
		ctx, cancel = context.WithCancel(t.Context())
		for range 2 {
			group.Go(func() { _, _ = r.Get(ctx, caller("a"), object(request.TypeSecret, "s"), fresh())() })
			time.Sleep(time.Millisecond)
		}
		cancel()
		group.Wait()
		time.Sleep(time.Second)
		if s.count() > 3 || s.canceled != s.count()-1 {
			t.Errorf("%d requests, %d of them given up", s.count(), s.canceled)
		}
	})
}

// A panic in a shared read is the error of all callers that wait, and the next read is sound.
func TestPanicInASharedRead(t *testing.T) {
	var broken = true
	r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
		if broken {
			panic("CANARY")
		}
		return secret(req, "v")
	})
	_, err := r.Get(t.Context(), caller("a"), object(request.TypeSecret, "s"), fresh())()
	if p, ok := errors.AsType[*fault.Panic](err); !ok || p.Value != "CANARY" || !strings.Contains(string(p.Stack), t.Name()) {
		t.Errorf("got %T %v", err, err)
	}
	broken = false
	if _, err = r.Get(t.Context(), caller("a"), object(request.TypeSecret, "s"), fresh())(); err != nil {
		t.Error(err)
	}
}

// So is a panic in the search for what a missing object may be.
func TestPanicInASuggestion(t *testing.T) {
	r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
		if strings.HasPrefix(req.URL.Path, "/secrets/") {
			return answer(http.StatusNotFound, `{"error":{"code":"SecretNotFound"}}`)
		}
		panic("a bug")
	})
	missing := object(request.TypeSecret, "s")
	_, err := r.Get(t.Context(), caller("a"), missing, fresh())()
	wantReason(t, err, fault.ObjectNotFound)
	err = r.Suggest(t.Context(), caller("a"), missing, err)()
	if p, ok := errors.AsType[*fault.Panic](err); !ok || !strings.Contains(string(p.Stack), t.Name()) {
		t.Errorf("got %T %v", err, err)
	}
}

// The cache stays within its bound, however many callers there are.
func TestCacheIsBounded(t *testing.T) {
	const budget = 1 << 20
	shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
		s.set(strings.Repeat("x", 1000))
		s.delay = time.Microsecond
		var group sync.WaitGroup
		for i := range 4_000 {
			group.Go(func() { _ = read(t, r, fmt.Sprint("client ", i), fresh()) })
		}
		group.Wait()
		sent, cached := s.count(), 0
		for i := range 4_000 {
			before := s.count()
			_ = read(t, r, fmt.Sprint("client ", i), later())
			if s.count() == before {
				cached++
			}
		}
		if sent != 4_000 || cached*1000 > budget {
			t.Errorf("%d of %d answers were cached", cached, sent)
		}
	}, func(c *keyvault.Config) { c.CacheBytes = budget })
}

func TestStaleIfError(t *testing.T) {
	staleFor := func(c *keyvault.Config) { c.StaleIfError = 10 * time.Minute }
	for _, status := range []int{http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusBadGateway} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
				_ = read(t, r, "a", fresh())
				s.fail(status)
				time.Sleep(5 * time.Minute)
				got, err := r.Get(t.Context(), caller("a"), object(request.TypeSecret, "s"), fresh())()
				if err != nil || got.Text != "one" || !got.Stale {
					t.Errorf("got %+v, %v", got, err)
				}
				// The driver keeps a running pod's file, and must see the failure.
				if got, err := r.Get(t.Context(), caller("a"), object(request.TypeSecret, "s"), later())(); err == nil {
					t.Errorf("a rotation got %+v", got)
				}
				if got, err := r.Get(t.Context(), caller("b"), object(request.TypeSecret, "s"), fresh())(); err == nil {
					t.Errorf("another principal got %+v", got)
				}
				time.Sleep(5 * time.Minute)
				if got, err := r.Get(t.Context(), caller("a"), object(request.TypeSecret, "s"), fresh())(); err == nil {
					t.Errorf("too late: got %+v", got)
				}
			}, staleFor)
		})
	}
	t.Run("refused", func(t *testing.T) {
		shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
			_ = read(t, r, "a", fresh())
			for _, status := range []int{http.StatusForbidden, http.StatusServiceUnavailable} {
				s.fail(status)
				if got, err := r.Get(t.Context(), caller("a"), object(request.TypeSecret, "s"), fresh())(); err == nil {
					t.Errorf("%d: got %+v", status, got)
				}
			}
		}, staleFor)
	})
	t.Run("off", func(t *testing.T) {
		shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
			_ = read(t, r, "a", fresh())
			s.fail(http.StatusServiceUnavailable)
			if got, err := r.Get(t.Context(), caller("a"), object(request.TypeSecret, "s"), fresh())(); err == nil {
				t.Errorf("got %+v", got)
			}
		})
	})
}

// While the vault is unavailable, the callers of a minute cause at most one request per second,
// and each gets the error of its object before its time is up.
func TestVaultUnavailable(t *testing.T) {
	shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
		_ = read(t, r, "a", fresh())
		s.fail(http.StatusServiceUnavailable)
		before := s.count()
		var group sync.WaitGroup
		start := time.Now()
		for i := range 60 {
			for n := range 10 {
				group.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
					defer cancel()
					name := fmt.Sprint("s", n)
					_, err := r.Get(ctx, caller(fmt.Sprint("client ", i)), object(request.TypeSecret, name), fresh())()
					wantReason(t, err, fault.ServiceUnavailable)
					if err == nil || !strings.Contains(err.Error(), `"`+name+`"`) || !strings.Contains(err.Error(), "503") {
						t.Errorf("got %v", err)
					}
				})
			}
			time.Sleep(time.Second)
		}
		group.Wait()
		seconds := int(time.Since(start) / time.Second)
		if attempts := s.count() - before; attempts > seconds {
			t.Errorf("%d attempts in %d s", attempts, seconds)
		}
		s.fail(0)
		s.set("back")
		time.Sleep(10 * time.Second) // until the circuit is open for little more
		if got := read(t, r, "a", fresh()); got != "back" {
			t.Errorf("got %q", got)
		}
	})
}

// A pod with a wrong tenant leaves the vault's client usable for the next.
func TestWrongTenantCostsOneRequest(t *testing.T) {
	requests := 0
	r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
		requests++
		if req.Header.Get("Authorization") == "Bearer token of another tenant" {
			return answer(http.StatusUnauthorized, `{"error":{"code":"Unauthorized","message":"AKV10032: Invalid issuer."}}`)
		}
		return secret(req, "v")
	})
	stranger := caller("stranger")
	stranger.Token = "token of another tenant"
	_, err := r.Get(t.Context(), stranger, object(request.TypeSecret, "s"), fresh())()
	wantReason(t, err, fault.WrongTenant)
	if _, err := r.Get(t.Context(), caller("a"), object(request.TypeSecret, "s"), fresh())(); err != nil || requests != 2 {
		t.Errorf("got %v after %d requests", err, requests)
	}
}

// Values and lists of versions are retained within one bound. Reads of both kinds, and the
// sweeps of both, run at the same time; the race detector watches.
func TestValuesAndListsShareOneBound(t *testing.T) {
	r := configured(t, func(req *http.Request) (*http.Response, error) {
		if strings.HasSuffix(req.URL.Path, "/versions") {
			return answer(http.StatusOK, `{"value":[{"id":"https://v/secrets/x/a","attributes":{"enabled":true}}]}`)
		}
		return secret(req, "one")
	}, func(c *keyvault.Config) { c.CacheTTL, c.CacheBytes = 2*time.Millisecond, 4<<10 })
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 50 {
				o := object(request.TypeSecret, fmt.Sprintf("x%d", n%16))
				var err error
				if i%2 == 0 {
					_, err = r.Get(t.Context(), caller("a"), o, later())()
				} else {
					_, err = r.Versions(t.Context(), caller("a"), o, 2, later())()
				}
				if err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	all.Wait()
}
