package pkcs12_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/fips140"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
	"math"
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/provider/pkcs12"
)

// passwords are the encodings of the empty password.
var passwords = map[string][]byte{"two zeros": {0, 0}, "no bytes": nil}

// hashes have the object identifiers of a digest and its HMAC.
var hashes = []struct {
	name         string
	digest, hmac []int
	make         func() hash.Hash
}{
	{"SHA-1", oidSHA1, []int{1, 2, 840, 113549, 2, 7}, sha1.New},
	{"SHA-224", []int{2, 16, 840, 1, 101, 3, 4, 2, 4}, []int{1, 2, 840, 113549, 2, 8}, sha256.New224},
	{"SHA-256", []int{2, 16, 840, 1, 101, 3, 4, 2, 1}, oidSHA256MAC, sha256.New},
	{"SHA-384", []int{2, 16, 840, 1, 101, 3, 4, 2, 2}, []int{1, 2, 840, 113549, 2, 10}, sha512.New384},
	{"SHA-512", []int{2, 16, 840, 1, 101, 3, 4, 2, 3}, []int{1, 2, 840, 113549, 2, 11}, sha512.New},
	{"SHA3-224", []int{2, 16, 840, 1, 101, 3, 4, 2, 7}, []int{2, 16, 840, 1, 101, 3, 4, 2, 13}, func() hash.Hash { return sha3.New224() }},
	{"SHA3-256", []int{2, 16, 840, 1, 101, 3, 4, 2, 8}, []int{2, 16, 840, 1, 101, 3, 4, 2, 14}, func() hash.Hash { return sha3.New256() }},
	{"SHA3-384", []int{2, 16, 840, 1, 101, 3, 4, 2, 9}, []int{2, 16, 840, 1, 101, 3, 4, 2, 15}, func() hash.Hash { return sha3.New384() }},
	{"SHA3-512", []int{2, 16, 840, 1, 101, 3, 4, 2, 10}, []int{2, 16, 840, 1, 101, 3, 4, 2, 16}, func() hash.Hash { return sha3.New512() }},
}

func newTwoKeyDES(key []byte) (cipher.Block, error) {
	return des.NewTripleDESCipher(slices.Concat(key, key[:8]))
}

func TestPBE1(t *testing.T) {
	leaf := line("leaf")[0]
	key := must(x509.MarshalPKCS8PrivateKey(leaf.key))
	want := contents{keys: [][]byte{key}, certs: raw(leaf)}
	for _, r := range []struct {
		name    string
		n, size int
		make    func([]byte) (cipher.Block, error)
	}{
		{"3DES", 3, 24, des.NewTripleDESCipher}, {"3DES of two keys", 4, 16, newTwoKeyDES}, {"RC2", 5, 16, newRC2}, {"RC2 of 40 bits", 6, 5, newRC2},
	} {
		for way, password := range passwords {
			part := encryptedPart(pbe1(r.n, r.size, r.make, password, 10, seq(certBags(leaf)...)))
			algorithm, data := pbe1(r.n, r.size, r.make, password, 10, key)
			safe := seq(part, plainPart(bag(oidShrouded, seq(algorithm, octets(data)))))
			for name, mac := range map[string][]byte{"no MAC": nil, "MAC": macFor(oidSHA1, sha1.New, password, safe)} {
				t.Run(r.name+"/"+way+"/"+name, func(t *testing.T) {
					der := pfxWithMAC(mac, safe)
					want.check(t, der, legacy)
					// The library does not support 3DES of two keys, and needs a MAC for the second encoding.
					if _, err := decodeAll(der); err != nil && r.n != 4 && (mac != nil || password != nil) {
						t.Errorf("the library does not read it: %v", err)
					}
				})
			}
		}
	}
}

