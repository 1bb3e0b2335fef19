package render_test

import (
	"crypto"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"akv-csi-provider/provider/pkcs12"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"

	gopkcs12 "software.sslmate.com/src/go-pkcs12"
)

func TestChain(t *testing.T) {
	c := line("leaf", "one", "two", "root")
	leaf, one, two, root := c[0], c[1], c[2], c[3]
	ca, cb := newKey(elliptic.P256()), newKey(elliptic.P256())
	rootA, rootB := issue("A", nil, ca), issue("B", nil, cb)
	aByB, bByA := issue("A", rootB, ca), issue("B", rootA, cb)
	underA := issue("under A", rootA, nil)
	self := issue("self", nil, nil)
	selfID := issue("self", nil, nil, func(c *x509.Certificate) { c.SubjectKeyId, c.AuthorityKeyId = []byte{1}, []byte{1} })
	underSelfID := issue("under self", selfID, nil)
	oldRoot := issue("old root", nil, rsaKey())
	sha1 := issue("SHA-1", oldRoot, nil, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA })
	renewed := issue("leaf", one, leaf.key)
	oldCA := issue("no CA", nil, nil, func(c *x509.Certificate) { c.IsCA = false })
	underOldCA := issue("under no CA", oldCA, nil)
	impostor := issue("one", nil, nil)
	for _, r := range []struct {
		name   string
		key    *entity
		stored []*entity
		want   []*entity
	}{
		{"in order", leaf, []*entity{leaf, one, two, root}, []*entity{leaf, one, two, root}},
		{"reversed", leaf, []*entity{root, two, one, leaf}, []*entity{leaf, one, two, root}},
		{"no root", leaf, []*entity{two, one, leaf}, []*entity{leaf, one, two}},
		{"self-signed", self, []*entity{self}, []*entity{self}},
		{"self-signed with key identifiers", underSelfID, []*entity{selfID, underSelfID}, []*entity{underSelfID, selfID}},
		{"a gap", leaf, []*entity{root, one, leaf}, []*entity{root, one, leaf}},
		{"a stranger", leaf, []*entity{self, one, leaf}, []*entity{self, one, leaf}},
		{"an impostor of the same name", leaf, []*entity{impostor, one, leaf}, []*entity{impostor, one, leaf}},
		{"cross-signed", underA, []*entity{rootA, aByB, rootB, underA}, []*entity{rootA, aByB, rootB, underA}},
		{"signed one another", underA, []*entity{bByA, aByB, underA}, []*entity{underA, aByB, bByA}},
		{"signed one another, no leaf", rootB, []*entity{aByB, bByA}, []*entity{bByA, aByB}},
		{"the same twice", leaf, []*entity{root, two, root, one, leaf, leaf}, []*entity{leaf, one, two, root}},
		{"the same twice and no chain", leaf, []*entity{self, leaf, leaf}, []*entity{self, leaf, leaf}},
		{"one key, two certificates", leaf, []*entity{one, renewed, leaf}, []*entity{one, renewed, leaf}},
		{"no certificate of the key", self, []*entity{root, two, one, leaf}, []*entity{leaf, one, two, root}},
		{"key of an issuer", one, []*entity{two, one, leaf}, []*entity{two, one, leaf}},
		{"signed with SHA-1", sha1, []*entity{oldRoot, sha1}, []*entity{sha1, oldRoot}},
		{"issuer is no authority", underOldCA, []*entity{oldCA, underOldCA}, []*entity{underOldCA, oldCA}},
	} {
		t.Run(r.name, func(t *testing.T) {
			der := pfxFile(append(certBags(r.stored...), keyBag(r.key.key))...)
			if got, want := rendered(t, secretPFX(der), render.Options{}), keyPEM(r.key.key)+certPEM(r.want...); got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
			if got, want := rendered(t, secretPFX(der), render.Options{StoredOrder: true}), keyPEM(r.key.key)+certPEM(r.stored...); got != want {
				t.Errorf("in stored order: got %s\nwant %s", got, want)
			}
		})
	}
}

// The chain does not depend on the stored order.
func TestChainShuffled(t *testing.T) {
	c := line("leaf", "1", "2", "3", "4", "root")
	want := keyPEM(c[0].key) + certPEM(c...)
	for range 20 {
		shuffled := slices.Clone(c)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		der := pfxFile(append(certBags(shuffled...), keyBag(c[0].key))...)
		if got := rendered(t, secretPFX(der), render.Options{}); got != want {
			t.Fatalf("got %s\nwant %s", got, want)
		}
	}
}

// crowd makes certificates that each could have issued all others, by their names.
func crowd(n int, key crypto.Signer) []*entity {
	root := issue("same", nil, nil)
	out := make([]*entity, n)
	for i := range out {
		out[i] = issue("same", root, key)
	}
	return out
}

func TestCrowd(t *testing.T) {
	all := crowd(60, newKey(elliptic.P256()))
	der := pfxFile(append(certBags(all...), keyBag(all[0].key))...)
	if got := rendered(t, secretPFX(der), render.Options{}); got != keyPEM(all[0].key)+certPEM(all...) {
		t.Error("not all in stored order")
	}
}

// If a key is too large to check signatures with, the certificates stay in stored order.
func TestChainBigKey(t *testing.T) {
	leaf := line("leaf")[0]
	template := *leaf.cert
	template.RawSubject = nil
	for bits, want := range map[uint]bool{8192: true, 8193: false} {
		n := new(big.Int).SetBit(new(big.Int), int(bits-1), 1)
		template.Subject.CommonName = "big"
		signed := must(x509.CreateCertificate(crand.Reader, &template, leaf.cert, &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 3}, leaf.key))
		under := &entity{cert: must(x509.ParseCertificate(signed))}
		der := pfxFile(certBags(leaf, under)...)
		if got := rendered(t, secretPFX(der), render.Options{}) == certPEM(under, leaf); got != want {
			t.Errorf("of %d bits: ordered is %t", bits, got)
		}
	}
}

// BenchmarkHostile measures the most expensive PFX for the order of certificates, and for
// all that can be expensive together.
func BenchmarkHostile(b *testing.B) {
	crowded := crowd(40, newKey(elliptic.P521()))
	leaf := crowded[0]
	// Two rounds for each iteration of PBKDF2 in two parts, one for each of the MAC.
	encoder := gopkcs12.Modern2023.WithIterations(pkcs12.MaxRounds / 5)
	for name, der := range map[string][]byte{
		"signatures":            pfxFile(append(certBags(crowded...), keyBag(leaf.key))...),
		"rounds and signatures": must(encoder.Encode(leaf.key, leaf.cert, certs(crowded[1:]...), "")),
	} {
		b.Run(fmt.Sprintf("%s/%d", name, len(der)), func(b *testing.B) {
			b.ReportAllocs()
			v := secretPFX(der)
			for b.Loop() {
				if _, err := render.Files(object(request.EncodingUTF8), v, render.Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
