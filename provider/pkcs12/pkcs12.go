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
	// two seconds at most. A round is one hash over a block of 64 bytes (SHA-1, SHA-256);
	// one of SHA-384 or SHA-512 counts twice, and PBKDF2 takes two for each iteration.
	// OpenSSL writes 2,048 iterations for each key, Java 10,000; a PFX can require 2⁶².
	// The 600,000 that OWASP recommends for SHA-256 take 3,000,000 rounds: for a MAC, the
	// certificates and a private key.
	MaxRounds = 4_000_000

	// MaxPrivateKeySize is the number of bytes of a private key that crypto/x509 checks,
	// which takes time by the square of its length. RSA with 16,384 bits, more than Key
	// Vault supports, takes 9 KB.
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
	ErrFIPS      = errors.New("pkcs12: algorithm, or length of a salt, that FIPS 140-only mode does not allow")
	ErrContents  = errors.New("pkcs12: private key that is not PKCS#8, or certificate that is not DER")
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

// Decode reads a PFX in DER that has no password. Its error is one of the errors of this
// package, compared by identity or errors.Is.
func Decode(der []byte) (*Contents, error) {
	d := decoder{decrypter: newDecrypter()}
	if err := d.decode(der); err != nil {
		return nil, err
	}
	return &d.contents, nil
}

// The content types of RFC 7292 section 4.1 and the bag types of section 4.2.
const (
	oidData          = "1.2.840.113549.1.7.1"
	oidEncryptedData = "1.2.840.113549.1.7.6"

	oidKeyBag              = "1.2.840.113549.1.12.10.1.1"
	oidPKCS8ShroudedKeyBag = "1.2.840.113549.1.12.10.1.2"
	oidCertBag             = "1.2.840.113549.1.12.10.1.3"
	oidSafeContentsBag     = "1.2.840.113549.1.12.10.1.6"

	oidX509Certificate = "1.2.840.113549.1.9.22.1"
)

// The structures of RFC 7292 section 4. Fields after the last one, such as the
// attributes of a bag, are not read.
type (
	pfx struct {
		Version  int
		AuthSafe contentInfo
		MacData  macData `asn1:"optional"`
	}
	contentInfo struct {
		ContentType asn1.ObjectIdentifier
		Content     asn1.RawValue `asn1:"tag:0,explicit,optional"`
	}
	encryptedData struct {
		Version              int
		EncryptedContentInfo struct {
			ContentType      asn1.ObjectIdentifier
			Algorithm        pkix.AlgorithmIdentifier
			EncryptedContent []byte `asn1:"tag:0,optional"`
		}
	}
	safeBag struct {
		ID    asn1.ObjectIdentifier
		Value asn1.RawValue `asn1:"tag:0,explicit"`
	}
)

// decoder reads one file.
type decoder struct {
	decrypter decrypter
	contents  Contents
}

func (d *decoder) decode(der []byte) error {
	if len(der) > MaxSize {
		return ErrTooLarge
	}
	var file pfx
	if !unmarshal(der, &file) || file.Version != 3 {
		return ErrMalformed
	}
	if file.AuthSafe.ContentType.String() != oidData { // public-key integrity mode (section 4)
		return ErrAlgorithm
	}
	var authSafe []byte
	if !unmarshal(file.AuthSafe.Content.Bytes, &authSafe) {
		return ErrMalformed
	}
	if len(file.MacData.Mac.Algorithm.Algorithm) > 0 {
		if err := d.decrypter.verify(file.MacData, authSafe); err != nil {
			return err
		}
	}
	var parts []contentInfo // the AuthenticatedSafe
	if !unmarshal(authSafe, &parts) {
		return ErrMalformed
	}
	for _, part := range parts {
		if err := d.part(part); err != nil {
			return err
		}
	}
	if len(d.contents.PrivateKeys) == 0 && len(d.contents.Certificates) == 0 {
		return ErrMalformed
	}
	return nil
}

// part reads one part of the AuthenticatedSafe.
func (d *decoder) part(part contentInfo) error {
	switch part.ContentType.String() {
	case oidData:
		var data []byte
		if !unmarshal(part.Content.Bytes, &data) {
			return ErrMalformed
		}
		return d.safeContents(data, 0)
	case oidEncryptedData:
		var encrypted encryptedData
		if !unmarshal(part.Content.Bytes, &encrypted) {
			return ErrMalformed
		}
		info := encrypted.EncryptedContentInfo
		data, err := d.decrypter.decrypt(info.Algorithm, info.EncryptedContent)
		if err != nil {
			return err
		}
		return d.safeContents(data, 0)
	}
	return ErrAlgorithm // EnvelopedData: public-key privacy mode
}

func (d *decoder) safeContents(der []byte, depth int) error {
	var bags []safeBag
	if depth > MaxNesting || !unmarshal(der, &bags) {
		return ErrMalformed
	}
	for _, bag := range bags {
		if err := d.safeBag(bag, depth); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) safeBag(bag safeBag, depth int) error {
	value := bag.Value.Bytes
	switch bag.ID.String() {
	case oidKeyBag:
		return d.privateKey(value)
	case oidPKCS8ShroudedKeyBag:
		return d.encryptedPrivateKey(value)
	case oidCertBag:
		return d.certificate(value)
	case oidSafeContentsBag:
		return d.safeContents(value, depth+1)
	}
	return nil // a CRL or a secret: neither a key nor a certificate
}

func (d *decoder) certificate(der []byte) error {
	var bag struct { // CertBag
		ID    asn1.ObjectIdentifier
		Value []byte `asn1:"tag:0,explicit"`
	}
	if !unmarshal(der, &bag) {
		return ErrMalformed
	}
	if bag.ID.String() != oidX509Certificate { // SDSI, for which PEM has no label
		return nil
	}
	if !IsSequence(bag.Value) {
		return ErrContents
	}
	d.contents.Certificates = append(d.contents.Certificates, bag.Value)
	return nil
}

// unmarshal reads one value in DER and reports whether nothing follows it.
func unmarshal(der []byte, into any) bool {
	rest, err := asn1.Unmarshal(der, into)
	return err == nil && len(rest) == 0
}

// IsSequence reports whether the bytes are one SEQUENCE in DER, as every certificate is.
func IsSequence(der []byte) bool {
	var v asn1.RawValue
	return unmarshal(der, &v) && v.Class == asn1.ClassUniversal && v.Tag == asn1.TagSequence && v.IsCompound
}

// Elements returns the elements of a SEQUENCE or SET, and none if the bytes are no such thing. It
// reads what crypto/x509 rejects, such as curves and serial numbers that Key Vault accepts.
func Elements(der []byte) (out []asn1.RawValue) {
	var v asn1.RawValue
	if !unmarshal(der, &v) || v.Class != asn1.ClassUniversal || v.Tag != asn1.TagSequence && v.Tag != asn1.TagSet {
		return nil
	}
	for rest := v.Bytes; len(rest) > 0; {
		var (
			e   asn1.RawValue
			err error
		)
		if rest, err = asn1.Unmarshal(rest, &e); err != nil {
			return nil
		}
		out = append(out, e)
	}
	return out
}
