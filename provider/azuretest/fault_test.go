package azuretest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"akv-csi-provider/provider/azuretest"
)

func TestThrottling(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	client := w.reader(t, through(transport(t, w.Box)))
	w.SetFault(azuretest.GetSecret, azuretest.Fault{Status: 429, RetryAfter: "17", Times: 2})
	for range 2 {
		_, err := client.GetSecret(t.Context(), "my-secret", "", nil)
		response := checkVaultError(t, err, 429, "Throttled", "", "VaultRequestTypeLimitReached")
		if got := response.Header.Get("Retry-After"); got != "17" {
			t.Errorf("Retry-After: got %q", got)
		}
	}
	if _, err := client.GetSecret(t.Context(), "my-secret", "", nil); err != nil {
		t.Errorf("after two: %v", err)
	}
}

// The SDK's own retries see the fault end.
func TestTheSDKRetries(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	o := through(transport(t, w.Box))
	o.Retry = policy.RetryOptions{MaxRetries: 2, RetryDelay: time.Microsecond}
	w.SetFault(azuretest.Token, azuretest.Fault{Status: 503, Times: 2})
	w.SetFault(azuretest.GetSecret, azuretest.Fault{Status: 500, Times: 2})
	if _, err := w.reader(t, o).GetSecret(t.Context(), "my-secret", "", nil); err != nil {
		t.Fatal(err)
	}
	if token, secret := w.Count(azuretest.Token), w.Count(azuretest.GetSecret); token != 3 || secret != 3 {
		t.Errorf("got %d token requests and %d reads, want 3 and 3", token, secret)
	}
}

func TestEveryNth(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	client := w.reader(t, through(transport(t, w.Box)))
	w.SetFault(azuretest.GetSecret, azuretest.Fault{Status: 503, Every: 3, Times: 2})
	var failed []int
	for i := range 12 {
		if _, err := client.GetSecret(t.Context(), "my-secret", "", nil); err != nil {
			failed = append(failed, i)
		}
	}
	if len(failed) != 2 || failed[0] != 2 || failed[1] != 5 {
		t.Errorf("failed: got %v, want the third and the sixth", failed)
	}
	w.SetFault(azuretest.GetSecret, azuretest.Fault{Status: 503})
	w.SetFault(azuretest.GetSecret, azuretest.Fault{}) // takes it back
	if _, err := client.GetSecret(t.Context(), "my-secret", "", nil); err != nil {
		t.Errorf("after the zero fault: %v", err)
	}
}

// Entra's faults come in Entra's form.
func TestEntraFaults(t *testing.T) {
	for _, c := range []struct {
		kind   azuretest.Kind
		fault  azuretest.Fault
		status int
		oauth  string
		number int
	}{
		{azuretest.Token, azuretest.Fault{Status: 429, RetryAfter: "5"}, 429, "temporarily_unavailable", 90055},
		{azuretest.Token, azuretest.Fault{Status: 503}, 503, "temporarily_unavailable", 90033},
		{azuretest.Token, azuretest.Fault{Status: 400, InnerCode: "50196"}, 400, "invalid_grant", 50196},
		{azuretest.Token, azuretest.Fault{Status: 400, InnerCode: "424242"}, 400, "invalid_request", 424242},
		{azuretest.Metadata, azuretest.Fault{Status: 500}, 500, "temporarily_unavailable", 90033},
	} {
		w := newWorld(t, azuretest.Options{})
		w.SetFault(c.kind, c.fault)
		_, err := w.signIn(t, nil)
		response := refused(t, err)
		checkRefusal(t, response, c.status, c.oauth, c.number, "AADSTS")
		if got := response.Header.Get("Retry-After"); got != c.fault.RetryAfter {
			t.Errorf("Retry-After: got %q", got)
		}
	}
}

func TestAProxysPage(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	for _, c := range []struct {
		kind   azuretest.Kind
		status int
		path   string
	}{
		{azuretest.Challenge, 502, w.vault.URL() + "/secrets/my-secret"},
		{azuretest.Keys, 200, public + "/" + tenantID + "/discovery/v2.0/keys"},
	} {
		w.SetFault(c.kind, azuretest.Fault{Status: c.status, HTML: true})
		response, body := send(t, transport(t, w.Box), http.MethodGet, c.path, "", nil)
		if response.StatusCode != c.status || response.Header.Get("Content-Type") != "text/html" || !strings.HasPrefix(string(body), "<html>") {
			t.Errorf("%s: got %s %s", c.kind, response.Status, body)
		}
	}
	w.ClearFaults()
	_, body := send(t, transport(t, w.Box), http.MethodGet, public+"/"+tenantID+"/discovery/v2.0/keys", "", nil)
	if !strings.Contains(string(body), `"kty":"EC"`) {
		t.Errorf("keys: got %s", body)
	}
}

