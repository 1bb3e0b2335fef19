package keystore_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider/keystore"

	jks "github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var serial = int64(0)

// issue makes a certificate for the key, signed by the issuer or self-signed.
func issue(name string, key crypto.Signer, issuer *x509.Certificate, signer crypto.Signer) *x509.Certificate {
	serial++
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Unix(1700000000, 0), NotAfter: time.Unix(1<<32, 0), BasicConstraintsValid: true, IsCA: true}
	if issuer == nil {
		issuer, signer = template, key
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer))))
}

func newIdentity(key crypto.Signer) keystore.Identity {
	ca := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	root := issue("root", ca, nil, nil)
	return keystore.Identity{Key: must(x509.MarshalPKCS8PrivateKey(key)), Certificates: []*x509.Certificate{issue("leaf", key, root, ca), root}}
}

// keys are of all types that crypto/x509 has.
var keys = sync.OnceValue(func() map[string]crypto.Signer {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return map[string]crypto.Signer{"RSA": must(rsa.GenerateKey(rand.Reader, 2048)), "P-256": must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"P-521": must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)), "Ed25519": ed}
})

const password = "CANARY-password"

// formats write a keystore and read it.
var formats = map[string]struct {
	write func(keystore.Identity, []byte) ([]byte, error)
	read  func(t *testing.T, content []byte, password string) keystore.Identity
}{
	"pkcs12": {func(id keystore.Identity, p []byte) ([]byte, error) { return keystore.PKCS12(id, p, keystore.Modern) }, readPKCS12},
	"legacy": {func(id keystore.Identity, p []byte) ([]byte, error) { return keystore.PKCS12(id, p, keystore.Legacy) }, readPKCS12},
	"jks":    {keystore.JKS, readJKS},
}

func readPKCS12(t *testing.T, content []byte, password string) keystore.Identity {
	t.Helper()
	key, leaf, others, err := pkcs12.DecodeChain(content, password)
	if err != nil {
		t.Fatal(err)
	}
	return keystore.Identity{Key: must(x509.MarshalPKCS8PrivateKey(key)), Certificates: append([]*x509.Certificate{leaf}, others...)}
}

func readJKS(t *testing.T, content []byte, password string) keystore.Identity {
	t.Helper()
	store := jks.New()
	if err := store.Load(bytes.NewReader(content), []byte(password)); err != nil {
		t.Fatal(err)
	}
	entry, err := store.GetPrivateKeyEntry(keystore.AliasKey, []byte(password))
	if err != nil {
		t.Fatal(err)
	}
	id := keystore.Identity{Key: entry.PrivateKey}
	for _, cert := range entry.CertificateChain {
		id.Certificates = append(id.Certificates, must(x509.ParseCertificate(cert.Content)))
	}
	if !entry.CreationTime.Equal(id.Certificates[0].NotBefore) {
		t.Errorf("created at %s", entry.CreationTime)
	}
	return id
}

func TestKeystore(t *testing.T) {
	for format, f := range formats {
		for name, key := range keys() {
			t.Run(format+" "+name, func(t *testing.T) {
				id := newIdentity(key)
				content, err := f.write(id, []byte(password))
				if err != nil {
					t.Fatal(err)
				}
				got := f.read(t, content, password)
				if !bytes.Equal(got.Key, id.Key) || len(got.Certificates) != 2 || !got.Certificates[0].Equal(id.Certificates[0]) || !got.Certificates[1].Equal(id.Certificates[1]) {
					t.Error("read another identity")
				}
				if again := must(f.write(id, []byte(password))); !bytes.Equal(again, content) {
					t.Error("equal input, other bytes")
				}
			})
		}
	}
}

// What is encrypted decides on the salts: a stream of JKS that is used for two keys reveals both.
func TestSalts(t *testing.T) {
	key := keys()["Ed25519"] // whose signatures, and so these certificates, have one length
	self := func(name string) keystore.Identity {
		return keystore.Identity{Key: must(x509.MarshalPKCS8PrivateKey(key)), Certificates: []*x509.Certificate{issue(name, key, nil, nil)}}
	}
	one, renewed := self("1"), self("2")
	if len(one.Certificates[0].Raw) != len(renewed.Certificates[0].Raw) {
		t.Fatal("the certificates differ in length")
	}
	longer := keystore.Identity{Key: one.Key, Certificates: append(one.Certificates[:1:1], renewed.Certificates...)}
	other := keystore.Identity{Key: must(x509.MarshalPKCS8PrivateKey(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))), Certificates: one.Certificates}
	for format, f := range formats {
		seen := make(map[string]string)
		for name, id := range map[string]keystore.Identity{"one": one, "renewed": renewed, "longer": longer, "other": other} {
			salt := saltOf(t, format, must(f.write(id, []byte(password))))
			if seen[salt] != "" {
				t.Errorf("%s: %s has the salt of %s", format, name, seen[salt])
			}
			seen[salt] = name
			// The password does not: a salt that depends on it would be a test for guesses.
			if saltOf(t, format, must(f.write(id, []byte("another")))) != salt {
				t.Errorf("%s: %s has another salt with another password", format, name)
			}
		}
	}
	if a, b := must(keystore.PKCS12(one, []byte(password), keystore.Modern)), must(keystore.JKS(one, []byte(password))); bytes.Contains(b, []byte(saltOf(t, "pkcs12", a))) {
		t.Error("two formats have one salt")
	}
}

