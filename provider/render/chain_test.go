package render_test

import (
	"crypto"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

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
	later := func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(time.Hour) }
	noIDs := func(c *x509.Certificate) { c.SubjectKeyId, c.AuthorityKeyId, c.IsCA = nil, nil, false }
	newer := issue("leaf", one, leaf.key, later)
	newerOne := issue("one", two, one.key, later)
	// One key on all levels, without key identifiers and with those of the key.
	shared := newKey(elliptic.P256())
	rootS := issue("root S", nil, shared)
	midS := issue("mid S", rootS, shared)
	leafS := issue("leaf S", midS, shared)
	rootN := issue("root N", nil, shared, noIDs)
	midN := issue("mid N", rootN, shared, noIDs)
	leafN := issue("leaf N", midN, shared, noIDs)
	// The key of the leaf is that of the root as well, which is newer.
	topK := issue("top", nil, shared, later)
	midK := issue("mid", topK, nil)
	leafK := issue("bottom", midK, shared)
	// The root YR, which X1 has cross-signed.
	yrKey := newKey(elliptic.P256())
	x1 := issue("X1", nil, nil)
	yr, yrByX1 := issue("YR", nil, yrKey, later), issue("YR", x1, yrKey)
	yr1 := issue("YR1", yr, nil)
	underYR1 := issue("www", yr1, nil)
	otherLeaf := issue("leaf", one, nil, later)
	rekeyed := issue("one", two, nil, later)
	foreign := make([]*entity, 70)
	for i := range foreign {
		foreign[i] = issue(fmt.Sprint("foreign ", i), nil, nil)
	}
	nameless := issue("nameless", one, nil, func(c *x509.Certificate) { c.RawSubject = seq() })
	all := func(lists ...[]*entity) []*entity { return slices.Concat(lists...) }
	list := func(e ...*entity) []*entity { return e }
	for _, r := range []struct {
		name   string
		key    *entity
		stored []*entity
		joined int // the length of the chain
		want   []*entity
	}{
		{"in order", leaf, list(leaf, one, two, root), 4, list(leaf, one, two, root)},
		{"reversed", leaf, list(root, two, one, leaf), 4, list(leaf, one, two, root)},
		{"no root", leaf, list(two, one, leaf), 3, list(leaf, one, two)},
		{"self-signed", self, list(self), 1, list(self)},
		{"self-signed with key identifiers", underSelfID, list(selfID, underSelfID), 2, list(underSelfID, selfID)},
		{"self-signed and foreign", self, list(root, self, one), 1, list(self, root, one)},
		{"a gap", leaf, list(root, one, leaf), 2, list(leaf, one, root)},
		{"a foreign root", leaf, list(self, one, leaf), 2, list(leaf, one, self)},
		{"many foreign roots", leaf, all(foreign, list(root, two, one, leaf)), 4, all(list(leaf, one, two, root), foreign)},
		{"an impostor of the same name", leaf, list(impostor, one, leaf), 2, list(leaf, one, impostor)},
		{"only the impostor", leaf, list(impostor, leaf), 1, list(leaf, impostor)},
		{"cross-signed", underA, list(rootA, aByB, rootB, underA), 3, list(underA, aByB, rootB, rootA)},
		{"cross-signed, the other root is missing", underYR1, list(yr, yr1, yrByX1, underYR1), 3, list(underYR1, yr1, yrByX1, yr)},
		{"cross-signed, with both roots", underYR1, list(x1, yr, yr1, yrByX1, underYR1), 4, list(underYR1, yr1, yrByX1, x1, yr)},
		{"signed one another", underA, list(bByA, aByB, underA), 3, list(underA, aByB, bByA)},
		{"signed one another, with roots", underA, list(underA, rootB, rootA, aByB, bByA), 4, list(underA, aByB, bByA, rootA, rootB)},
		{"signed one another, no leaf", rootB, list(aByB, bByA), 2, list(bByA, aByB)},
		{"the same twice", leaf, list(root, two, root, one, leaf, leaf), 4, list(leaf, one, two, root, root, leaf)},
		{"the same twice and no chain", leaf, list(self, leaf, leaf), 1, list(leaf, self, leaf)},
		{"renewed with the same key", leaf, list(leaf, one, newer), 2, list(newer, one, leaf)},
		{"renewed with another key", leaf, list(otherLeaf, one, leaf, two), 3, list(leaf, one, two, otherLeaf)},
		{"renewed, both from the same time", leaf, list(one, renewed, leaf), 2, list(renewed, one, leaf)},
		{"issuer renewed with the same key", leaf, list(one, leaf, two, newerOne), 3, list(leaf, newerOne, two, one)},
		{"issuer renewed with another key", leaf, list(rekeyed, one, leaf, two), 3, list(leaf, one, two, rekeyed)},
		{"no certificate of the key", self, list(root, two, one, leaf), 4, list(leaf, one, two, root)},
		{"no certificate of the key, and a gap", self, list(foreign[0], root, one, leaf), 2, list(leaf, one, foreign[0], root)},
		{"key of an issuer", one, list(two, one, leaf), 2, list(one, two, leaf)},
		{"one key on all levels", leafS, list(rootS, midS, leafS), 3, list(leafS, midS, rootS)},
		{"one key on all levels, no key identifiers", leafN, list(rootN, leafN, midN), 3, list(leafN, midN, rootN)},
		{"one key, a gap", leafS, list(rootS, leafS), 1, list(leafS, rootS)},
		{"key of leaf and root", leafK, list(topK, midK, leafK), 3, list(leafK, midK, topK)},
		{"no subject", nameless, list(one, nameless), 2, list(nameless, one)},
		{"signed with SHA-1", sha1, list(oldRoot, sha1), 2, list(sha1, oldRoot)},
		{"issuer is no authority", underOldCA, list(oldCA, underOldCA), 2, list(underOldCA, oldCA)},
	} {
		t.Run(r.name, func(t *testing.T) {
			der := pfxFile(append(certBags(r.stored...), keyBag(r.key.key))...)
			got, warnings := renderedWith(t, secretPFX(der), render.Options{})
			want := keyPEM(r.key.key) + certPEM(r.want...)
			if got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
			behind := fmt.Sprintf("follow the chain: %d of %d", len(r.stored)-r.joined, len(r.stored))
			if warns := strings.Contains(strings.Join(warnings, "\n"), behind); warns != (r.joined < len(r.stored)) {
				t.Errorf("a chain of %d: warnings %q", r.joined, warnings)
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

// The signature of an issuer whose key is too large, or too small, is not checked: its name
// decides.
func TestChainKeySize(t *testing.T) {
	leaf := line("leaf")[0]
	template := *leaf.cert
	template.RawSubject = nil
	for _, bits := range []uint{512, 8192, 8193} {
		n := new(big.Int).SetBit(new(big.Int), int(bits-1), 1)
		template.Subject.CommonName = "big"
		signed := must(x509.CreateCertificate(crand.Reader, &template, leaf.cert, &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 3}, leaf.key))
		big := &entity{cert: must(x509.ParseCertificate(signed))}
		der := pfxFile(certBags(leaf, big)...)
		if got := rendered(t, secretPFX(der), render.Options{}); got != certPEM(big, leaf) {
			t.Errorf("under an issuer with %d bits: got %s", bits, got)
		}
	}
}

// smallCrowd makes certificates as small as they can be. Each one of the first half could have
// issued all of the second half, and the other way around.
func smallCrowd(n int) (bags [][]byte) {
	name := func(i int) []byte {
		return seq(tlv(asn1.ClassUniversal, asn1.TagSet, seq(oid(2, 5, 4, 3), octets([]byte{'a' + byte(i)}))))
	}
	for i := range n {
		side := i * 2 / n
		bags = append(bags, certBag(seq(seq(integer(i), seq(), name(side), seq(), name(1-side), seq(seq(), integer(i))))))
	}
	return bags
}

// The work for the order is bounded, and nothing is lost beyond the bound.
func TestSmallCrowd(t *testing.T) {
	der := pfxFile(smallCrowd(500)...)
	if len(der) > pkcs12.MaxSize {
		t.Fatalf("%d bytes", len(der))
	}
	started := time.Now()
	text := rendered(t, secretPFX(der), render.Options{})
	if blocks := slices.Compact(blocksOf(t, []byte(text))); len(blocks) != 500 {
		t.Errorf("%d certificates", len(blocks))
	}
	if took := time.Since(started); took > 10*time.Second { // a tenth of a second, on an idle machine
		t.Errorf("took %v", took)
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
		"names":                 pfxFile(smallCrowd(500)...),
		"rounds and signatures": encode(encoder, "", leaf, crowded[1:]...),
	} {
		b.Run(fmt.Sprintf("%s/%d", name, len(der)), func(b *testing.B) {
			b.ReportAllocs()
			v := secretPFX(der)
			for b.Loop() {
				if _, _, err := render.Files(object(request.EncodingUTF8), v, render.Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
