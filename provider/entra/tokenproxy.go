package entra

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"akv-csi-provider/provider/coalesce"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/kube"
	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// TokenProxyConfig says where the cluster's token proxy is.
type TokenProxyConfig struct {
	// URL of the proxy, usually https:// and the API server's address in the cluster;
	// "" if there is none, which is an error only when it is needed.
	URL string
	// SNIName is the TLS server name of the proxy. "" derives it from the API server's
	// certificate.
	SNIName string
	// CAFile contains the cluster's CA certificates as PEM; required with URL. Where there
	// is no such file the system's roots are trusted, as with the provider we replace.
	CAFile string
	// UserAgent is put before the SDK's own.
	UserAgent string
	// Measure, if not nil, wraps the connections to the proxy.
	Measure func(http.RoundTripper) http.RoundTripper
}

// TokenProxy reaches the token proxy of an AKS cluster, which checks with Kubernetes' own
// rules that a service account may use a managed identity and then signs in to Entra for it
// (AKS identity bindings). The API server's address serves both; the TLS server name
// distinguishes them. It is safe for concurrent use.
//
// azidentity has that mode too (WorkloadIdentityCredential, EnableAzureProxy), but
// takes its settings from the environment of the process and its token from a file
// that it caches for ten minutes, so it can serve one pod only. What it does is
// otherwise the same: a client assertion, with metadata and token request sent to
// the proxy instead of the authority.
type TokenProxy struct {
	url      *url.URL // nil: none
	sniName  string   // "" to derive it
	pool     *kube.Pool
	names    *coalesce.Group[string, string]
	metadata *metadataCache // as the proxy passes it on
}

const (
	proxyConns = 16 // with HTTP/2 one serves all
	nameTime   = 10 * time.Second
	nameLife   = 365 * 24 * time.Hour // the ID of a cluster does not change
)

// NewTokenProxy checks the settings. It sends and reads nothing.
func NewTokenProxy(c TokenProxyConfig) (*TokenProxy, error) {
	p := &TokenProxy{
		sniName:  c.SNIName,
		pool:     kube.NewPool(kube.PoolConfig{CAFile: c.CAFile, SystemRoots: true, MaxConns: proxyConns, UserAgent: c.UserAgent, Measure: c.Measure}),
		names:    coalesce.New[string](coalesce.Config[string]{Timeout: nameTime, Budget: coalesce.NewBudget(1)}),
		metadata: newMetadataCache(),
	}
	if c.URL == "" {
		return p, nil
	}
	u, err := kube.ParseURL(c.URL)
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

// transport returns the transport to the proxy. Its error is a *fault.Error or the context's
// own.
func (p *TokenProxy) transport(ctx context.Context) (policy.Transporter, error) {
	if p == nil || p.url == nil {
		return nil, &fault.Error{Reason: fault.SignInFailed,
			Cause: "useAzureTokenProxy needs the cluster's token proxy, and none is configured",
			Fix:   "cluster operator: run the provider in the AKS cluster, or set --token-proxy-url"}
	}
	name, err := p.serverName(ctx)
	if err != nil {
		return nil, err
	}
	client, err := p.pool.Client(name)
	if err != nil {
		return nil, err
	}
	return proxied{client: client.For(transport.PhaseSignIn), to: p.url}, nil
}

// serverName returns the TLS server name of the proxy.
func (p *TokenProxy) serverName(ctx context.Context) (string, error) {
	if p.sniName != "" {
		return p.sniName, nil
	}
	name, _, err := p.names.Do(ctx, "", coalesce.Freshness{}, func(ctx context.Context, _ *coalesce.Call) (string, coalesce.Life, error) {
		certificate, err := p.certificate(ctx)
		if err != nil {
			return "", coalesce.Life{}, err
		}
		name, err := p.nameIn(certificate)
		return name, coalesce.Life{Until: time.Now().Add(nameLife)}, err
	})
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return "", transport.Timeout(p.url.Hostname(), transport.PhaseConnect)
	}
	return name, err
}

// certificate returns the API server's own certificate.
func (p *TokenProxy) certificate(ctx context.Context) (*x509.Certificate, error) {
	if _, err := p.pool.Client(""); err != nil { // whose CA certificates cannot be read
		return nil, err
	}
	certificate, err := p.pool.Certificate(ctx, p.url)
	if network, ok := errors.AsType[*fault.Error](err); ok {
		e := *network
		e.Fix = "cluster operator: check --token-proxy-url, or set --sni-name, which is otherwise derived from the API server's certificate"
		return nil, &e
	}
	return certificate, err
}

// nameIn derives the name from the cluster's ID in the API server's certificate.
func (p *TokenProxy) nameIn(certificate *x509.Certificate) (string, error) {
	for _, name := range certificate.DNSNames {
		if id, ok := clusterID(name); ok {
			return sniName(id), nil
		}
	}
	return "", &fault.Error{Reason: fault.SignInFailed,
		Cause: "the API server's certificate has no name hcp-kubernetes.CLUSTER_ID",
		Fix:   "outside AKS, remove useAzureTokenProxy; on AKS, cluster operator: set --sni-name to the token proxy's name"}
}

// clusterID finds the ID in a name of the API server of AKS.
func clusterID(dnsName string) (string, bool) {
	id, before := strings.CutPrefix(dnsName, "hcp-kubernetes.")
	id, after := strings.CutSuffix(id, ".svc.cluster.local")
	return id, before && after && id != ""
}

// sniName is how AKS names the token proxy of a cluster: a hash in an alphabet of DNS
// labels, which must begin with a letter.
func sniName(clusterID string) string {
	sum := sha256.Sum256([]byte("identity-binding" + clusterID))
	return strings.ToLower("a"+base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:])) + ".ests.aks"
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
