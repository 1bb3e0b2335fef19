package azuretest_test

import (
	"net/http"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
)

// A quota holds in every stretch of its length, wherever that begins, and a
// request that was throttled does not delay the next.
func TestQuota(t *testing.T) {
	now := &clock{now: time.Now()}
	w := newWorld(t, azuretest.Options{Clock: now.Now})
	client := w.reader(t, through(transport(t, w.Box)))
	w.SetQuota(azuretest.GetSecret, 3, 10*time.Second)
	start := now.Now()
	for _, step := range []struct {
		at time.Duration
		ok bool
	}{
		{0, true}, {4 * time.Second, true}, {8 * time.Second, true}, {8 * time.Second, false},
		{9999 * time.Millisecond, false}, {10 * time.Second, true}, {10 * time.Second, false},
		{14 * time.Second, true}, {17 * time.Second, false}, {18 * time.Second, true},
	} {
		now.add(step.at - now.Now().Sub(start))
		_, err := client.GetSecret(t.Context(), "my-secret", "", nil)
		if !step.ok {
			checkVaultError(t, err, http.StatusTooManyRequests, "Throttled", "", "VaultRequestTypeLimitReached")
		} else if err != nil {
			t.Errorf("after %s: %v", step.at, err)
		}
	}
	w.SetQuota(azuretest.GetSecret, 0, 0) // takes it back
	if _, err := client.GetSecret(t.Context(), "my-secret", "", nil); err != nil {
		t.Errorf("without a quota: %v", err)
	}
}

// What a fault strikes uses up nothing of a quota, and other kinds have none.
func TestQuotaBesideAFault(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	client := w.reader(t, through(transport(t, w.Box)))
	w.SetQuota(azuretest.GetSecret, 1, time.Hour)
	w.SetFault(azuretest.GetSecret, azuretest.Fault{Status: 503, Times: 1})
	for _, want := range []int{503, 200, 429} {
		_, err := client.GetSecret(t.Context(), "my-secret", "", nil)
		if want == 200 {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		code := map[int]string{503: "ServiceUnavailable", 429: "Throttled"}[want]
		checkVaultError(t, err, want, code, "")
	}
	if _, err := client.NewListSecretPropertiesVersionsPager("my-secret", nil).NextPage(t.Context()); err != nil {
		t.Errorf("another kind: %v", err)
	}
}
