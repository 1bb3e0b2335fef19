package azuretest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"testing"

	"akv-csi-provider/provider/azuretest"

	"software.sslmate.com/src/go-pkcs12"
)

// What the fake writes is read by another's decoder, and has the parameters of Key Vault.
func TestPFX(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	chain := make([][]byte, 3)
	parsed := make([]*x509.Certificate, len(chain))
	for i := range chain {
		chain[i] = certificate(t)
		if parsed[i], err = x509.ParseCertificate(chain[i]); err != nil {
			t.Fatal(err)
		}
	}
	for old, mac := range map[bool]int{true: 1, false: 2000} {
		der := azuretest.PFX(key, chain, old)
		got, first, others, err := pkcs12.DecodeChain(der, "")
		if err != nil {
			t.Fatal(err)
		}
		if !key.Equal(got) || !first.Equal(parsed[2]) || len(others) != 2 || !others[0].Equal(parsed[1]) || !others[1].Equal(parsed[0]) {
			t.Errorf("old %t: not the key, or not the certificates from the root down", old)
		}
		var file struct {
			Version int
			Safe    struct {
				ID      asn1.ObjectIdentifier
				Content asn1.RawValue
			}
			MAC struct {
				Digest asn1.RawValue
				Salt   []byte
				Rounds int
			}
		}
		if rest, err := asn1.Unmarshal(der, &file); err != nil || len(rest) > 0 {
			t.Fatal(err)
		}
		if file.MAC.Rounds != mac || len(file.MAC.Salt) != 20 {
			t.Errorf("old %t: a MAC of %d rounds with a salt of %d bytes", old, file.MAC.Rounds, len(file.MAC.Salt))
		}
		shrouded, encrypted := []byte{42, 134, 72, 134, 247, 13, 1, 12, 10, 1, 2}, []byte{42, 134, 72, 134, 247, 13, 1, 7, 6}
		if k, c := bytes.Index(der, shrouded), bytes.Index(der, encrypted); k < 0 || c < k {
			t.Errorf("old %t: the key is at %d, the certificates at %d", old, k, c)
		}
		rc2 := []byte{42, 134, 72, 134, 247, 13, 1, 12, 1, 6}
		if bytes.Contains(der, rc2) != old {
			t.Errorf("old %t: RC2 is there: %t", old, !old)
		}
	}
}
