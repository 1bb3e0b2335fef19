package entra

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"akv-csi-provider/provider/throttle"
	"akv-csi-provider/provider/transport"
)

// What another attempt would only repeat is not sent again.
func TestClassify(t *testing.T) {
	failing := func(resp *http.Response, err error) error {
		pool := roundTripper(func(*http.Request) (*http.Response, error) { return resp, err })
		req, requestErr := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://a.example", nil)
		if requestErr != nil {
			t.Fatal(requestErr)
		}
		_, err = transport.New(pool, "").Do(req)
		return err
	}
	for name, c := range map[string]struct {
		err  error
		want throttle.Outcome
	}{
		"left":         {context.Canceled, throttle.Unknown},
		"out of time":  {context.DeadlineExceeded, throttle.Unavailable},
		"reset":        {failing(nil, io.ErrUnexpectedEOF), throttle.Unavailable},
		"mute":         {transport.Timeout("a", transport.PhaseSignIn), throttle.Unavailable},
		"no such host": {failing(nil, &net.DNSError{IsNotFound: true}), throttle.Unknown},
		"no trust":     {failing(nil, x509.UnknownAuthorityError{}), throttle.Unknown},
		"no HTTP":      {failing(answer(999, ""), nil), throttle.Unknown},
		"unknown":      {errors.New("x"), throttle.Unknown},
		"off the node": {errNotOnNode, throttle.Unknown},
	} {
		for _, classify := range []func(*http.Response, error) throttle.Result{classify, classifyIMDS} {
			if got := classify(nil, c.err); got != (throttle.Result{Outcome: c.want}) {
				t.Errorf("%s: got %+v", name, got)
			}
		}
	}
	// What is not an answer of the service says nothing of it.
	for body, want := range map[string]throttle.Outcome{`<p>`: throttle.Unknown, ``: throttle.Unknown, `{}`: throttle.Unknown, `{"error":"Blocked by Example"}`: throttle.Unknown, `{"error":"invalid_client"}`: throttle.OK, `{"error_codes":[700016]}`: throttle.OK} {
		if got := classify(answer(403, body), nil); got != (throttle.Result{Outcome: want}) {
			t.Errorf("%s: got %+v", body, got)
		}
	}
	for body, want := range map[string]throttle.Outcome{`<p>`: throttle.Unknown, `{"access_token":"a"}`: throttle.OK} {
		if entra, imds := classify(answer(200, body), nil), classifyIMDS(answer(200, body), nil); entra.Outcome != want || imds.Outcome != want {
			t.Errorf("%s: got %+v and %+v", body, entra, imds)
		}
	}
	gone, err := refuse(410, "70", "")
	if got := classifyIMDS(gone, err); got != (throttle.Result{Outcome: throttle.Unavailable, RetryAfter: 70 * time.Second}) {
		t.Errorf("410: got %+v", got)
	}
}
