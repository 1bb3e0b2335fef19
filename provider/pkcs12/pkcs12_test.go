package pkcs12_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/provider/pkcs12"

	gopkcs12 "software.sslmate.com/src/go-pkcs12"
)

var encoders = map[string]*gopkcs12.Encoder{
	"RC2 and 3DES, SHA-1": gopkcs12.LegacyRC2,
	"3DES, SHA-1":         gopkcs12.LegacyDES,
	"PBES2, SHA-256":      gopkcs12.Modern2023,
	"PBES2, PBMAC1":       gopkcs12.Modern2026,
	"nothing":             gopkcs12.Passwordless,
}

// Files of another encoder are decoded, with the result of its decoder.
func TestEncodings(t *testing.T) {
	chain := line("leaf", "intermediate", "root")
	for name, encoder := range encoders {
		for kind, key := range map[string]crypto.Signer{
			"RSA": rsaKey(), "P-256": newKey(elliptic.P256()), "P-384": newKey(elliptic.P384()), "P-521": newKey(elliptic.P521()),
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				leaf := issue("leaf", chain[1], key)
				der := encode(encoder, "", leaf, chain[2], chain[1])
				age := ageOf(strings.Contains(name, "SHA-1"))
				contents{keys: pkcs8(key), certs: raw(leaf, chain[2], chain[1])}.check(t, der, age)
				must(decodeAll(der)).check(t, der, age)
			})
		}
	}
}

// The shapes that RFC 7292 allows and the encoder does not write.
func TestShapes(t *testing.T) {
	c := line("leaf", "root")
	leaf, root := c[0], c[1]
	want := contents{keys: pkcs8(leaf.key), certs: raw(root, leaf)}
	both := slices.Concat(certBags(root, leaf), [][]byte{keyBag(leaf.key)})
	encrypted := func(bags ...[]byte) []byte { return encryptedPart(pbes2(10, seq(bags...))) }
	plain := func(bags ...[]byte) []byte { return pfxFile(plainPart(bags...)) }
	for name, der := range map[string][]byte{
		"one part":                       plain(both...),
		"a part for each bag":            pfxFile(plainPart(both[0]), encrypted(both[1]), plainPart(), plainPart(both[2])),
		"key before its certificate":     plain(both[2], both[0], both[1]),
		"key inside an encrypted part":   pfxFile(encrypted(shroudedBag(10, leaf.key)), encrypted(both[:2]...)),
		"plain key in an encrypted part": pfxFile(encrypted(both...)),
		"bags within a bag":              plain(both[0], nested(1, both[1], shroudedBag(10, leaf.key))),
		"bags at their deepest":          plain(both[0], nested(pkcs12.MaxNesting, both[1:]...)),
		"many parts":                     pfxFile(append(slices.Repeat([][]byte{plainPart()}, 200), plainPart(both...))...),
		"a CRL":                          plain(append(slices.Clone(both), bag(oidCRL, seq()))...),
		"a secret":                       plain(append(slices.Clone(both), bag(oidSecret, octets(nil)))...),
		"an SDSI certificate":            plain(append(slices.Clone(both), bag(oidCert, seq(oid(append(slices.Clone(oidX509[:8]), 2)), explicit(octets(nil)))))...),
		"an unknown bag":                 plain(append(slices.Clone(both), bag(bagOID(99), seq()))...),
	} {
		t.Run(name, func(t *testing.T) {
			want.check(t, der)
		})
	}
}

// Every number of keys and certificates is accepted, and both stay in stored order.
func TestContents(t *testing.T) {
	c := line("leaf", "root")
	leaf, root, other := c[0], c[1], newKey(elliptic.P384())
	odd := seq(integer(1))
	for _, r := range []struct {
		name string
		bags [][]byte
		want contents
	}{
		{"no key", certBags(root, leaf), contents{nil, raw(root, leaf)}},
		{"no certificates", [][]byte{keyBag(leaf.key)}, contents{pkcs8(leaf.key), nil}},
		{"two keys", append(certBags(root, leaf), keyBag(other), keyBag(leaf.key)), contents{pkcs8(other, leaf.key), raw(root, leaf)}},
		{"the same twice", append(certBags(leaf, leaf), keyBag(leaf.key), shroudedBag(10, leaf.key)), contents{pkcs8(leaf.key, leaf.key), raw(leaf, leaf)}},
		{"P-256K", append(certBags(leaf), bag(oidKey, p256K())), contents{[][]byte{p256K()}, raw(leaf)}},
		{"P-256K and another", append(certBags(leaf), bag(oidKey, p256K()), keyBag(leaf.key)), contents{append([][]byte{p256K()}, pkcs8(leaf.key)...), raw(leaf)}},
		{"a certificate that crypto/x509 cannot read", append(certBags(leaf), certBag(odd)), contents{nil, append(raw(leaf), odd)}},
	} {
		t.Run(r.name, func(t *testing.T) { r.want.check(t, pfxFile(plainPart(r.bags...))) })
	}
}

