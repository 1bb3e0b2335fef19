package azuretest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"sync"
)

// The keys of the process: making an RSA key takes longer than most tests, so fakes share them.
// Key 0 is the forger's, the n-th cluster of a fake signs with key 1+n.
const (
	forgerKey = iota
	firstClusterKey
)

// entraSigner signs Entra's access tokens. It is no RSA key as Entra's are: only the fake reads
// these tokens, and signing must not take the processor from what a benchmark measures.
var entraSigner = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(fmt.Sprintf("azuretest: generate signing key: %v", err)) // only a broken machine does that
	}
	return key
})

// entraKeyID is the ID that the key is published by.
var entraKeyID = sync.OnceValue(func() string { return randomHex(20) })

// entraJWKS are Entra's keys.
func entraJWKS() []byte {
	point, err := entraSigner().PublicKey.Bytes()
	if err != nil {
		panic(fmt.Sprintf("azuretest: public key: %v", err))
	}
	return mustJSON(map[string]any{"keys": []map[string]string{{
		"use": "sig", "kty": "EC", "crv": "P-256", "kid": entraKeyID(), "alg": "ES256",
		"x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:]),
	}}})
}

var keyPool struct {
	mu   sync.Mutex // guards keys; held while a key is generated, so that each is made once
	keys []*signingKey
}

// signingKey is an RSA key under the identifier its issuer publishes it by.
type signingKey struct {
	id  string
	rsa *rsa.PrivateKey
}

// processKey returns the i-th key of this process, generated at its first use.
func processKey(i int) (*signingKey, error) {
	keyPool.mu.Lock()
	defer keyPool.mu.Unlock()
	for len(keyPool.keys) <= i {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, fmt.Errorf("generate signing key: %w", err)
		}
		keyPool.keys = append(keyPool.keys, &signingKey{id: randomHex(20), rsa: k})
	}
	return keyPool.keys[i], nil
}

// jwk is a public key as RFC 7517 writes it.
type jwk struct {
	Use string `json:"use"`
	Kty string `json:"kty"`
	Kid string `json:"kid"`
	Alg string `json:"alg,omitempty"`
	N   string `json:"n"`
	E   string `json:"e"`
}

type jwkSet struct {
	Keys []jwk `json:"keys"`
}

func (k *signingKey) jwks() []byte {
	pub := &k.rsa.PublicKey
	return mustJSON(jwkSet{Keys: []jwk{{
		Use: "sig", Kty: "RSA", Kid: k.id, Alg: "RS256",
		N: base64.RawURLEncoding.EncodeToString(pub.N.Bytes()),
		E: base64.RawURLEncoding.EncodeToString(big.NewInt(int64(pub.E)).Bytes()),
	}}})
}

// parseJWKS reads the RSA keys of a JWKS by key ID; keys of other types are passed over.
func parseJWKS(body []byte) (map[string]*rsa.PublicKey, error) {
	var set jwkSet
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, fmt.Errorf("parse JWKS: %w", err)
	}
	keys := make(map[string]*rsa.PublicKey, len(set.Keys))
	for _, k := range set.Keys {
		if k.Kty != "RSA" {
			continue
		}
		n, err := base64.RawURLEncoding.DecodeString(k.N)
		if err != nil {
			return nil, fmt.Errorf("parse modulus of key %s: %w", k.Kid, err)
		}
		e, err := base64.RawURLEncoding.DecodeString(k.E)
		if err != nil || len(e) == 0 || len(e) > 4 {
			return nil, fmt.Errorf("parse exponent of key %s", k.Kid)
		}
		keys[k.Kid] = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("parse JWKS: no RSA key")
	}
	return keys, nil
}
