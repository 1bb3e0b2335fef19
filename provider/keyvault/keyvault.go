// Package keyvault reads objects from Azure Key Vault, each with the access token
// of the caller that asked, and says what must be mended when a vault refuses.
package keyvault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"akv-csi-provider/provider/request"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	lru "github.com/hashicorp/golang-lru/v2"
)

// Config is what a Reader is made of.
type Config struct {
	// Transport sends the requests; required. Its errors should be
	// *transport.Error, which an *Error then wraps.
	Transport policy.Transporter
	// Retry says how often and how soon a failed request is sent again.
	Retry policy.RetryOptions
	// MaxConcurrency bounds the requests under way to one vault, whichever mounts
	// they are for; required. A request that waits before it is sent again does not
	// count.
	MaxConcurrency int
	// Now tells the time; nil is time.Now.
	Now func() time.Time
}

// maxVaults bounds the vaults a Reader remembers. One that drops out and comes back
// has a new client and a new bound, beside the requests still under way.
const maxVaults = 256

// Reader reads from vaults. It is safe for concurrent use.
type Reader struct {
	cfg   Config
	hints *hints

	mu     sync.Mutex // for building a vault once
	vaults *lru.Cache[string, *vault]
}

// vault is what the mounts of one vault share: its clients with their bound, never
// a token.
type vault struct {
	secrets      *azsecrets.Client
	keys         *azkeys.Client
	certificates *azcertificates.Client

	mu       sync.Mutex // guards resource
	resource string     // see Reader.Resource
}

// Caller is on whose behalf an object is read.
type Caller struct {
	Principal
	Token request.Secret // access token for the vault's audience
}

// Node is the Authority of the node's managed identity, which no authority of a
// cloud gives.
const Node = "node"

// Principal is who a token of the caller speaks for. It is comparable: two callers
// with one Principal have the same rights in every vault.
type Principal struct {
	Authority string // that gave the token: a URL, or Node
	TenantID  string // "" for the node's managed identity
	ClientID  string // "" for the node's system-assigned identity
}

// String names the principal in messages.
func (p Principal) String() string {
	switch {
	case p.Authority == Node && p.ClientID == "":
		return "the node's system-assigned managed identity"
	case p.Authority == Node:
		return fmt.Sprintf("the node's managed identity %q", p.ClientID)
	}
	return fmt.Sprintf("client %q in tenant %q", p.ClientID, p.TenantID)
}

// Value is one version of an object. Its slices must not be changed: callers may
// share them.
type Value struct {
	Version   string
	NotBefore *time.Time // informational: Key Vault serves the object all the same
	Expires   *time.Time // likewise

	// Of a secret.
	Text        string
	ContentType string
	Managed     bool // it is the private side of a certificate

	// Of a certificate: DER (RFC 5280), which Key Vault calls CER.
	CER []byte

	// Of a key.
	Key *Key
}

// Key is the public side of a key as JSON Web Key (RFC 7517, RFC 7518 section 6).
// Numbers are big-endian.
type Key struct {
	Type  string // kty, such as RSA or EC-HSM
	Curve string // crv of an elliptic-curve key
	N, E  []byte // modulus and exponent of an RSA key
	X, Y  []byte // point of an elliptic-curve key
}

// NewReader makes a Reader.
func NewReader(cfg Config) (*Reader, error) {
	if cfg.Transport == nil || cfg.MaxConcurrency < 1 {
		return nil, errors.New("keyvault: a transport and a positive concurrency are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	vaults, err := lru.New[string, *vault](maxVaults)
	if err != nil {
		return nil, fmt.Errorf("remember vaults: %w", err)
	}
	hints, err := newHints()
	if err != nil {
		return nil, err
	}
	return &Reader{cfg: cfg, vaults: vaults, hints: hints}, nil
}

// Get reads a version of an object, the latest if the object names none. Its error
// is an *Error or the context's own.
func (r *Reader) Get(ctx context.Context, caller Caller, o Object) (Value, error) {
	v, err := r.vault(o.Host)
	if err != nil {
		return Value{}, err
	}
	value, err := v.get(withCaller(ctx, caller), o)
	if err != nil {
		err = explain(ctx, err, o, caller, getting)
		return Value{}, r.hint(ctx, v, caller, o, err)
	}
	if value.Version == "" {
		return Value{}, notKeyVault(o)
	}
	return value, nil
}

// Versions lists the enabled versions of an object from the one it names on, or
// the latest: newest first, at most n of them, none if there is no such version.
// It needs the right to list. Its error is an *Error or the context's own.
func (r *Reader) Versions(ctx context.Context, caller Caller, o Object, n int) ([]string, error) {
	v, err := r.vault(o.Host)
	if err != nil {
		return nil, err
	}
	all, err := v.versions(withCaller(ctx, caller), o)
	if err != nil {
		return nil, explain(ctx, err, o, caller, listing)
	}
	return newest(all, o.Version, n), nil
}

// vault returns what is shared for the host, building it when needed.
func (r *Reader) vault(host string) (*vault, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, ok := r.vaults.Get(host); ok {
		return v, nil
	}
	v, err := r.newVault(host)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", host, err)
	}
	r.vaults.Add(host, v)
	return v, nil
}

func (r *Reader) newVault(host string) (*vault, error) {
	retry := r.cfg.Retry
	retry.TryTimeout = 0 // it would run while a request waits for a slot
	send := authorize{host: host, slots: make(chan struct{}, r.cfg.MaxConcurrency), timeout: r.cfg.Retry.TryTimeout}
	options := azcore.ClientOptions{Transport: r.cfg.Transport, Retry: retry, PerRetryPolicies: []policy.Policy{send}}
	url := "https://" + host
	secrets, err := azsecrets.NewClient(url, refuseToSignIn{}, &azsecrets.ClientOptions{ClientOptions: options})
	if err != nil {
		return nil, err
	}
	keys, err := azkeys.NewClient(url, refuseToSignIn{}, &azkeys.ClientOptions{ClientOptions: options})
	if err != nil {
		return nil, err
	}
	certificates, err := azcertificates.NewClient(url, refuseToSignIn{}, &azcertificates.ClientOptions{ClientOptions: options})
	if err != nil {
		return nil, err
	}
	return &vault{secrets: secrets, keys: keys, certificates: certificates}, nil
}
