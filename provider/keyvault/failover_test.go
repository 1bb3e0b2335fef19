package keyvault_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

// A failover vault is read in place of a stale answer, and its answers count
// as its own kind, those of lists too.
func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		var sources []keyvault.Source
		r := configured(t, func(req *http.Request) (*http.Response, error) {
			if down.Load() {
				return answer(http.StatusServiceUnavailable, "")
			}
			if req.URL.Path == "/secrets" {
				return answer(http.StatusOK, `{"value":[]}`)
			}
			return answer(http.StatusOK, fmt.Sprintf(`{"id":"https://%s/secrets/s/1","value":"one"}`, host))
		}, func(c *keyvault.Config) {
			c.StaleIfError = time.Hour
			c.OnRead = func(_ context.Context, a keyvault.Answer) { sources = append(sources, a.Source) }
		})
		get := func(failover keyvault.Failover) error {
			who := caller("a")
			who.Failover = failover
			_, err := r.Get(t.Context(), who, object(request.TypeSecret, "s"), fresh())()
			return err
		}
		if err := get(keyvault.HasFailover); err != nil {
			t.Fatal(err)
		}
		down.Store(true)
		time.Sleep(time.Second)
		wantReason(t, get(keyvault.HasFailover), fault.ServiceUnavailable)
		if err := get(keyvault.NoFailover); err != nil {
			t.Error(err)
		}
		down.Store(false)
		time.Sleep(time.Minute)
		if err := get(keyvault.IsFailover); err != nil {
			t.Error(err)
		}
		who := caller("a")
		who.Failover = keyvault.IsFailover
		if _, err := r.List(t.Context(), who, host, request.TypeSecret, fresh())(); err != nil {
			t.Error(err)
		}
		if want := []keyvault.Source{keyvault.Read, keyvault.Stale, keyvault.FromFailover, keyvault.FromFailover}; !slices.Equal(sources, want) {
			t.Errorf("got %v, want %v", sources, want)
		}
		time.Sleep(2 * time.Hour)
	})
}

// The absence of what is optional is an answer, and costs no more than one.
func TestOptionalIsAbsent(t *testing.T) {
	for optional, want := range map[bool][]keyvault.Source{true: {keyvault.Absent}, false: nil} {
		requests := 0
		var sources []keyvault.Source
		r := configured(t, func(*http.Request) (*http.Response, error) {
			requests++
			return answer(http.StatusNotFound, `{"error":{"code":"SecretNotFound"}}`)
		}, func(c *keyvault.Config) {
			c.OnRead = func(_ context.Context, a keyvault.Answer) { sources = append(sources, a.Source) }
		})
		who := caller("a")
		who.Optional = optional
		_, err := r.Get(t.Context(), who, object(request.TypeSecret, "s"), fresh())()
		wantReason(t, err, fault.ObjectNotFound)
		if requests != 1 || !slices.Equal(sources, want) {
			t.Errorf("optional %t: %d requests, sources %v", optional, requests, sources)
		}
	}
}
