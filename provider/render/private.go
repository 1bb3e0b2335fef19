package render

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
)

// maxKey bounds a private key, whose check takes time by the square of its length. RSA of
// 16,384 bits, more than Key Vault has, takes 9 KB.
const maxKey = 16 << 10

// key takes a private key, written anew: without the attributes that Windows puts beside
// it, as by the provider we replace. One on P-256K stays as it is stored.
func (d *decoder) key(der []byte) error {
	if len(der) > maxKey {
		return errNotPFX
	}
	if isP256K(der) {
		d.out.keys = append(d.out.keys, der)
		return nil
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil { // whose text may quote the content
		return errNotPFX
	}
	out, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return errNotPFX
	}
	d.out.keys = append(d.out.keys, out)
	if signer, ok := key.(crypto.Signer); ok {
		if public, ok := signer.Public().(publicKey); ok {
			d.out.public = append(d.out.public, public)
		}
	}
	return nil
}

// isP256K tells whether a PrivateKeyInfo (RFC 5208) is of the curve P-256K, also known
// as secp256k1 (SEC 2), which Key Vault has and crypto/x509 has not.
func isP256K(der []byte) bool {
	const ecPublicKey, secp256k1 = "1.2.840.10045.2.1", "1.3.132.0.10"
	var (
		key struct {
			Version    int
			Algorithm  pkix.AlgorithmIdentifier
			PrivateKey []byte
		}
		curve asn1.ObjectIdentifier
	)
	return unmarshal(der, &key) && key.Algorithm.Algorithm.String() == ecPublicKey &&
		unmarshal(key.Algorithm.Parameters.FullBytes, &curve) && curve.String() == secp256k1
}
