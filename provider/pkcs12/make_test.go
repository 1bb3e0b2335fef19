package pkcs12_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider/pkcs12"
)

// An RSA key takes long to generate.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newKey(curve elliptic.Curve) *ecdsa.PrivateKey {
	return must(ecdsa.GenerateKey(curve, rand.Reader))
}

// entity is a certificate with its key.
type entity struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// issue makes a certificate signed by the parent, or by itself without one.
func issue(name string, parent *entity, key crypto.Signer) *entity {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0), BasicConstraintsValid: true, IsCA: true,
	}
	issuer, signer := template, key
	if parent != nil {
		issuer, signer = parent.cert, parent.key
	}
	der := must(x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer))
	return &entity{must(x509.ParseCertificate(der)), key}
}

// line makes a chain of certificates, leaf first.
func line(names ...string) []*entity {
	out := make([]*entity, len(names))
	var parent *entity
	for i := len(names) - 1; i >= 0; i-- {
		out[i] = issue(names[i], parent, newKey(elliptic.P256()))
		parent = out[i]
	}
	return out
}

func certs(entities ...*entity) (out []*x509.Certificate) {
	for _, e := range entities {
		out = append(out, e.cert)
	}
	return out
}

func raw(entities ...*entity) (out [][]byte) {
	for _, e := range entities {
		out = append(out, e.cert.Raw)
	}
	return out
}

func pkcs8(keys ...crypto.Signer) (out [][]byte) {
	for _, k := range keys {
		out = append(out, must(x509.MarshalPKCS8PrivateKey(k)))
	}
	return out
}

// contents are what a file is expected to contain, in DER and in stored order.
type contents struct{ keys, certs [][]byte }

func (want contents) check(t *testing.T, der []byte) {
	t.Helper()
	got, err := pkcs12.Decode(der)
	if err != nil {
		t.Fatal(err)
	}
	var keys [][]byte
	for _, key := range got.PrivateKeys {
		keys = append(keys, key.PKCS8)
	}
	if !slices.EqualFunc(keys, want.keys, bytes.Equal) || !slices.EqualFunc(got.Certificates, want.certs, bytes.Equal) {
		t.Errorf("got keys %x and certificates %x, want %x and %x", keys, got.Certificates, want.keys, want.certs)
	}
}
