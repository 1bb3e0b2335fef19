package azuretest_test

import (
	"bytes"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
)

func TestIMDSFaults(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	w.IMDS().Assign(w.app)
	for status, code := range map[int]string{400: "invalid_request", 429: "too_many_requests", 500: "unknown", 503: "unknown"} {
		w.SetFault(azuretest.Identity, azuretest.Fault{Status: status, RetryAfter: "3"})
		response, body := w.askIMDS(t, vaultToken, nil)
		checkIMDS(t, response, body, status, code, "")
		if response.Header.Get("Retry-After") != "3" {
			t.Errorf("%d: Retry-After: got %q", status, response.Header.Get("Retry-After"))
		}
	}
	for _, status := range []int{404, 410} {
		w.SetFault(azuretest.Identity, azuretest.Fault{Status: status})
		if response, body := w.askIMDS(t, vaultToken, nil); response.StatusCode != status || len(body) != 0 {
			t.Errorf("got %s with %q, want %d", response.Status, body, status)
		}
	}
	w.SetFault(azuretest.Identity, azuretest.Fault{Status: 400, InnerCode: "7000229"})
	response, body := w.askIMDS(t, vaultToken, nil)
	checkIMDS(t, response, body, 400, "invalid_client", "AADSTS7000229: The client application "+clientID+" is missing service principal in the tenant "+tenantID)
	w.SetFault(azuretest.Identity, azuretest.Fault{HTML: true})
	if _, body := w.askIMDS(t, vaultToken, nil); !strings.HasPrefix(string(body), "<html>") {
		t.Errorf("HTML: got %q", body)
	}
	w.SetFault(azuretest.Identity, azuretest.Fault{Reset: true})
	r := get(t, w.IMDS().URL()+"/metadata/identity/oauth2/token?"+vaultToken)
	if response, err := transport(t, w.Box).RoundTrip(r); err == nil {
		_ = response.Body.Close()
		t.Errorf("reset: got %s", response.Status)
	}
	w.ClearFaults()
	w.SetLatency(azuretest.Identity, 30*time.Millisecond)
	start := time.Now()
	if w.askIMDS(t, vaultToken, nil); time.Since(start) < 30*time.Millisecond {
		t.Error("latency: answered at once")
	}
	w.SetOutage(true)
	if response, err := transport(t, w.Box).RoundTrip(get(t, "http://169.254.169.254/metadata")); err == nil {
		_ = response.Body.Close()
		t.Errorf("outage: got %s", response.Status)
	}
}

func TestEnvironNamesIMDSOnceThereIsOne(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	for _, name := range []string{"AZURE_POD_IDENTITY_AUTHORITY_HOST", "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "MSI_SECRET", "IMDS_ENDPOINT"} {
		t.Setenv(name, "http://inherited.example")
	}
	own := func() []string {
		env, err := w.Environ(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(env, func(v string) bool {
			return !strings.Contains(v, "inherited") && !strings.HasPrefix(v, "AZURE_POD_IDENTITY_AUTHORITY_HOST=")
		})
	}
	if got := own(); len(got) != 0 {
		t.Errorf("without IMDS: got %q", got)
	}
	if want := []string{"AZURE_POD_IDENTITY_AUTHORITY_HOST=" + w.IMDS().URL()}; !slices.Equal(own(), want) {
		t.Errorf("with IMDS: got %q, want %q", own(), want)
	}
	if first, second := w.IMDS(), w.IMDS(); first != second {
		t.Error("a second IMDS was made")
	}
}

// Close ends what was started later, too: idle connections, and requests that were never answered.
func TestCloseStopsNodeAndCluster(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	s, dir := w.apiServer(t)
	w.askIMDS(t, vaultToken, nil)
	rt := clusterTransport(t, dir, "")
	address := "https://" + s.Addr() + "/api/v1/namespaces/shop/serviceaccounts/reader"
	send(t, rt, http.MethodGet, address, "", nil)
	w.SetFault(azuretest.Identity, azuretest.Fault{Stall: true})
	w.SetFault(azuretest.Lookup, azuretest.Fault{Stall: true})
	var all sync.WaitGroup
	for _, stalled := range []struct {
		http.RoundTripper
		address string
	}{{transport(t, w.Box), w.IMDS().URL() + "/metadata/identity/oauth2/token"}, {rt, address}} {
		all.Go(func() {
			if response, err := stalled.RoundTrip(get(t, stalled.address)); err == nil {
				t.Errorf("answered with %s", response.Status)
				_ = response.Body.Close()
			}
		})
	}
	w.arrived(t, azuretest.Identity, 2)
	w.arrived(t, azuretest.Lookup, 2)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for _, frame := range []string{"azuretest.(*", "net/http.(*Server)", "net/http.(*conn).serve"} {
		if bytes.Contains(stacks, []byte(frame)) {
			t.Errorf("%s still runs:\n%s", frame, stacks)
		}
	}
}
