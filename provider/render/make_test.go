package render_test

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
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"

	gopkcs12 "software.sslmate.com/src/go-pkcs12"
)

// An RSA key takes long to generate.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })

var serial atomic.Int64

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
func issue(name string, parent *entity, key crypto.Signer, edit ...func(*x509.Certificate)) *entity {
	if key == nil {
		key = newKey(elliptic.P256())
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0), BasicConstraintsValid: true, IsCA: true,
	}
	for _, f := range edit {
		f(template)
	}
	issuer, signer := template, key
	if parent != nil {
		issuer, signer = parent.cert, parent.key
	}
	var der []byte
	fips140.WithoutEnforcement(func() { der = must(x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)) })
	return &entity{must(x509.ParseCertificate(der)), key}
}

// line makes a chain of certificates, leaf first.
func line(names ...string) []*entity {
	out := make([]*entity, len(names))
	var parent *entity
	for i := len(names) - 1; i >= 0; i-- {
		out[i] = issue(names[i], parent, nil)
		parent = out[i]
	}
	return out
}

func toPEM(label string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}))
}

func certPEM(entities ...*entity) (out string) {
	for _, e := range entities {
		out += toPEM("CERTIFICATE", e.cert.Raw)
	}
	return out
}

func keyPEM(keys ...crypto.Signer) (out string) {
	for _, k := range keys {
		out += toPEM("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(k)))
	}
	return out
}

func certs(entities ...*entity) (out []*x509.Certificate) {
	for _, e := range entities {
		out = append(out, e.cert)
	}
	return out
}

// encode writes a PFX with another encoder, which uses what FIPS 140-only mode rejects.
func encode(encoder *gopkcs12.Encoder, password string, leaf *entity, cas ...*entity) (der []byte) {
	fips140.WithoutEnforcement(func() { der = must(encoder.Encode(leaf.key, leaf.cert, certs(cas...), password)) })
	return der
}

// managed is a secret that Key Vault stores for a certificate.
func managed(contentType, text string) keyvault.Value {
	return keyvault.Value{Version: "v", ContentType: contentType, Text: text, Managed: true}
}

// secretPFX is a managed secret with a PFX.
func secretPFX(der []byte) keyvault.Value {
	return managed(contentTypePKCS12, base64.StdEncoding.EncodeToString(der))
}

// rendered returns the one file of a secret.
func rendered(t testing.TB, v keyvault.Value, opts render.Options) string {
	t.Helper()
	text, _ := renderedWith(t, v, opts)
	return text
}

// renderedWith also returns the warnings.
func renderedWith(t testing.TB, v keyvault.Value, opts render.Options) (string, []string) {
	t.Helper()
	files, warnings, err := render.Files(object(request.EncodingUTF8), v, opts)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 1 {
		t.Fatalf("%d files", len(files))
	}
	return string(files[0].Content), warnings
}

// The following functions write PKCS#12 (RFC 7292) without encryption and with any
// number of keys and certificates, which go-pkcs12 does not write.

func oid(id ...int) []byte       { return must(asn1.Marshal(asn1.ObjectIdentifier(id))) }
func integer(n int) []byte       { return must(asn1.Marshal(n)) }
func octets(b []byte) []byte     { return must(asn1.Marshal(b)) }
func seq(parts ...[]byte) []byte { return tlv(asn1.ClassUniversal, asn1.TagSequence, parts...) }
func explicit(b []byte) []byte   { return tlv(asn1.ClassContextSpecific, 0, b) }

func tlv(class, tag int, parts ...[]byte) []byte {
	return must(asn1.Marshal(asn1.RawValue{Class: class, Tag: tag, IsCompound: true, Bytes: bytes.Join(parts, nil)}))
}

func data(content []byte) []byte {
	return seq(oid(1, 2, 840, 113549, 1, 7, 1), explicit(octets(content)))
}

// pfxFile is a PFX without MAC.
func pfxFile(bags ...[]byte) []byte {
	return seq(integer(3), data(seq(data(seq(bags...)))))
}

func bag(n int, value []byte) []byte {
	return seq(oid(1, 2, 840, 113549, 1, 12, 10, 1, n), explicit(value))
}

func keyBag(k crypto.Signer) []byte { return bag(1, must(x509.MarshalPKCS8PrivateKey(k))) }

// encryptedKeyBag claims to be encrypted with AES-256 and PBKDF2.
func encryptedKeyBag(iterations int) []byte {
	kdf := seq(oid(1, 2, 840, 113549, 1, 5, 12), seq(octets(make([]byte, 16)), integer(iterations), seq(oid(1, 2, 840, 113549, 2, 9))))
	cipher := seq(oid(2, 16, 840, 1, 101, 3, 4, 1, 42), octets(make([]byte, 16)))
	return bag(2, seq(seq(oid(1, 2, 840, 113549, 1, 5, 13), seq(kdf, cipher)), octets(make([]byte, 64))))
}

func certBag(der []byte) []byte {
	return bag(3, seq(oid(1, 2, 840, 113549, 1, 9, 22, 1), explicit(octets(der))))
}

func certBags(entities ...*entity) (out [][]byte) {
	for _, e := range entities {
		out = append(out, certBag(e.cert.Raw))
	}
	return out
}

// p256KBag has a private key that crypto/x509 does not support, which it returns as well.
func p256KBag() (b, key []byte) {
	curve := seq(oid(1, 2, 840, 10045, 2, 1), oid(1, 3, 132, 0, 10))
	key = seq(integer(0), curve, octets(seq(integer(1), octets(bytes.Repeat([]byte{1}, 32)))))
	return bag(1, key), key
}
