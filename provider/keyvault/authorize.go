package keyvault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"akv-csi-provider/provider/request"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

type tokenKey struct{}

// withToken returns the context of requests with that token. The SDK's clients have no
// other parameter in which it could travel.
func withToken(ctx context.Context, token request.Secret) context.Context {
	return context.WithValue(ctx, tokenKey{}, token)
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
	token, _ := req.Raw().Context().Value(tokenKey{}).(request.Secret)
	if token == "" {
		return nil, errNoToken
	}
	// The SDK goes where a list says that its next page is.
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

// unauthorized carries a 401 past the SDK's bearer-token policy. It is immutable: those
// who share a read share it.
type unauthorized struct {
	challenge  string
	body       errorBody
	unknownKey bool // the vault does not know the key that signed the token
}

func newUnauthorized(h http.Header, body []byte) *unauthorized {
	u := &unauthorized{challenge: h.Get("WWW-Authenticate"), unknownKey: bytes.Contains(body, []byte("AKV10046"))}
	_ = json.Unmarshal(body, &u.body) // an HTML page leaves it empty
	return u
}

func (*unauthorized) Error() string { return "401 Unauthorized" }

// NonRetriable marks the error in azcore's way; the throttle decides by itself.
func (*unauthorized) NonRetriable() {}

// bug is an error that no state of a vault can cause.
type bug struct{ error }

// NonRetriable marks the error in azcore's way: it says nothing of the service.
func (bug) NonRetriable() {}

// foreign is an error of an answer that no vault gives.
type foreign struct{ error }

// NonRetriable marks the error in azcore's way.
func (foreign) NonRetriable() {}

var (
	errNoToken   = bug{errors.New("a request to Key Vault without a token")}
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
