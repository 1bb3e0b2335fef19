package keyvault

import (
	"fmt"
	"path"
	"time"

	"akv-csi-provider/provider/request"
)

// Object names an object of a vault, or one version of it.
type Object struct {
	Host    string // DNS name of the vault
	Type    request.Type
	Name    string
	Version string // "" for the latest
	// AsPEM asks the vault to convert the secret of a certificate from PKCS#12 to PEM, which it can
	// since API version 2025-07-01. Earlier versions return it as it is.
	AsPEM bool
}

// String names the object in messages, without the vault.
func (o Object) String() string {
	switch {
	case o.Name == "" && o.Type == "": // the question was for the vault itself; see Reader.Resource
		return "its challenge"
	case o.Name == "": // see Reader.List
		return fmt.Sprintf("the list of its %ss", o.Type.Word())
	}
	if o.Version == "" {
		return fmt.Sprintf("%s %q", o.Type.Word(), o.Name)
	}
	return fmt.Sprintf("%s %q version %s", o.Type.Word(), o.Name, o.Version)
}

// Caller is on whose behalf an object is read.
type Caller struct {
	Principal
	Token   request.Secret // access token for the vault's audience
	Expires time.Time      // of the token
	// APIVersion is the version of Key Vault's API to begin with; "" is the SDK's, which is the
	// newest. It does not change what is read.
	APIVersion string
	// Optional says that what is read may not exist: its absence is an answer.
	Optional bool
	Failover Failover
}

// Failover says what a vault has to do with failover.
type Failover int

// The vaults that can be read. NoFailover is the zero value.
const (
	NoFailover  Failover = iota
	HasFailover          // its failover vault is read if it is unavailable, so no answer may be stale
	IsFailover           // it is read since the first vault is unavailable
)

// Node is the Authority of the node's managed identity, which belongs to no cloud's
// authority.
const Node = "node"

// Principal is who a token of the caller speaks for. It is comparable: two callers
// with one Principal have the same rights in every vault.
type Principal struct {
	Authority string // that issued the token: a URL, or Node
	TenantID  string // "" for the node's managed identity
	ClientID  string // or resource ID of a managed identity; "" for the node's system-assigned one
}

// String names the principal in messages.
func (p Principal) String() string {
	if p.Authority == Node {
		return p.name()
	}
	return fmt.Sprintf("%s in tenant %q", p.name(), p.TenantID)
}

// name is the short form, without the tenant, and of a resource ID only the last segment.
func (p Principal) name() string {
	switch {
	case p.Authority == Node && p.ClientID == "":
		return "the node's system-assigned managed identity"
	case p.Authority == Node:
		return fmt.Sprintf("the node's managed identity %q", path.Base(p.ClientID))
	}
	return fmt.Sprintf("client %q", p.ClientID)
}

// Value is one version of an object. Do not change its slices: callers may share them.
type Value struct {
	Version   string     // "" for the tokens of a managed storage account, which have none
	Disabled  bool       // informational: Key Vault serves disabled keys and certificates all the same
	NotBefore *time.Time // likewise
	Expires   *time.Time // likewise

	// Of a secret.
	Text        string
	ContentType string
	Managed     bool // it is the private side of a certificate

	// PEM is the text of the same secret read with Object.AsPEM, or "". A Reader does not set it:
	// a caller does that where it cannot read the text itself.
	PEM string

	// Of a certificate: DER (RFC 5280), which Key Vault calls CER.
	CER []byte

	// Of a key.
	Key *Key

	// Stale says that the vault is unavailable and this is what it returned before.
	Stale bool
}

// Key is the public side of a key as JSON Web Key (RFC 7517, RFC 7518 section 6).
// Numbers are big-endian.
type Key struct {
	Type  string // kty, such as RSA or EC-HSM
	Curve string // crv of an elliptic-curve key
	N, E  []byte // modulus and exponent of an RSA key
	X, Y  []byte // point of an elliptic-curve key
}

// perEntry is about what a cached answer takes beside its content, and perError what an error does
// beside its text.
const (
	perEntry = 512
	perError = 256
)

// size is about what a value takes in memory.
func (v Value) size() int {
	n := perEntry + len(v.Text) + len(v.ContentType) + len(v.CER)
	if v.Key != nil {
		n += len(v.Key.N) + len(v.Key.E) + len(v.Key.X) + len(v.Key.Y)
	}
	return n
}
