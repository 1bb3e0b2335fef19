package pkcs12_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider/pkcs12"

	gopkcs12 "software.sslmate.com/src/go-pkcs12"
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

// issue makes a certificate signed by the parent, or self-signed without one.
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

// age says whether a file is protected in a way that FIPS 140-only mode rejects.
type age bool

const legacy age = true

func ageOf(isLegacy bool) age { return age(isLegacy) }

// or returns the error for a file that is rejected in that mode, or else this one.
func (a age) or(err error) error {
	if a == legacy && fips140.Enforced() {
		return pkcs12.ErrFIPS
	}
	return err
}

func (want contents) check(t *testing.T, der []byte, ages ...age) {
	t.Helper()
	if slices.Contains(ages, legacy) && fips140.Enforced() {
		if got, err := pkcs12.Decode(der); got != nil || !errors.Is(err, pkcs12.ErrFIPS) {
			t.Errorf("in FIPS 140-only mode: got %v %v", got, err)
		}
		fips140.WithoutEnforcement(func() { want.check(t, der) })
		return
	}
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

// encode writes a file with another encoder, which uses what FIPS 140-only mode rejects.
func encode(encoder *gopkcs12.Encoder, password string, leaf *entity, cas ...*entity) (der []byte) {
	fips140.WithoutEnforcement(func() { der = must(encoder.Encode(leaf.key, leaf.cert, certs(cas...), password)) })
	return der
}

// decodeAll reads a file with the decoder of that library.
func decodeAll(der []byte) (out contents, err error) {
	fips140.WithoutEnforcement(func() {
		var (
			key  any
			cert *x509.Certificate
			cas  []*x509.Certificate
		)
		if key, cert, cas, err = gopkcs12.DecodeChain(der, ""); err != nil {
			return
		}
		out = contents{keys: pkcs8(key.(crypto.Signer)), certs: [][]byte{cert.Raw}}
		for _, c := range cas {
			out.certs = append(out.certs, c.Raw)
		}
	})
	return out, err
}
