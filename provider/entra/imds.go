package entra

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// imdsHost is where the instance metadata service (IMDS) is on every Azure VM.
const imdsHost = "169.254.169.254"

// bypassCache are claims with which MSAL does not use its cache of managed-identity tokens,
// as it documents, and which it does not send to IMDS. That cache is the whole process's: a
// caller whose token the vault rejects must be able to get another, and the one cache of
// tokens is [Cache].
const bypassCache = "{}"

// managedIdentityCredential gets a token from IMDS for exactly one identity: the one with the
// client or resource ID, or the system-assigned one if there is none. If that fails, no other is used.
//
// There is no credential here: any process that reaches the endpoint gets the token. So the
// node's identity is the same for every caller that may use it, and who may is decided before
// (--identity-modes, --managed-identity-namespaces).
//
// azidentity reads IDENTITY_ENDPOINT, IDENTITY_HEADER, MSI_ENDPOINT and their kin, and takes
// the provider for an App Service, an Arc server, a Service Fabric or a Cloud Shell where they
// are set. In a DaemonSet they come from nowhere but its manifest (Kubernetes' own variables
// for services have other names), so that is a mistake or an attack, and nodeOnly refuses what
// leaves the node for it.
func (s signIn) managedIdentityCredential(o azcore.ClientOptions) (azcore.TokenCredential, error) {
	options := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: o}
	if s.ClientID != "" {
		options.ID = azidentity.ClientID(s.ClientID)
		if isResourceID(s.ClientID) {
			options.ID = azidentity.ResourceID(s.ClientID)
		}
	}
	c, err := azidentity.NewManagedIdentityCredential(options)
	if err != nil {
		return nil, notOnNode(s)
	}
	return c, nil
}

// nodeOnly is a policy that sends requests to the node itself only: IMDS speaks clear text,
// and its responses are tokens.
type nodeOnly struct{}

var errNotOnNode = errors.New("not an endpoint of the node")

// Do implements policy.Policy.
func (nodeOnly) Do(req *policy.Request) (*http.Response, error) {
	if !onNode(req.Raw().URL) {
		return nil, errNotOnNode
	}
	return req.Next()
}

// onNode reports whether a URL is one that clear text may go to: an address, not a
// name, that no router passes on.
func onNode(u *url.URL) bool {
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && u.Scheme == "http" && (ip.IsLoopback() || ip.IsLinkLocalUnicast())
}

// WithIMDSEndpoint sends what is meant for http://169.254.169.254 to another endpoint of the
// node, as AZURE_POD_IDENTITY_AUTHORITY_HOST names it to other tools (azidentity does not read
// that variable). "" leaves requests as they are.
func WithIMDSEndpoint(endpoint string, next policy.Transporter) (policy.Transporter, error) {
	if endpoint == "" {
		return next, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || !onNode(u) || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("not http:// and an address of the node (loopback or link-local)")
	}
	return imdsEndpoint{next, u.Host}, nil
}

type imdsEndpoint struct {
	next policy.Transporter
	host string
}

func (e imdsEndpoint) Do(req *http.Request) (*http.Response, error) {
	if req.URL.Hostname() == imdsHost {
		req = req.Clone(req.Context())
		req.URL.Host, req.Host = e.host, ""
	}
	return e.next.Do(req)
}
