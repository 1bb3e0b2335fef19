// Package pkcs12 reads PKCS#12 files (PFX, RFC 7292) at a bounded cost. It is pure: no
// network, no clock, no file system.
//
// No library does this. A PFX states the iteration count of each of its key derivations,
// and an encrypted part can contain a private key that is encrypted once more: its
// iteration count is visible only after the part has been decrypted. Libraries such as
// go-pkcs12 decode the file as a whole and do not limit these counts. A PFX of less than
// 500 bytes keeps them busy forever, and a caller cannot detect it beforehand. They also
// reject files that Key Vault returns: with several private keys, without any, in many
// parts.
//
// This decoder charges every derivation to one budget before it runs. It supports the
// empty password only, under which Key Vault returns every PFX.
package pkcs12

import (
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
)

// Bounds of one PFX.
const (
	// MaxSize is the number of bytes in DER. The time of a key check or a signature check
	// grows faster than the numbers in it.
	MaxSize = 48 << 10

	// MaxRounds is the number of hash rounds that all key derivations may cost together:
	// half a second at most. A round is one hash over a block of 64 bytes (SHA-1,
	// SHA-256); one of SHA-384 or SHA-512 counts twice, and PBKDF2 takes two for each
	// iteration. OpenSSL writes 2,048 iterations for each key, Java 10,000; a PFX can ask
	// for 2⁶².
	MaxRounds = 1_000_000

	// MaxPrivateKeySize is the number of bytes of one private key, whose check takes time
	// by the square of its length. RSA with 16,384 bits, more than Key Vault supports,
	// takes 9 KB.
	MaxPrivateKeySize = 16 << 10

	// MaxNesting is the depth of safe bags within safe bags.
	MaxNesting = 4
)

// The errors of Decode. None of them contains a part of the file.
var (
	ErrTooLarge  = errors.New("pkcs12: file is larger than MaxSize")
	ErrMalformed = errors.New("pkcs12: not PKCS#12 with private keys or certificates")
	ErrPassword  = errors.New("pkcs12: damaged, or protected by a password")
	ErrAlgorithm = errors.New("pkcs12: unsupported algorithm")
	ErrRounds    = errors.New("pkcs12: key derivations cost more than MaxRounds")
)

// Contents are the private keys and certificates of a PFX, both in stored order. One of
// them may be empty: for a certificate whose policy makes the key non-exportable, Key
// Vault returns no private key.
type Contents struct {
	PrivateKeys []PrivateKey
	// Certificates are in DER. Decode checks only that each is one SEQUENCE: crypto/x509
	// rejects curves and serial numbers that Key Vault accepts.
	Certificates [][]byte
}

// PrivateKey is one private key of a PFX.
type PrivateKey struct {
	// PKCS8 is the PrivateKeyInfo of RFC 5958 in DER, without attributes. A key on P-256K,
	// which crypto/x509 does not support, is returned as stored.
	PKCS8 []byte
	// Public is the public key of a key that can sign, or nil for any other key and for
	// one on P-256K.
	Public crypto.PublicKey
}

// Decode reads a PFX in DER that has no password. Its error is one of the errors of this
// package, compared by identity or errors.Is.
func Decode(der []byte) (*Contents, error) {
	d := newDecoder()
	if err := d.file(der); err != nil {
		return nil, err
	}
	return &d.out, nil
}

// Types of what a part (RFC 7292 section 4.1) and a bag (section 4.2) hold.
const (
	oidData          = "1.2.840.113549.1.7.1"
	oidEncryptedData = "1.2.840.113549.1.7.6"

	oidKeyBag      = "1.2.840.113549.1.12.10.1.1"
	oidShroudedBag = "1.2.840.113549.1.12.10.1.2"
	oidCertBag     = "1.2.840.113549.1.12.10.1.3"
	oidNestedBag   = "1.2.840.113549.1.12.10.1.6"

	oidX509Certificate = "1.2.840.113549.1.9.22.1"
)

