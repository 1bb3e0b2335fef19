package render_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/provider/pkcs12"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"
)

// rebuilt returns a certificate whose TBSCertificate has other elements: 1 is the serial number,
// 6 the SubjectPublicKeyInfo. It is signed with ECDSA and SHA-256.
func rebuilt(der []byte, issuer *entity, edit func(tbs [][]byte)) []byte {
	raw := func(elements []asn1.RawValue) (out [][]byte) {
		for _, e := range elements {
			out = append(out, e.FullBytes)
		}
		return out
	}
	cert := raw(pkcs12.Elements(der))
	tbs := raw(pkcs12.Elements(cert[0]))
	edit(tbs)
	cert[0] = seq(tbs...)
	digest := sha256.Sum256(cert[0])
	cert[2] = bitString(must(issuer.key.Sign(rand.Reader, digest[:], crypto.SHA256)))
	return seq(cert...)
}

var (
	secp256k1 = seq(oid(1, 2, 840, 10045, 2, 1), oid(1, 3, 132, 0, 10))
	brainpool = seq(oid(1, 2, 840, 10045, 2, 1), oid(1, 3, 36, 3, 3, 2, 8, 1, 1, 7))
)

func bitString(b []byte) []byte {
	return must(asn1.Marshal(asn1.BitString{Bytes: b, BitLength: 8 * len(b)}))
}

// curveKey is a private key on a curve that crypto/x509 does not support; the numbers are of
// another one, and are not read.
func curveKey(algorithm []byte, public []byte) []byte {
	parts := [][]byte{integer(1), octets(bytes.Repeat([]byte{1}, 32))}
	if public != nil {
		parts = append(parts, tlv(asn1.ClassContextSpecific, 1, bitString(public)))
	}
	return seq(integer(0), algorithm, octets(seq(parts...)))
}

func onCurve(der []byte, issuer *entity, algorithm, public []byte) []byte {
	return rebuilt(der, issuer, func(tbs [][]byte) { tbs[6] = seq(algorithm, bitString(public)) })
}

// Certificates that crypto/x509 cannot parse are part of the chain.
func TestUnreadableChain(t *testing.T) {
	c := line("leaf", "one", "root")
	leaf, one, root := c[0].cert.Raw, c[1].cert.Raw, c[2].cert.Raw
	key := must(x509.MarshalPKCS8PrivateKey(c[0].key))
	san := seq(must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: []byte("jürgen@contoso.example")})))
	badSAN := rebuilt(leaf, c[1], func(tbs [][]byte) {
		tbs[7] = tlv(asn1.ClassContextSpecific, 3, seq(seq(oid(2, 5, 29, 17), octets(san))))
	})
	negative := func(der []byte, issuer *entity) []byte {
		return rebuilt(der, issuer, func(tbs [][]byte) { tbs[1] = integer(-5) })
	}
	point := must(newKey(elliptic.P256()).PublicKey.Bytes())
	other := must(newKey(elliptic.P256()).PublicKey.Bytes())
	compressed := append([]byte{2 + point[64]&1}, point[1:33]...)
	negLeaf, negRoot := negative(leaf, c[1]), negative(root, c[2])
	kLeaf, kOther, kCompressed := onCurve(leaf, c[1], secp256k1, point), onCurve(leaf, c[1], secp256k1, other), onCurve(leaf, c[1], secp256k1, compressed)
	bRoot, bOne, bLeaf := onCurve(root, c[2], brainpool, point), onCurve(one, c[2], brainpool, point), onCurve(leaf, c[1], brainpool, other)
	for _, r := range []struct {
		name         string
		key          []byte
		stored, want [][]byte
	}{
		{"leaf with a negative serial number", key, [][]byte{root, one, negLeaf}, [][]byte{negLeaf, one, root}},
		{"root with a negative serial number", key, [][]byte{negRoot, one, leaf}, [][]byte{leaf, one, negRoot}},
		{"leaf with a name that is not ASCII", key, [][]byte{root, one, badSAN}, [][]byte{badSAN, one, root}},
		{"leaf on P-256K", curveKey(secp256k1, point), [][]byte{root, one, kLeaf}, [][]byte{kLeaf, one, root}},
		{"leaf on P-256K, renewed with another key", curveKey(secp256k1, point),
			[][]byte{kOther, root, one, kLeaf},
			[][]byte{kLeaf, one, root, kOther}},
		{"leaf on P-256K with a compressed point", curveKey(secp256k1, point), [][]byte{root, one, kCompressed}, [][]byte{kCompressed, one, root}},
		{"leaf on P-256K, whose key does not contain the point", curveKey(secp256k1, nil), [][]byte{root, one, kLeaf}, [][]byte{kLeaf, one, root}},
		{"root on brainpool", key, [][]byte{bRoot, one, leaf}, [][]byte{leaf, one, bRoot}},
		{"all on brainpool", curveKey(brainpool, other),
			[][]byte{bRoot, bOne, bLeaf},
			[][]byte{bLeaf, bOne, bRoot}},
		{"something that is no certificate", key, [][]byte{seq(integer(1)), root, one, leaf}, [][]byte{leaf, one, root, seq(integer(1))}},
	} {
		t.Run(r.name, func(t *testing.T) {
			bags := [][]byte{bag(1, r.key)}
			for _, der := range r.stored {
				bags = append(bags, certBag(der))
			}
			want := toPEM("PRIVATE KEY", r.key)
			for _, der := range r.want {
				want += toPEM("CERTIFICATE", der)
			}
			if got := rendered(t, secretPFX(pfxFile(bags...)), render.Options{}); got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
		})
	}
}

