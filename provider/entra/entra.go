// Package entra signs in to Microsoft Entra ID: it exchanges the credential that
// came with a mount for an access token, and says what must be mended when Entra
// refuses.
package entra

import (
	"context"
	"fmt"
	"strings"
	"time"

	"akv-csi-provider/provider/gate"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/tracing"
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
// one caller can reach another; [Cache] does. It is safe for concurrent use, and must
// not be copied after its first.
type Exchange struct {
	// Transport sends the requests to Entra; required. Errors of it that are
	// *transport.Error reach the caller as they are.
	Transport policy.Transporter
	// Tracing traces the sign-ins; its zero value traces none.
	Tracing tracing.Provider
	// Retry says how often and how soon a failed request is sent again.
	Retry policy.RetryOptions
	// Node sends the requests to the node's metadata endpoint. It must not use a proxy,
	// and what it is asked to do is in clear text. Required for ManagedIdentity only.
	Node policy.Transporter
	// Proxy is the cluster's token proxy. Required for IdentityBinding only.
	Proxy *TokenProxy
	// Published reports of an authority whether its endpoints are published, and need
	// not be discovered; nil for none.
	Published func(authority string) bool
	// Gate is what the gates are made of that stand before each tenant of an authority
	// and before the node's metadata service; they try again in place of Retry. Without
	// Max there are none.
	Gate gate.Config

	gates     gates
	documents documents
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

// ask signs in with a credential that is made for this one caller, by way of a
// transporter whose documents are kept.
func (x *Exchange) ask(ctx context.Context, s signIn, next policy.Transporter, kept *documents, credential func(azcore.ClientOptions) (azcore.TokenCredential, error)) (Token, error) {
	ctx, record := transport.WithRecord(ctx)
	return x.through(ctx, s, func(ctx context.Context) (Token, error) {
		// Not before it is this one's turn: a credential takes 50 KB, and hundreds may wait.
		made, err := credential(azcore.ClientOptions{
			Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: s.Authority},
			Transport: way{next: next, documents: kept, record: record, host: s.host(), published: x.Published},
			Retry:     x.retry(),

			TracingProvider: x.Tracing,
		})
		if err != nil {
			return Token{}, notACredential()
		}
		token, err := made.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{s.scope}})
		if err != nil {
			return Token{}, explain(ctx, err, record, s)
		}
		return newToken(token), nil
	})
}

// notACredential is what azidentity's constructors complain about: a tenant that is
// no name or an authority that is no https URL. Their own words are not shown, since
// one of them gets the client secret.
func notACredential() error {
	return &Error{reason: ReasonSignInFailed, cause: "the tenant or the authority is not valid", fix: "check tenantID and cloudName"}
}

// retry is how often the SDK itself tries.
func (x *Exchange) retry() policy.RetryOptions {
	if x.Gate.Max > 0 {
		return policy.RetryOptions{MaxRetries: -1}
	}
	return x.Retry
}

// hostOf is where the identity signs in.
func (x *Exchange) hostOf(id Identity) string {
	switch {
	case id.Mode == ManagedIdentity:
		return nodeHost
	case id.Mode == IdentityBinding && x.Proxy != nil && x.Proxy.url != nil:
		return x.Proxy.url.Hostname()
	}
	return id.host()
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
