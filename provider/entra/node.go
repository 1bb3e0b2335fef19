package entra

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"akv-csi-provider/provider/gate"
	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// managedIdentity asks the node's metadata service (IMDS) for a token of the one
// identity that was chosen: the client ID if there is one, else the system-assigned
// identity. When that fails, no other is tried.
//
// There is no credential here: whoever reaches the endpoint gets the token. So the
// node's identity is the same for every caller that may use it, and who may is
// decided before (--identity-modes, --managed-identity-namespaces). For the same
// reason the token cache that MSAL keeps for the whole process, by client ID and
// resource, would leak nothing. It is passed by all the same, with claims, which
// MSAL documents to do that and does not send to IMDS: a caller whose token the
// vault rejects must be able to get another, and the one cache of tokens is the one
// around Exchange.
//
// azidentity looks at IDENTITY_ENDPOINT, IDENTITY_HEADER, MSI_ENDPOINT and their
// kin, and takes the provider for an App Service, an Arc server, a Service Fabric
// or a Cloud Shell when they are set. In a DaemonSet they come from nowhere but its
// manifest (Kubernetes' own variables for services are called otherwise), so that is
// a mistake or an attack, and nodeOnly refuses what leaves the node for it.
func (x *Exchange) managedIdentity(ctx context.Context, id Identity, scope string) (Token, error) {
	if x.Node == nil {
		return Token{}, errors.New("sign in: no way to the node's metadata endpoint")
	}
	s := signIn{Identity: id, scope: scope, via: nodeHost}
	way := &nodeOnly{next: x.Node}
	options := &azidentity.ManagedIdentityCredentialOptions{
		ClientOptions: azcore.ClientOptions{Transport: way, Retry: nodeRetry(x.retry()), TracingProvider: x.Tracing},
	}
	if id.ClientID != "" {
		options.ID = azidentity.ClientID(id.ClientID)
	}
	credential, err := azidentity.NewManagedIdentityCredential(options)
	if err != nil {
		return Token{}, notTheNode(s)
	}
	ctx, record := transport.WithRecord(ctx)
	return x.through(ctx, s, func(ctx context.Context) (Token, error) {
		token, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}, Claims: "{}"})
		if err != nil {
			return Token{}, explainNode(ctx, record, way, s)
		}
		return newToken(token), nil
	})
}

// nodeRetry bounds the tries, which azidentity lets take minutes. Microsoft asks to
// try again after a 404, a 410 (IMDS is being updated, for up to 70 s), a 429 and
// any 5xx; those of the 5xx that no second try mends are left out. What is still
// away after a few seconds is for the next mount.
func nodeRetry(o policy.RetryOptions) policy.RetryOptions {
	if o.MaxRetries == 0 {
		o.MaxRetries = 3
	}
	if o.RetryDelay == 0 {
		o.RetryDelay = 500 * time.Millisecond
	}
	if o.MaxRetryDelay == 0 {
		o.MaxRetryDelay = 5 * time.Second
	}
	if o.TryTimeout == 0 {
		o.TryTimeout = 10 * time.Second
	}
	o.StatusCodes = []int{
		http.StatusNotFound, http.StatusGone, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
	}
	return o
}

// nodeHost is where IMDS is on every Azure VM.
const nodeHost = "169.254.169.254"

// nodeOnly sends requests to the node itself only: IMDS speaks clear text, and its
// answers are tokens. It remembers how the last request was refused, since azidentity
// keeps that as text at best. It is for one sign-in.
type nodeOnly struct {
	next    policy.Transporter
	strayed bool         // a request would have left the node
	refusal *nodeRefusal // nil: none, or made good
}

// nodeRefusal is IMDS' error JSON. The description is prose: it is looked into, for
// IMDS has no other way to tell its cases apart, but never shown.
type nodeRefusal struct {
	status      int
	rest        time.Duration // Retry-After
	Error       string        `json:"error"`
	Description string        `json:"error_description"`
}

func (n *nodeOnly) Do(req *http.Request) (*http.Response, error) {
	if !onNode(req.URL) {
		n.strayed = true
		return nil, unsent("not an endpoint of the node")
	}
	n.refusal = nil
	resp, err := n.next.Do(req)
	if err != nil || resp.StatusCode == http.StatusOK {
		return resp, err
	}
	const most = 64 << 10 // IMDS' errors are a few hundred bytes
	body, err := io.ReadAll(io.LimitReader(resp.Body, most))
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	n.refusal = &nodeRefusal{status: resp.StatusCode, rest: gate.RetryAfter(resp.Header)}
	_ = json.Unmarshal(body, n.refusal) // what is not JSON leaves the status
	return resp, nil
}

// onNode reports whether a URL is one that clear text may go to: an address, not a
// name, that no router passes on.
func onNode(u *url.URL) bool {
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && u.Scheme == "http" && (ip.IsLoopback() || ip.IsLinkLocalUnicast())
}
