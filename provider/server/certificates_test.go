package server_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"

	"software.sslmate.com/src/go-pkcs12"
)

// chain is a certificate with its key and issuers, created for each test.
type chain struct {
	key                *ecdsa.PrivateKey
	leaf, issuer, root *x509.Certificate
}

func newChain(t *testing.T) chain {
	t.Helper()
	root, rootKey := issue(t, "root", nil, nil)
	issuer, issuerKey := issue(t, "issuer", root, rootKey)
	leaf, key := issue(t, "leaf", issuer, issuerKey)
	return chain{key, leaf, issuer, root}
}

// issue makes a certificate; without a parent it signs itself.
func issue(t *testing.T, name string, parent *x509.Certificate, signer crypto.Signer) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: name != "leaf", BasicConstraintsValid: true,
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

// pfx is the chain as PKCS#12, its issuers from the root down.
func (c chain) pfx(t *testing.T, encoder *pkcs12.Encoder) []byte {
	t.Helper()
	out, err := encoder.Encode(c.key, c.leaf, []*x509.Certificate{c.root, c.issuer}, "")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// servicePFX is the chain as Key Vault writes it, in base64.
func (c chain) servicePFX(old bool) string {
	return base64.StdEncoding.EncodeToString(azuretest.PFX(c.key, [][]byte{c.leaf.Raw, c.issuer.Raw, c.root.Raw}, old))
}

// writtenKey is a public key and what becomes of it.
type writtenKey struct {
	azuretest.Key
	name, pem string
}

// writtenKeys are keys that Key Vault writes in its own form: RSA-HSM with a longer exponent, and
// P-521 with and without the byte that is zero in every second coordinate.
func writtenKeys(t *testing.T) []writtenKey {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	all := []writtenKey{
		{azuretest.Key{Public: &rsaKey.PublicKey}, "rsa", ""},
		{azuretest.Key{Public: &rsaKey.PublicKey, HSM: true}, "rsa-hsm", ""},
	}
	seen := map[bool]bool{}
	for len(seen) < 2 {
		key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if short := point[1] == 0; !seen[short] {
			seen[short] = true
			all = append(all, writtenKey{azuretest.Key{Public: &key.PublicKey, HSM: short}, fmt.Sprintf("p-521-%t", short), ""})
		}
	}
	for i, k := range all {
		der, err := x509.MarshalPKIXPublicKey(k.Public)
		if err != nil {
			t.Fatal(err)
		}
		all[i].pem = toPEM("PUBLIC KEY", der)
	}
	return all
}

func (c chain) keyPEM(t *testing.T) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		t.Fatal(err)
	}
	return toPEM("PRIVATE KEY", der)
}

func (c chain) publicPEM(t *testing.T) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&c.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return toPEM("PUBLIC KEY", der)
}

func certificatesPEM(certificates ...*x509.Certificate) (out string) {
	for _, c := range certificates {
		out += toPEM("CERTIFICATE", c.Raw)
	}
	return out
}

func toPEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