// saltOf finds a salt: JKS has it in front of the key, PKCS#12 as the first OCTET STRING of its
// length in the parameters of PBES2 or PBE.
func saltOf(t *testing.T, format string, content []byte) string {
	t.Helper()
	before, n := []byte{0x2a, 0x02, 0x11, 0x01, 0x01, 0x05, 0x00, 0x04}, 20 // the OID of JKS's protector, NULL, OCTET STRING
	switch format {
	case "pkcs12":
		before, n = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c}, 16 // PBKDF2
	case "legacy":
		before, n = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01, 0x03}, 8
	}
	_, rest, found := bytes.Cut(content, before)
	if !found {
		t.Fatalf("no salt in %s", format)
	}
	if format != "jks" {
		at := bytes.Index(rest, []byte{0x04, byte(n)})
		return string(rest[at+2 : at+2+n])
	}
	if rest[0]&0x80 != 0 { // the long form of a length
		rest = rest[rest[0]&0x7f:]
	}
	return string(rest[1 : 1+n])
}

func TestTrustStore(t *testing.T) {
	certs := append(newIdentity(keys()["P-256"]).Certificates, newIdentity(keys()["P-256"]).Certificates...)
	for name, f := range map[string]struct {
		write func() ([]byte, error)
		read  func(content []byte) []*x509.Certificate
	}{
		"pkcs12": {func() ([]byte, error) { return keystore.TrustStorePKCS12(certs, []byte(password), keystore.Modern) },
			func(content []byte) []*x509.Certificate { return must(pkcs12.DecodeTrustStore(content, password)) }},
		"legacy": {func() ([]byte, error) { return keystore.TrustStorePKCS12(certs, []byte(password), keystore.Legacy) },
			func(content []byte) []*x509.Certificate { return must(pkcs12.DecodeTrustStore(content, password)) }},
		"jks": {func() ([]byte, error) { return keystore.TrustStoreJKS(certs, []byte(password)) },
			func(content []byte) (out []*x509.Certificate) {
				store := jks.New()
				if err := store.Load(bytes.NewReader(content), []byte(password)); err != nil {
					t.Fatal(err)
				}
				for _, alias := range []string{"ca", "ca-1", "ca-2", "ca-3"} {
					out = append(out, must(x509.ParseCertificate(must(store.GetTrustedCertificateEntry(alias)).Certificate.Content)))
				}
				return out
			}},
	} {
		t.Run(name, func(t *testing.T) {
			content, err := f.write()
			if err != nil {
				t.Fatal(err)
			}
			got := f.read(content)
			if len(got) != len(certs) {
				t.Fatalf("%d certificates", len(got))
			}
			for i, cert := range got {
				if !cert.Equal(certs[i]) {
					t.Errorf("another certificate %d", i)
				}
			}
			if again := must(f.write()); !bytes.Equal(again, content) {
				t.Error("equal input, other bytes")
			}
		})
	}
}

func TestRefused(t *testing.T) {
	id := newIdentity(keys()["P-256"])
	noKey, noCerts, broken := id, id, id
	noKey.Key, noCerts.Certificates, broken.Key = nil, nil, []byte("CANARY")
	for name, c := range map[string]struct {
		id       keystore.Identity
		password string
		want     error
		only     string // one format
	}{
		"no key":              {noKey, password, keystore.ErrNoKey, ""},
		"no certificates":     {noCerts, password, keystore.ErrNoCerts, ""},
		"another key":         {broken, password, keystore.ErrKey, ""},
		"no password":         {id, "", keystore.ErrPassword, ""},
		"a long password":     {id, strings.Repeat("CANARY", 200), keystore.ErrPassword, ""},
		"a NUL":               {id, "CANARY\x00", keystore.ErrPassword, ""},
		"not UTF-8":           {id, "CANARY\xff", keystore.ErrPassword, ""},
		"more than 16 bits":   {id, "CANARY\U0001f600", keystore.ErrPassword, ""},
		"not ASCII":           {id, "CANARYé", keystore.ErrPassword, "jks"},
		"not ASCII in pkcs12": {id, "CANARYé", nil, "pkcs12"},
	} {
		for format, f := range formats {
			if c.only != "" && c.only != format {
				continue
			}
			content, err := f.write(c.id, []byte(c.password))
			if !errors.Is(err, c.want) || (err == nil) == (content == nil) || err != nil && strings.Contains(err.Error(), "CANARY") {
				t.Errorf("%s of %s: %v", format, name, err)
			}
			if err == nil {
				f.read(t, content, c.password)
			}
		}
	}
	for name, certs := range map[string][]*x509.Certificate{"": nil, password: nil, "\x00": id.Certificates} {
		if _, err := keystore.TrustStoreJKS(certs, []byte(name)); err == nil {
			t.Errorf("a JKS truststore of %d certificates with password %q", len(certs), name)
		}
		if _, err := keystore.TrustStorePKCS12(certs, []byte(name), keystore.Modern); err == nil {
			t.Errorf("a PKCS#12 truststore of %d certificates with password %q", len(certs), name)
		}
	}
}

// Whatever the key and the password are: a keystore that can be read with it, or an error.
func FuzzKeystore(f *testing.F) {
	id := newIdentity(keys()["P-256"])
	f.Add(id.Key, []byte(password))
	f.Add([]byte("x"), []byte("é"))
	f.Fuzz(func(t *testing.T, key, password []byte) {
		id := keystore.Identity{Key: key, Certificates: id.Certificates}
		for format, f := range formats {
			content, err := f.write(id, password)
			if (err == nil) == (content == nil) {
				t.Errorf("%s: %d bytes, %v", format, len(content), err)
			}
			if err == nil && format != "jks" {
				f.read(t, content, string(password))
			}
		}
	})
}

func BenchmarkKeystore(b *testing.B) {
	id := newIdentity(keys()["RSA"])
	for format, f := range formats {
		b.Run(format, func(b *testing.B) {
			for b.Loop() {
				if _, err := f.write(id, []byte(password)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
