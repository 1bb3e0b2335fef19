// Package entra signs in to Microsoft Entra ID: it exchanges the credential that came with a
// mount for an access token, and says what must be fixed when Entra refuses. It exists beside
// azidentity since azidentity's credentials serve one process with one identity: their caches
// must not be shared by pods, and their errors are text for developers.
package entra

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/throttle"
	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/tracing"
	lru "github.com/hashicorp/golang-lru/v2"
)

// Audience is the audience of service-account tokens that can be exchanged at Entra (Microsoft
// Entra workload identity federation). Clouds have their own, beside which they accept this one.
const Audience = "api://AzureADTokenExchange"

// BindingAudience is the audience of service-account tokens that can be exchanged at the token
// proxy of an AKS cluster (AKS identity binding).
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
	// ClientID is "" for the node's system-assigned identity. For another managed identity it
	// can be its ARM resource ID instead.
	ClientID     string
	ClientIDFrom string // where it was set, for messages

	// ServiceAccount is the subject that the pod's own token has, as kubelet names
	// the pod's service account; "" if it does not.
	ServiceAccount string
	// Assertion is the pod's service-account token, and Audience its audience: that of the cloud
	// for WorkloadIdentity, [BindingAudience] for IdentityBinding.
	Assertion request.Secret
	Audience  string
	// ClientSecret is the password of a ServicePrincipal. If it is "", ClientCertificate is its
	// certificate with its private key: PEM, or a PFX in
	// base64.
	ClientSecret      request.Secret
	ClientCertificate request.Secret
}

// Token is an access token. Only the caller that signed in may use it.
type Token struct {
	Value     request.Secret
	ExpiresOn time.Time
}

// Config is what an Exchange is made of.
type Config struct {
	// Transport sends the requests to Entra; required. Its errors should be those of
	// transport.Client.
	Transport policy.Transporter
	// IMDS sends the requests to the node's instance metadata service. It must not use a
	// proxy: the tokens in the responses are in clear text. Required for ManagedIdentity only.
	IMDS policy.Transporter
	// Proxy is the cluster's token proxy. Required for IdentityBinding only.
	Proxy *TokenProxy
	// Tracing traces the sign-ins; its zero value traces none.
	Tracing tracing.Provider
	// KnownAuthority reports whether the endpoints of an authority are published, and need
	// not be discovered; nil for none.
	KnownAuthority func(authority string) bool
	// ClusterToken returns a service-account token that this cluster has issued, "" if there is
	// none to be had. It says which issuer a message may name; nil for none.
	ClusterToken func() string
	// Throttle is that of each tenant of an authority, and of the instance metadata service;
	// its Max is required, its Classify is set here.
	Throttle throttle.Config
	// Processors bounds the client certificates that are parsed at a time; nil is no bound.
	Processors *fair.Semaphore
}

// Exchange signs callers in. It caches no token, so that nothing of one caller can reach
// another; [Cache] does. It is safe for concurrent use.
type Exchange struct {
	cfg      Config
	metadata *metadataCache

	mu        sync.Mutex                             // for making a throttle once
	throttles *lru.Cache[string, *throttle.Throttle] // of tenants
	clients   *lru.Cache[string, *throttle.Throttle]
}

const (
	// maxThrottles is high, since a throttle is small: a caller that names many tenants must
	// not make the node forget that one of them throttles.
	maxThrottles = 4096
	// maxIMDSRequests is what the service takes at a time ("How to use managed identities on
	// a VM").
	maxIMDSRequests = 5
)

// NewExchange makes an Exchange.
func NewExchange(cfg Config) (*Exchange, error) {
	if cfg.Transport == nil || cfg.Throttle.Max < 1 {
		return nil, errors.New("entra: a transport and a positive concurrency are required")
	}
	x := &Exchange{cfg: cfg, metadata: newMetadataCache()}
	var errs [2]error
	x.throttles, errs[0] = lru.New[string, *throttle.Throttle](maxThrottles)
	x.clients, errs[1] = lru.New[string, *throttle.Throttle](maxThrottles)
	return x, errors.Join(errs[:]...)
}

// signIn is one sign-in: all that its errors depend on.
type signIn struct {
	Identity
	scope    string
	endpoint string // host name of Entra, or of what stands in for it
	code     int    // AADSTS number, 0 without one
	answer   string // what the latest response is, see transport.Describe
	custom   bool   // the authority is none of those that Microsoft publishes

	clusterToken func() string // see Config
}

// Token signs in and returns a token for the scope. Its error is a *fault.Error or the
// context's own; any other is a bug. The context should have a deadline: without one, MSAL
// gives each request 30 s, its wait in the throttle included.
func (x *Exchange) Token(ctx context.Context, id Identity, scope string) (Token, error) {
	s := signIn{
		Identity: id, scope: scope, endpoint: x.Host(id), clusterToken: x.cfg.ClusterToken,
		custom: x.cfg.KnownAuthority != nil && !x.cfg.KnownAuthority(id.Authority),
	}
	recorder := new(errorRecorder)
	credential, err := x.credential(ctx, s, recorder)
	if err != nil {
		return Token{}, err
	}
	options := policy.TokenRequestOptions{Scopes: []string{scope}}
	if id.Mode == ManagedIdentity {
		options.Claims = bypassCache
	}
	token, err := credential.GetToken(throttle.WithExplain(ctx, s.explain), options)
	switch {
	case err != nil && errors.Is(ctx.Err(), context.Canceled):
		return Token{}, ctx.Err()
	case err != nil, token.Token == "": // which MSAL takes from IMDS
		s.answer = recorder.answer
		return Token{}, s.explain(errors.Join(ctx.Err(), recorder.err))
	}
	return Token{Value: request.Secret(token.Token), ExpiresOn: token.ExpiresOn}, nil
}

