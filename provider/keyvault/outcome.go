package keyvault

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"akv-csi-provider/provider/gate"
	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// refusal is an answer of a vault that is no object. It is immutable: those who share
// a read share it.
type refusal struct {
	status int
	rest   time.Duration // Retry-After; 0 without
	answer answer
}

func (r *refusal) Error() string { return "status " + strconv.Itoa(r.status) }

// classify reduces an error of the SDK to what several callers may look at: a response
// can be read once only.
func classify(err error) error {
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		return err
	}
	r := &refusal{status: response.StatusCode}
	if response.RawResponse != nil {
		r.rest = gate.RetryAfter(response.RawResponse.Header)
		if body, err := runtime.Payload(response.RawResponse); err == nil {
			_ = json.Unmarshal(body, &r.answer) // an HTML page leaves it empty
		}
	}
	return r
}

// judge says what a classified error tells of the vault.
func judge(err error) gate.Verdict {
	var (
		refused   *refusal
		rejected  *unauthorized
		network   *transport.Error
		permanent interface{ NonRetriable() }
	)
	switch {
	case errors.As(err, &refused):
		switch {
		case refused.status == http.StatusTooManyRequests, refused.status == http.StatusServiceUnavailable && refused.rest > 0:
			return gate.Verdict{News: gate.Busy, Rest: refused.rest}
		case refused.status >= http.StatusInternalServerError && refused.status != http.StatusNotImplemented:
			return gate.Verdict{News: gate.Away}
		}
		return gate.Verdict{News: gate.Alive}
	case errors.As(err, &rejected):
		// The vault may not have read Entra's newest signing keys yet; the same token is
		// good seconds later.
		return gate.Verdict{News: gate.Alive, Again: rejected.unknownKey}
	case errors.As(err, &permanent), errors.As(err, new(bug)):
		return gate.Verdict{News: gate.None}
	case errors.As(err, &network):
		return gate.Verdict{News: gate.Away}
	case errors.Is(err, context.DeadlineExceeded):
		return gate.Verdict{News: gate.Away} // one try's time
	case errors.Is(err, context.Canceled):
		return gate.Verdict{News: gate.None}
	}
	return gate.Verdict{News: gate.Alive}
}

// isAway reports whether the error is that of a vault that is away or throttles.
func isAway(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.reason {
	case ReasonThrottled, ReasonServiceUnavailable, transport.ReasonTimeout:
		return true
	}
	return false
}

// isFinal reports whether the error says that what was read before is over.
func isFinal(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.reason {
	case ReasonAccessDenied, ReasonVaultFirewall, ReasonWrongTenant, ReasonTokenRejected,
		ReasonObjectNotFound, ReasonObjectDisabled, ReasonVaultNotFound:
		return true
	}
	return false
}
