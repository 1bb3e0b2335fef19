package azuretest

import (
	"fmt"
	"strings"
	"sync"
)

// Cloud is one Azure: where its Entra is, and how its vaults are called.
type Cloud struct {
	AuthorityHost string // host name, for instance login.microsoftonline.com
	VaultSuffix   string // DNS suffix of vaults, for instance vault.azure.net
	Resource      string // what tokens for vaults are issued to, for instance https://vault.azure.net
}

// The sovereign clouds as azcore's cloud package and MSAL know them. China's Entra answers under two
// names: azcore still uses the older one.
const (
	managementResource = "https://management.azure.com"

	publicSuffix = "vault.azure.net"
	publicIssuer = "https://sts.windows.net/"
	chinaIssuer  = "https://sts.chinacloudapi.cn/"
)

// instance is a cloud with what only the fake needs to know about it.
type instance struct {
	Cloud
	aliases       []string // hosts of the same Entra, the preferred one first
	issuer        string   // prefix of the issuer of access tokens
	known         bool     // Entra's instance discovery lists it
	challengeHost string   // in the challenges of vaults; "" is AuthorityHost
}

func builtinClouds() []*instance {
	return []*instance{{
		Cloud:   Cloud{"login.microsoftonline.com", publicSuffix, "https://vault.azure.net"},
		aliases: []string{"login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"},
		issuer:  publicIssuer, known: true, challengeHost: "login.windows.net",
	}, {
		Cloud:   Cloud{"login.microsoftonline.us", "vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net"},
		aliases: []string{"login.microsoftonline.us", "login.usgovcloudapi.net"},
		issuer:  publicIssuer, known: true,
	}, {
		Cloud:   Cloud{"login.partner.microsoftonline.cn", "vault.azure.cn", "https://vault.azure.cn"},
		aliases: []string{"login.partner.microsoftonline.cn", "login.chinacloudapi.cn"},
		issuer:  chinaIssuer, known: true,
	}, {
		Cloud:   Cloud{"login.sovcloud-identity.fr", "vault.sovcloud-api.fr", "https://vault.sovcloud-api.fr"},
		aliases: []string{"login.sovcloud-identity.fr"},
		issuer:  publicIssuer, known: true,
	}, {
		Cloud:   Cloud{"login.sovcloud-identity.de", "vault.sovcloud-api.de", "https://vault.sovcloud-api.de"},
		aliases: []string{"login.sovcloud-identity.de"},
		issuer:  publicIssuer, known: true,
	}}
}

// registry is all that was configured into a fake.
type registry struct {
	mu          sync.RWMutex // guards everything below
	clouds      []*instance
	authorities map[string]*instance // by host
	tenants     map[string]*Tenant   // by lower-case ID
	vaults      map[string]*Vault    // by host
	clusters    map[string]*Cluster  // by issuer URL
	clusterKeys int
}

func newRegistry() *registry {
	r := &registry{
		authorities: map[string]*instance{}, tenants: map[string]*Tenant{},
		vaults: map[string]*Vault{}, clusters: map[string]*Cluster{},
	}
	for _, c := range builtinClouds() {
		r.add(c)
	}
	return r
}

func (r *registry) add(c *instance) {
	r.clouds = append(r.clouds, c)
	for _, host := range c.aliases {
		r.authorities[host] = c
	}
}

// AddCloud makes the fake serve one more cloud, as Azure Stack Hub is one. Entra's instance discovery
// does not know it, so clients must have theirs off.
func (b *Box) AddCloud(c Cloud) {
	if c.AuthorityHost == "" || c.VaultSuffix == "" || c.Resource == "" {
		panic(fmt.Sprintf("azuretest: incomplete cloud %+v", c))
	}
	c.AuthorityHost, c.VaultSuffix = hostName(c.AuthorityHost), hostName(c.VaultSuffix)
	b.registry.mu.Lock()
	defer b.registry.mu.Unlock()
	b.registry.add(&instance{Cloud: c, aliases: []string{c.AuthorityHost}, issuer: publicIssuer})
}

// serves reports whether the name resolves to the fake.
func (b *Box) serves(host string) bool {
	host = hostName(host)
	b.registry.mu.RLock()
	defer b.registry.mu.RUnlock()
	if b.registry.authorities[host] != nil || b.registry.vaults[host] != nil {
		return true
	}
	for _, c := range b.registry.clusters {
		if c.host == host {
			return true
		}
	}
	return false
}

// place is what a request is for: of the first five at most one is set.
type place struct {
	authority *instance
	vault     *Vault
	cluster   *Cluster // as an issuer
	imds      *IMDS
	api       *APIServer
	proxy     *TokenProxy // the request to the authority came by this proxy
	name      string      // the authority's, if the request came under another
}

// locate finds what a request's host and path belong to.
func (b *Box) locate(host, path string) place {
	host = hostName(host)
	b.registry.mu.RLock()
	defer b.registry.mu.RUnlock()
	if a := b.registry.authorities[host]; a != nil {
		return place{authority: a}
	}
	if v := b.registry.vaults[host]; v != nil {
		return place{vault: v}
	}
	for _, c := range b.registry.clusters {
		if c.host == host && strings.HasPrefix(path, c.path+"/") {
			return place{cluster: c}
		}
	}
	return place{}
}

// authority returns the cloud whose Entra has that host name, or nil.
func (b *Box) authority(host string) *instance {
	b.registry.mu.RLock()
	defer b.registry.mu.RUnlock()
	return b.registry.authorities[host]
}

// publicCloud is the one that stands in where a request names none.
func (b *Box) publicCloud() *instance {
	b.registry.mu.RLock()
	defer b.registry.mu.RUnlock()
	return b.registry.clouds[0]
}

// cloudFor returns the cloud whose vaults take tokens for the resource, or nil. Management is known
// everywhere, so that a token for the wrong audience can be had.
func (b *Box) cloudFor(resource string) *instance {
	bare := strings.TrimSuffix(resource, "/")
	b.registry.mu.RLock()
	defer b.registry.mu.RUnlock()
	for _, c := range b.registry.clouds {
		if bare == c.Resource || bare == managementResource {
			return c
		}
	}
	return nil
}

// cloudOf returns the cloud whose vaults end in suffix.
func (b *Box) cloudOf(suffix string) *instance {
	b.registry.mu.RLock()
	defer b.registry.mu.RUnlock()
	for _, c := range b.registry.clouds {
		if c.VaultSuffix == suffix {
			return c
		}
	}
	return nil
}