// Names are compared without regard to their string type, case and blanks.
func TestChainNames(t *testing.T) {
	root := issue("contoso root", nil, nil, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = false, false })
	for _, name := range [][]byte{
		utf8Name(asn1.TagUTF8String, []byte("Contoso  Root ")),
		utf8Name(asn1.TagIA5String, []byte("CONTOSO ROOT")),
		utf8Name(asn1.TagBMPString, []byte("\x00C\x00o\x00n\x00t\x00o\x00s\x00o\x00 \x00R\x00o\x00o\x00t")),
	} {
		renamed := *root.cert
		renamed.RawSubject = name
		leaf := issue("leaf", &entity{&renamed, root.key}, nil)
		foreign := issue("contoso", nil, nil)
		der := pfxFile(append(certBags(foreign, root, leaf), keyBag(leaf.key))...)
		if got, want := rendered(t, secretPFX(der), render.Options{}), keyPEM(leaf.key)+certPEM(leaf, root, foreign); got != want {
			t.Errorf("issuer %q: got %s\nwant %s", name, got, want)
		}
	}
}

// utf8Name is a Name with a common name of this string type.
func utf8Name(tag int, value []byte) []byte {
	text := must(asn1.Marshal(asn1.RawValue{Tag: tag, Bytes: value}))
	return seq(tlv(asn1.ClassUniversal, asn1.TagSet, seq(oid(2, 5, 4, 3), text)))
}

// A private key that crypto/x509 rejects is written as stored, with a warning, and its
// certificate is found by the public key that it contains.
func TestUncheckedKeys(t *testing.T) {
	k := rsaKey()
	zero := integer(0)
	number := func(v any) []byte { return must(asn1.Marshal(v)) }
	n, e, d, p, q := number(k.N), number(k.E), number(k.D), number(k.Primes[0]), number(k.Primes[1])
	dp, dq, qi := number(k.Precomputed.Dp), number(k.Precomputed.Dq), number(k.Precomputed.Qinv)
	rsaAlgorithm := seq(oid(1, 2, 840, 113549, 1, 1, 1), []byte{asn1.TagNull, 0})
	pss := seq(oid(1, 2, 840, 113549, 1, 1, 10))
	rsaInfo := func(algorithm []byte, numbers ...[]byte) []byte {
		return seq(integer(0), algorithm, octets(seq(numbers...)))
	}
	ca := issue("root", nil, nil)
	rsaCert := issue("leaf", ca, k).cert.Raw
	bigE := number(int64(1)<<33 + 1)
	bigECert := rebuilt(rsaCert, ca, func(tbs [][]byte) { tbs[6] = seq(rsaAlgorithm, bitString(seq(n, bigE))) })
	point := must(newKey(elliptic.P256()).PublicKey.Bytes())
	p192 := seq(oid(1, 2, 840, 10045, 2, 1), oid(1, 2, 840, 10045, 3, 1, 1))
	explicitCurve := seq(oid(1, 2, 840, 10045, 2, 1), seq(integer(1), seq(oid(1, 2, 840, 10045, 1, 1), integer(7))))
	ed448 := seq(oid(1, 3, 101, 113))
	ecCert := issue("leaf", ca, newKey(elliptic.P256())).cert.Raw
	good := must(x509.MarshalPKCS8PrivateKey(k))
	for _, r := range []struct {
		name      string
		key, cert []byte
		warns     bool
	}{
		{"RSA", good, rsaCert, false},
		{"RSA without primes", rsaInfo(rsaAlgorithm, zero, n, e, d, zero, zero, zero, zero, zero), rsaCert, true},
		{"RSA without CRT values", rsaInfo(rsaAlgorithm, zero, n, e, d, p, q, zero, zero, zero), rsaCert, true},
		{"RSA with a wrong CRT exponent", rsaInfo(rsaAlgorithm, zero, n, e, d, p, q, dq, dq, qi), rsaCert, true},
		{"RSA with primes that are swapped", rsaInfo(rsaAlgorithm, zero, n, e, d, q, p, dp, dq, qi), rsaCert, true},
		{"RSA with a large exponent", rsaInfo(rsaAlgorithm, zero, n, bigE, d, p, q, dp, dq, qi), bigECert, true},
		{"RSA-PSS", rsaInfo(pss, zero, n, e, d, p, q, dp, dq, qi), rsaCert, true},
		{"P-192", curveKey(p192, point[:49]), onCurve(ecCert, ca, p192, point[:49]), true},
		{"brainpool", curveKey(brainpool, point), onCurve(ecCert, ca, brainpool, point), true},
		{"P-256K", curveKey(secp256k1, point), onCurve(ecCert, ca, secp256k1, point), true},
		{"explicit parameters", curveKey(explicitCurve, point), onCurve(ecCert, ca, explicitCurve, point), true},
		{"Ed448", seq(integer(0), ed448, octets(octets(make([]byte, 57)))), onCurve(ecCert, ca, ed448, make([]byte, 57)), true},
		{"longer than what is checked", seq(integer(0), rsaAlgorithm, octets(make([]byte, pkcs12.MaxPrivateKeySize))), rsaCert, true},
	} {
		t.Run(r.name, func(t *testing.T) {
			stranger := issue("stranger", nil, nil)
			der := pfxFile(bag(1, r.key), certBag(ca.cert.Raw), certBag(r.cert), certBag(stranger.cert.Raw))
			got, warnings := renderedWith(t, secretPFX(der), render.Options{})
			want := toPEM("PRIVATE KEY", r.key) + toPEM("CERTIFICATE", r.cert) + certPEM(ca, stranger)
			if got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
			behind := "certificates of secret \"tls\" that are not part of the chain of its private key follow the chain: 1 of 3"
			unchecked := "secret \"tls\" has a private key that is written as stored: it is of a kind that cannot be checked, or its numbers do not match"
			wanted := []string{behind}
			if r.warns {
				wanted = []string{unchecked, behind}
			}
			if !slices.Equal(warnings, wanted) {
				t.Errorf("warnings %q, want %q", warnings, wanted)
			}
		})
	}
}

