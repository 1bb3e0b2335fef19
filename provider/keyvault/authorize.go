package keyvault

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

type callerKey struct{}

// withCaller returns the context of requests for the caller. The SDK's clients have no other
// parameter in which its token and its API version could travel.
func withCaller(ctx context.Context, caller Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

func callerOf(ctx context.Context) Caller {
	caller, _ := ctx.Value(callerKey{}).(Caller)
	return caller
}

// authorize is a policy that puts the caller's own token on each request. One client serves all
// callers of a vault, and the SDK's bearer-token policy would cache the token of the first of
// them, so that policy never gets one. It runs before this one, knows no scope, and sends the
// request on without a token.
//
// A 401 must not get back to that policy: it would take scope and tenant from the challenge,
// remember them, and call its credential for every request from then on, so that one pod with a
// wrong tenant would break the vault for the whole node. So the 401 ends here, as an error that
// is not retried.
type authorize struct {
	host string // the vault's
}

func (a authorize) Do(req *policy.Request) (*http.Response, error) {
	token := callerOf(req.Raw().Context()).Token
	if token == "" {
		return nil, errNoToken
	}
	// The SDK follows the link to a list's next page, wherever it leads.
	if u := req.Raw().URL; u.Scheme != "https" || !strings.EqualFold(u.Hostname(), a.host) || u.Port() != "" && u.Port() != "443" {
		return nil, errElsewhere
	}
	req.Raw().Header.Set("Authorization", "Bearer "+string(token))
	resp, err := req.Next()
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	body, err := runtime.Payload(resp)
	if err != nil {
		return nil, err
	}
	return nil, newUnauthorized(resp.Header, body)
}

// unauthorized carries a 401 past the SDK's bearer-token policy. It is immutable: callers that
// share a read share it.
type unauthorized struct {
	answer     string // see transport.Describe
	challenge  string
	body       errorBody
	ids        fault.RequestIDs
	unknownKey bool // the vault does not know the key that signed the token
}

func newUnauthorized(h http.Header, body []byte) *unauthorized {
	return &unauthorized{answer: transport.Describe(http.StatusUnauthorized, h), challenge: h.Get("WWW-Authenticate"), body: readError(body), ids: transport.RequestIDs(h),
		unknownKey: bytes.Contains(body, []byte("AKV10046"))}
}

func (*unauthorized) Error() string { return "401 Unauthorized" }

// NonRetriable implements azcore's mark of errors that are not retried. The throttle does not
// use it for a 401; see classify.
func (*unauthorized) NonRetriable() {}

// bug is an error in our code, which no response of a vault can cause.
type bug struct{ error }

// NonRetriable implements azcore's mark: the error shows nothing about the service.
func (bug) NonRetriable() {}

// foreign is the error of an answer that no vault returns.
type foreign struct{ error }

// NonRetriable implements azcore's mark.
func (foreign) NonRetriable() {}

var (
	errNoToken    = bug{errors.New("a request to Key Vault without a token")}
	errForeign    = foreign{errors.New("an answer for something else")}
	errElsewhere  = foreign{errors.New("the next page of a list is not at the vault")}
	errTooMany    = foreign{errors.New("a list without an end")}
	errNotIssued  = errors.New("a certificate that is not issued")
	errCredential = bug{errors.New("the SDK requested its own token")}
)

// refuseToSignIn is the credential of the shared clients, which must not be called.
type refuseToSignIn struct{}

func (refuseToSignIn) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, errCredential
}
