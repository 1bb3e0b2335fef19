package pkcs12_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"hash"
	"slices"

	"akv-csi-provider/provider/pkcs12"
)

// The functions of this file write PKCS#12 (RFC 7292) that go-pkcs12 does not write.

var (
	oidData      = []int{1, 2, 840, 113549, 1, 7, 1}
	oidEncrypted = []int{1, 2, 840, 113549, 1, 7, 6}
	oidPBES2     = []int{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2    = []int{1, 2, 840, 113549, 1, 5, 12}
	oidSHA256MAC = []int{1, 2, 840, 113549, 2, 9}
	oidAES256    = []int{2, 16, 840, 1, 101, 3, 4, 1, 42}
	oidSHA1      = []int{1, 3, 14, 3, 2, 26}

	oidKey, oidShrouded, oidCert = bagOID(1), bagOID(2), bagOID(3)
	oidCRL, oidSecret, oidNested = bagOID(4), bagOID(5), bagOID(6)
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

var (
	salt = []byte("salt of 16 bytes")
	null = []byte{asn1.TagNull, 0}
	huge = []byte{asn1.TagInteger, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0} // 2⁶⁴
)

// kdf is PBKDF2 with HMAC-SHA-256 and these parameters after the salt.
func kdf(parameters ...[]byte) []byte {
	parameters = slices.Concat([][]byte{octets(salt)}, parameters, [][]byte{seq(oid(oidSHA256MAC), null)})
	return seq(oid(oidPBKDF2), seq(parameters...))
}

// claim is the algorithm of AES-256 with a number of iterations, which need not be run.
func claim(iterations int) []byte { return claimKDF(kdf(integer(iterations))) }

func claimKDF(kdf []byte) []byte {
	return seq(oid(oidPBES2), seq(kdf, seq(oid(oidAES256), octets(make([]byte, aes.BlockSize)))))
}

func pbes2(iterations int, plain []byte) (algorithm, data []byte) {
	key := must(pbkdf2.Key(sha256.New, "", salt, iterations, 32))
	return claim(iterations), encryptCBC(must(aes.NewCipher(key)), make([]byte, aes.BlockSize), plain)
}

func encryptCBC(block cipher.Block, iv, plain []byte) []byte {
	data := pad(plain, block.BlockSize())
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)
	return data
}

// pbe1 encrypts by RFC 7292 appendix C, under one encoding of the empty password.
func pbe1(n, keySize int, newCipher func([]byte) (cipher.Block, error), password []byte, iterations int, plain []byte) (algorithm, data []byte) {
	fips140.WithoutEnforcement(func() {
		key := must(pkcs12.DerivePKCS12(sha1.New, pkcs12.IDKey, password, salt, iterations, keySize))
		iv := must(pkcs12.DerivePKCS12(sha1.New, pkcs12.IDIV, password, salt, iterations, 8))
		data = encryptCBC(must(newCipher(key)), iv, plain)
	})
	return claimPBE1(n, integer(iterations)), data
}

func claimPBE1(n int, count []byte) []byte {
	return seq(oid([]int{1, 2, 840, 113549, 1, 12, 1, n}), seq(octets(salt), count))
}

// hostileKey requires more iterations than any machine can run.
func hostileKey() []byte {
	return bag(oidShrouded, seq(claim(1<<62), octets(make([]byte, 64))))
}

// nested puts bags into safe bags of this depth.
func nested(depth int, bags ...[]byte) []byte {
	contents := seq(bags...)
	for range depth - 1 {
		contents = seq(bag(oidNested, contents))
	}
	return bag(oidNested, contents)
}

// p256K is a private key that crypto/x509 does not support.
func p256K() []byte {
	curve := seq(oid([]int{1, 2, 840, 10045, 2, 1}), oid([]int{1, 3, 132, 0, 10}))
	return seq(integer(0), curve, octets(seq(integer(1), octets(bytes.Repeat([]byte{1}, 32)))))
}

func bag(id []int, value []byte, attributes ...[]byte) []byte {
	b := [][]byte{oid(id), explicit(value)}
	if len(attributes) > 0 {
		b = append(b, tlv(asn1.ClassUniversal, asn1.TagSet, true, attributes...))
	}
	return seq(b...)
}

// attribute is an attribute that no decoder knows.
func attribute() []byte {
	return seq(oid([]int{1, 3, 6, 1, 4, 1, 311, 17, 2}), tlv(asn1.ClassUniversal, asn1.TagSet, true, null))
}

func keyBag(k any) []byte {
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

// macOf is a MAC with this iteration count that is wrong for every message.
func macOf(count []byte) []byte {
	return seq(seq(seq(oid(oidSHA1), null), octets(make([]byte, sha1.Size))), octets(salt), count)
}

// macFor is the right MAC.
func macFor(digest []int, newHash func() hash.Hash, password, safe []byte) []byte {
	var sum []byte
	fips140.WithoutEnforcement(func() {
		key := must(pkcs12.DerivePKCS12(newHash, pkcs12.IDMAC, password, salt, 10, newHash().Size()))
		sum = hmacSum(newHash, key, safe)
	})
	return seq(seq(seq(oid(digest), null), octets(sum)), octets(salt), integer(10))
}

func hmacSum(newHash func() hash.Hash, key, message []byte) []byte {
	h := hmac.New(newHash, key)
	h.Write(message)
	return h.Sum(nil)
}

// pbmac1 is a MAC of RFC 9579 with these parameters after the salt.
func pbmac1(sum []byte, parameters ...[]byte) []byte {
	algorithm := seq(oid([]int{1, 2, 840, 113549, 1, 5, 14}), seq(kdf(parameters...), seq(oid(oidSHA256MAC), null)))
	return seq(seq(algorithm, octets(sum)), octets(salt), integer(1))
}
