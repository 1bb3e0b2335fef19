package pkcs12_test

import (
	"crypto/aes"
	"crypto/fips140"
	"crypto/pbkdf2"
	"crypto/rc4"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"testing"

	"akv-csi-provider/provider/pkcs12"
)

// RC4 is a stream cipher: only the SEQUENCE shows that the key is right.
func TestRC4(t *testing.T) {
	leaf := line("leaf")[0]
	key := must(x509.MarshalPKCS8PrivateKey(leaf.key))
	for n, size := range map[int]int{1: 16, 2: 5} {
		for way, password := range passwords {
			encrypt := func(plain []byte) (algorithm, data []byte) {
				data = make([]byte, len(plain))
				fips140.WithoutEnforcement(func() {
					key := must(pkcs12.DerivePKCS12(sha1.New, pkcs12.IDKey, password, salt, 10, size))
					must(rc4.NewCipher(key)).XORKeyStream(data, plain)
				})
				return claimPBE1(n, integer(10)), data
			}
			algorithm, data := encrypt(key)
			safe := seq(encryptedPart(encrypt(seq(certBags(leaf)...))), plainPart(bag(oidShrouded, seq(algorithm, octets(data)))))
			for name, mac := range map[string][]byte{"no MAC": nil, "MAC": macFor(oidSHA1, sha1.New, password, safe)} {
				t.Run(fmt.Sprintf("%d/%s/%s", size, way, name), func(t *testing.T) {
					contents{keys: [][]byte{key}, certs: raw(leaf)}.check(t, pfxWithMAC(mac, safe), legacy)
				})
			}
		}
	}
}

// The iterations that OWASP recommends for PBKDF2 are within the budget, in each place.
func TestManyIterations(t *testing.T) {
	const iterations = 600_000
	mac, _ := pkcs12.Charged(pfxWithMAC(macOf(integer(1)), seq()), 100) // wrong, so for two passwords
	part := must(pkcs12.Charged(pfxFile(encryptedPart(pbes2(1, seq(certBags(line("leaf")...)...)))), 100))
	if cost := iterations * (mac + 2*part); cost > pkcs12.MaxRounds {
		t.Errorf("%d rounds", cost)
	}
}

// OpenSSL wrote salts of 8 bytes for long, which FIPS 140-only mode rejects.
func TestShortSalt(t *testing.T) {
	leaf := line("leaf")[0]
	var data []byte
	fips140.WithoutEnforcement(func() {
		key := must(pbkdf2.Key(sha256.New, "", salt[:8], 10, 32))
		data = encryptCBC(must(aes.NewCipher(key)), make([]byte, aes.BlockSize), seq(certBags(leaf)...))
	})
	algorithm := claimKDF(seq(oid(oidPBKDF2), seq(octets(salt[:8]), integer(10), seq(oid(oidSHA256MAC), null))))
	contents{certs: raw(leaf)}.check(t, pfxFile(encryptedPart(algorithm, data)), legacy)
}
