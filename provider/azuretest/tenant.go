package azuretest

import (
	"crypto/x509"
	"slices"
	"strings"
	"sync"
	"time"
)

// Tenant is one directory of Entra. Every authority host of the fake serves every tenant.
type Tenant struct {
	box   *Box
	id    string
	knobs knobs

	mu   sync.RWMutex            // guards apps
	apps map[string]*Application // by lower-case client ID
}

// Application is an app registration or a user-assigned managed identity: to a pod they are the same.
type Application struct {
	tenant   *Tenant
	clientID string
	objectID string

	mu        sync.RWMutex // guards what follows
	federated []federatedCredential
	secrets   []clientSecret
	certs     []*x509.Certificate
	failure   int
}

type federatedCredential struct{ issuer, subject, audience string }

type clientSecret struct {
	value   string
	expires time.Time // zero: never
}

// Tenant returns the tenant with that ID, which becomes known to Entra if it was not. IDs are GUIDs
// or domain names, or "adfs" as on Azure Stack Hub.
func (b *Box) Tenant(id string) *Tenant {
	key := strings.ToLower(id)
	b.registry.mu.Lock()
	defer b.registry.mu.Unlock()
	t := b.registry.tenants[key]
	if t == nil {
		t = &Tenant{box: b, id: id, apps: map[string]*Application{}}
		b.registry.tenants[key] = t
	}
	return t
}

// ID returns the tenant's ID.
func (t *Tenant) ID() string { return t.id }

func (b *Box) findTenant(id string) *Tenant {
	b.registry.mu.RLock()
	defer b.registry.mu.RUnlock()
	return b.registry.tenants[strings.ToLower(id)]
}

// Application returns the tenant's application with that client ID, registered if it was not.
func (t *Tenant) Application(clientID string) *Application {
	key := strings.ToLower(clientID)
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.apps[key]
	if a == nil {
		a = &Application{tenant: t, clientID: clientID, objectID: derivedUUID(t.id, key)}
		t.apps[key] = a
	}
	return a
}

func (t *Tenant) findApplication(clientID string) *Application {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.apps[strings.ToLower(clientID)]
}

// ClientID returns the application's client ID.
func (a *Application) ClientID() string { return a.clientID }

// Federate adds a federated identity credential. All three are compared exactly, case and final
// slash included.
func (a *Application) Federate(issuer, subject, audience string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.federated = append(a.federated, federatedCredential{issuer, subject, audience})
}

// Unfederate removes all federated identity credentials.
func (a *Application) Unfederate() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.federated = nil
}

// AddSecret adds a client secret; a zero time is never reached.
func (a *Application) AddSecret(value string, expires time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.secrets = append(a.secrets, clientSecret{value, expires})
}

// AddCertificate registers a certificate whose key signs in.
func (a *Application) AddCertificate(c *x509.Certificate) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.certs = append(a.certs, c)
}

func (a *Application) certificates() []*x509.Certificate {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return slices.Clone(a.certs)
}

// FailWith makes every sign-in of the application fail with that AADSTS number, known to the fake or
// not; 0 turns it off.
func (a *Application) FailWith(aadsts int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failure = aadsts
}

// credentials returns what a sign-in is checked against.
func (a *Application) credentials() ([]federatedCredential, []clientSecret, int) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return slices.Clone(a.federated), slices.Clone(a.secrets), a.failure
}

// SetTokenLifetime sets how long access tokens issued from now on are valid. Default one hour; a
// negative one issues tokens that have expired.
func (b *Box) SetTokenLifetime(d time.Duration) { b.lifetime.Store(int64(d)) }

// SetTokenRefresh makes token responses ask clients to refresh after d (refresh_in); 0 leaves it out.
func (b *Box) SetTokenRefresh(d time.Duration) { b.refresh.Store(int64(d)) }
