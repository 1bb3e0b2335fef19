package azuretest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Permission is one thing an application may do in a vault.
type Permission string

// The permissions a reader can have.
const (
	SecretsGet       Permission = "secrets/get"
	SecretsList      Permission = "secrets/list"
	KeysGet          Permission = "keys/get"
	KeysList         Permission = "keys/list"
	CertificatesGet  Permission = "certificates/get"
	CertificatesList Permission = "certificates/list"
)

// Vault is one Key Vault.
type Vault struct {
	box    *Box
	name   string
	host   string
	tenant *Tenant
	cloud  *instance
	knobs  knobs

	mu        sync.RWMutex // guards what follows
	granted   map[string]map[Permission]bool
	policies  bool
	firewall  string
	refusal   *refusal
	latestAPI string                               // "" is the newest
	challenge string                               // host of the authority in challenges; "" is the cloud's
	objects   map[collection]map[string][]*version // by lower-case name, in the order they were set
	sequence  int

	converted map[string]string // PEM by the lower-case name of its secret
}

// Vault returns the vault <name>.vault.azure.net of the public cloud, created if there was none. It
// trusts tenant t.
func (b *Box) Vault(name string, t *Tenant) *Vault { return b.VaultIn(publicSuffix, name, t) }

// VaultIn returns a vault of the cloud whose vaults end in suffix.
func (b *Box) VaultIn(suffix, name string, t *Tenant) *Vault {
	cloud := b.cloudOf(hostName(suffix))
	if cloud == nil {
		panic(fmt.Sprintf("azuretest: no cloud has vaults in %s: use AddCloud", suffix))
	}
	name = strings.ToLower(name)
	host := name + "." + cloud.VaultSuffix
	b.registry.mu.Lock()
	defer b.registry.mu.Unlock()
	v := b.registry.vaults[host]
	if v == nil {
		v = &Vault{
			box: b, name: name, host: host, tenant: t, cloud: cloud,
			granted: map[string]map[Permission]bool{},
			objects: map[collection]map[string][]*version{secrets: {}, keys: {}, certificates: {}},
		}
		b.registry.vaults[host] = v
	}
	return v
}

// URL is the address of the vault, as SDK clients take it.
func (v *Vault) URL() string { return "https://" + v.host }

// Grant adds permissions to what the application with that client ID may do. It takes effect at once.
func (v *Vault) Grant(clientID string, p ...Permission) {
	key := strings.ToLower(clientID)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.granted[key] == nil {
		v.granted[key] = map[Permission]bool{}
	}
	for _, permission := range p {
		v.granted[key][permission] = true
	}
}

// Revoke takes all permissions from the application.
func (v *Vault) Revoke(clientID string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.granted, strings.ToLower(clientID))
}

// UseAccessPolicies makes refusals read like those of a vault with access policies instead of roles.
func (v *Vault) UseAccessPolicies(on bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.policies = on
}

// SetFirewall refuses everybody with the inner code ForbiddenByFirewall (the caller's address is not
// on the list), ForbiddenByConnection (the public network is off) or
// ForbiddenByNetworkSecurityPerimeter; "" lets everybody in.
func (v *Vault) SetFirewall(innerCode string) {
	switch innerCode {
	case "", forbiddenByFirewall, forbiddenByConnection, forbiddenByPerimeter:
	default:
		panic(fmt.Sprintf("azuretest: no firewall answers %q", innerCode))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.firewall = innerCode
}

// refusal is a 403 in words of a test's choosing.
type refusal struct{ inner, message string }

// SetForbidden refuses everybody with 403, with these words and this inner code; "" sends none. Without
// words it ends that.
func (v *Vault) SetForbidden(innerCode, message string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.refusal = &refusal{innerCode, message}
	if message == "" {
		v.refusal = nil
	}
}

// APIVersions are the versions of Key Vault's API that a fake knows, oldest first.
var APIVersions = []string{"2015-06-01", "2016-10-01", "7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "2025-07-01", "2026-04-01"}

// SetLatestAPIVersion makes the vault refuse all newer versions, as in clouds that are behind.
func (v *Vault) SetLatestAPIVersion(version string) {
	if !slices.Contains(APIVersions, version) {
		panic(fmt.Sprintf("azuretest: no version %q of Key Vault's API", version))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.latestAPI = version
}

// SetChallengeHost sets the host of Entra that challenges name, such as login.microsoftonline.com.
// The default is the cloud's authority, in the public cloud login.windows.net.
func (v *Vault) SetChallengeHost(host string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.challenge = host
}

// Delete removes an object with all its versions: "secret", "key" or "cert" (also "certificate"). A
// certificate takes its key and its secret along.
func (v *Vault) Delete(objectType, name string) {
	name = strings.ToLower(name)
	v.mu.Lock()
	defer v.mu.Unlock()
	switch objectType {
	case "secret":
		delete(v.objects[secrets], name)
	case "key":
		delete(v.objects[keys], name)
	case "cert", "certificate":
		for _, of := range v.objects {
			delete(of, name)
		}
	default:
		panic(fmt.Sprintf("azuretest: unknown object type %q", objectType))
	}
}
