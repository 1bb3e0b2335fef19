package render_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"math/rand/v2"
	"slices"
	"testing"

	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"
)

// FuzzChain stores certificates in any order: of two chains, some cross-signed, of equal names, or
// damaged. None is lost, the first is that of the key, and a whole chain always comes in its order.
func FuzzChain(f *testing.F) {
	first := line("leaf", "two", "one", "root")
	second := line("leaf", "two", "root")
	pool := slices.Concat(first, second)
	cross := issue("one", second[2], first[2].key) // the same authority, signed by another root
	twin := issue("root", nil, nil)                // another root of the same name
	pool = append(pool, cross, twin, issue("root", twin, first[3].key))
	f.Add([]byte{0, 1, 2, 3}, uint64(0), true, uint16(0), byte(0))
	f.Add([]byte{3, 1, 0, 2}, uint64(1), true, uint16(0), byte(0))
	f.Add([]byte{4, 6, 5}, uint64(2), false, uint16(0), byte(0))
	f.Add([]byte{0, 1, 2, 3, 7, 6}, uint64(3), true, uint16(0), byte(0))
	f.Add([]byte{9, 3, 8, 3, 3}, uint64(4), false, uint16(0), byte(0))
	f.Add([]byte{0, 1, 2, 3}, uint64(5), true, uint16(100), byte(1))
	f.Fuzz(func(t *testing.T, picks []byte, order uint64, withKey bool, at uint16, flip byte) {
		var stored [][]byte
		for _, pick := range picks[:min(len(picks), 80)] {
			stored = append(stored, pool[int(pick)%len(pool)].cert.Raw)
		}
		rand.New(rand.NewPCG(order, 0)).Shuffle(len(stored), func(i, j int) { stored[i], stored[j] = stored[j], stored[i] })
		if flip != 0 && len(stored) > 0 {
			stored[0] = bytes.Clone(stored[0])
			stored[0][int(at)%len(stored[0])] ^= flip
		}
		var bags [][]byte
		for _, der := range stored {
			bags = append(bags, certBag(der))
		}
		if withKey {
			bags = append(bags, keyBag(first[0].key))
		}
		if len(bags) == 0 {
			return
		}
		files, _, err := render.Files(object(request.EncodingUTF8), secretPFX(pfxFile(bags...)), render.Options{})
		if err != nil {
			if flip == 0 {
				t.Fatal(err)
			}
			return // a certificate that is damaged may be none
		}
		text := files[0].Content
		var got [][]byte
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "CERTIFICATE" {
				got = append(got, block.Bytes)
			}
		}
		// Of one that is damaged, the bits of its key may be those of the key, and the rest not.
		checkOrder(t, stored, got, withKey && flip == 0, first[0].key.Public())
		if line := raw(first); flip == 0 && withKey && len(stored) == len(line) && sameSet(stored, line) && !slices.EqualFunc(got, line, bytes.Equal) {
			t.Error("a whole chain is not in its order")
		}
	})
}

func raw(entities []*entity) (out [][]byte) {
	for _, e := range entities {
		out = append(out, e.cert.Raw)
	}
	return out
}

// sameSet reports whether both have the same certificates, however often.
func sameSet(a, b [][]byte) bool {
	within := func(a, b [][]byte) bool {
		return !slices.ContainsFunc(a, func(one []byte) bool {
			return !slices.ContainsFunc(b, func(other []byte) bool { return bytes.Equal(one, other) })
		})
	}
	return within(a, b) && within(b, a)
}

// checkOrder checks that each certificate is there as often as it was stored, and that the first
// one is that of the key, if there is one.
func checkOrder(t *testing.T, stored, got [][]byte, withKey bool, key crypto.PublicKey) {
	t.Helper()
	sorted := func(all [][]byte) [][]byte { return slices.SortedFunc(slices.Values(all), bytes.Compare) }
	if !slices.EqualFunc(sorted(stored), sorted(got), bytes.Equal) {
		t.Fatalf("%d certificates of %d, or not the same", len(got), len(stored))
	}
	isOwn := func(der []byte) bool { return ofKey(der, key) }
	if withKey && slices.ContainsFunc(got, isOwn) && !isOwn(got[0]) {
		t.Error("the first is not of the key")
	}
}

func ofKey(der []byte, key crypto.PublicKey) bool {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return false
	}
	public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(key)
}
