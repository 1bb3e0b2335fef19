package pkcs12

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
)

// PrivateKey is one private key of a PFX.
type PrivateKey struct {
	// PKCS8 is the PrivateKeyInfo of RFC 5958 in DER, without attributes. If the key is
	// Unchecked, it is as stored.
	PKCS8 []byte
	// Unchecked reports that crypto/x509 rejects the key. It may be usable all the same: the
	// package does not know RSA-PSS keys and most curves, and OpenSSL ignores or replaces
	// wrong CRT values.
	Unchecked bool

	algorithm []byte // AlgorithmIdentifier
	public    []byte // subjectPublicKey of RFC 5280; nil if the key does not contain it
}

// NewPrivateKey reads a PrivateKeyInfo. It returns false if the bytes are none. The key is
// marshaled again, without the attributes that Windows adds: the provider that this one
// replaces does the same.
func NewPrivateKey(der []byte) (PrivateKey, bool) {
	var (
		info struct {
			Version    int
			Algorithm  asn1.RawValue
			PrivateKey []byte
		}
		algorithm pkix.AlgorithmIdentifier
	)
	if !unmarshal(der, &info) || !unmarshal(info.Algorithm.FullBytes, &algorithm) {
		return PrivateKey{}, false
	}
	out := PrivateKey{PKCS8: der, Unchecked: true, algorithm: info.Algorithm.FullBytes}
	if len(der) <= MaxPrivateKeySize && out.check() {
		return out, true
	}
	switch algorithm.Algorithm.String() {
	case "1.2.840.113549.1.1.1", "1.2.840.113549.1.1.10": // RSA, RSA-PSS
		if key := Elements(info.PrivateKey); len(key) > 2 { // RSAPrivateKey of RFC 8017
			out.public, _ = asn1.Marshal(key[1:3])
		}
	case "1.2.840.10045.2.1": // elliptic curves
		for _, e := range Elements(info.PrivateKey) { // ECPrivateKey of RFC 5915
			if e.Class == asn1.ClassContextSpecific && e.Tag == 1 {
				out.public = bitString(e.Bytes)
			}
		}
	}
	return out, true
}

// check replaces the key by what crypto/x509 reads, and reports whether it does.
func (k *PrivateKey) check() bool {
	key, err := x509.ParsePKCS8PrivateKey(k.PKCS8)
	if err != nil {
		return false
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return false
	}
	if pair, ok := key.(interface{ Public() crypto.PublicKey }); ok {
		if spki, err := x509.MarshalPKIXPublicKey(pair.Public()); err == nil {
			_, k.public = splitSPKI(spki)
		}
	}
	k.PKCS8, k.Unchecked = der, false
	return true
}

// Matches reports whether a SubjectPublicKeyInfo (RFC 5280) is that of the key. Some keys do
// not contain their public key. For them a match is not certain: it says only that both have
// the same algorithm, such as a curve.
func (k PrivateKey) Matches(spki []byte) (match, certain bool) {
	algorithm, public := splitSPKI(spki)
	if len(k.public) == 0 {
		return bytes.Equal(algorithm, k.algorithm), false
	}
	return bytes.Equal(public, k.public) || bytes.Equal(compress(public), compress(k.public)), true
}

// compress returns the x coordinate of an uncompressed point (SEC 1 section 2.3.3) with the
// sign of y, which is a compressed point, and other bytes as they are.
func compress(point []byte) []byte {
	n := len(point) / 2
	if len(point)%2 == 0 || n == 0 || point[0] != 4 && point[0] != 6 && point[0] != 7 {
		return point
	}
	return append([]byte{2 + point[len(point)-1]&1}, point[1:n+1]...)
}

// splitSPKI returns the algorithm and the public key of a SubjectPublicKeyInfo.
func splitSPKI(der []byte) (algorithm, public []byte) {
	e := Elements(der)
	if len(e) != 2 {
		return nil, nil
	}
	return e[0].FullBytes, bitString(e[1].FullBytes)
}

// bitString returns the bytes of a BIT STRING.
func bitString(der []byte) []byte {
	var out asn1.BitString
	unmarshal(der, &out)
	return out.Bytes
}

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

func (d *decoder) privateKey(der []byte) error {
	key, ok := NewPrivateKey(der)
	if !ok {
		return ErrContents
	}
	d.contents.PrivateKeys = append(d.contents.PrivateKeys, key)
	return nil
}
