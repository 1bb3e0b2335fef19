package keyvault_test

import (
	"context"
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
