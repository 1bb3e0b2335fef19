package render_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"

	gopkcs12 "software.sslmate.com/src/go-pkcs12"
)

var encoders = map[string]*gopkcs12.Encoder{
	"RC2 and 3DES, SHA-1": gopkcs12.LegacyRC2,
	"3DES, SHA-1":         gopkcs12.LegacyDES,
	"PBES2, SHA-256":      gopkcs12.Modern2023,
	"PBES2, PBMAC1":       gopkcs12.Modern2026,
	"nothing":             gopkcs12.Passwordless,
}

// What an encoder of other hands wrote is read, and as its decoder reads it.
func TestPKCS12Encodings(t *testing.T) {
	chain := line("leaf", "intermediate", "root")
	for name, encoder := range encoders {
		for kind, key := range map[string]crypto.Signer{
			"RSA": rsaKey(), "P-256": newKey(elliptic.P256()), "P-384": newKey(elliptic.P384()), "P-521": newKey(elliptic.P521()),
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				leaf := issue("leaf", chain[1], key)
				der := must(encoder.Encode(key, leaf.cert, certs(chain[2], chain[1]), ""))
				if got, want := rendered(t, secretPFX(der), render.Options{}), keyPEM(key)+certPEM(leaf, chain[1], chain[2]); got != want {
					t.Errorf("got %s\nwant %s", got, want)
				}
				oracleKey, oracleCert, oracleCAs, err := gopkcs12.DecodeChain(der, "")
				if err != nil {
					t.Fatal(err)
				}
				want := keyPEM(oracleKey.(crypto.Signer)) + certPEM(&entity{cert: oracleCert})
				for _, c := range oracleCAs {
					want += certPEM(&entity{cert: c})
				}
				if got := rendered(t, secretPFX(der), render.Options{StoredOrder: true}); got != want {
					t.Errorf("in stored order: got %s\nwant %s", got, want)
				}
			})
		}
	}
}

// The shapes that RFC 7292 allows and the encoder does not write.
func TestPKCS12Shapes(t *testing.T) {
	c := line("leaf", "root")
	leaf, root := c[0], c[1]
	want := keyPEM(leaf.key) + certPEM(leaf, root)
	both := slices.Concat(certBags(root, leaf), [][]byte{keyBag(leaf.key)})
	encrypted := func(bags ...[]byte) []byte { return encryptedPart(pbes2(10, seq(bags...))) }
	plain := func(bags ...[]byte) []byte { return pfxFile(plainPart(bags...)) }
	for name, der := range map[string][]byte{
		"one part":                       plain(both...),
		"a part for each bag":            pfxFile(plainPart(both[0]), encrypted(both[1]), plainPart(), plainPart(both[2])),
		"key before its certificate":     plain(both[2], both[1], both[0]),
		"key inside an encrypted part":   pfxFile(encrypted(shroudedBag(10, leaf.key)), encrypted(both[:2]...)),
		"plain key in an encrypted part": pfxFile(encrypted(both...)),
		"bags within a bag":              plain(both[0], nested(1, both[1], shroudedBag(10, leaf.key))),
		"bags at their deepest":          plain(both[0], nested(render.MaxNesting, both[1:]...)),
		"many parts":                     pfxFile(append(slices.Repeat([][]byte{plainPart()}, 200), plainPart(both...))...),
		"a CRL":                          plain(append(slices.Clone(both), bag(oidCRL, seq()))...),
		"a secret":                       plain(append(slices.Clone(both), bag(oidSecret, octets(nil)))...),
		"an SDSI certificate":            plain(append(slices.Clone(both), bag(oidCert, seq(oid(append(slices.Clone(oidX509[:8]), 2)), explicit(octets(nil)))))...),
		"an unknown bag":                 plain(append(slices.Clone(both), bag(bagOID(99), seq()))...),
	} {
		t.Run(name, func(t *testing.T) {
			if got := rendered(t, secretPFX(der), render.Options{}); got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
		})
	}
}

// What belongs into a file is the vault's to say, and its order is kept.
func TestPKCS12Contents(t *testing.T) {
	c := line("leaf", "root")
	leaf, root, other := c[0], c[1], newKey(elliptic.P384())
	odd := seq(integer(1))
	oddPEM, p256KPEM := derPEM("CERTIFICATE", odd), derPEM("PRIVATE KEY", p256K())
	for _, r := range []struct {
		name string
		bags [][]byte
		want string
	}{
		{"no key", certBags(root, leaf), certPEM(leaf, root)},
		{"no certificates", [][]byte{keyBag(leaf.key)}, keyPEM(leaf.key)},
		{"two keys", append(certBags(root, leaf), keyBag(other), keyBag(leaf.key)), keyPEM(other, leaf.key) + certPEM(leaf, root)},
		{"keys of leaf and root", append(certBags(root, leaf), keyBag(root.key), keyBag(leaf.key)), keyPEM(root.key, leaf.key) + certPEM(leaf, root)},
		{"the same key twice", append(certBags(leaf), keyBag(leaf.key), shroudedBag(10, leaf.key)), keyPEM(leaf.key, leaf.key) + certPEM(leaf)},
		{"P-256K", append(certBags(leaf), bag(oidKey, p256K())), p256KPEM + certPEM(leaf)},
		{"P-256K and another", append(certBags(root, leaf), bag(oidKey, p256K()), keyBag(leaf.key)), p256KPEM + keyPEM(leaf.key) + certPEM(leaf, root)},
		{"a certificate that crypto/x509 cannot read", append(certBags(root, leaf), certBag(odd), keyBag(leaf.key)), keyPEM(leaf.key) + certPEM(root, leaf) + oddPEM},
	} {
		t.Run(r.name, func(t *testing.T) {
			if got := rendered(t, secretPFX(pfxFile(plainPart(r.bags...))), render.Options{}); got != r.want {
				t.Errorf("got %s\nwant %s", got, r.want)
			}
		})
	}
}

