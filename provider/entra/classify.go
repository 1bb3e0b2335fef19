package entra

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/throttle"
	"akv-csi-provider/provider/transport"
)

// classify says what an attempt shows about a tenant at Entra. A 429 without the number of a
// tenant's limit is for the client alone; see classifyClient. A response that is not JSON, or an error that
// is not Entra's, comes from something in between, such as a proxy.
func classify(resp *http.Response, err error) throttle.Result {
	if err != nil {
		return classifyError(err)
	}
	r := throttle.Classify(resp, nil)
	body, ok := readError(resp)
	switch {
	case slices.Contains(body.ErrorCodes, 50196), limitsClient(resp, body):
		return throttle.Result{Outcome: throttle.OK}
	case r.Outcome != throttle.OK:
	case resp.StatusCode == http.StatusRequestTimeout, limitsTenant(body):
		r.Outcome = throttle.Unavailable
	case !ok, resp.StatusCode != http.StatusOK && len(body.ErrorCodes) == 0 && !oauthError(body.Error):
		r.Outcome = throttle.Unknown
	}
	return r
}

// classifyClient says what the result of the tenant's throttle shows about one client. A request
// in a loop (50196) is not retried, which would extend it.
func classifyClient(resp *http.Response, err error) throttle.Result {
	if err != nil {
		return throttle.Result{Outcome: throttle.Unknown}
	}
	body, _ := readError(resp)
	switch {
	case limitsClient(resp, body):
		return throttle.Classify(resp, nil)
	case resp.StatusCode == http.StatusOK:
		return throttle.Result{Outcome: throttle.OK}
	}
	return throttle.Result{Outcome: throttle.Unknown}
}

// limitsClient reports whether a response throttles one client. That several clients
// get one says nothing about the tenant: all of them may be one pod's.
func limitsClient(resp *http.Response, body errorBody) bool {
	return resp.StatusCode == http.StatusTooManyRequests &&
		!slices.Contains(body.ErrorCodes, 50196) && !limitsTenant(body)
}

// limitsTenant reports whether a response throttles the whole tenant.
func limitsTenant(body errorBody) bool {
	return slices.ContainsFunc(body.codes(), func(code int) bool { return code == 90033 || code == 90055 })
}

// classifyIMDS says what an attempt shows about the node's instance metadata service. Microsoft
// requires a retry after a 404 and a 410 too: the service is being updated.
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
	case http.StatusBadRequest:
		if body, _ := readError(resp); limitsTenant(body) { // IMDS passes on what Entra answers
			r.Outcome = throttle.Unavailable
		}
	}
	return r
}

// classifyError is for requests that were not answered. azcore marks an error as final if
// the body of a response to a POST was cut off; another request for a token does no harm.
func classifyError(err error) throttle.Result {
	if _, network := errors.AsType[*fault.Error](err); network && !transport.IsPermanent(err) || errors.Is(err, context.DeadlineExceeded) {
		return throttle.Result{Outcome: throttle.Unavailable}
	}
	return throttle.Result{Outcome: throttle.Unknown}
}
