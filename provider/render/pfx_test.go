package render_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"math"
)

// What follows writes PKCS#12 (RFC 7292) that no encoder at hand would.

var (
	oidData      = []int{1, 2, 840, 113549, 1, 7, 1}
	oidEncrypted = []int{1, 2, 840, 113549, 1, 7, 6}
	oidPBES2     = []int{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2    = []int{1, 2, 840, 113549, 1, 5, 12}
	oidSHA256MAC = []int{1, 2, 840, 113549, 2, 9}
	oidAES256    = []int{2, 16, 840, 1, 101, 3, 4, 1, 42}
	oidSHA1      = []int{1, 3, 14, 3, 2, 26}

	oidKey, oidShrouded, oidCert = bagOID(1), bagOID(2), bagOID(3)
	oidCRL                       = bagOID(4)
	oidX509                      = []int{1, 2, 840, 113549, 1, 9, 22, 1}
)

func bagOID(n int) []int { return []int{1, 2, 840, 113549, 1, 12, 10, 1, n} }

func oid(id []int) []byte        { return must(asn1.Marshal(asn1.ObjectIdentifier(id))) }
func integer(n int) []byte       { return must(asn1.Marshal(n)) }
func octets(b []byte) []byte     { return must(asn1.Marshal(b)) }
func seq(parts ...[]byte) []byte { return tlv(asn1.ClassUniversal, asn1.TagSequence, true, parts...) }
func explicit(b ...[]byte) []byte {
	return tlv(asn1.ClassContextSpecific, 0, true, b...)
}

func tlv(class, tag int, compound bool, parts ...[]byte) []byte {
	return must(asn1.Marshal(asn1.RawValue{Class: class, Tag: tag, IsCompound: compound, Bytes: bytes.Join(parts, nil)}))
}

func pad(b []byte, size int) []byte {
	n := size - len(b)%size
	return append(bytes.Clone(b), bytes.Repeat([]byte{byte(n)}, n)...)
}

var salt = []byte("salt and")

// kdf is PBKDF2 with HMAC-SHA-256.
func kdf(iterations int) []byte {
	return seq(oid(oidPBKDF2), seq(octets(salt), integer(iterations), seq(oid(oidSHA256MAC), []byte{5, 0})))
}

// claim names AES-256 under so many iterations, whether made or not.
func claim(iterations int) []byte {
	return seq(oid(oidPBES2), seq(kdf(iterations), seq(oid(oidAES256), octets(make([]byte, aes.BlockSize)))))
}

func pbes2(iterations int, plain []byte) (algorithm, data []byte) {
	key := must(pbkdf2.Key(sha256.New, "", salt, iterations, 32))
	data = pad(plain, aes.BlockSize)
	cipher.NewCBCEncrypter(must(aes.NewCipher(key)), make([]byte, aes.BlockSize)).CryptBlocks(data, data)
	return claim(iterations), data
}

// hostileKey asks for more iterations than a node can spare.
func hostileKey() []byte {
	return bag(oidShrouded, seq(claim(math.MaxInt32), octets(make([]byte, 64))))
}

func bag(id []int, value []byte, attributes ...[]byte) []byte {
	b := [][]byte{oid(id), explicit(value)}
	if len(attributes) > 0 {
		b = append(b, tlv(asn1.ClassUniversal, asn1.TagSet, true, attributes...))
	}
	return seq(b...)
}

// attribute is one that no reader knows.
func attribute() []byte {
	return seq(oid([]int{1, 3, 6, 1, 4, 1, 311, 17, 2}), tlv(asn1.ClassUniversal, asn1.TagSet, true, []byte{5, 0}))
}

func keyBag(k crypto.Signer) []byte {
	return bag(oidKey, must(x509.MarshalPKCS8PrivateKey(k)), attribute())
}

func shroudedBag(iterations int, k crypto.Signer) []byte {
	algorithm, data := pbes2(iterations, must(x509.MarshalPKCS8PrivateKey(k)))
	return bag(oidShrouded, seq(algorithm, octets(data)), attribute())
}

func certBag(der []byte) []byte {
	return bag(oidCert, seq(oid(oidX509), explicit(octets(der))), attribute())
}

func certBags(entities ...*entity) (out [][]byte) {
	for _, e := range entities {
		out = append(out, certBag(e.cert.Raw))
	}
	return out
}

func plainPart(bags ...[]byte) []byte { return seq(oid(oidData), explicit(octets(seq(bags...)))) }

func encryptedPart(algorithm, data []byte) []byte {
	content := tlv(asn1.ClassContextSpecific, 0, false, data)
	return seq(oid(oidEncrypted), explicit(seq(integer(0), seq(oid(oidData), algorithm, content))))
}

// pfxFile is a PFX without MAC.
func pfxFile(parts ...[]byte) []byte { return pfxWithMAC(nil, seq(parts...)) }

func pfxWithMAC(mac, safe []byte) []byte {
	return seq(integer(3), seq(oid(oidData), explicit(octets(safe))), mac)
}

// macOf is a MAC that claims so many iterations and fits nothing.
func macOf(iterations int) []byte {
	return seq(seq(seq(oid(oidSHA1), []byte{5, 0}), octets(make([]byte, sha1.Size))), octets(salt), integer(iterations))
}

// pbmac1 is a MAC by RFC 9579 that claims so many iterations for so long a key.
func pbmac1(iterations, length int) []byte {
	kdf := seq(oid(oidPBKDF2), seq(octets(salt), integer(iterations), integer(length), seq(oid(oidSHA256MAC), []byte{5, 0})))
	algorithm := seq(oid([]int{1, 2, 840, 113549, 1, 5, 14}), seq(kdf, seq(oid(oidSHA256MAC), []byte{5, 0})))
	return seq(seq(algorithm, octets(make([]byte, 32))), octets(salt), integer(1))
}
