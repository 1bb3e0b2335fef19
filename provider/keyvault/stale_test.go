package keyvault_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

// A vault that does not answer is as unavailable as one that answers 503, also for a caller
// whose time is up before the first attempt's.
func TestStaleIfNoAnswer(t *testing.T) {
	shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
		_ = read(t, r, "a", fresh())
		s.mu.Lock()
		s.delay = time.Hour
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if got, err := r.Get(ctx, caller("a"), object(request.TypeSecret, "s"), fresh())(); err != nil || got.Text != "one" || !got.Stale {
			t.Errorf("got %+v, %v", got, err)
		}
		// A caller that left wants no answer.
		ctx, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		if got, err := r.Get(ctx, caller("a"), object(request.TypeSecret, "s"), fresh())(); err == nil {
			t.Errorf("after leaving: got %+v", got)
		}
	}, func(c *keyvault.Config) { c.StaleIfError = 10 * time.Minute })
}

// After a vault has refused one object of a principal, nothing that it has returned for that
// principal is served any more, but for others it is.
func TestStaleEndsWithARefusal(t *testing.T) {
	shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
		get := func(who, name string) (keyvault.Value, error) {
			return r.Get(t.Context(), caller(who), object(request.TypeSecret, name), fresh())()
		}
		for _, who := range []string{"a", "b"} {
			for _, name := range []string{"s", "t"} {
				if _, err := get(who, name); err != nil {
					t.Fatal(err)
				}
			}
		}
		s.fail(http.StatusForbidden)
		if got, err := get("a", "s"); err == nil {
			t.Errorf("got %+v", got)
		}
		s.fail(http.StatusServiceUnavailable)
		if got, err := get("a", "t"); err == nil {
			t.Errorf("after a refusal: got %+v", got)
		}
		if got, err := get("b", "t"); err != nil || !got.Stale {
			t.Errorf("another principal: got %+v, %v", got, err)
		}
	}, func(c *keyvault.Config) { c.StaleIfError = 10 * time.Minute })
}

// When one version of an object is missing, or its request or vault is not valid, no version of it is
// served any more: the object may have been deleted. Other objects are.
func TestStaleEndsWithADeletion(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusBadRequest, http.StatusConflict, noHost} {
		t.Run(fmt.Sprint(status), func(t *testing.T) { staleEndsWith(t, status) })
	}
}

func staleEndsWith(t *testing.T, status int) {
	shares(t, func(t *testing.T, s *store, r *keyvault.Reader) {
		pinned := object(request.TypeSecret, "s")
		pinned.Version = "0123456789abcdef0123456789abcdef"
		latest, other := object(request.TypeSecret, "s"), object(request.TypeSecret, "t")
		get := func(o keyvault.Object) (keyvault.Value, error) {
			return r.Get(t.Context(), caller("a"), o, fresh())()
		}
		for first, second := range map[keyvault.Object]keyvault.Object{pinned: latest, latest: pinned} {
			s.fail(0)
			for _, o := range []keyvault.Object{pinned, latest, other} {
				if _, err := get(o); err != nil {
					t.Fatal(err)
				}
			}
			s.fail(status)
			if got, err := get(first); err == nil {
				t.Errorf("got %+v", got)
			}
			s.fail(http.StatusServiceUnavailable)
			if got, err := get(second); err == nil {
				t.Errorf("version %q after version %q was missing: got %+v", second.Version, first.Version, got)
			}
			if got, err := get(other); err != nil || !got.Stale {
				t.Errorf("another object: got %+v, %v", got, err)
			}
			time.Sleep(2 * time.Minute) // until the circuit is closed again
		}
	}, func(c *keyvault.Config) { c.StaleIfError = 10 * time.Minute })
}
