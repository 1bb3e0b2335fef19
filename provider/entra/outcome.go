package entra

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/throttle"
	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// outcome is a policy that notes how the latest request of one sign-in failed: MSAL flattens
// errors to text. It is for one goroutine.
type outcome struct{ err error }

// Do implements policy.Policy.
func (o *outcome) Do(req *policy.Request) (*http.Response, error) {
	resp, err := req.Next()
	if o.err = err; err == nil && !runtime.HasStatusCode(resp, http.StatusOK, http.StatusCreated) { // which MSAL accepts
		o.err = runtime.NewResponseError(resp)
	}
	return resp, err
}

// errorBody is the part of Entra's error JSON that decides (RFC 6749, section 5.2,
// and Microsoft's error_codes; error_description is prose that changes and contains
// trace IDs). That of IMDS has a description alone, in which its cases differ; it is
// searched, but never shown.
type errorBody struct {
	Error       string `json:"error"`
	ErrorCodes  []int  `json:"error_codes"`
	Description string `json:"error_description"`
}

// readError reads the body of a response; what is not JSON leaves it empty.
func readError(resp *http.Response) (e errorBody, ok bool) {
	body, err := runtime.Payload(resp)
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	return e, err == nil
}

// classify reports what an attempt shows of Entra. A response that is no JSON, or an error that
// is not Entra's, comes from something in between.
func classify(resp *http.Response, err error) throttle.Result {
	if err != nil {
		return classifyError(err)
	}
	r := throttle.Classify(resp, nil)
	body, ok := readError(resp)
	switch {
	case slices.Contains(body.ErrorCodes, 50196): // meant for this client alone, and made longer by what it sends
		return throttle.Result{Outcome: throttle.OK}
	case r.Outcome != throttle.OK:
	case resp.StatusCode == http.StatusRequestTimeout, slices.Contains(body.ErrorCodes, 90033), slices.Contains(body.ErrorCodes, 90055):
		r.Outcome = throttle.Unavailable
	case !ok, resp.StatusCode != http.StatusOK && len(body.ErrorCodes) == 0 && !oauthError(body.Error):
		r.Outcome = throttle.Unknown
	}
	return r
}

// classifyIMDS reports what an attempt shows of the node's instance metadata service. Microsoft
// asks for a retry after a 404 and a 410 too: the service is being updated.
func classifyIMDS(resp *http.Response, err error) throttle.Result {
	if err != nil {
		return classifyError(err)
	}
	r := throttle.Classify(resp, nil)
	switch resp.StatusCode {
	case http.StatusOK:
		if _, ok := readError(resp); !ok {
			r.Outcome = throttle.Unknown
		}
	case http.StatusNotFound:
		r.Retry = true
	case http.StatusGone:
		r.Outcome, r.RetryAfter = throttle.Unavailable, throttle.RetryAfter(resp.Header)
	}
	return r
}

// classifyError is for requests that were not answered. azcore marks an error as final if
// the body of a response to a POST was cut off; to ask for a token once more does no harm.
func classifyError(err error) throttle.Result {
	if _, network := errors.AsType[*fault.Error](err); network && !transport.IsPermanent(err) || errors.Is(err, context.DeadlineExceeded) {
		return throttle.Result{Outcome: throttle.Unavailable}
	}
	return throttle.Result{Outcome: throttle.Unknown}
}
