package entra

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	"errors"
	"net"
	"net/http"
	"strings"

	"akv-csi-provider/provider/transport"
)

// serverName returns the TLS server name of the proxy. What was once found stays: a
// cluster keeps its ID.
func (p *TokenProxy) serverName(ctx context.Context) (string, error) {
	if name := p.knownName(); name != "" {
		return name, nil
	}
	name, err := p.looks.do(ctx, "", func(ctx context.Context) (string, error) {
		if name := p.knownName(); name != "" {
			return name, nil
		}
		name, err := p.deriveName(ctx)
		if err != nil {
			return "", err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.sniName = name
		return name, nil
	})
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && err != nil {
		return "", transport.Timeout(p.url.Hostname(), transport.PhaseConnect)
	}
	return name, err
}

func (p *TokenProxy) knownName() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sniName
}

// deriveName reads the cluster's ID from the apiserver's certificate.
func (p *TokenProxy) deriveName(ctx context.Context) (string, error) {
	pool, err := p.plain.get("")
	if err != nil {
		return "", err
	}
	certificate, err := p.handshake(ctx, pool.TLSClientConfig)
	var network *transport.Error
	if errors.As(err, &network) {
		return "", unreachable(network, "check --token-proxy-url, or set --sni-name, which saves looking at the apiserver's certificate")
	}
	if err != nil {
		return "", err
	}
	for _, name := range certificate.DNSNames {
		if id, ok := clusterID(name); ok {
			return sniName(id), nil
		}
	}
	return "", &Error{reason: ReasonSignInFailed,
		cause: "the certificate of " + p.url.Hostname() + " does not tell the ID of an AKS cluster, which the name of its token proxy is made of",
		fix:   "start the provider with --sni-name; identity binding (useAzureTokenProxy) exists on AKS only"}
}

// handshake makes one TLS connection and returns the server's verified certificate.
// It goes through a transport.Client, the one place that says what went wrong, but
// sends no request: the apiserver need not log one.
func (p *TokenProxy) handshake(ctx context.Context, config *tls.Config) (*x509.Certificate, error) {
	port := p.url.Port()
	if port == "" {
		port = "443"
	}
	dialer := &tls.Dialer{Config: config}
	client := transport.New(roundTrip(func(req *http.Request) (*http.Response, error) {
		conn, err := dialer.DialContext(req.Context(), "tcp", net.JoinHostPort(p.url.Hostname(), port))
		if err != nil {
			return nil, err
		}
		defer func() { _ = conn.Close() }()
		state := conn.(*tls.Conn).ConnectionState()
		return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, TLS: &state}, nil
	}), p.userAgent).For(transport.PhaseConnect)
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, p.url.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	return resp.TLS.PeerCertificates[0], resp.Body.Close()
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// clusterID finds the ID in a name of the apiserver of AKS.
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
