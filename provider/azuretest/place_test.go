package azuretest_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
)

// A fault of one vault or tenant leaves the others alone.
func TestFaultOfOnePlace(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	other := w.Vault("kv-other", w.Tenant(tenantID))
	status := func(url string) int {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: w.Transport()}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	struck := w.Vault("kv-struck", w.Tenant(tenantID))
	struck.SetFault(azuretest.Fault{Status: http.StatusServiceUnavailable})
	const path = "/secrets/x?api-version=7.5"
	if a, b := status(struck.URL()+path), status(other.URL()+path); a != http.StatusServiceUnavailable || b != http.StatusUnauthorized {
		t.Errorf("%d and %d, want 503 of the struck vault and a challenge of the other", a, b)
	}
	struck.SetFault(azuretest.Fault{})
	if a := status(struck.URL() + path); a != http.StatusUnauthorized {
		t.Errorf("%d after the fault, want a challenge", a)
	}
	const otherTenant = "99999999-2222-4333-8444-555555555555"
	w.Tenant(otherTenant).SetFault(azuretest.Fault{Status: http.StatusServiceUnavailable})
	metadata := func(tenant string) string {
		return "https://login.microsoftonline.com/" + tenant + "/v2.0/.well-known/openid-configuration"
	}
	if a, b := status(metadata(otherTenant)), status(metadata(tenantID)); a != http.StatusServiceUnavailable || b != http.StatusOK {
		t.Errorf("%d and %d, want 503 for the struck tenant and 200 for the other", a, b)
	}
	other.SetLatency(50 * time.Millisecond)
	start := time.Now()
	if a := status(other.URL() + path); a != http.StatusUnauthorized || time.Since(start) < 50*time.Millisecond {
		t.Errorf("%d after %v, want a challenge after the vault's latency", a, time.Since(start))
	}
}
