package azuretest

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// TokenExchangeAudience is the audience of the tokens that workload identity exchanges.
const TokenExchangeAudience = "api://AzureADTokenExchange"

// Cluster is a Kubernetes cluster: to Entra an OIDC issuer that signs the tokens of service accounts,
// to the plugin an [APIServer].
type Cluster struct {
	box    *Box
	issuer string
	host   string
	path   string // without final slash
	key    *signingKey

	mu  sync.Mutex // guards api; held while it is started
	api *APIServer
}

// Pod is what kubelet sends to the CSI driver about a pod and its volume. Empty UIDs and an empty
// service account are filled in: derived from the names, and "default".
type Pod struct {
	Namespace, Name, UID              string
	ServiceAccount, ServiceAccountUID string
	// VolumeAttributes are those of the volume in the pod's spec.
	VolumeAttributes map[string]string
	// NodePublishSecret is the data of the volume's nodePublishSecretRef; nil if it has none.
	NodePublishSecret map[string]string
}

func (p Pod) withDefaults() (Pod, error) {
	if p.Namespace == "" || p.Name == "" {
		return p, fmt.Errorf("pod needs a namespace and a name")
	}
	if p.ServiceAccount == "" {
		p.ServiceAccount = "default"
	}
	if p.UID == "" {
		p.UID = derivedUUID("pod", p.Namespace, p.Name)
	}
	if p.ServiceAccountUID == "" {
		p.ServiceAccountUID = derivedUUID("serviceaccount", p.Namespace, p.ServiceAccount)
	}
	return p, nil
}

// Subject is the subject of the pod's tokens, as a federated credential names it.
func (p Pod) Subject() string {
	account := p.ServiceAccount
	if account == "" {
		account = "default"
	}
	return "system:serviceaccount:" + p.Namespace + ":" + account
}

// Cluster returns the cluster with that issuer URL, which the fake serves from then on: its discovery
// document and its keys. The URL is used verbatim; AKS ends it with a slash.
func (b *Box) Cluster(issuerURL string) (*Cluster, error) {
	u, err := url.Parse(issuerURL)
	if err != nil {
		return nil, fmt.Errorf("parse issuer: %w", err)
	}
	if u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("issuer %q is no https URL without query and fragment", issuerURL)
	}
	b.registry.mu.Lock()
	defer b.registry.mu.Unlock()
	if c := b.registry.clusters[issuerURL]; c != nil {
		return c, nil
	}
	key, err := processKey(firstClusterKey + b.registry.clusterKeys)
	if err != nil {
		return nil, err
	}
	b.registry.clusterKeys++
	c := &Cluster{box: b, issuer: issuerURL, host: hostName(u.Host), path: strings.TrimSuffix(u.Path, "/"), key: key}
	b.registry.clusters[issuerURL] = c
	return c, nil
}

// Issuer returns the issuer URL, exactly as tokens carry it.
func (c *Cluster) Issuer() string { return c.issuer }

// answer serves the issuer's two documents.
func (c *Cluster) answer(path string) reply {
	header := http.Header{"Cache-Control": {"public, max-age=3600"}}
	switch strings.TrimPrefix(path, c.path) {
	case "/.well-known/openid-configuration":
		return jsonReply(http.StatusOK, header, map[string]any{
			"issuer":                                c.issuer,
			"jwks_uri":                              strings.TrimSuffix(c.issuer, "/") + "/openid/v1/jwks",
			"response_types_supported":              []string{"id_token"},
			"subject_types_supported":               []string{"public"},
			"id_token_signing_alg_values_supported": []string{"RS256"},
		})
	case "/openid/v1/jwks":
		return jsonReply(http.StatusOK, header, rawJSON(c.key.jwks()))
	}
	return reply{status: http.StatusNotFound, header: header}
}

// Claims are those of a projected, pod-bound token, as the API server has written them since 1.21.
// They may be changed and given to [Cluster.ForgedToken].
func (c *Cluster) Claims(p Pod, audience string, ttl time.Duration) (map[string]any, error) {
	p, err := p.withDefaults()
	if err != nil {
		return nil, err
	}
	now := c.box.clock()
	return map[string]any{
		"iss": c.issuer,
		"sub": p.Subject(),
		"aud": []string{audience},
		"iat": now.Unix(),
		"nbf": now.Unix(),
		"exp": now.Add(ttl).Unix(),
		"jti": newUUID(),
		"kubernetes.io": map[string]any{
			"namespace":      p.Namespace,
			"pod":            map[string]string{"name": p.Name, "uid": p.UID},
			"serviceaccount": map[string]string{"name": p.ServiceAccount, "uid": p.ServiceAccountUID},
		},
	}, nil
}

// Token mints a token for the pod's service account. A negative ttl makes one that has expired.
func (c *Cluster) Token(p Pod, audience string, ttl time.Duration) (string, error) {
	claims, err := c.Claims(p, audience, ttl)
	if err != nil {
		return "", err
	}
	return c.sign(c.key, claims)
}

// Sign signs any claims with the cluster's own key: a token that is genuine whatever it says.
func (c *Cluster) Sign(claims map[string]any) (string, error) { return c.sign(c.key, claims) }

// ForgedToken makes a token that the cluster did not issue: under the cluster's key ID but signed by
// another key, or, if unsigned, with the algorithm "none".
func (c *Cluster) ForgedToken(claims map[string]any, unsigned bool) (string, error) {
	if unsigned {
		token := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims(claims))
		return token.SignedString(jwt.UnsafeAllowNoneSignatureType)
	}
	forger, err := processKey(forgerKey)
	if err != nil {
		return "", err
	}
	return c.sign(forger, claims)
}

func (c *Cluster) sign(key *signingKey, claims map[string]any) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims(claims))
	token.Header["kid"] = c.key.id
	signed, err := token.SignedString(key.rsa)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return signed, nil
}