// A key or a certificate without its counterpart is written with a warning.
func TestCounterparts(t *testing.T) {
	c := line("leaf", "root")
	leaf, root := c[0], c[1]
	sec1 := toPEM("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(leaf.key.(*ecdsa.PrivateKey))))
	const (
		noKey  = `secret "tls" has no private key; the policy of its certificate may make the key not exportable`
		noCert = `secret "tls" has no certificate of its private key`
	)
	for _, r := range []struct {
		name string
		pfx  [][]byte // or
		pem  string
		want string
	}{
		{"PFX", append(certBags(root, leaf), keyBag(leaf.key)), "", ""},
		{"PFX without a key", certBags(root, leaf), "", noKey},
		{"PFX without a certificate", [][]byte{keyBag(leaf.key)}, "", noCert},
		{"PFX with another key", append(certBags(leaf), keyBag(newKey(elliptic.P256()))), "", noCert},
		{"PEM", nil, certPEM(root, leaf) + keyPEM(leaf.key), ""},
		{"PEM with a key of another form", nil, certPEM(leaf) + sec1, ""},
		{"PEM without a key", nil, certPEM(leaf, root), noKey},
		{"PEM with another key", nil, certPEM(leaf, root) + keyPEM(newKey(elliptic.P256())), noCert},
		{"PEM without a certificate", nil, keyPEM(leaf.key), `secret "tls" has no certificate in PEM`},
	} {
		t.Run(r.name, func(t *testing.T) {
			v := managed(contentTypePEM, r.pem)
			if r.pfx != nil {
				v = secretPFX(pfxFile(r.pfx...))
			}
			if _, warnings := renderedWith(t, v, render.Options{}); fmt.Sprint(warnings) != "["+r.want+"]" {
				t.Errorf("got %q, want %q", warnings, r.want)
			}
		})
	}
}

// What a vault has converted counts only within the bound of a PFX: the order of thousands of
// certificates takes a minute.
func TestConvertedPEM(t *testing.T) {
	c := line("leaf", "root")
	text := keyPEM(c[0].key) + certPEM(c...)
	for pem, want := range map[string]bool{
		text: true,
		text + strings.Repeat(certPEM(c[1]), 64<<10/len(certPEM(c[1]))): false,
	} {
		v := managed(contentTypePKCS12, "AAAA")
		v.PEM = pem
		_, _, err := render.Files(object(request.EncodingUTF8), v, render.Options{})
		if (err == nil) != want || render.Convertible(err) == want {
			t.Errorf("PEM of %d bytes: got %v", len(pem), err)
		}
	}
}
