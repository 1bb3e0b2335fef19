// Package keyvault reads objects from Azure Key Vault, each with the access token
// of the caller that asked, and says what must be mended when a vault refuses.
package keyvault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"akv-csi-provider/provider/request"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
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
}

// maxVaults bounds the vaults a Reader remembers. One that drops out and comes back
// has a new client and a new bound, beside the requests still under way.
const maxVaults = 256

// Reader reads from vaults. It is safe for concurrent use.
type Reader struct {
	cfg Config

	mu     sync.Mutex // for building a vault once
	vaults *lru.Cache[string, *vault]
}

// vault is what the mounts of one vault share: a client with its bound, never a
// token.
type vault struct {
	secrets *azsecrets.Client
}

// Caller is on whose behalf an object is read.
type Caller struct {
	Principal
	Token request.Secret // access token for the vault's audience
}

// Principal is who a token of the caller speaks for. It is comparable: two callers
// with one Principal have the same rights in every vault.
type Principal struct {
	Authority string // that gave the token: a URL, or "node" for the node's managed identity
	TenantID  string // "" for the node's managed identity
	ClientID  string // "" for the node's system-assigned identity
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
	vaults, err := lru.New[string, *vault](maxVaults)
	if err != nil {
		return nil, fmt.Errorf("remember vaults: %w", err)
	}
	return &Reader{cfg: cfg, vaults: vaults}, nil
}

// Get reads a version of an object, the latest if the object names none. Its error
// is an *Error or the context's own.
func (r *Reader) Get(ctx context.Context, caller Caller, o Object) (Value, error) {
	v, err := r.vault(o.Host)
	if err != nil {
		return Value{}, err
	}
	resp, err := v.secrets.GetSecret(withCaller(ctx, caller), o.Name, o.Version, nil)
	if err != nil {
		return Value{}, explain(ctx, err, o, caller)
	}
	return newSecret(resp.Secret, o)
}

func newSecret(s azsecrets.Secret, object Object) (Value, error) {
	if s.Value == nil || s.ID == nil || s.ID.Version() == "" || !strings.EqualFold(s.ID.Name(), object.Name) ||
		object.Version != "" && !strings.EqualFold(s.ID.Version(), object.Version) {
		return Value{}, &Error{Objects: []Object{object}, reason: ReasonServiceUnavailable,
			cause: object.Host + " sent an answer for {objects} without its value or version",
			fix:   "what answers there is not Key Vault; check proxies and private DNS"}
	}
	out := Value{Text: *s.Value, Version: s.ID.Version(), Managed: s.KID != nil}
	if s.ContentType != nil {
		out.ContentType = *s.ContentType
	}
	if s.Attributes != nil {
		out.NotBefore, out.Expires = s.Attributes.NotBefore, s.Attributes.Expires
	}
	return out, nil
}

// vault returns what is shared for the host, building it when needed.
func (r *Reader) vault(host string) (*vault, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, ok := r.vaults.Get(host); ok {
		return v, nil
	}
	retry := r.cfg.Retry
	retry.TryTimeout = 0 // it would run while a request waits for a slot
	send := authorize{slots: make(chan struct{}, r.cfg.MaxConcurrency), timeout: r.cfg.Retry.TryTimeout}
	secrets, err := azsecrets.NewClient("https://"+host, refuseToSignIn{}, &azsecrets.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport:        r.cfg.Transport,
		Retry:            retry,
		PerRetryPolicies: []policy.Policy{send},
	}})
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", host, err)
	}
	v := &vault{secrets: secrets}
	r.vaults.Add(host, v)
	return v, nil
}
