package entra

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"

	"software.sslmate.com/src/go-pkcs12"
)

func newRSAKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certificateOf(t *testing.T, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func block(label string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}))
}

// What people store as a certificate is read, and what cannot be used is refused with a word
// that says why and nothing of the text.
func TestParseCertificate(t *testing.T) {
	key, other := newRSAKey(t), newRSAKey(t)
	leaf, issuer := certificateOf(t, key), certificateOf(t, other)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(key any) string {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return block("PRIVATE KEY", der)
	}
	pfx := func(e *pkcs12.Encoder, password string) string {
		raw, err := e.Encode(key, leaf, []*x509.Certificate{issuer}, password)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(raw)
	}
	cert, chain, private := block("CERTIFICATE", leaf.Raw), block("CERTIFICATE", issuer.Raw), pkcs8(key)
	modern := pfx(pkcs12.Modern, "")
	for name, c := range map[string]struct {
		text string
		n    int // certificates
		err  error
	}{
		"PEM":                        {cert + private, 1, nil},
		"PEM, key first":             {private + chain + cert, 2, nil},
		"PEM with CRLF":              {strings.ReplaceAll(cert+private, "\n", "\r\n"), 1, nil},
		"PEM, PKCS#1":                {cert + block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)), 1, nil},
		"PFX":                        {modern, 2, nil},
		"PFX of old algorithms":      {pfx(pkcs12.LegacyRC2, ""), 2, nil},
		"PFX on many lines":          {modern[:60] + "\n" + modern[60:] + "\n", 2, nil},
		"an unreadable one besides":  {cert + private + block("CERTIFICATE", []byte("secret")), 1, nil},
		"PFX under a password":       {pfx(pkcs12.Modern, "secret"), 0, errNeither},
		"no key":                     {cert, 0, errNoKey},
		"two keys":                   {cert + private + pkcs8(other), 0, errNoKey},
		"key under a password":       {cert + block("ENCRYPTED PRIVATE KEY", []byte("secret")), 0, errNoKey},
		"key on a curve":             {cert + pkcs8(ec), 0, errNotRSA},
		"key on a curve, SEC 1":      {cert + block("EC PRIVATE KEY", sec1(t, ec)), 0, errNotRSA},
		"another's key":              {cert + pkcs8(other), 0, errNoCertificate},
		"no certificate":             {private, 0, errNoCertificate},
		"neither":                    {"secret", 0, errNeither},
		"base64 of something else":   {"c2VjcmV0", 0, errNeither},
		"empty":                      {"", 0, errNeither},
		"too large":                  {strings.Repeat("secret\n", 10_000), 0, errTooLarge},
		"a key of too many numbers":  {cert + block("PRIVATE KEY", make([]byte, 17<<10)), 0, errTooLarge},
		"a thumbprint, not the cert": {"3F2504E04F8911D39A0C0305E82C3301AABBCCDD", 0, errNeither},
	} {
		certificates, got, err := parseCertificate(request.Secret(c.text))
		if err != c.err || len(certificates) != c.n || (got != nil) != (err == nil) {
			t.Errorf("%s: %d certificates, %v", name, len(certificates), err)
		}
		if err == nil {
			continue
		}
		s := person(ServicePrincipal)
		s.ClientSecret, s.ClientCertificate = "", request.Secret(c.text)
		if c.text == "" {
			continue // which is no certificate at all
		}
		_, err = exchangeOf(t, new(service)).Token(t.Context(), s.Identity, vault)
		if !fault.Is(err, fault.InvalidParameter) || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "clientcertificate of the nodePublishSecretRef") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func sec1(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Another certificate, and a client secret of the same text, are other credentials.
func TestCertificateIsACredential(t *testing.T) {
	a, b := person(ServicePrincipal).Identity, person(ServicePrincipal).Identity
	a.ClientSecret, a.ClientCertificate = "", "one"
	b.ClientSecret, b.ClientCertificate = "", "two"
	secret := person(ServicePrincipal).Identity
	secret.ClientSecret = "one"
	keys := map[cacheKey]bool{}
	for _, id := range []Identity{a, b, secret, a} {
		key, ok := keyOf(id, vault)
		if !ok {
			t.Error("no key")
		}
		keys[key] = true
	}
	if len(keys) != 3 {
		t.Errorf("%d keys", len(keys))
	}
	none := a
	none.ClientCertificate = ""
	if _, ok := keyOf(none, vault); ok {
		t.Error("a key without a credential")
	}
}