// errorRecorder is a policy that records how the latest request of one sign-in failed. MSAL
// flattens errors to text, so Token explains this one and ignores GetToken's. It is for one
// goroutine.
type errorRecorder struct {
	err    error
	answer string // see transport.Describe; "" without a response
}

// Do implements policy.Policy.
func (r *errorRecorder) Do(req *policy.Request) (*http.Response, error) {
	resp, err := req.Next()
	if r.answer = ""; err == nil {
		r.answer = transport.Describe(resp.StatusCode, resp.Header)
	}
	if r.err = err; err == nil && !runtime.HasStatusCode(resp, http.StatusOK, http.StatusCreated) { // which MSAL accepts
		r.err = runtime.NewResponseError(resp)
	}
	if err == nil && r.err == nil {
		// MSAL panics on this one JSON value.
		if body, failed := runtime.Payload(resp); failed == nil && string(bytes.TrimSpace(body)) == "null" {
			return nil, errNull
		}
	}
	return resp, err
}

var errNull = errors.New("the answer is null")

// options are those of an SDK client for one sign-in. Its requests pass the recorder, the
// policies, the retries of refusals, the throttles, and then the transport.
func (x *Exchange) options(s signIn, recorder *errorRecorder, next policy.Transporter, policies ...policy.Policy) azcore.ClientOptions {
	return azcore.ClientOptions{
		Cloud:           cloud.Configuration{ActiveDirectoryAuthorityHost: s.Authority},
		Transport:       next,
		TracingProvider: x.cfg.Tracing,
		Retry:           policy.RetryOptions{MaxRetries: -1}, // the throttle retries
		PerCallPolicies: slices.Concat([]policy.Policy{recorder}, policies,
			[]policy.Policy{retryRefusals{s, refusalPauses[:min(len(refusalPauses), x.cfg.Throttle.Retries)]}}, x.throttlesOf(s)),
	}
}

// throttlesOf returns the throttles that a sign-in passes. Each tenant has its own: Entra limits
// each tenant, and a throttled one must not delay sign-ins to the others. In front of it stands
// the client's own, for the limit of a client, which must not delay the other clients. That
// one does not bound the requests under way, since they wait for a place of the tenant's.
func (x *Exchange) throttlesOf(s signIn) []policy.Policy {
	if s.Mode == ManagedIdentity {
		return []policy.Policy{x.throttle(s)}
	}
	cfg := x.cfg.Throttle
	cfg.Max, cfg.Classify = math.MaxInt32, classifyClient
	cfg.Service = throttle.Service{Host: s.endpoint, TenantID: s.TenantID, ClientID: s.ClientID}
	return []policy.Policy{x.cached(x.clients, tenantKey(s)+"\n"+strings.ToLower(s.ClientID), cfg), x.throttle(s)}
}

// throttle returns the throttle of the sign-in's tenant, or of the instance metadata service.
func (x *Exchange) throttle(s signIn) *throttle.Throttle {
	cfg := x.cfg.Throttle
	cfg.Classify = classify
	cfg.Service = throttle.Service{Host: s.endpoint, TenantID: s.TenantID}
	if s.Mode == ManagedIdentity {
		cfg.Classify = classifyIMDS
		cfg.Max = min(cfg.Max, maxIMDSRequests)
	}
	return x.cached(x.throttles, tenantKey(s), cfg)
}

func tenantKey(s signIn) string { return s.endpoint + "\n" + strings.ToLower(s.TenantID) }

// cached returns the throttle of that key, and makes it when needed.
func (x *Exchange) cached(all *lru.Cache[string, *throttle.Throttle], key string, cfg throttle.Config) *throttle.Throttle {
	x.mu.Lock()
	defer x.mu.Unlock()
	t, ok := all.Get(key)
	if !ok {
		t = throttle.New(cfg)
		all.Add(key, t)
	}
	return t
}

// Host is where the identity signs in.
func (x *Exchange) Host(id Identity) string {
	switch {
	case id.Mode == ManagedIdentity:
		return imdsHost
	case id.Mode == IdentityBinding && x.cfg.Proxy != nil && x.cfg.Proxy.url != nil:
		return x.cfg.Proxy.url.Hostname()
	}
	return strings.TrimPrefix(id.Authority, "https://")
}

// String names the identity in messages; it never contains the credential.
func (id Identity) String() string {
	switch {
	case id.Mode != ManagedIdentity:
		return fmt.Sprintf("client %q in tenant %q", id.ClientID, id.TenantID)
	case id.ClientID == "":
		return "the node's system-assigned identity"
	}
	return fmt.Sprintf("the node's user-assigned identity with %s", id.named())
}

// named names a user-assigned identity by the ID that was set.
func (id Identity) named() string {
	if isResourceID(id.ClientID) {
		return fmt.Sprintf("resource ID %q", id.ClientID)
	}
	return fmt.Sprintf("client ID %q", id.ClientID)
}

// isResourceID reports whether the ID of a managed identity is that of its ARM resource.
func isResourceID(id string) bool { return strings.HasPrefix(id, "/") }