func TestPBES2(t *testing.T) {
	leaf := line("leaf")[0]
	for _, h := range hashes {
		for _, r := range []struct {
			name string
			id   []int
			size int
			make func([]byte) (cipher.Block, error)
		}{
			{"AES-128", []int{2, 16, 840, 1, 101, 3, 4, 1, 2}, 16, aes.NewCipher},
			{"AES-192", []int{2, 16, 840, 1, 101, 3, 4, 1, 22}, 24, aes.NewCipher},
			{"AES-256", oidAES256, 32, aes.NewCipher},
			{"3DES", []int{1, 2, 840, 113549, 3, 7}, 24, des.NewTripleDESCipher},
		} {
			prf := seq(oid(h.hmac), null)
			if h.name == "SHA-1" {
				prf = nil // the default
			}
			for name, parameters := range map[string][]byte{
				"":            seq(octets(salt), integer(10), prf),
				"/key length": seq(octets(salt), integer(10), integer(r.size), prf),
			} {
				t.Run(r.name+"/"+h.name+name, func(t *testing.T) {
					iv, data := []byte(nil), []byte(nil)
					fips140.WithoutEnforcement(func() {
						block := must(r.make(must(pbkdf2.Key(h.make, "", salt, 10, r.size))))
						iv = make([]byte, block.BlockSize())
						data = encryptCBC(block, iv, seq(certBags(leaf)...))
					})
					algorithm := seq(oid(oidPBES2), seq(seq(oid(oidPBKDF2), parameters), seq(oid(r.id), octets(iv))))
					contents{certs: raw(leaf)}.check(t, pfxFile(encryptedPart(algorithm, data)), ageOf(r.name == "3DES" || h.name == "SHA-1"))
				})
			}
		}
	}
}

func TestMAC(t *testing.T) {
	leaf := line("leaf")[0]
	safe := seq(plainPart(certBags(leaf)...))
	macs := map[string][]byte{
		"PBMAC1": pbmac1(hmacSum(sha256.New, must(pbkdf2.Key(sha256.New, "", salt, 10, 32)), safe), integer(10), integer(32)),
	}
	for _, h := range hashes {
		for way, password := range passwords {
			macs[h.name+"/"+way] = macFor(h.digest, h.make, password, safe)
		}
	}
	for name, mac := range macs {
		t.Run(name, func(t *testing.T) {
			age := ageOf(strings.HasPrefix(name, "SHA-1/"))
			contents{certs: raw(leaf)}.check(t, pfxWithMAC(mac, safe), age)
			other := seq(plainPart(certBags(leaf, leaf)...))
			if _, err := pkcs12.Decode(pfxWithMAC(mac, other)); !errors.Is(err, age.or(pkcs12.ErrPassword)) {
				t.Errorf("of another file: %v", err)
			}
		})
	}
}

// fewRounds are less than MaxRounds, so that the tests take less time.
const fewRounds = 100_000