// The structures of RFC 7292 section 4. What may follow their last field, such as the
// attributes of a bag, is not read.
type (
	pfxPDU struct {
		Version  int
		AuthSafe contentInfo
		MAC      macData `asn1:"optional"`
	}
	contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
	}
	encryptedData struct {
		Version int
		Info    struct {
			Type      asn1.ObjectIdentifier
			Algorithm pkix.AlgorithmIdentifier
			Data      []byte `asn1:"tag:0,optional"`
		}
	}
	safeBag struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue `asn1:"tag:0,explicit"`
	}
	certBag struct {
		Type asn1.ObjectIdentifier
		Data []byte `asn1:"tag:0,explicit"`
	}
	shroudedKey struct { // EncryptedPrivateKeyInfo of RFC 5958
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
)

// decoder reads one file.
type decoder struct {
	lock lock
	out  Contents
}

func newDecoder() *decoder { return &decoder{lock: newLock()} }

func (d *decoder) file(der []byte) error {
	if len(der) > MaxSize {
		return ErrTooLarge
	}
	var pdu pfxPDU
	if !unmarshal(der, &pdu) || pdu.Version != 3 {
		return ErrMalformed
	}
	if pdu.AuthSafe.Type.String() != oidData { // signed by a public key (section 4)
		return ErrAlgorithm
	}
	var safe []byte
	if !unmarshal(pdu.AuthSafe.Content.Bytes, &safe) {
		return ErrMalformed
	}
	if len(pdu.MAC.Digest.Algorithm.Algorithm) > 0 {
		if err := d.lock.verify(pdu.MAC, safe); err != nil {
			return err
		}
	}
	var parts []contentInfo
	if !unmarshal(safe, &parts) {
		return ErrMalformed
	}
	for _, part := range parts {
		if err := d.part(part); err != nil {
			return err
		}
	}
	if len(d.out.PrivateKeys) == 0 && len(d.out.Certificates) == 0 {
		return ErrMalformed
	}
	return nil
}

func (d *decoder) part(part contentInfo) error {
	switch part.Type.String() {
	case oidData:
		var contents []byte
		if !unmarshal(part.Content.Bytes, &contents) {
			return ErrMalformed
		}
		return d.bags(contents, 0)
	case oidEncryptedData:
		var encrypted encryptedData
		if !unmarshal(part.Content.Bytes, &encrypted) {
			return ErrMalformed
		}
		contents, err := d.lock.open(encrypted.Info.Algorithm, encrypted.Info.Data)
		if err != nil {
			return err
		}
		return d.bags(contents, 0)
	}
	return ErrAlgorithm // EnvelopedData: for the holder of another private key
}

func (d *decoder) bags(contents []byte, depth int) error {
	var bags []safeBag
	if depth > MaxNesting || !unmarshal(contents, &bags) {
		return ErrMalformed
	}
	for _, bag := range bags {
		if err := d.bag(bag, depth); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) bag(bag safeBag, depth int) error {
	value := bag.Value.Bytes
	switch bag.Type.String() {
	case oidKeyBag:
		return d.key(value)
	case oidShroudedBag:
		var key shroudedKey
		if !unmarshal(value, &key) {
			return ErrMalformed
		}
		der, err := d.lock.open(key.Algorithm, key.Data)
		if err != nil {
			return err
		}
		return d.key(der)
	case oidCertBag:
		return d.cert(value)
	case oidNestedBag:
		return d.bags(value, depth+1)
	}
	return nil // a CRL, a secret: nothing for a file of keys and certificates
}

func (d *decoder) cert(value []byte) error {
	var cert certBag
	if !unmarshal(value, &cert) {
		return ErrMalformed
	}
	if cert.Type.String() != oidX509Certificate { // SDSI, which PEM has no label for
		return nil
	}
	if !isSequence(cert.Data) {
		return ErrMalformed
	}
	d.out.Certificates = append(d.out.Certificates, cert.Data)
	return nil
}

// unmarshal reads one value in DER that nothing follows.
func unmarshal(der []byte, into any) bool {
	rest, err := asn1.Unmarshal(der, into)
	return err == nil && len(rest) == 0
}

// isSequence tells whether the bytes are one SEQUENCE in DER, which every
// certificate is. What is in it is the vault's to answer for: crypto/x509 refuses
// curves and serial numbers that Key Vault accepts.
func isSequence(der []byte) bool {
	var v asn1.RawValue
	return unmarshal(der, &v) && v.Class == asn1.ClassUniversal && v.Tag == asn1.TagSequence && v.IsCompound
}
