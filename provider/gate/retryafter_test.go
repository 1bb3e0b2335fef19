package gate_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/gate"
)

// Seconds and dates are heeded, however large; what is neither asks for nothing.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for text, want := range map[string]time.Duration{
			"": 0, "0": 0, "7": 7 * time.Second, "-7": 0, "1.5": 0, "soon": 0, "4294967295": time.Hour, "99999999999999999999": time.Hour,
			time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat): 90 * time.Second,
			time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat):     0,
			time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat):      time.Hour,
		} {
			if got := gate.RetryAfter(http.Header{"Retry-After": {text}}); got != want {
				t.Errorf("%q: got %s, want %s", text, got, want)
			}
		}
	})
}