// Every derivation is charged before it runs, and a file above the budget is rejected.
func TestCharges(t *testing.T) {
	leaf := line("leaf")[0]
	safe := seq(plainPart(certBags(leaf)...))
	part := func(algorithm []byte) []byte { return pfxFile(encryptedPart(algorithm, make([]byte, 16))) }
	pbmac := func(parameters ...[]byte) []byte { return pfxWithMAC(pbmac1(make([]byte, 32), parameters...), safe) }
	twice := encryptedPart(pbes2(10, seq(certBags(leaf)...)))
	sha512 := func(n int) []byte {
		prf := seq(oid(hashes[4].hmac), null)
		return claimKDF(seq(oid(oidPBKDF2), seq(octets(salt), integer(n), prf)))
	}
	const most = fewRounds
	if pkcs12.Budget() != pkcs12.MaxRounds {
		t.Errorf("a file may cost %d rounds", pkcs12.Budget())
	}
	for _, r := range []struct {
		name    string
		want    error
		der     []byte
		charged int
	}{
		{"a key of PBKDF2", nil, pfxFile(twice), 20},
		{"two keys", nil, pfxFile(twice, twice), 40},
		{"a key in an encrypted part", nil, pfxFile(encryptedPart(pbes2(10, seq(shroudedBag(7, leaf.key))))), 34},
		{"hidden rounds", pkcs12.ErrRounds, pfxFile(encryptedPart(pbes2(10, seq(hostileKey())))), 20},
		{"hidden rounds, deeper", pkcs12.ErrRounds, pfxFile(encryptedPart(pbes2(10, seq(nested(3, hostileKey()))))), 20},
		{"hidden rounds in sum", pkcs12.ErrRounds, pfxFile(encryptedPart(pbes2(10, seq(shroudedBag(100, leaf.key), bag(oidShrouded, seq(claim(most/2-100), octets(make([]byte, 16)))))))), 220},
		{"the last round", pkcs12.ErrPassword, pfxFile(twice, encryptedPart(claim(most/2-10), make([]byte, 16))), most},
		{"one more", pkcs12.ErrRounds, pfxFile(twice, encryptedPart(claim(most/2-9), make([]byte, 16))), 20},
		{"a bigger hash", pkcs12.ErrPassword, part(sha512(1000)), 4000},
		{"a bigger hash, too often", pkcs12.ErrRounds, part(sha512(most/4 + 1)), 0},
		{"two blocks and one, for two passwords", pkcs12.ErrPassword, part(claimPBE1(3, integer(100))), 600},
		{"one block and one, for two passwords", pkcs12.ErrPassword, part(claimPBE1(6, integer(100))), 400},
		{"no vector left", pkcs12.ErrRounds, part(claimPBE1(3, integer(most/3+1))), 2 * (most/3 + 1)},
		{"a MAC for two passwords", pkcs12.ErrPassword, pfxWithMAC(macOf(integer(1000)), safe), 2000},
		{"a MAC for one password", pkcs12.ErrRounds, pfxWithMAC(macOf(integer(most/2+1)), safe), most/2 + 1},
		{"PBMAC1", pkcs12.ErrPassword, pbmac(integer(100), integer(32)), 200},
		{"PBMAC1 of two blocks", pkcs12.ErrPassword, pbmac(integer(100), integer(64)), 400},
		{"the length of PBMAC1", pkcs12.ErrMalformed, pbmac(integer(100), huge), 0},
		{"the length of a key", pkcs12.ErrMalformed, part(claimKDF(kdf(integer(10), integer(1<<40)))), 0},
		{"another length of a key", pkcs12.ErrMalformed, part(claimKDF(kdf(integer(10), integer(16)))), 0},
	} {
		t.Run(r.name, func(t *testing.T) { checkCharge(t, r.der, r.want, r.charged) })
	}
}

// Impossible counts and lengths are rejected at no cost.
func TestCountsRejected(t *testing.T) {
	safe := seq(plainPart(certBags(line("leaf")...)...))
	pbmac := func(parameters ...[]byte) []byte { return pfxWithMAC(pbmac1(make([]byte, 32), parameters...), safe) }
	for _, n := range []int{math.MinInt, -1, 0, 19, 65, 1 << 40, math.MaxInt} {
		t.Run(fmt.Sprint("PBMAC1 of bytes ", n), func(t *testing.T) {
			checkCharge(t, pbmac(integer(100), integer(n)), pkcs12.ErrAlgorithm, 0)
		})
	}
	t.Run("PBMAC1 without a length", func(t *testing.T) { checkCharge(t, pbmac(integer(100)), pkcs12.ErrAlgorithm, 0) })
	for _, n := range []int{math.MinInt, -1 << 40, -1, 0, pkcs12.MaxRounds + 1, 1 << 62, math.MaxInt} {
		want := pkcs12.ErrMalformed
		if n > 0 {
			want = pkcs12.ErrRounds
		}
		for name, der := range allCounts(integer(n), safe) {
			t.Run(fmt.Sprintf("%s of %d", name, n), func(t *testing.T) { checkCharge(t, der, want, 0) })
		}
	}
	for name, der := range allCounts(huge, safe) {
		t.Run(name+" of 2⁶⁴", func(t *testing.T) { checkCharge(t, der, pkcs12.ErrMalformed, 0) })
	}
}

// checkCharge checks a file that may be protected in a way that FIPS 140-only mode rejects: the
// charges are the same without it.
func checkCharge(t *testing.T, der []byte, want error, charge int) {
	t.Helper()
	var (
		charged int
		err     error
	)
	fips140.WithoutEnforcement(func() { charged, err = pkcs12.Charged(der, fewRounds) })
	if charged != charge || !errors.Is(err, want) {
		t.Errorf("charged %d, got %v, want %d and %v", charged, err, charge, want)
	}
}

