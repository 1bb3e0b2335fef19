package entra

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"akv-csi-provider/provider/gate"
	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// The reasons of this package's errors.
const (
	ReasonFederatedCredentialMissing = "FederatedCredentialMissing"
	ReasonApplicationNotFound        = "ApplicationNotFound"
	ReasonTenantNotFound             = "TenantNotFound"
	ReasonTokenExpired               = "TokenExpired"
	ReasonTokenInvalid               = "TokenInvalid"
	ReasonIssuerUnreachable          = "IssuerUnreachable"
	ReasonClientSecretInvalid        = "ClientSecretInvalid"
	ReasonClientSecretExpired        = "ClientSecretExpired"
	ReasonManagedIdentityUnavailable = "ManagedIdentityUnavailable"
	ReasonSignInFailed               = "SignInFailed"
	ReasonThrottled                  = "Throttled"
	ReasonServiceUnavailable         = transport.ReasonServiceUnavailable

	ReasonServiceAccountLookupForbidden = "ServiceAccountLookupForbidden"
)

// Error says why Entra refused a sign-in and what to mend. Its text is one line.
type Error struct {
	// Code is the AADSTS number of the refusal; 0 if Entra gave none.
	Code   int
	reason string
	cause  string
	fix    string
	// verdict is what it tells of the service.
	verdict gate.Verdict
}

// Error implements error.
func (e *Error) Error() string { return e.cause + "; " + e.fix }

// Reason is the stable word users search for.
func (e *Error) Reason() string { return e.reason }

// refusal is the part of Entra's error JSON that decides (RFC 6749, section 5.2,
// and Microsoft's error_codes; error_description is prose that changes and holds
// trace IDs).
type refusal struct {
	Error      string `json:"error"`
	ErrorCodes []int  `json:"error_codes"`
}

// explain turns an error of azidentity into ours. Its text is never used: MSAL
// quotes whole responses, which may hold a token.
func explain(ctx context.Context, err error, record *transport.Record, s signIn) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	var failed *azidentity.AuthenticationFailedError
	if errors.As(err, &failed) && failed.RawResponse != nil {
		return refused(failed.RawResponse, s)
	}
	var network *transport.Error
	if errors.As(record.Err, &network) {
		switch {
		case network.Reason() == transport.ReasonHostNotFound:
			return &Error{reason: ReasonServiceUnavailable, cause: network.Cause, fix: network.Fix, verdict: notTheService}
		case network.Reason() == transport.ReasonTLSUntrusted && s.Mode == IdentityBinding:
			return unreachable(network, "check --token-proxy-url and --sni-name, and that the cluster has identity bindings")
		}
	}
	if record.Err != nil {
		return record.Err
	}
	if ctx.Err() != nil {
		return transport.Timeout(s.host(), transport.PhaseSignIn)
	}
	return &Error{reason: ReasonServiceUnavailable, verdict: notTheService,
		cause: s.host() + " sent something that is not an answer of Entra",
		fix:   s.whatAnswers()}
}

// inTime tells of a caller's own deadline as Exchange does: what waits for others knows
// no more than that it has passed.
func inTime(err error, host string) error {
	var network *transport.Error
	if errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &network) {
		return transport.Timeout(host, transport.PhaseSignIn)
	}
	return err
}

// whatAnswers says where to look when something else than Entra answers.
func (s signIn) whatAnswers() string {
	if s.Mode == IdentityBinding {
		return "check --token-proxy-url and --sni-name, and that the cluster has identity bindings"
	}
	return "check cloudName, and proxies on the way"
}

func refused(resp *http.Response, s signIn) error {
	var r refusal
	if body, err := runtime.Payload(resp); err == nil {
		_ = json.Unmarshal(body, &r) // an HTML page leaves it empty, which is handled below
	}
	for _, code := range r.ErrorCodes {
		if explainCode, known := s.known(code); known {
			s.code = code
			e := explainCode(s)
			e.Code, e.verdict = code, verdictOf(resp, code)
			return e
		}
	}
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		e := throttled(s)
		e.verdict = verdictOf(resp, 0)
		return e
	case resp.StatusCode >= http.StatusInternalServerError, resp.StatusCode == http.StatusRequestTimeout:
		return &Error{reason: ReasonServiceUnavailable, verdict: verdictOf(resp, 0),
			cause: fmt.Sprintf("%s answers %s", s.host(), status(resp.StatusCode)),
			fix:   "it is tried again with the next mount; check the Azure status page if it stays"}
	}
	e := &Error{reason: ReasonSignInFailed}
	forbidden := resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden
	switch {
	case len(r.ErrorCodes) > 0:
		e.Code = r.ErrorCodes[0]
		e.cause = fmt.Sprintf("Entra refuses the sign-in of %s with AADSTS%d", s, e.Code)
		e.fix = fmt.Sprintf("see https://login.microsoftonline.com/error?code=%d", e.Code)
	case oauthError(r.Error):
		e.cause = fmt.Sprintf("%s refuses the sign-in of %s: %s", s.host(), s, r.Error)
		e.fix = "check the registration of the client there"
	case forbidden && s.Mode == IdentityBinding:
		return bindingMissing(s, status(resp.StatusCode))
	default:
		e.reason, e.verdict = ReasonServiceUnavailable, notTheService
		e.cause = fmt.Sprintf("%s sent %s, which is not an answer of Entra", s.host(), status(resp.StatusCode))
		e.fix = s.whatAnswers()
	}
	return e
}

// status is a code with its standard phrase, if there is one.
func status(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

// oauthError reports whether the text is an OAuth error code, a short word of
// lower-case letters and underscores, and so safe to show.
func oauthError(text string) bool {
	for _, r := range text {
		if (r < 'a' || r > 'z') && r != '_' {
			return false
		}
	}
	return text != "" && len(text) <= 40
}