// Windows adds attributes to a PrivateKeyInfo. They are removed.
func TestKeyAttributes(t *testing.T) {
	c := line("leaf")[0]
	der := must(x509.MarshalPKCS8PrivateKey(c.key))
	inner := der[2:]
	if der[1] >= 0x80 {
		inner = der[3:]
	}
	attributed := bag(oidKey, seq(inner, tlv(2, 0, true, attribute())))
	contents{[][]byte{der}, raw(c)}.check(t, pfxFile(plainPart(attributed, certBag(c.cert.Raw))))
}

// A file that cannot be decoded is rejected with the error for its cause.
func TestRejected(t *testing.T) {
	c := line("leaf", "root")
	leaf := c[0]
	good := encode(gopkcs12.Modern2023, "", leaf, c[1])
	withPassword := encode(gopkcs12.Modern2023, "pass", leaf)
	withPasswordOld := encode(gopkcs12.LegacyRC2, "pass", leaf)
	damaged := bytes.Clone(good)
	damaged[len(damaged)/2] ^= 1
	hostile := encryptedPart(pbes2(10, seq(hostileKey())))
	for _, r := range []struct {
		name string
		want error
		der  []byte
	}{
		{"nothing", pkcs12.ErrMalformed, nil},
		{"the largest file", pkcs12.ErrMalformed, make([]byte, pkcs12.MaxSize)},
		{"a file that is too large", pkcs12.ErrTooLarge, make([]byte, pkcs12.MaxSize+1)},
		{"trailing bytes", pkcs12.ErrMalformed, append(bytes.Clone(good), 0)},
		{"cut", pkcs12.ErrMalformed, good[:len(good)-1]},
		{"another version", pkcs12.ErrMalformed, seq(integer(1), seq(oid(oidData), explicit(octets(seq()))))},
		{"no content", pkcs12.ErrMalformed, seq(integer(3), seq(oid(oidData)))},
		{"damaged", pkcs12.ErrPassword, damaged},
		{"under a password", pkcs12.ErrPassword, withPassword},
		{"under a password, old", legacy.or(pkcs12.ErrPassword), withPasswordOld},
		{"no parts", pkcs12.ErrMalformed, pfxFile()},
		{"only a CRL", pkcs12.ErrMalformed, pfxFile(plainPart(bag(oidCRL, seq())))},
		{"parts that are none", pkcs12.ErrMalformed, pfxFile(integer(1))},
		{"bags that are none", pkcs12.ErrMalformed, pfxFile(plainPart(integer(1)))},
		{"a part that is none", pkcs12.ErrMalformed, pfxFile(seq(oid(oidData), explicit(seq())))},
		{"an encrypted part that is none", pkcs12.ErrMalformed, pfxFile(seq(oid(oidEncrypted), explicit(octets(nil))))},
		{"a shrouded key that is none", pkcs12.ErrMalformed, pfxFile(plainPart(bag(oidShrouded, seq())))},
		{"a certificate bag that is none", pkcs12.ErrMalformed, pfxFile(plainPart(bag(oidCert, seq())))},
		{"bags too deep", pkcs12.ErrMalformed, pfxFile(plainPart(nested(pkcs12.MaxNesting+1, certBags(leaf)...)))},
		{"bags very deep", pkcs12.ErrMalformed, pfxFile(plainPart(nested(300, certBags(leaf)...)))},
		{"signed", pkcs12.ErrAlgorithm, seq(integer(3), seq(oid([]int{1, 2, 840, 113549, 1, 7, 2}), explicit(octets(seq()))))},
		{"another content", pkcs12.ErrAlgorithm, pfxFile(seq(oid([]int{1, 2, 840, 113549, 1, 7, 3}), explicit(octets(seq()))))},
		{"a key that is none", pkcs12.ErrContents, pfxFile(plainPart(bag(oidKey, seq(integer(0)))))},
		{"a key without an algorithm", pkcs12.ErrContents, pfxFile(plainPart(bag(oidKey, seq(integer(0), seq(), octets(nil)))))},
		{"a certificate that is none", pkcs12.ErrContents, pfxFile(plainPart(certBag([]byte("text"))))},
		{"a certificate and more", pkcs12.ErrContents, pfxFile(plainPart(certBag(append(bytes.Clone(leaf.cert.Raw), 0))))},
		{"rounds of a key", pkcs12.ErrRounds, pfxFile(plainPart(hostileKey()))},
		{"rounds of a key inside an encrypted part", pkcs12.ErrRounds, pfxFile(hostile)},
		{"rounds of a key in a bag inside an encrypted part", pkcs12.ErrRounds, pfxFile(encryptedPart(pbes2(10, seq(nested(2, hostileKey())))))},
	} {
		t.Run(r.name, func(t *testing.T) {
			if got, err := pkcs12.Decode(r.der); got != nil || !errors.Is(err, r.want) {
				t.Errorf("got %v %v, want %v", got, err, r.want)
			}
		})
	}
}