// allCounts are files with a count in each place where a file can have one.
func allCounts(count, safe []byte) map[string][]byte {
	part := func(algorithm []byte) []byte { return encryptedPart(algorithm, make([]byte, 16)) }
	return map[string][]byte{
		"PBKDF2": pfxFile(part(claimKDF(kdf(count)))),
		"PBE":    pfxFile(part(claimPBE1(3, count))),
		"MAC":    pfxWithMAC(macOf(count), safe),
		"PBMAC1": pfxWithMAC(pbmac1(make([]byte, 32), count, integer(32)), safe),
		"key":    pfxFile(plainPart(bag(oidShrouded, seq(claimPBE1(6, count), octets(make([]byte, 16)))))),
	}
}

// Unknown algorithms and missing parameters are rejected at no cost.
func TestAlgorithmRefused(t *testing.T) {
	unknown := oid([]int{1, 2, 3})
	aes256 := seq(oid(oidAES256), octets(make([]byte, 16)))
	ten := kdf(integer(10))
	safe := seq(plainPart())
	pbmac := func(parameters ...[]byte) []byte {
		algorithm := seq(oid([]int{1, 2, 840, 113549, 1, 5, 14}), seq(parameters...))
		return pfxWithMAC(seq(seq(algorithm, octets(make([]byte, 32))), octets(salt), integer(1)), safe)
	}
	part := func(algorithm ...[]byte) []byte { return pfxFile(encryptedPart(seq(algorithm...), make([]byte, 16))) }
	for _, r := range []struct {
		name string
		want error
		der  []byte
	}{
		{"scheme", pkcs12.ErrAlgorithm, part(unknown)},
		{"no parameters", pkcs12.ErrMalformed, part(oid([]int{1, 2, 840, 113549, 1, 12, 1, 3}))},
		{"no parameters of PBES2", pkcs12.ErrMalformed, part(oid(oidPBES2))},
		{"Camellia", pkcs12.ErrAlgorithm, part(oid(oidPBES2), seq(ten, seq(oid([]int{1, 2, 392, 200011, 61, 1, 1, 1, 4}), octets(make([]byte, 16)))))},
		{"cipher", pkcs12.ErrAlgorithm, part(oid(oidPBES2), seq(ten, seq(unknown, octets(salt))))},
		{"scrypt", pkcs12.ErrAlgorithm, part(oid(oidPBES2), seq(seq(unknown, seq()), aes256))},
		{"no parameters of PBKDF2", pkcs12.ErrMalformed, part(oid(oidPBES2), seq(seq(oid(oidPBKDF2)), aes256))},
		{"PRF", pkcs12.ErrAlgorithm, part(oid(oidPBES2), seq(seq(oid(oidPBKDF2), seq(octets(salt), integer(10), seq(unknown, null))), aes256))},
		{"no vector", pkcs12.ErrMalformed, part(oid(oidPBES2), seq(ten, seq(oid(oidAES256))))},
		{"MAC", pkcs12.ErrAlgorithm, pfxWithMAC(seq(seq(seq(unknown, null), octets(nil)), octets(salt), integer(10)), safe)},
		{"no parameters of PBMAC1", pkcs12.ErrMalformed, pbmac()},
		{"KDF of PBMAC1", pkcs12.ErrAlgorithm, pbmac(seq(unknown, seq()), seq(oid(oidSHA256MAC), null))},
		{"HMAC of PBMAC1", pkcs12.ErrAlgorithm, pbmac(ten, seq(unknown, null))},
		{"short vector", pkcs12.ErrMalformed, part(oid(oidPBES2), seq(ten, seq(oid(oidAES256), octets(salt[:8]))))},
		{"cut block", pkcs12.ErrMalformed, pfxFile(encryptedPart(claim(10), make([]byte, 17)))},
		{"no data", pkcs12.ErrMalformed, pfxFile(encryptedPart(claim(10), nil))},
	} {
		t.Run(r.name, func(t *testing.T) {
			var (
				charged int
				err     error
			)
			fips140.WithoutEnforcement(func() { charged, err = pkcs12.Charged(r.der, fewRounds) })
			if !errors.Is(err, r.want) || charged > 20 {
				t.Errorf("charged %d, got %v, want %v", charged, err, r.want)
			}
		})
	}
}