func TestReset(t *testing.T) {
	for _, noHTTP2 := range []bool{false, true} {
		w := newWorld(t, azuretest.Options{DisableHTTP2: noHTTP2})
		w.SetFault(azuretest.Token, azuretest.Fault{Reset: true, Times: 1})
		if _, err := w.signIn(t, nil); err == nil {
			t.Error("a reset was survived")
		}
		if _, err := w.signIn(t, nil); err != nil {
			t.Errorf("after the reset: %v", err)
		}
		if r := last(w.Requests(), azuretest.Token); r.Status != http.StatusOK || r.ClientID != clientID {
			t.Errorf("journal: got %+v", r)
		}
	}
}

func last(all []azuretest.Request, k azuretest.Kind) (found azuretest.Request) {
	for _, r := range all {
		if r.Kind == k {
			found = r
		}
	}
	return found
}

// arrived waits until n requests of the kind are in the fake.
func (w *world) arrived(t testing.TB, k azuretest.Kind, n int) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	timeout := time.After(10 * time.Second)
	for w.Count(k) < n {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("%d requests of kind %s never came", n, k)
		}
	}
}

// A request that is never answered ends with its client, or with the fake.
func TestStall(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	client := w.reader(t, through(transport(t, w.Box)))
	if _, err := client.GetSecret(t.Context(), "my-secret", "", nil); err != nil {
		t.Fatal(err)
	}
	w.ResetCounts()
	w.SetFault(azuretest.GetSecret, azuretest.Fault{Stall: true})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	read := func(ctx context.Context) {
		_, err := client.GetSecret(ctx, "my-secret", "", nil)
		ended <- err
	}
	go read(ctx)
	w.arrived(t, azuretest.GetSecret, 1)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	go read(t.Context())
	w.arrived(t, azuretest.GetSecret, 2)
	if got := last(w.Requests(), azuretest.GetSecret); got.Status != 0 {
		t.Errorf("unanswered request: got status %d", got.Status)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("a closed fake answered")
	}
}

// Slow requests wait for themselves only: nothing is locked meanwhile.
func TestLatency(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	client := w.reader(t, through(transport(t, w.Box)))
	if _, err := client.GetSecret(t.Context(), "my-secret", "", nil); err != nil {
		t.Fatal(err)
	}
	const delay = 100 * time.Millisecond
	w.SetLatency(azuretest.GetSecret, delay)
	start := time.Now()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := client.GetSecret(t.Context(), "my-secret", "", nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if took := time.Since(start); took < delay || took > 20*delay {
		t.Errorf("50 slow reads at once took %s, want about %s", took, delay)
	}
	w.SetLatency(azuretest.GetSecret, time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), delay)
	defer cancel()
	if _, err := client.GetSecret(ctx, "my-secret", "", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("given up: got %v", err)
	}
}

func TestOutage(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	for name, rt := range map[string]http.RoundTripper{"direct": transport(t, w.Box), "proxy": proxied(t, w.Box, true)} {
		client := w.reader(t, through(rt))
		if _, err := client.GetSecret(t.Context(), "my-secret", "", nil); err != nil {
			t.Fatal(err)
		}
		before := w.Count(azuretest.GetSecret)
		w.SetOutage(true)
		for range 2 { // the connection that was open, and a new one
			if _, err := client.GetSecret(t.Context(), "my-secret", "", nil); err == nil {
				t.Errorf("%s: the outage was not noticed", name)
			}
		}
		if got := w.Count(azuretest.GetSecret); got != before {
			t.Errorf("%s: %d requests came through the outage", name, got-before)
		}
		w.SetOutage(false)
		if _, err := client.GetSecret(t.Context(), "my-secret", "", nil); err != nil {
			t.Errorf("%s: after the outage: %v", name, err)
		}
	}
}

// Hundreds of clients at once: every one gets its answer, and the counters are exact.
func TestACrowd(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	const clients, reads = 200, 3
	rt := transport(t, w.Box)
	client := w.reader(t, through(rt))
	if _, err := client.GetSecret(t.Context(), "my-secret", "", nil); err != nil {
		t.Fatal(err)
	}
	w.ResetCounts()
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range reads {
				if _, err := client.GetSecret(t.Context(), "my-secret", "", nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got := w.Count(azuretest.GetSecret); got != clients*reads {
		t.Errorf("reads: got %d", got)
	}
	for _, r := range w.Requests() {
		if r.Status != 200 || r.ClientID != clientID || r.Host != "contoso.vault.azure.net" || r.Path != "/secrets/my-secret/" {
			t.Fatalf("journal: got %+v", r)
		}
	}
}

// The journal has the last 10,000 requests, the counters have all.
func TestTheJournalIsBounded(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	const n = 10100
	for i := range n {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("%s/secrets/s%d", w.vault.URL(), i), nil)
		w.ServeHTTP(httptest.NewRecorder(), r)
	}
	requests := w.Requests()
	if got := w.Count(azuretest.Challenge); got != n || len(requests) != 10000 {
		t.Fatalf("got %d counted, %d in the journal", got, len(requests))
	}
	for i, r := range requests {
		if want := fmt.Sprintf("/secrets/s%d", n-len(requests)+i); r.Path != want || r.Status != http.StatusUnauthorized {
			t.Fatalf("request %d: got %s %d, want %s", i, r.Path, r.Status, want)
		}
	}
}
