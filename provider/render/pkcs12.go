package render

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
)

// The decoder of PKCS#12 (RFC 7292) is our own so that no file costs more than it may.
// The key of a shrouded bag inside an encrypted part is derived once that part is open,
// and nobody can see before how many rounds it asks for: a library that takes the file
// as a whole may run for ever. It also reads what Key Vault keeps and go-pkcs12 refuses:
// several keys, no key, many parts.

// Why a PFX cannot be read. The words are the same whatever it holds.
var (
	errTooLong   = fmt.Errorf("is longer than %d bytes", maxPFXText)
	errNotBase64 = errors.New("is not base64 text")
	errNotPFX    = errors.New("is not PKCS#12 with private keys or certificates")
	errPassword  = errors.New("is damaged or under a password")
	errAlgorithm = errors.New("is protected by an algorithm that is not supported")
	errRounds    = fmt.Errorf("asks for more than %d hash rounds to derive its keys", maxRounds)
)

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

// maxNesting bounds the bags within bags.
const maxNesting = 4

// pfx is what a PKCS#12 file holds, in the order of the file. What belongs into it is
// the vault's to say: where the policy makes a private key not exportable, it has none.
type pfx struct {
	certs  [][]byte    // in DER
	keys   [][]byte    // as PKCS#8 in DER
	public []publicKey // of those keys that the standard library knows
}

// parsePFX reads a PKCS#12 file under an empty password, as Key Vault returns it.
func parsePFX(der []byte) (pfx, error) {
	d := newDecoder()
	if err := d.file(der); err != nil {
		return pfx{}, err
	}
	return d.out, nil
}

// decoder reads one file.
type decoder struct {
	lock lock
	out  pfx
}

func newDecoder() *decoder { return &decoder{lock: newLock()} }

func (d *decoder) file(der []byte) error {
	var pdu pfxPDU
	if !unmarshal(der, &pdu) || pdu.Version != 3 {
		return errNotPFX
	}
	if pdu.AuthSafe.Type.String() != oidData { // signed by a public key (section 4)
		return errAlgorithm
	}
	var safe []byte
	if !unmarshal(pdu.AuthSafe.Content.Bytes, &safe) {
		return errNotPFX
	}
	if len(pdu.MAC.Digest.Algorithm.Algorithm) > 0 {
		if err := d.lock.verify(pdu.MAC, safe); err != nil {
			return err
		}
	}
	var parts []contentInfo
	if !unmarshal(safe, &parts) {
		return errNotPFX
	}
	for _, part := range parts {
		if err := d.part(part); err != nil {
			return err
		}
	}
	if len(d.out.keys) == 0 && len(d.out.certs) == 0 {
		return errNotPFX
	}
	return nil
}

func (d *decoder) part(part contentInfo) error {
	switch part.Type.String() {
	case oidData:
		var contents []byte
		if !unmarshal(part.Content.Bytes, &contents) {
			return errNotPFX
		}
		return d.bags(contents, 0)
	case oidEncryptedData:
		var encrypted encryptedData
		if !unmarshal(part.Content.Bytes, &encrypted) {
			return errNotPFX
		}
		contents, err := d.lock.open(encrypted.Info.Algorithm, encrypted.Info.Data)
		if err != nil {
			return err
		}
		return d.bags(contents, 0)
	}
	return errAlgorithm // EnvelopedData: for the holder of another private key
}

func (d *decoder) bags(contents []byte, depth int) error {
	var bags []safeBag
	if depth > maxNesting || !unmarshal(contents, &bags) {
		return errNotPFX
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
			return errNotPFX
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
		return errNotPFX
	}
	if cert.Type.String() != oidX509Certificate { // SDSI, which PEM has no label for
		return nil
	}
	if !isSequence(cert.Data) {
		return errNotPFX
	}
	d.out.certs = append(d.out.certs, cert.Data)
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
