package pkcs12

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
)

// key takes a private key, written anew: without the attributes that Windows puts beside
// it, as by the provider we replace. One on P-256K stays as it is stored.
func (d *decoder) key(der []byte) error {
	if len(der) > MaxPrivateKeySize {
		return ErrMalformed
	}
	if isP256K(der) {
		d.out.PrivateKeys = append(d.out.PrivateKeys, PrivateKey{PKCS8: der})
		return nil
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil { // whose text may quote the content
		return ErrMalformed
	}
	var out PrivateKey
	if out.PKCS8, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return ErrMalformed
	}
	if signer, ok := key.(crypto.Signer); ok {
		out.Public = signer.Public()
	}
	d.out.PrivateKeys = append(d.out.PrivateKeys, out)
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
