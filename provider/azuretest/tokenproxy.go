package azuretest

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// BindingAudience is the audience of the tokens that AKS identity bindings exchange.
const BindingAudience = "api://AKSIdentityBinding"

// TokenProxy is the token proxy of AKS identity bindings: a part of Entra's token endpoint, reached at
// the API server's address under its own name. It checks service accounts' tokens itself, with
// the cluster's keys, so that no federated credential per service account is needed.
type TokenProxy struct {
	server    *APIServer
	clusterID string
	sni       string

	mu       sync.RWMutex              // guards bindings
	bindings map[*Application][]string // to subjects
}

// TokenProxy returns the token proxy of the cluster, the same one each time, and turns it on. From then
// on the API server's certificate names the cluster, from which clients compute the proxy's name. It
// panics when called with another cluster ID than before.
func (s *APIServer) TokenProxy(clusterID string) *TokenProxy {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proxy == nil {
		s.proxy = &TokenProxy{
			server: s, clusterID: clusterID, sni: sniName(clusterID), bindings: map[*Application][]string{},
		}
	}
	if s.proxy.clusterID != clusterID {
		panic(fmt.Sprintf("azuretest: the cluster is %q, not %q", s.proxy.clusterID, clusterID))
	}
	return s.proxy
}

// sniName is the rule of azure-workload-identity's webhook and of the CSI driver provider: a DNS label
// fits the sum in base 32 only, and must begin with a letter.
func sniName(clusterID string) string {
	sum := sha256.Sum256([]byte("identity-binding" + clusterID))
	return "a" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:])) + ".ests.aks"
}

// SNIName is the server name in TLS that reaches the proxy.
func (p *TokenProxy) SNIName() string { return p.sni }

// Bind lets a service account act as the application: an identity binding of its managed identity with
// the cluster, and the cluster role that allows its use.
func (p *TokenProxy) Bind(app *Application, namespace, serviceAccount string) {
	subject := Pod{Namespace: namespace, ServiceAccount: serviceAccount}.Subject()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bindings[app] = append(p.bindings[app], subject)
}

// place is the authority that the client wants to reach. Clients rewrite the URL only, so the Host
// header still names it; for one that does not, it is the public cloud's.
func (p *TokenProxy) place(r *http.Request) place {
	box, name := p.server.cluster.box, hostName(r.Host)
	authority := box.authority(name)
	if authority == nil {
		authority = box.publicCloud()
		name = authority.AuthorityHost
	}
	return place{authority: authority, proxy: p, name: name}
}

// check decides whether the assertion of a token request may act as the application.
func (p *TokenProxy) check(x *exchange, app *Application) *aadsts {
	var bound []federatedCredential
	p.mu.RLock()
	for _, subject := range p.bindings[app] {
		bound = append(bound, federatedCredential{p.server.cluster.issuer, subject, BindingAudience})
	}
	p.mu.RUnlock()
	if !x.form.Has("client_assertion") {
		return refuse(7000218)
	}
	if len(bound) == 0 {
		return refuse(700213)
	}
	return p.server.cluster.box.checkAssertion(x.Context(), x.form, bound, p.key)
}

// key finds the cluster's own key.
func (p *TokenProxy) key(_ context.Context, _, kid string) (*rsa.PublicKey, error) {
	if key := p.server.cluster.key; key.id == kid {
		return &key.rsa.PublicKey, nil
	}
	return nil, errNoKey
}
