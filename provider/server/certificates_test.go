package server_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// chain is a certificate with its key and issuers, made anew for each test.
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
