package metrics

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// The largest age of a window is shown for as long as the next window, so that no scrape misses it.
func TestOldest(t *testing.T) {
	var o oldest
	start := time.Now()
	at := func(d time.Duration) time.Time { return start.Add(d) }
	o.observe(at(0), 20*time.Second)
	o.observe(at(time.Minute), 5*time.Second)
	for _, c := range []struct{ at, want time.Duration }{
		{2 * time.Minute, 20 * time.Second}, {6 * time.Minute, 20 * time.Second}, {9 * time.Minute, 20 * time.Second}, {12 * time.Minute, 0},
	} {
		if got := o.read(at(c.at)); got != c.want {
			t.Errorf("after %v: %v, want %v", c.at, got, c.want)
		}
	}
	o.observe(at(12*time.Minute), time.Second)
	if got := o.read(at(time.Hour)); got != 0 {
		t.Errorf("much later: %v", got)
	}
}

// The state is read with each scrape. Nothing expires where there is no certificate.
func TestWatch(t *testing.T) {
	m := New("1.2.3")
	state := State{Mounts: 3, Places: 45, OldestRotation: 90 * time.Second, Expiring: map[string]int{"7d": 2},
		Caches: map[string]Cache{"values": {4, 4096}, "tokens": {5, -1}}}
	m.Watch(func() State { return state })
	m.Answered("cached", 30*time.Second)
	m.Retried("keyvault")()
	scrape := func() string {
		r := httptest.NewRecorder()
		m.Handler().ServeHTTP(r, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return r.Body.String()
	}
	text := scrape()
	for _, want := range []string{
		"akv_csi_mounts_in_flight 3", "akv_csi_mount_places_left 45", "akv_csi_oldest_rotation_age_seconds 90",
		`akv_csi_certificates_expiring{within="7d"} 2`, `akv_csi_cache_entries{cache="values"} 4`, `akv_csi_cache_entries{cache="tokens"} 5`,
		`akv_csi_cache_bytes{cache="values"} 4096`, "akv_csi_oldest_value_served_age_seconds 30", `akv_csi_retries_total{service="keyvault"} 1`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("lacks %s", want)
		}
	}
	for _, never := range []string{"\nakv_csi_certificate_next_expiry_timestamp_seconds ", `akv_csi_cache_bytes{cache="tokens"}`} {
		if strings.Contains(text, never) {
			t.Errorf("has %s", never)
		}
	}
	state.NextExpiry = time.Unix(1_800_000_000, 0)
	if text := scrape(); !strings.Contains(text, "\nakv_csi_certificate_next_expiry_timestamp_seconds 1.8e+09\n") {
		t.Error("lacks the next expiry")
	}
}
