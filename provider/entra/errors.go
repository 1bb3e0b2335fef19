package entra

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// explain turns the error of a request into ours. Neither azidentity's nor MSAL's text is
// used: MSAL quotes whole responses, which may contain a token.
func (s signIn) explain(err error) error {
	refused, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok || refused.RawResponse == nil {
		return s.explained(err)
	}
	ids := transport.RequestIDs(refused.RawResponse.Header)
	if body, ok := readError(refused.RawResponse); ok {
		ids.Trace, ids.Correlation = body.TraceID, cmp.Or(body.CorrelationID, ids.Correlation)
	}
	return fault.WithIDs(s.explained(err), ids)
}

func (s signIn) explained(err error) error {
	var (
		refused *azcore.ResponseError
		network *fault.Error
	)
	switch {
	case errors.As(err, new(*fault.Panic)): // of a read of metadata that sign-ins share
		return err
	case errors.As(err, &refused) && s.Mode == ManagedIdentity:
		return s.refusedByIMDS(refused.RawResponse)
	case errors.As(err, &refused):
		return s.refused(refused.RawResponse)
	case errors.As(err, &network):
		return s.unanswered(network)
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return transport.Timeout(s.endpoint, transport.PhaseSignIn)
	case errors.Is(err, errNotOnNode):
		return notOnNode(s)
	case s.Mode == ManagedIdentity:
		return notAzure("it returned no token", "", nodesOnly)
	}
	return s.foreignAnswer(s.answer)
}

// foreignAnswer is the error of a response that is not from Entra, such as a proxy's page.
func (s signIn) foreignAnswer(answer string) *fault.Error {
	if answer != "" {
		answer = " (" + answer + ")"
	}
	return &fault.Error{Reason: fault.ServiceUnavailable,
		Cause: fmt.Sprintf("something other than Entra responded at %s%s", s.endpoint, answer),
		Fix:   s.whatAnswers()}
}

// unanswered adds the fix of this mode to an error of the network.
func (s signIn) unanswered(network *fault.Error) error {
	e := *network
	switch {
	case s.Mode == ManagedIdentity:
		e.Fix = "cluster operator: allow direct access (network policy, AKS IMDS restriction); only Azure nodes have this service"
	case s.Mode == IdentityBinding && e.Reason == fault.TLSUntrusted:
		e.Fix = s.whatAnswers()
	}
	return &e
}

// whatAnswers is the fix where something else than Entra answers.
func (s signIn) whatAnswers() string {
	if s.Mode == IdentityBinding {
		return "cluster operator: check --token-proxy-url and --sni-name, and that the cluster has identity bindings"
	}
	return "check cloudName; cluster operator: check proxies"
}

// errorBody is the part of Entra's error JSON that decides (RFC 6749, section 5.2,
// and Microsoft's error_codes; error_description is prose that changes and contains
// trace IDs). IMDS sends only a description, by which its cases are distinguished;
// it is searched, but never shown.
type errorBody struct {
	Error       string `json:"error"`
	ErrorCodes  []int  `json:"error_codes"`
	Description string `json:"error_description"`

	TraceID       string `json:"trace_id"`
	CorrelationID string `json:"correlation_id"`
}

// codes are the numbers of Entra. IMDS and token proxies pass Entra's description on, but not
// always the list.
func (e errorBody) codes() []int {
	if number := aadstsNumber(e.Description); len(e.ErrorCodes) == 0 && number != 0 {
		return []int{number}
	}
	return e.ErrorCodes
}

// unavailable reports whether a refusal without a number is one that may be over soon (RFC 6749,
// section 4.1.2.1).
func (e errorBody) unavailable() bool {
	return e.Error == "temporarily_unavailable" && len(e.codes()) == 0
}

// readError reads the body of a response. If it is not JSON, the result is empty.
func readError(resp *http.Response) (e errorBody, ok bool) {
	body, err := runtime.Payload(resp)
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	return e, err == nil
}

// refused explains a response of Entra that has no token.
func (s signIn) refused(resp *http.Response) error {
	body, _ := readError(resp) // an HTML page leaves it empty, which is handled below
	codes := body.codes()
	for _, code := range codes {
		if e := s.aadstsError(code); e != nil {
			return e
		}
	}
	e := &fault.Error{Reason: fault.SignInFailed}
	switch code := resp.StatusCode; {
	case code == http.StatusTooManyRequests:
		return s.fill(clientThrottled)
	case code >= http.StatusInternalServerError, code == http.StatusRequestTimeout:
		e.Reason = fault.ServiceUnavailable
		e.Cause = fmt.Sprintf("%s returned %s", s.endpoint, transport.Status(code))
		e.Fix = retries
	case body.unavailable():
		e.Reason = fault.ServiceUnavailable
		e.Cause = s.endpoint + " reports that it is temporarily unavailable"
		e.Fix = retries
	case body.Error == "invalid_resource": // of AD FS, which sends no numbers
		r := resourceNotFound
		r.cause = "{endpoint} does not know {resource}"
		return s.fill(r)
	case len(codes) > 0:
		e.AADSTS = codes[0]
		e.Cause = fmt.Sprintf("AADSTS%d: Entra rejected %s", e.AADSTS, s)
		e.Fix = fmt.Sprintf("see https://login.microsoftonline.com/error?code=%d; %s", e.AADSTS, checkLog)
	case oauthError(body.Error):
		e.Cause = fmt.Sprintf("%s rejected the sign-in of %s: %s", s.endpoint, s, body.Error)
		e.Fix = "check the client's registration there"
	case s.Mode == IdentityBinding && (code == http.StatusUnauthorized || code == http.StatusForbidden):
		return bindingMissing(s, transport.Status(code))
	default:
		return s.foreignAnswer(transport.Describe(resp.StatusCode, resp.Header))
	}
	return e
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
