// Package entra signs in to Microsoft Entra ID: it exchanges the credential that
// came with a mount for an access token, and says what must be mended when Entra
// refuses.
package entra

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"akv-csi-provider/provider/request"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// Audience is what a service-account token must be made for to be exchanged
// (Microsoft Entra workload identity federation).
const Audience = "api://AzureADTokenExchange"

// BindingAudience is what a service-account token must be made for to be exchanged
// at the token proxy of an AKS cluster (AKS identity binding).
const BindingAudience = "api://AKSIdentityBinding"

// Mode is a kind of identity. Its text is the one of the flag --identity-modes.
type Mode string

// The kinds of identity.
const (
	WorkloadIdentity Mode = "workload-identity"
	ServicePrincipal Mode = "service-principal"
	ManagedIdentity  Mode = "managed-identity"
	IdentityBinding  Mode = "identity-binding"
)

// Modes are all kinds of identity, in the order of the documentation.
var Modes = []Mode{WorkloadIdentity, ServicePrincipal, ManagedIdentity, IdentityBinding}

// Identity is one caller's identity with the credential that proves it.
type Identity struct {
	Mode         Mode
	Authority    string // of the cloud, such as https://login.microsoftonline.com; "" for ManagedIdentity
	TenantID     string // "" for ManagedIdentity
	TenantIDFrom string // where it was set, for messages
	ClientID     string // "" for the node's system-assigned identity
	ClientIDFrom string // where it was set, for messages

	// ServiceAccount is the subject that the pod's own token has, as kubelet names
	// the pod's service account; "" if it does not.
	ServiceAccount string
	// Assertion is the pod's service-account token: of audience [Audience] for
	// WorkloadIdentity, of [BindingAudience] for IdentityBinding.
	Assertion request.Secret
	// ClientSecret is the password of a ServicePrincipal.
	ClientSecret request.Secret
}

// Token is an access token. Only the caller that signed in may use it.
type Token struct {
	Value     request.Secret
	ExpiresOn time.Time
}

// Exchange signs callers in. It keeps no token between calls, so that nothing of
// one caller can reach another. It is safe for concurrent use.
type Exchange struct {
	// Transport sends the requests to Entra; required. Errors of it that are
	// *transport.Error reach the caller as they are.
	Transport policy.Transporter
	// Retry says how often and how soon a failed request is sent again.
	Retry policy.RetryOptions
	// Node sends the requests to the node's metadata endpoint. It must not use a proxy,
	// and what it is asked to do is in clear text. Required for ManagedIdentity only.
	Node policy.Transporter
	// Proxy is the cluster's token proxy. Required for IdentityBinding only.
	Proxy *TokenProxy
}

// Token signs in and returns a token for the scope. Its error is an *Error, a
// *transport.Error, or the context's own; any other is a bug.
func (x *Exchange) Token(ctx context.Context, id Identity, scope string) (Token, error) {
	switch id.Mode {
	case WorkloadIdentity:
		return x.workloadIdentity(ctx, id, scope)
	case ServicePrincipal:
		return x.servicePrincipal(ctx, id, scope)
	case ManagedIdentity:
		return x.managedIdentity(ctx, id, scope)
	case IdentityBinding:
		return x.identityBinding(ctx, id, scope)
	}
	return Token{}, fmt.Errorf("sign in: no identity mode %q", id.Mode)
}

func (x *Exchange) options(authority string, way policy.Transporter) azcore.ClientOptions {
	return azcore.ClientOptions{
		Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: authority},
		Transport: httpsOnly{way},
		Retry:     x.Retry,
	}
}

// httpsOnly refuses to send a credential in clear text, wherever an authority's
// metadata says that its token endpoint is.
type httpsOnly struct{ policy.Transporter }

func (h httpsOnly) Do(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" {
		return nil, unsent("the token endpoint is not https")
	}
	return h.Transporter.Do(req)
}

// unsent is why a request was not sent. Another try would not be either, which
// the method NonRetriable tells the retry policy of azcore.
type unsent string

func (u unsent) Error() string { return string(u) }

// NonRetriable is the mark.
func (unsent) NonRetriable() {}

// String names the identity in messages; it never holds the credential.
func (id Identity) String() string {
	switch {
	case id.Mode != ManagedIdentity:
		return fmt.Sprintf("client %q in tenant %q", id.ClientID, id.TenantID)
	case id.ClientID == "":
		return "the node's system-assigned identity"
	}
	return fmt.Sprintf("the node's user-assigned identity with client ID %q", id.ClientID)
}

// host is the authority's DNS name.
func (id Identity) host() string { return strings.TrimPrefix(id.Authority, "https://") }

func newToken(t azcore.AccessToken) Token {
	return Token{Value: request.Secret(t.Token), ExpiresOn: t.ExpiresOn}
}
