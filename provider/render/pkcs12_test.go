package render_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"math"
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
	for name, der := range map[string][]byte{
		"one part":                       pfxFile(plainPart(both...)),
		"key inside an encrypted part":   pfxFile(encrypted(shroudedBag(10, leaf.key)), encrypted(both[:2]...)),
		"plain key in an encrypted part": pfxFile(encrypted(both...)),
		"a CRL":                          pfxFile(plainPart(append(slices.Clone(both), bag(oidCRL, seq()))...)),
	} {
		t.Run(name, func(t *testing.T) {
			if got := rendered(t, secretPFX(der), render.Options{}); got != want {
				t.Errorf("got %s\nwant %s", got, want)
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
	safe := seq(plainPart(certBags(leaf)...))
	enc := func(iterations int) []byte {
		_, data := pbes2(10, seq(certBags(leaf)...))
		return encryptedPart(claim(iterations), data)
	}
	for _, r := range []struct {
		name, says string
		der        []byte
	}{
		{"nothing", "not PKCS#12", nil},
		{"trailing bytes", "not PKCS#12", append(bytes.Clone(good), 0)},
		{"cut", "not PKCS#12", good[:len(good)-1]},
		{"damaged", "damaged or under a password", damaged},
		{"under a password", "damaged or under a password", withPassword},
		{"under a password, old", "damaged or under a password", withPasswordOld},
		{"no parts", "algorithm", pfxFile()},
		{"only a CRL", "not PKCS#12", pfxFile(plainPart(bag(oidCRL, seq())))},
		{"no key", "not exportable", pfxFile(plainPart(certBags(leaf)...))},
		{"no certificate", "not PKCS#12", pfxFile(plainPart(keyBag(leaf.key)))},
		{"two keys", "one private key", pfxFile(plainPart(append(certBags(leaf), keyBag(leaf.key), keyBag(leaf.key))...))},
		{"another content", "algorithm", pfxFile(seq(oid([]int{1, 2, 840, 113549, 1, 7, 3}), explicit(octets(seq()))))},
		{"a key that is none", "not PKCS#12", pfxFile(plainPart(bag(oidKey, seq(integer(0)))))},
		{"a certificate that is none", "not PKCS#12", pfxFile(plainPart(certBag([]byte("canary"))))},
		{"rounds in the MAC", "rounds", pfxWithMAC(macOf(math.MaxInt32), safe)},
		{"rounds in a newer MAC", "rounds", pfxWithMAC(pbmac1(math.MaxInt32, 32), safe)},
		{"length in a newer MAC", "rounds", pfxWithMAC(pbmac1(2000, math.MaxInt32), safe)},
		{"rounds of a part", "rounds", pfxFile(enc(math.MaxInt32))},
		{"rounds of a key", "rounds", pfxFile(plainPart(hostileKey()))},
		{"rounds in sum", "rounds", pfxFile(enc(10), encryptedPart(claim(render.MaxRounds-5), make([]byte, 16)))},
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
