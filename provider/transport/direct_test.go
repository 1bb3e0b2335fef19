package transport_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"akv-csi-provider/provider/transport"
)

// What is meant for the node's metadata service leaves the node in no case, not even
// through a proxy.
func TestDirect(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:3128")
	near := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(near.Close)
	pool := transport.Direct()
	t.Cleanup(pool.CloseIdleConnections)
	if pool.Proxy != nil {
		t.Error("a proxy may be used")
	}
	client := transport.New(pool, "test").For(transport.PhaseSignIn)
	for url, ok := range map[string]bool{
		near.URL:                true,
		"http://192.0.2.1:1/":   false,
		"http://[2001:db8::1]/": false,
		"http://10.0.0.1/":      false,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
		if err == nil {
			_ = resp.Body.Close()
		}
	}
}
