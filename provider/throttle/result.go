package throttle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// Outcome is what an attempt shows about the service.
type Outcome int

// The outcomes.
const (
	OK          Outcome = iota // it answered
	Throttled                  // it answered that it limits requests: 429, or 503 with Retry-After
	Unavailable                // it gave no answer, or a 408 or 5xx
	Unknown                    // nothing: the caller left, or the answer is not the service's
)

// Result is the result of an attempt.
type Result struct {
	Outcome Outcome
	// RetryAfter is the pause that the service requested; 0 if it requested none.
	RetryAfter time.Duration
	// Retry says that another attempt may succeed. Throttled and Unavailable imply it.
	Retry bool
}

func (r Result) again() bool {
	return r.Retry || r.Outcome == Throttled || r.Outcome == Unavailable
}

// Classify is the result of an attempt by its status alone, or by its error: one that
// implements azcore's NonRetriable shows nothing about the service, nor does a cancellation,
// which is the caller's. Any other error, a timeout among them, means that the service did not
// answer.
func Classify(resp *http.Response, err error) Result {
	var final interface{ NonRetriable() }
	switch {
	case errors.Is(err, context.Canceled), errors.As(err, &final):
		return Result{Outcome: Unknown}
	case err != nil:
		return Result{Outcome: Unavailable}
	}
	after := RetryAfter(resp.Header)
	switch status := resp.StatusCode; {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable && after > 0:
		return Result{Outcome: Throttled, RetryAfter: after}
	case status == http.StatusRequestTimeout, status >= http.StatusInternalServerError && status != http.StatusNotImplemented:
		return Result{Outcome: Unavailable}
	}
	return Result{Outcome: OK}
}

// RetryAfter reads the pause that a server requests (RFC 9110, section 10.2.3), at most an hour;
// 0 if it requests none.
func RetryAfter(h http.Header) time.Duration {
	const most = time.Hour
	text := h.Get("Retry-After")
	seconds, err := strconv.ParseUint(text, 10, 32)
	if err == nil || errors.Is(err, strconv.ErrRange) { // which makes it the largest number
		return min(time.Duration(seconds)*time.Second, most)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return max(0, min(time.Until(at), most))
}

// answer is the response of one attempt, or its error. Other requests get a copy of it, which is
// immutable.
type answer struct {
	resp *http.Response
	err  error
	body []byte // of resp; not nil only in a copy
}

// maxCopied bounds the body of a copy. Error bodies of Azure are below 2 KiB.
const maxCopied = 16 << 10

// copied returns the answer for other requests. It refers to nothing of the request that it
// answered, and never contains the body of a success, which may be a secret.
func (a *answer) copied() *answer {
	if a == nil || a.resp == nil {
		return a
	}
	if a.resp.StatusCode < http.StatusBadRequest {
		return &answer{err: fmt.Errorf("the service is unavailable, although it answers %d", a.resp.StatusCode)}
	}
	body, err := runtime.Payload(a.resp)
	if err != nil {
		return &answer{err: err}
	}
	return &answer{
		resp: &http.Response{
			Status: a.resp.Status, StatusCode: a.resp.StatusCode,
			Proto: a.resp.Proto, ProtoMajor: a.resp.ProtoMajor, ProtoMinor: a.resp.ProtoMinor,
			Header: a.resp.Header.Clone(),
		},
		body: append([]byte{}, body[:min(len(body), maxCopied)]...),
	}
}

// to returns the answer as the result of the request's policy.
func (a *answer) to(req *policy.Request) (*http.Response, error) {
	if a.body == nil {
		return a.resp, a.err
	}
	return a.response(req.Raw()), nil
}

// response makes a response of a copy, with its own body.
func (a *answer) response(req *http.Request) *http.Response {
	resp := *a.resp
	resp.Header = resp.Header.Clone()
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(a.body)), int64(len(a.body))
	resp.Request = req
	return &resp
}

// failure returns the answer as the error that the SDK's clients would return for the request.
func (a *answer) failure(req *http.Request) error {
	if a.body == nil {
		a = a.copied()
	}
	if a.err != nil {
		return a.err
	}
	return runtime.NewResponseError(a.response(req))
}
