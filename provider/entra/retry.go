package entra

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"akv-csi-provider/provider/throttle"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// retryRefusals is a policy that sends a request again which Entra refuses for a cause that may
// be over within seconds. Its servers do not all know a federated credential from the same
// moment on, and may fail to read an issuer's documents. It stands before the throttles: the
// request takes no place while it waits, and a refusal is no failure of the service.
type retryRefusals struct {
	signIn
	pauses []time.Duration
}

// refusalPauses are the pauses before two more attempts. Each is up to a quarter longer.
var refusalPauses = []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond}

// Do implements policy.Policy.
func (p retryRefusals) Do(req *policy.Request) (*http.Response, error) {
	ctx := req.Raw().Context()
	for _, pause := range p.pauses {
		resp, err := req.Clone(ctx).Next()
		if err != nil || !p.passes(resp) {
			return resp, err
		}
		throttle.TraceOf(ctx).Retrying(runtime.NewResponseError(resp))
		timer := time.NewTimer(pause + rand.N(pause/4))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return resp, nil
		}
		if err := req.RewindBody(); err != nil {
			return nil, err
		}
	}
	return req.Next()
}

// passes reports whether the cause of a refusal may be over within seconds.
func (p retryRefusals) passes(resp *http.Response) bool {
	if resp.StatusCode < http.StatusBadRequest || resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests {
		return false // the throttle retries these
	}
	body, _ := readError(resp)
	return body.unavailable() || slices.ContainsFunc(body.codes(), func(code int) bool {
		r, ok := p.refusalOf(code)
		return ok && r.passes
	})
}
