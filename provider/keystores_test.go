package provider_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/request"

	"software.sslmate.com/src/go-pkcs12"
)

// identityPEM is a private key with its own certificate.
func identityPEM(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "web"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})) + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// keystores are parts of a certificate.
func keystores(path string, names ...request.PartName) request.Object {
	o := one("web")
	o.Path, o.Pieces = "", &request.Pieces{}
	for _, name := range names {
		p := request.Part{Name: name, Path: fmt.Sprintf("%s.%s", path, name), Mode: 0o400}
		if strings.Contains(string(name), "pkcs12") || strings.Contains(string(name), "jks") {
			p.PasswordFrom = "password"
		}
		o.Pieces.Parts = append(o.Pieces.Parts, p)
	}
	return o
}

// A keystore is made once for equal ingredients: in a mount, and in all mounts of a principal. A new
// password makes another, of which the version says so.
func TestKeystores(t *testing.T) {
	if fips140.Enforced() {
		m := newMounter(&signIn{}, &vaults{values: map[string]string{"web": identityPEM(t), "password": "p"}})
		for _, part := range []request.PartName{request.PartPKCS12, request.PartJKS, request.PartTrustStorePKCS12, request.PartTrustStoreJKS} {
			_, err := m.Mount(t.Context(), class(t, keystores("a", part)), time.Time{})
			refused(t, nil, err, "FIPS 140-only mode")
		}
		return
	}
	v := &vaults{values: map[string]string{"web": identityPEM(t), "password": "first"}}
	m := newMounter(&signIn{}, v)
	m.Keystores, m.Processors = provider.NewKeystores(1<<20), fair.New(2, fair.ThreeQuarters)
	objects := []request.Object{keystores("a", request.PartKey, request.PartPKCS12, request.PartJKS), keystores("b", request.PartPKCS12, request.PartTrustStoreJKS)}
	contents := func(req *request.Mount) map[string]*byte {
		t.Helper()
		volume, err := m.Mount(t.Context(), req, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		out := make(map[string]*byte)
		for _, f := range volume.Files {
			if f.Mode != 0o400 {
				t.Errorf("%s has mode %o", f.Path, f.Mode)
			}
			out[f.Path] = &f.Content[0]
			if f.Path == "a.pkcs12" {
				if _, _, _, err := pkcs12.DecodeChain(f.Content, v.values["password"]); err != nil {
					t.Error(err)
				}
			}
		}
		if got := show(&provider.Volume{Versions: volume.Versions}); got != "secret/web@v-web|secret/password@v-password|secret/web@v-web|secret/password@v-password" {
			t.Errorf("versions %s", got)
		}
		return out
	}
	req := class(t, objects...)
	first := contents(req)
	if len(first) != 5 || first["a.pkcs12"] != first["b.pkcs12"] || first["a.pkcs12"] == first["a.jks"] {
		t.Errorf("got %v", first)
	}
	if again := contents(req); again["a.pkcs12"] != first["a.pkcs12"] || again["b.truststore-jks"] != first["b.truststore-jks"] || again["a.key"] == first["a.key"] {
		t.Error("the second mount made them once more")
	}
	other := *req
	other.Identity.ClientID = "99999999-8a3b-4a55-9d3c-2f1f6f1c7a10"
	if content := contents(&other); content["a.pkcs12"] == first["a.pkcs12"] {
		t.Error("another principal got a keystore that it did not cause")
	}
	v.values["password"] = "second"
	if content := contents(req); content["a.pkcs12"] == first["a.pkcs12"] {
		t.Error("another password has the same keystore")
	}
	delete(v.values, "password")
	_, err := m.Mount(t.Context(), req, time.Time{})
	refused(t, nil, err, `not found in contoso.vault.azure.net: secret "password"`)
	v.values["password"] = "CANARY-not-ASCII-é"
	_, err = m.Mount(t.Context(), req, time.Time{})
	refused(t, nil, err, `secret "web" has no part jks: the password`)
	if strings.Contains(err.Error(), "CANARY") {
		t.Errorf("shows the password: %v", err)
	}
}

// What an entry may become counts in the reservation of its volume.
func TestReservation(t *testing.T) {
	values := map[string]string{"web": identityPEM(t), "password": "p", "db": `{"a":1}`}
	const kib = 1 << 10
	for name, c := range map[string]struct {
		object request.Object
		want   int64
	}{
		"a secret":    {one("db"), 50 * kib},
		"pieces":      {pieces(t, one("db"), [2]string{"a", "a"}), 562 * kib},
		"a document":  {doc(t, "d", `{{ secret "db" }}`), 2098 * kib},
		"a keystore":  {keystores("k", request.PartPKCS12), 150 * kib},
		"its key":     {keystores("k", request.PartKey), 100 * kib},
		"static text": {doc(t, "d", "x"), 2098 * kib},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "a keystore" && fips140.Enforced() {
				return // there is none
			}
			m := newMounter(&signIn{}, &vaults{values: values})
			m.Memory = fair.New(1<<30, fair.ThreeQuarters)
			volume, err := m.Mount(t.Context(), class(t, c.object), time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			defer volume.Release()
			if _, ok := m.Memory.TryAcquire("other", 1<<30-c.want+1); ok {
				t.Errorf("less than %d is reserved", c.want)
			}
			if _, ok := m.Memory.TryAcquire("other", 1<<30-c.want); !ok {
				t.Errorf("more than %d is reserved", c.want)
			}
		})
	}
}
