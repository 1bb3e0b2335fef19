package render

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"software.sslmate.com/src/go-pkcs12"
)

// Why a PFX cannot be read. The words are the same whatever it holds.
var (
	errTooLong   = fmt.Errorf("is longer than %d bytes", maxPFXText)
	errNotBase64 = errors.New("is not base64 text")
	errNotPFX    = errors.New("is not PKCS#12 with one private key and its certificates")
	errPassword  = errors.New("is damaged or under a password")
	errAlgorithm = errors.New("is protected by an algorithm that is not supported")
	errRounds    = fmt.Errorf("asks for more than %d rounds to derive its keys", maxRounds)
)

// pfx is what a PKCS#12 file holds.
type pfx struct {
	key   any                 // of crypto/x509
	certs []*x509.Certificate // in the order of the file
}

// parsePFX reads a PKCS#12 file under an empty password, as Key Vault returns it: it
// writes what is imported anew, with the one key that a certificate has.
func parsePFX(der []byte) (pfx, error) {
	if err := checkRounds(der); err != nil {
		return pfx{}, err
	}
	key, leaf, others, err := pkcs12.DecodeChain(der, "")
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword), errors.Is(err, pkcs12.ErrDecryption):
		return pfx{}, errPassword
	case errors.As(err, new(pkcs12.NotImplementedError)):
		return pfx{}, errAlgorithm
	case err != nil: // whose text may quote the content
		return pfx{}, errNotPFX
	}
	return pfx{key: key, certs: append([]*x509.Certificate{leaf}, others...)}, nil
}

// maxRounds bounds the hash rounds that one PFX may cost in all its key derivations
// together: half a second at most. Key Vault and OpenSSL ask for 2,000 or so each,
// Java for up to 100,000; a PFX can ask for 2³¹.
const maxRounds = 1_000_000

// The parts of RFC 7292 section 4 that say how keys are derived.
type (
	pfxPDU struct {
		Version  int
		AuthSafe contentInfo
		MAC      struct {
			Digest struct {
				Algorithm pkix.AlgorithmIdentifier
				Value     []byte
			}
			Salt   []byte
			Rounds int `asn1:"optional,default:1"`
		} `asn1:"optional"`
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
	shroudedKey struct { // EncryptedPrivateKeyInfo of RFC 5958
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
)

// checkRounds refuses a file that would cost too much. It sees all counts but those
// of a key within an encrypted part, which only the decoder can open: a file by which
// that one could be kept busy is none that the certificate service of Key Vault writes,
// and nothing else puts a kid on a secret. What it cannot read the decoder refuses.
func checkRounds(der []byte) error {
	var pdu pfxPDU
	if !unmarshal(der, &pdu) {
		return errNotPFX
	}
	var safe []byte
	var parts []contentInfo
	if !unmarshal(pdu.AuthSafe.Content.Bytes, &safe) || !unmarshal(safe, &parts) {
		return errNotPFX
	}
	left := costs{maxRounds}
	left.take(pdu.MAC.Rounds, 1)
	left.takeFor(pdu.MAC.Digest.Algorithm)
	for _, part := range parts {
		var encrypted encryptedData
		if unmarshal(part.Content.Bytes, &encrypted) {
			left.takeFor(encrypted.Info.Algorithm)
		}
		var contents []byte
		var bags []safeBag
		if unmarshal(part.Content.Bytes, &contents) && unmarshal(contents, &bags) {
			for _, bag := range bags {
				var key shroudedKey
				if unmarshal(bag.Value.Bytes, &key) {
					left.takeFor(key.Algorithm)
				}
			}
		}
	}
	if left.rounds < 0 {
		return errRounds
	}
	return nil
}

// costs are the rounds that are left.
type costs struct{ rounds int }

// take charges for a derivation of so many blocks.
func (c *costs) take(rounds, blocks int) {
	if rounds > maxRounds || blocks > maxRounds || rounds*blocks > maxRounds {
		c.rounds = -1
		return
	}
	c.rounds -= rounds * blocks
}

// takeFor charges for what the parameters of an algorithm say: salt and rounds of
// RFC 7292 appendix C and of PBKDF2, where the length of the key may follow, or an
// algorithm within, as in PBES2 and PBMAC1 (RFC 8018 appendix A).
func (c *costs) takeFor(algorithm pkix.AlgorithmIdentifier) {
	var parameters []asn1.RawValue
	if !unmarshal(algorithm.Parameters.FullBytes, &parameters) {
		return
	}
	rounds, blocks := 0, 1
	for i, p := range parameters {
		var n int
		var inner pkix.AlgorithmIdentifier
		switch {
		case i == 1 && unmarshal(p.FullBytes, &n):
			rounds = n
		case i == 2 && unmarshal(p.FullBytes, &n):
			const shortestHash = 20
			blocks = 1 + n/shortestHash
		case i == 0 && unmarshal(p.FullBytes, &inner):
			c.takeFor(inner)
		case p.Class == asn1.ClassUniversal && p.Tag == asn1.TagInteger: // longer than an int
			c.rounds = -1
		}
	}
	c.take(rounds, blocks)
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
