package keyvault_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

// What does not exist costs the rotations of an identity one request in a TTL, as what exists does. A pod
// that starts, other principals and other versions read it themselves.
func TestAbsenceIsCached(t *testing.T) {
	var sources []keyvault.Source
	observed := func(c *keyvault.Config) {
		c.OnRead = func(_ context.Context, a keyvault.Answer) { sources = append(sources, a.Source) }
	}
	shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
		s.fail(http.StatusNotFound)
		absent := func(who string, o keyvault.Object, need keyvault.Freshness, requests int) {
			t.Helper()
			c := caller(who)
			c.Optional = true
			before := s.count()
			_, err := r.Get(t.Context(), c, o, need)()
			wantReason(t, err, fault.ObjectNotFound)
			if n := s.count() - before; n != requests {
				t.Errorf("%d requests, want %d", n, requests)
			}
		}
		o, pinned := object(request.TypeSecret, "s"), object(request.TypeSecret, "s")
		pinned.Version = version
		absent("a", o, fresh(), 1)
		for range 10 {
			absent("a", o, later(), 0)
		}
		absent("b", o, later(), 1)
		time.Sleep(time.Second)
		absent("a", o, fresh(), 1)
		absent("a", pinned, later(), 1) // and says nothing of the latest one that can be relied on
		absent("a", o, later(), 1)
		time.Sleep(ttl)
		absent("a", o, later(), 1)
		s.fail(0)
		absent("a", o, later(), 0)
		if got := read(t, r, "a", fresh()); got != "one" {
			t.Errorf("a pod that starts got %q", got)
		}
		if got := read(t, r, "a", later()); got != "one" {
			t.Errorf("a rotation went back to %q", got)
		}
		if slices.ContainsFunc(sources[:len(sources)-2], func(s keyvault.Source) bool { return s != keyvault.Absent }) {
			t.Errorf("sources %v", sources)
		}
	}, observed)
}

// That an object was missing is forgotten with all else that was read, by a refusal, and never stands in
// for the answer of a vault that is unavailable.
func TestAbsenceIsForgotten(t *testing.T) {
	shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
		get := func(name string, need keyvault.Freshness) error {
			_, err := r.Get(t.Context(), caller("a"), object(request.TypeSecret, name), need)()
			return err
		}
		s.fail(http.StatusNotFound)
		wantReason(t, get("s", fresh()), fault.ObjectNotFound)
		s.fail(http.StatusForbidden)
		wantReason(t, get("t", fresh()), fault.AccessDenied)
		wantReason(t, get("s", later()), fault.AccessDenied)
		s.fail(http.StatusNotFound)
		wantReason(t, get("s", fresh()), fault.ObjectNotFound)
		s.fail(http.StatusServiceUnavailable)
		wantReason(t, get("s", fresh()), fault.ServiceUnavailable)
		if entries, bytes := r.Cached(); entries != 1 || bytes > 1<<10 {
			t.Errorf("%d entries with %d bytes", entries, bytes)
		}
	}, func(c *keyvault.Config) { c.StaleIfError = 10 * time.Minute })
}

// A refusal that arrives while a read is under way makes its answer, that the object is missing, older
// than what is known.
func TestAbsenceUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int64
		r := configured(t, func(req *http.Request) (*http.Response, error) {
			requests.Add(1)
			if strings.HasPrefix(req.URL.Path, "/secrets/denied") {
				time.Sleep(rtt / 2)
				return answer(http.StatusForbidden, `{"error":{"code":"Forbidden","innererror":{"code":"ForbiddenByRbac"}}}`)
			}
			time.Sleep(rtt)
			return answer(http.StatusNotFound, `{"error":{"code":"SecretNotFound"}}`)
		}, func(c *keyvault.Config) { c.CacheTTL = ttl })
		var all sync.WaitGroup
		for _, name := range []string{"s", "denied"} {
			all.Go(func() { _, _ = r.Get(t.Context(), caller("a"), object(request.TypeSecret, name), fresh())() })
		}
		all.Wait()
		_, err := r.Get(t.Context(), caller("a"), object(request.TypeSecret, "s"), later())()
		if wantReason(t, err, fault.ObjectNotFound); requests.Load() != 3 {
			t.Errorf("%d requests", requests.Load())
		}
		time.Sleep(time.Hour)
	})
}

// A list that is refused with a 404 is shared like others, and so is one of the versions of an object.
func TestListOfNothingIsCached(t *testing.T) {
	shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
		s.fail(http.StatusNotFound)
		for i := range 3 {
			_, err := r.Versions(t.Context(), caller("a"), object(request.TypeSecret, "s"), 2, later())()
			wantReason(t, err, fault.ObjectNotFound)
			_, err = r.List(t.Context(), caller("a"), host, request.TypeSecret, later())()
			if wantReason(t, err, fault.ObjectNotFound); s.count() != 2 {
				t.Fatalf("round %d: %d requests", i, s.count())
			}
		}
	})
}
