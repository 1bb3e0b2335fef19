package pkcs12

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
)

func (d *decoder) encryptedPrivateKey(der []byte) error {
	var info struct { // EncryptedPrivateKeyInfo of RFC 5958 section 3
		Algorithm     pkix.AlgorithmIdentifier
		EncryptedData []byte
	}
	if !unmarshal(der, &info) {
		return ErrMalformed
	}
	key, err := d.decrypter.decrypt(info.Algorithm, info.EncryptedData)
	if err != nil {
		return err
	}
	return d.privateKey(key)
}

// privateKey adds a private key. It is marshaled again, without the attributes that
// Windows adds: the provider that this one replaces does the same. A key on P-256K is
// returned as stored.
func (d *decoder) privateKey(der []byte) error {
	if len(der) > MaxPrivateKeySize {
		return ErrMalformed
	}
	if isP256K(der) {
		d.contents.PrivateKeys = append(d.contents.PrivateKeys, PrivateKey{PKCS8: der})
		return nil
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil { // its text may quote the content
		return ErrMalformed
	}
	var out PrivateKey
	if out.PKCS8, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return ErrMalformed
	}
	if signer, ok := key.(crypto.Signer); ok {
		out.Public = signer.Public()
	}
	d.contents.PrivateKeys = append(d.contents.PrivateKeys, out)
	return nil
}

// isP256K reports whether a PrivateKeyInfo (RFC 5958) is on the curve P-256K, also known
// as secp256k1 (SEC 2), which Key Vault supports and crypto/x509 does not.
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
