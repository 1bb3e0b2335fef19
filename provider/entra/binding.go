package entra

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"

	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// identityBinding exchanges the pod's service-account token at the token proxy of
// the AKS cluster, which checks with Kubernetes' own rules that the account may use
// the managed identity and then signs in to Entra for it (AKS identity bindings).
//
// azidentity has that mode too (WorkloadIdentityCredential, EnableAzureProxy), but
// takes its settings from the environment of the process and its token from a file
// that it keeps for ten minutes, so it can serve one pod only. What it does is
// otherwise the same: a client assertion, with metadata and token request sent to
// the proxy instead of the authority.
func (x *Exchange) identityBinding(ctx context.Context, id Identity, scope string) (Token, error) {
	way, err := x.Proxy.way(ctx)
	if err != nil {
		return Token{}, err
	}
	assertion := func(context.Context) (string, error) { return string(id.Assertion), nil }
	s := signIn{Identity: id, scope: scope, via: x.Proxy.url.Hostname()}
	return x.ask(ctx, s, way, &x.Proxy.documents, func(o azcore.ClientOptions) (azcore.TokenCredential, error) {
		return azidentity.NewClientAssertionCredential(id.TenantID, id.ClientID, assertion,
			&azidentity.ClientAssertionCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: true})
	})
}

// TokenProxyConfig says where the cluster's token proxy is.
type TokenProxyConfig struct {
	// URL of the proxy, usually https:// and the apiserver's address in the cluster;
	// "" if there is none, which is an error only when it is needed.
	URL string
	// SNIName is the TLS server name of the proxy. "" derives it from the apiserver's
	// certificate.
	SNIName string
	// CAFile holds the cluster's CA certificates as PEM; required with URL. Where there
	// is no such file the system's roots count, as with the provider we replace.
	CAFile string
	// UserAgent goes before the SDK's own.
	UserAgent string
	// Measure, if not nil, goes around the connections to the proxy.
	Measure func(http.RoundTripper) http.RoundTripper
}

// TokenProxy is the way to the token proxy of an AKS cluster. The apiserver's address
// serves both; the TLS server name tells them apart. It is safe for concurrent use.
type TokenProxy struct {
	url       *url.URL // nil: none
	pool      clusterPool
	plain     clusterPool // to the apiserver under its own name
	userAgent string
	looks     flight[string]
	documents documents // as the proxy passes them on

	mu      sync.Mutex // guards sniName
	sniName string     // "" until it is known
}

// proxyConns bounds the connections to the proxy; with HTTP/2 one serves all.
const proxyConns = 16

// NewTokenProxy checks the settings. It sends and reads nothing.
func NewTokenProxy(c TokenProxyConfig) (*TokenProxy, error) {
	p := &TokenProxy{
		userAgent: c.UserAgent,
		sniName:   c.SNIName,
		pool:      clusterPool{caFile: c.CAFile, orSystem: true, conns: proxyConns, measure: c.Measure},
		plain:     clusterPool{caFile: c.CAFile, orSystem: true, conns: 1},
	}
	if c.URL == "" {
		return p, nil
	}
	u, err := clusterURL(c.URL)
	if err != nil {
		return nil, fmt.Errorf("token proxy URL: %w", err)
	}
	if c.CAFile == "" {
		return nil, errors.New("token proxy: no file named with the cluster's CA certificates")
	}
	if u.Path == "" {
		u.Path = "/" // JoinPath would make the path relative
	}
	p.url = u
	return p, nil
}

// CheckProxyURL reports why the text cannot be the URL of a token proxy.
func CheckProxyURL(text string) error {
	_, err := clusterURL(text)
	return err
}

// clusterURL checks the URL of something in the cluster that gets credentials.
func clusterURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil: // whose text quotes the URL, which may hold a password
		return nil, errors.New("not a URL")
	case u.Scheme != "https":
		return nil, errors.New("not https")
	case u.Hostname() == "":
		return nil, errors.New("names no host")
	case u.User != nil, u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return nil, errors.New("must hold no user, query or fragment")
	}
	return u, nil
}

// way returns the transporter to the proxy. Its error is an *Error, a
// *transport.Error, or the context's own.
func (p *TokenProxy) way(ctx context.Context) (policy.Transporter, error) {
	if p == nil || p.url == nil {
		return nil, &Error{reason: ReasonSignInFailed,
			cause: "identity binding (useAzureTokenProxy) goes through the cluster's token proxy, and none is known",
			fix:   "run the provider in the AKS cluster itself, or start it with --token-proxy-url"}
	}
	name, err := p.serverName(ctx)
	if err != nil {
		return nil, err
	}
	pool, err := p.pool.get(name)
	if err != nil {
		return nil, err
	}
	return proxied{client: transport.New(p.pool.measured(pool), p.userAgent).For(transport.PhaseSignIn), to: p.url}, nil
}

// proxied sends to the proxy what is meant for the authority. The path goes below
// the proxy's own; the Host header stays the authority's, as azidentity leaves it.
type proxied struct {
	client *transport.Client
	to     *url.URL
}

func (p proxied) Do(req *http.Request) (*http.Response, error) {
	authority, query := req.URL.Host, req.URL.RawQuery
	path := req.URL.EscapedPath()
	req = req.Clone(req.Context())
	req.URL = p.to.JoinPath(path)
	req.URL.RawQuery = query
	if req.Host == "" {
		req.Host = authority
	}
	return p.client.Do(req)
}
