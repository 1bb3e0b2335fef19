package pkcs12_test

import (
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"akv-csi-provider/provider/pkcs12"
)

// BenchmarkHostile measures the most expensive files.
func BenchmarkHostile(b *testing.B) {
	leaf := line("leaf")[0]
	keys := slices.Repeat([][]byte{keyBag(newKey(elliptic.P521()))}, 170)
	expensive := func(n, h int) []byte {
		prf := seq(oid(hashes[h].hmac), null)
		return encryptedPart(claimKDF(seq(oid(oidPBKDF2), seq(octets(salt), integer(n), prf))), make([]byte, 16))
	}
	const most = pkcs12.MaxRounds
	for name, der := range map[string][]byte{
		"rounds of SHA-1":          pfxFile(expensive(most/4, 0)),
		"rounds of SHA-256":        pfxFile(expensive(most/2, 2)),
		"rounds of SHA-384":        pfxFile(expensive(most/4, 3)),
		"rounds of SHA-512":        pfxFile(expensive(most/4, 4)),
		"rounds of SHA-384 in MAC": pfxWithMAC(seq(seq(seq(oid(hashes[3].digest), null), octets(nil)), octets(salt), integer(most/4)), seq()),
		"rounds and keys":          pfxFile(encryptedPart(pbes2(most/2, seq(keys...)))),
		"rounds and one key":       pfxFile(encryptedPart(pbes2(most/2, seq(append(certBags(leaf), keyBag(leaf.key))...)))),
		"keys":                     pfxFile(plainPart(keys...)),
		"big keys":                 pfxFile(plainPart(slices.Repeat([][]byte{bag(oidKey, bigKey(28000))}, 3)...)),
	} {
		b.Run(fmt.Sprintf("%s/%d", name, len(der)), func(b *testing.B) {
			b.ReportAllocs()
			if len(der) > pkcs12.MaxSize {
				b.Fatalf("%d bytes", len(der))
			}
			for b.Loop() {
				_, _ = pkcs12.Decode(der)
			}
		})
	}
}

// bigKey is an RSA key for crypto/x509, which does not require prime factors.
func bigKey(bits int) []byte {
	one, e := big.NewInt(1), big.NewInt(65537)
	for {
		var p [2]*big.Int
		for i := range p {
			p[i] = must(rand.Int(rand.Reader, new(big.Int).Lsh(one, uint(bits/2))))
			for _, at := range []int{0, bits/2 - 2, bits/2 - 1} {
				p[i].SetBit(p[i], at, 1)
			}
		}
		p1, q1 := new(big.Int).Sub(p[0], one), new(big.Int).Sub(p[1], one)
		d := new(big.Int).ModInverse(e, new(big.Int).Mul(p1, q1))
		inverse := new(big.Int).ModInverse(p[1], p[0])
		if d == nil || inverse == nil {
			continue
		}
		numbers := []*big.Int{new(big.Int), new(big.Int).Mul(p[0], p[1]), e, d, p[0], p[1], new(big.Int).Mod(d, p1), new(big.Int).Mod(d, q1), inverse}
		return seq(integer(0), seq(oid([]int{1, 2, 840, 113549, 1, 1, 1}), null), octets(must(asn1.Marshal(numbers))))
	}
}