// Windows adds attributes to a PrivateKeyInfo; they are not written, as by the
// provider we replace.
func TestPKCS12KeyAttributes(t *testing.T) {
	c := line("leaf")[0]
	der := must(x509.MarshalPKCS8PrivateKey(c.key))
	inner := der[2:]
	if der[1] >= 0x80 {
		inner = der[3:]
	}
	attributed := bag(oidKey, seq(inner, tlv(2, 0, true, attribute())))
	if got := rendered(t, secretPFX(pfxFile(plainPart(attributed, certBag(c.cert.Raw)))), render.Options{}); got != keyPEM(c.key)+certPEM(c) {
		t.Errorf("got %s", got)
	}
}

// A hostile PFX is refused in the words of its kind, before it has cost anything.
func TestPKCS12Refused(t *testing.T) {
	c := line("canary-leaf", "canary-root")
	leaf := c[0]
	k := leaf.key.(*ecdsa.PrivateKey)
	good := must(gopkcs12.Modern2023.Encode(k, leaf.cert, certs(c[1]), ""))
	withPassword := must(gopkcs12.Modern2023.Encode(k, leaf.cert, nil, "pass"))
	withPasswordOld := must(gopkcs12.LegacyRC2.Encode(k, leaf.cert, nil, "pass"))
	damaged := bytes.Clone(good)
	damaged[len(damaged)/2] ^= 1
	hostile := encryptedPart(pbes2(10, seq(hostileKey())))
	big := must(asn1.Marshal(make([]byte, render.MaxKey)))
	for _, r := range []struct {
		name, says string
		der        []byte
	}{
		{"nothing", "not PKCS#12", nil},
		{"trailing bytes", "not PKCS#12", append(bytes.Clone(good), 0)},
		{"cut", "not PKCS#12", good[:len(good)-1]},
		{"another version", "not PKCS#12", seq(integer(1), seq(oid(oidData), explicit(octets(seq()))))},
		{"no content", "not PKCS#12", seq(integer(3), seq(oid(oidData)))},
		{"damaged", "damaged or under a password", damaged},
		{"under a password", "damaged or under a password", withPassword},
		{"under a password, old", "damaged or under a password", withPasswordOld},
		{"no parts", "not PKCS#12", pfxFile()},
		{"only a CRL", "not PKCS#12", pfxFile(plainPart(bag(oidCRL, seq())))},
		{"parts that are none", "not PKCS#12", pfxFile(integer(1))},
		{"bags that are none", "not PKCS#12", pfxFile(plainPart(integer(1)))},
		{"a part that is none", "not PKCS#12", pfxFile(seq(oid(oidData), explicit(seq())))},
		{"an encrypted part that is none", "not PKCS#12", pfxFile(seq(oid(oidEncrypted), explicit(octets(nil))))},
		{"a shrouded key that is none", "not PKCS#12", pfxFile(plainPart(bag(oidShrouded, seq())))},
		{"a certificate bag that is none", "not PKCS#12", pfxFile(plainPart(bag(oidCert, seq())))},
		{"bags too deep", "not PKCS#12", pfxFile(plainPart(nested(render.MaxNesting+1, certBags(leaf)...)))},
		{"bags very deep", "not PKCS#12", pfxFile(plainPart(nested(300, certBags(leaf)...)))},
		{"signed", "algorithm", seq(integer(3), seq(oid([]int{1, 2, 840, 113549, 1, 7, 2}), explicit(octets(seq()))))},
		{"another content", "algorithm", pfxFile(seq(oid([]int{1, 2, 840, 113549, 1, 7, 3}), explicit(octets(seq()))))},
		{"a key that is none", "not PKCS#12", pfxFile(plainPart(bag(oidKey, seq(integer(0)))))},
		{"a key that is too long", "not PKCS#12", pfxFile(plainPart(bag(oidKey, seq(integer(0), big))))},
		{"a certificate that is none", "not PKCS#12", pfxFile(plainPart(certBag([]byte("canary"))))},
		{"a certificate and more", "not PKCS#12", pfxFile(plainPart(certBag(append(bytes.Clone(leaf.cert.Raw), 0))))},
		{"rounds of a key", "rounds", pfxFile(plainPart(hostileKey()))},
		{"rounds of a key inside an encrypted part", "rounds", pfxFile(hostile)},
		{"rounds of a key in a bag inside an encrypted part", "rounds", pfxFile(encryptedPart(pbes2(10, seq(nested(2, hostileKey())))))},
	} {
		t.Run(r.name, func(t *testing.T) {
			o := object(request.EncodingUTF8)
			files, err := render.Files(o, secretPFX(r.der), render.Options{})
			refused(t, o, files, err)
			if text := err.Error(); !strings.Contains(text, r.says) || !strings.Contains(text, pkcs12) || strings.Contains(text, "canary") {
				t.Errorf("does not say %q, or says too much: %v", r.says, err)
			}
		})
	}
	o := object(request.EncodingUTF8)
	files, err := render.Files(o, managed(pkcs12, strings.Repeat("A", render.MaxPFXText+1)), render.Options{})
	refused(t, o, files, err)
}
