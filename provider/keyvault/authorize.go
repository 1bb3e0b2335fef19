package keyvault

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

type callerKey struct{}

func withCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// authorize puts the caller's own token on each request. One client serves all
// callers of a vault, and the SDK's bearer-token policy would keep the token it
// got for the first of them; so that policy is never given one. It runs before
// this one, finds no scope, and lets the request through bare.
//
// A 401 must not get back to that policy: it would take scope and tenant from
// the challenge, keep them, and ask its credential at every request from then
// on, so that one pod with a wrong tenant broke the vault for the whole node.
// Hence the 401 ends here, as an error that is not retried.
type authorize struct {
	host string // the vault's
}

func (a authorize) Do(req *policy.Request) (*http.Response, error) {
	caller, ok := req.Raw().Context().Value(callerKey{}).(Caller)
	if !ok || caller.Token == "" {
		return nil, errNoCaller
	}
	// The SDK goes where a list says that its next page is.
	if u := req.Raw().URL; u.Scheme != "https" || !strings.EqualFold(u.Hostname(), a.host) || u.Port() != "" && u.Port() != "443" {
		return nil, errElsewhere
	}
	req.Raw().Header.Set("Authorization", "Bearer "+string(caller.Token))
	resp, err := req.Next()
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	body, err := runtime.Payload(resp)
	if err != nil {
		return nil, err
	}
	return nil, &unauthorized{
		challenge: resp.Header.Get("WWW-Authenticate"), body: body,
		unknownKey: bytes.Contains(body, []byte("AKV10046")),
	}
}

// unauthorized carries a 401 past the SDK's bearer-token policy.
type unauthorized struct {
	challenge  string
	body       []byte
	unknownKey bool // the vault does not know the key that signed the token
}

func (*unauthorized) Error() string { return "401 Unauthorized" }

// NonRetriable marks the error for azcore's retry policy; the gate tries again.
func (*unauthorized) NonRetriable() {}

// bug is an error that no state of a vault can cause.
type bug struct{ error }

// NonRetriable marks the error for azcore's retry policy.
func (bug) NonRetriable() {}

// foreign is an error of an answer that no vault gives.
type foreign struct{ error }

// NonRetriable marks the error for azcore's retry policy.
func (foreign) NonRetriable() {}

var (
	errNoCaller  = bug{errors.New("a request to Key Vault without a caller")}
	errForeign   = foreign{errors.New("an answer for something else")}
	errElsewhere = foreign{errors.New("the next page of a list is not at the vault")}
	errTooMany   = foreign{errors.New("a list without an end")}
	errAsked     = bug{errors.New("the SDK asked for a token of its own")}
)

// refuseToSignIn is the credential of the shared clients.
type refuseToSignIn struct{}

func (refuseToSignIn) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, errAsked
}
