package azuretest

import (
	"bytes"
	"crypto"
	"crypto/cipher"
	"crypto/des" // what Key Vault writes
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" // likewise
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
)

// PFX returns a certificate with its private key as PKCS#12 (RFC 7292) without a password, as Key Vault
// writes it: the key before the certificates, each encrypted with a salt of 20 bytes. The chain is
// DER, leaf first; Key Vault writes the root first. old is how it wrote until September 2020: the
// certificates in RC2 with 40 bits, and a MAC of one round.
func PFX(key crypto.PrivateKey, chain [][]byte, old bool) []byte {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(fmt.Sprintf("azuretest: private key: %v", err))
	}
	certificates, rounds := tripleDES, pfxRounds
	if old {
		certificates, rounds = rc240, 1
	}
	keyID := attribute(oidLocalKeyID, octets([]byte{1, 0, 0, 0}))
	algorithm, data := tripleDES.encrypt(pkcs8)
	keyBag := sequence(oid(oidShroudedKey), explicit(sequence(algorithm, octets(data))), keyID)
	var bags []byte
	for i := len(chain) - 1; i >= 0; i-- {
		bag := [][]byte{oid(oidCertificateBag), explicit(sequence(oid(oidX509), explicit(octets(chain[i]))))}
		if i == 0 {
			bag = append(bag, keyID)
		}
		bags = append(bags, sequence(bag...)...)
	}
	algorithm, data = certificates.encrypt(sequence(bags))
	content := sequence(oid(oidData), algorithm, tlv(asn1.ClassContextSpecific, 0, false, data))
	safe := sequence(
		sequence(oid(oidData), explicit(octets(sequence(keyBag)))),
		sequence(oid(oidEncryptedData), explicit(sequence(integer(0), content))),
	)
	salt := randomBytes(pfxSalt)
	mac := hmac.New(sha1.New, derive(purposeMAC, salt, rounds, sha1.Size))
	mac.Write(safe)
	digest := sequence(sequence(oid(oidSHA1), []byte{asn1.TagNull, 0}), octets(mac.Sum(nil)))
	return sequence(integer(3), sequence(oid(oidData), explicit(octets(safe))), sequence(digest, octets(salt), integer(rounds)))
}

const (
	pfxRounds = 2000
	pfxSalt   = 20
)

var (
	oidData           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncryptedData  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidShroudedKey    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	oidCertificateBag = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 3}
	oidX509           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 22, 1}
	oidLocalKeyID     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 21}
	oidSHA1           = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
)

// pbe is an encryption of RFC 7292, appendix C.
type pbe struct {
	id     asn1.ObjectIdentifier
	size   int // of the key
	cipher func(key []byte) cipher.Block
}

var (
	tripleDES = pbe{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 3}, 24, func(key []byte) cipher.Block {
		block, err := des.NewTripleDESCipher(key)
		if err != nil {
			panic(fmt.Sprintf("azuretest: 3DES: %v", err)) // the size is constant
		}
		return block
	}}
	rc240 = pbe{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 6}, 5, func(key []byte) cipher.Block { return newRC2(key) }}
)

func (p pbe) encrypt(plain []byte) (algorithm, data []byte) {
	salt := randomBytes(pfxSalt)
	block := p.cipher(derive(purposeKey, salt, pfxRounds, p.size))
	n := block.BlockSize() - len(plain)%block.BlockSize()
	data = append(bytes.Clone(plain), bytes.Repeat([]byte{byte(n)}, n)...)
	cipher.NewCBCEncrypter(block, derive(purposeIV, salt, pfxRounds, block.BlockSize())).CryptBlocks(data, data)
	return sequence(oid(p.id), sequence(octets(salt), integer(pfxRounds))), data
}

// The purposes of derived bytes.
const (
	purposeKey = 1
	purposeIV  = 2
	purposeMAC = 3
)

// derive derives bytes from the empty password, which Windows writes as two zero bytes, by RFC 7292,
// appendix B.2, with the names used there.
func derive(id byte, salt []byte, rounds, size int) []byte {
	const v = sha1.BlockSize
	fill := func(pattern []byte) []byte {
		return bytes.Repeat(pattern, (v+len(pattern)-1)/len(pattern))[:v]
	}
	i := [][]byte{fill(salt), fill([]byte{0, 0})}
	var out []byte
	for len(out) < size {
		a := sha1.Sum(bytes.Join(append([][]byte{bytes.Repeat([]byte{id}, v)}, i...), nil))
		for range rounds - 1 {
			a = sha1.Sum(a[:])
		}
		out = append(out, a[:]...)
		b := new(big.Int).SetBytes(fill(a[:]))
		b.Add(b, big.NewInt(1))
		for j := range i {
			sum := new(big.Int).Add(new(big.Int).SetBytes(i[j]), b)
			sum.SetBit(sum, 8*v, 0).SetBit(sum, 8*v+1, 0)
			i[j] = sum.FillBytes(make([]byte, v))
		}
	}
	return out[:size]
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b
}

func attribute(id asn1.ObjectIdentifier, value []byte) []byte {
	return tlv(asn1.ClassUniversal, asn1.TagSet, true, sequence(oid(id), tlv(asn1.ClassUniversal, asn1.TagSet, true, value)))
}

func tlv(class, tag int, compound bool, parts ...[]byte) []byte {
	return marshal(asn1.RawValue{Class: class, Tag: tag, IsCompound: compound, Bytes: bytes.Join(parts, nil)})
}

func sequence(parts ...[]byte) []byte {
	return tlv(asn1.ClassUniversal, asn1.TagSequence, true, parts...)
}

func explicit(b []byte) []byte            { return tlv(asn1.ClassContextSpecific, 0, true, b) }
func oid(id asn1.ObjectIdentifier) []byte { return marshal(id) }
func integer(n int) []byte                { return marshal(n) }
func octets(b []byte) []byte              { return marshal(b) }

func marshal(v any) []byte {
	der, err := asn1.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("azuretest: ASN.1: %v", err)) // of nothing that is written here
	}
	return der
}
