package render_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"

	jks "github.com/pavlo-v-chernykh/keystore-go/v4"
	gopkcs12 "software.sslmate.com/src/go-pkcs12"
)

const storePassword = "CANARY-password"

// allParts are all of them.
var allParts = []request.PartName{request.PartLeaf, request.PartChain, request.PartFullChain, request.PartCA, request.PartBundle, request.PartKey,
	request.PartKeyPKCS1, request.PartPKCS12, request.PartJKS, request.PartTrustStorePKCS12, request.PartTrustStoreJKS}

func partFile(p request.PartName) request.Part {
	return request.Part{Name: p, Path: "out/" + string(p), Mode: 0o400, PasswordFrom: "p"}
}

var passwords = map[string]string{"p": storePassword}

// part renders one part.
func part(t testing.TB, v keyvault.Value, p request.PartName) (string, error) {
	t.Helper()
	files, err := render.Parts(object(request.EncodingUTF8), v, []request.Part{partFile(p)}, passwords)
	if err != nil {
		if files != nil {
			t.Error("files and an error")
		}
		if e, ok := errors.AsType[*fault.Error](err); !ok || e.Reason != fault.ContentInvalid || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("got %v", err)
		}
		return "", err
	}
	if len(files) != 1 || files[0].Path != "out/"+string(p) || files[0].Mode != 0o400 {
		t.Fatalf("got %v", files)
	}
	return string(files[0].Content), nil
}

// names are those of the certificates in PEM, or in a truststore or keystore.
func names(t testing.TB, p request.PartName, content string) string {
	t.Helper()
	var found []*x509.Certificate
	switch p {
	case request.PartPKCS12:
		_, leaf, others, err := gopkcs12.DecodeChain([]byte(content), storePassword)
		if err != nil {
			t.Fatal(err)
		}
		found = append([]*x509.Certificate{leaf}, others...)
	case request.PartTrustStorePKCS12:
		found = must(gopkcs12.DecodeTrustStore([]byte(content), storePassword))
	case request.PartJKS, request.PartTrustStoreJKS:
		store := jks.New(jks.WithOrderedAliases())
		if err := store.Load(strings.NewReader(content), []byte(storePassword)); err != nil {
			t.Fatal(err)
		}
		for _, alias := range store.Aliases() {
			if store.IsPrivateKeyEntry(alias) {
				for _, c := range must(store.GetPrivateKeyEntry(alias, []byte(storePassword))).CertificateChain {
					found = append(found, must(x509.ParseCertificate(c.Content)))
				}
				continue
			}
			found = append(found, must(x509.ParseCertificate(must(store.GetTrustedCertificateEntry(alias)).Certificate.Content)))
		}
	default:
		for block, rest := pem.Decode([]byte(content)); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "CERTIFICATE" {
				found = append(found, must(x509.ParseCertificate(block.Bytes)))
			}
		}
	}
	var out []string
	for _, cert := range found {
		out = append(out, cert.Subject.CommonName)
	}
	return strings.Join(out, " ")
}

// plain is a secret that is not behind a certificate.
func plain(text string) keyvault.Value { return keyvault.Value{Text: text, ContentType: "text/plain"} }

// The certificates of each part, for all that a secret can contain.
func TestPartCertificates(t *testing.T) {
	c := line("leaf", "one", "two", "root")
	self, others := line("self")[0], line("other-leaf", "other")
	crossed := issue("one", others[1], c[1].key) // the same authority, signed by another root
	bag := func(entities ...*entity) keyvault.Value {
		return secretPFX(pfxFile(append(certBags(entities...), keyBag(c[0].key))...))
	}
	const none = "<none>"
	notCA := func(e *entity) *entity {
		return issue("end", e, nil, func(c *x509.Certificate) { c.IsCA = false })
	}
	for name, test := range map[string]struct {
		value keyvault.Value
		// leaf, chain, fullchain, ca, bundle, pkcs12 and jks, the truststores
		want [7]string
	}{
		"PFX, disordered":      {bag(c[3], c[1], c[0], c[2]), [7]string{"leaf", "one two", "leaf one two", "root", "leaf one two root", "leaf one two", "one two root"}},
		"without a root":       {bag(c[0], c[1], c[2]), [7]string{"leaf", "one two", "leaf one two", "two", "leaf one two", "leaf one two", "one two"}},
		"leaf alone":           {bag(c[0]), [7]string{"leaf", "", "leaf", none, "leaf", "leaf", none}},
		"signed by the root":   {plain(keyPEM(c[2].key) + certPEM(c[2], c[3])), [7]string{"two", "", "two", "root", "two root", "two", "root"}},
		"self-signed":          {plain(keyPEM(self.key) + certPEM(self)), [7]string{"self", "", "self", "self", "self", "self", "self"}},
		"twice":                {plain(certPEM(c[0], c[1]) + keyPEM(c[0].key) + certPEM(c[1], c[0])), [7]string{"leaf", "one", "leaf one", "one", "leaf one", "leaf one", "one"}},
		"cross-signed":         {bag(c[1], crossed, c[3], c[2], others[1], c[0]), [7]string{"leaf", "one two one", "leaf one two one", "root other", "leaf one two root one other", "leaf one two one", "one two one root other"}},
		"a foreign root":       {bag(others[1], c[3], c[2], c[1], c[0]), [7]string{"leaf", "one two", "leaf one two", "root", "leaf one two root other", "leaf one two", "one two root"}},
		"no key, a chain":      {plain(certPEM(notCA(c[1]), c[1], c[2], c[3])), [7]string{"end", "one two", "end one two", "root", "end one two root", none, "one two root"}},
		"authorities":          {plain(certPEM(c[3], others[1], self)), [7]string{none, "", none, "root other self", "root other self", none, "root other self"}},
		"authorities, a chain": {plain(certPEM(c[2], c[3])), [7]string{"two", "", "two", "root", "two root", none, "two root"}},
		"PEM of Key Vault":     {managed(contentTypePEM, keyPEM(c[0].key)+certPEM(c[:4]...)), [7]string{"leaf", "one two", "leaf one two", "root", "leaf one two root", "leaf one two", "one two root"}},
		"a key alone":          {plain(keyPEM(c[0].key)), [7]string{none, "", none, none, none, none, none}},
	} {
		t.Run(name, func(t *testing.T) {
			for i, parts := range [][]request.PartName{{request.PartLeaf}, {request.PartChain}, {request.PartFullChain}, {request.PartCA}, {request.PartBundle},
				{request.PartPKCS12, request.PartJKS}, {request.PartTrustStorePKCS12, request.PartTrustStoreJKS}} {
				for _, p := range parts {
					content, err := part(t, test.value, p)
					got := none
					if err == nil {
						got = names(t, p, content)
					}
					want := test.want[i]
					if p.Protected() && fips140.Enforced() {
						want = none
					}
					if got != want {
						t.Errorf("%s: got %q, want %q (%v)", p, got, want, err)
					}
				}
			}
		})
	}
}

// The key in each form that openssl writes and reads.
func TestPartKeys(t *testing.T) {
	rsaLeaf, ecLeaf := issue("rsa", nil, rsaKey()), issue("ec", nil, newKey(elliptic.P384()))
	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey())}))
	sec1 := string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: must(x509.MarshalECPrivateKey(ecLeaf.key.(*ecdsa.PrivateKey)))}))
	for name, c := range map[string]struct {
		text string
		key  crypto.Signer
	}{
		"PKCS#8":                 {keyPEM(rsaKey()) + certPEM(rsaLeaf), rsaKey()},
		"PKCS#1":                 {certPEM(rsaLeaf) + pkcs1, rsaKey()},
		"SEC 1 with parameters":  {"-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n" + sec1 + certPEM(ecLeaf), ecLeaf.key},
		"text around the blocks": {"Bag Attributes\n  friendlyName: x\n" + keyPEM(ecLeaf.key) + "\nsubject=CN = x\n" + certPEM(ecLeaf), ecLeaf.key},
		"a PFX in base64":        {base64.StdEncoding.EncodeToString(pfxFile(append(certBags(rsaLeaf), keyBag(rsaKey()))...)), rsaKey()},
	} {
		t.Run(name, func(t *testing.T) {
			for _, v := range []keyvault.Value{plain(c.text), {Text: c.text}} {
				if got, err := part(t, v, request.PartKey); err != nil || got != keyPEM(c.key) {
					t.Errorf("got %q, %v", got, err)
				}
				got, err := part(t, v, request.PartKeyPKCS1)
				if _, isRSA := c.key.(*rsa.PrivateKey); isRSA && got != pkcs1 || !isRSA && err == nil {
					t.Errorf("PKCS#1: got %q, %v", got, err)
				}
				if got, err := part(t, v, request.PartBundle); err != nil || !strings.HasPrefix(got, keyPEM(c.key)+"-----BEGIN CERTIFICATE") {
					t.Errorf("bundle: got %q, %v", got, err)
				}
			}
		})
	}
}

func TestPartErrors(t *testing.T) {
	c, other := line("leaf", "root"), line("other")[0]
	encrypted := "-----BEGIN ENCRYPTED PRIVATE KEY-----\nQ0FOQVJZ\n-----END ENCRYPTED PRIVATE KEY-----\n"
	old := "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nQ0FOQVJZ\n-----END RSA PRIVATE KEY-----\n"
	const fix = "; files needs a certificate: base64 of a PFX without a password, or PEM with at most one private key"
	for name, test := range map[string]struct {
		text string
		part request.PartName
		want string
	}{
		"text":           {"CANARY?", request.PartLeaf, "is not valid base64" + fix},
		"no PFX":         {"Q0FOQVJZ", request.PartLeaf, "is not PKCS#12 with private keys or certificates" + fix},
		"other PEM":      {"-----BEGIN PUBLIC KEY-----\nQ0FOQVJZ\n-----END PUBLIC KEY-----\n", request.PartLeaf, "is not PEM with a private key or certificates" + fix},
		"broken PEM":     {"-----BEGIN CERTIFICATE-----\nCANARY", request.PartLeaf, "is not PEM with a private key or certificates" + fix},
		"a broken key":   {"-----BEGIN PRIVATE KEY-----\nQ0FOQVJZ\n-----END PRIVATE KEY-----\n", request.PartKey, "is not PEM with a private key or certificates" + fix},
		"an OpenSSH key": {"-----BEGIN OPENSSH PRIVATE KEY-----\nQ0FOQVJZ\n-----END OPENSSH PRIVATE KEY-----\n", request.PartKey, "is not PEM with a private key or certificates" + fix},
		"a broken cert":  {"-----BEGIN CERTIFICATE-----\nQ0FOQVJZ\n-----END CERTIFICATE-----\n", request.PartLeaf, "has a certificate that cannot be parsed" + fix},
		"encrypted":      {encrypted, request.PartKey, "has an encrypted private key" + fix},
		"encrypted, old": {old, request.PartKey, "has an encrypted private key" + fix},
		"two keys":       {keyPEM(c[0].key, c[1].key), request.PartKey, "has more than one private key" + fix},
		"another key":    {keyPEM(other.key) + certPEM(c...), request.PartLeaf, "has a private key that belongs to none of its certificates" + fix},
		"too long":       {"-----BEGIN " + strings.Repeat("CANARY", 11000), request.PartLeaf, "is longer than 65536 bytes" + fix},
		"no key":         {certPEM(c...), request.PartKey, "has no part key: there is no private key; remove this part; or, Azure admin: reissue the certificate with an exportable key"},
		"no key for jks": {certPEM(c...), request.PartJKS, "has no part jks: there is no private key; remove this part; or, Azure admin: reissue the certificate with an exportable key"},
		"no key, PKCS#1": {certPEM(c...), request.PartKeyPKCS1, "has no part key-pkcs1: there is no private key; remove this part; or, Azure admin: reissue the certificate with an exportable key"},
		"no issuer":      {keyPEM(c[0].key) + certPEM(c[0]), request.PartCA, "has no part ca: the certificate has no issuer certificate; remove this part; or, Azure admin: import the certificate with its chain"},
		"no trust":       {keyPEM(c[0].key) + certPEM(c[0]), request.PartTrustStoreJKS, "has no part truststore-jks: the certificate has no issuer certificate; remove this part; or, Azure admin: import the certificate with its chain"},
		"not RSA":        {keyPEM(c[0].key) + certPEM(c[0]), request.PartKeyPKCS1, "has no part key-pkcs1: the private key is not RSA; use part key"},
		"no certificate": {keyPEM(c[0].key), request.PartLeaf, "has no part leaf: there is no certificate; remove this part; or, Azure admin: import the certificate with its chain"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := part(t, plain(test.text), test.part)
			if err == nil || err.Error() != object(request.EncodingUTF8).String()+" "+test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
	want := "the password is empty, longer than 1024 bytes, or has characters that the keystore cannot have; use a password"
	if fips140.Enforced() {
		want = "FIPS 140-only mode does not allow the algorithms of keystores; use parts in PEM"
	}
	_, err := render.Parts(object(request.EncodingUTF8), plain(keyPEM(c[0].key)+certPEM(c...)), []request.Part{partFile(request.PartJKS)}, map[string]string{"p": "CANARYé"})
	if err == nil || !strings.Contains(err.Error(), "has no part jks: "+want) {
		t.Errorf("got %v", err)
	}
}

// Parts of one PFX have equal bytes each time, whatever the order of its certificates is.
func TestPartsAreStable(t *testing.T) {
	c := line("leaf", "one", "root")
	var parts []request.Part
	for _, p := range allParts {
		if p != request.PartKeyPKCS1 && !(p.Protected() && fips140.Enforced()) {
			parts = append(parts, partFile(p))
		}
	}
	legacy := partFile(request.PartPKCS12)
	if legacy.Legacy = true; !fips140.Enforced() {
		parts = append(parts, legacy)
	}
	var before []render.File
	for _, order := range [][]*entity{{c[0], c[1], c[2]}, {c[2], c[0], c[1]}} {
		files, err := render.Parts(object(request.EncodingUTF8), secretPFX(pfxFile(append(certBags(order...), keyBag(c[0].key))...)), parts, passwords)
		if err != nil || len(files) != len(parts) {
			t.Fatal(err)
		}
		for i := range before {
			if !bytes.Equal(before[i].Content, files[i].Content) {
				t.Errorf("%s has other bytes", parts[i].Name)
			}
		}
		before = files
	}
}

func FuzzParts(f *testing.F) {
	c := line("leaf", "one", "root")
	texts := []string{keyPEM(c[0].key) + certPEM(c...), certPEM(c[2], line("other")[0])}
	for _, der := range seedPFX() {
		texts = append(texts, base64.StdEncoding.EncodeToString(der))
	}
	for i, text := range texts {
		f.Add(text, byte(i))
	}
	f.Fuzz(func(t *testing.T, text string, which byte) {
		p := allParts[int(which)%len(allParts)]
		content, err := part(t, plain(text), p)
		if again, _ := part(t, plain(text), p); again != content {
			t.Errorf("%s has other bytes", p)
		}
		if err == nil && content == "" && p != request.PartChain {
			t.Errorf("%s is empty", p)
		}
	})
}

func BenchmarkParts(b *testing.B) {
	c := line("leaf", "one", "root")
	c[0] = issue("leaf", c[1], rsaKey())
	v := secretPFX(pfxFile(append(certBags(c...), keyBag(rsaKey()))...))
	for _, p := range allParts {
		b.Run(string(p), func(b *testing.B) {
			for b.Loop() {
				if _, err := render.Parts(object(request.EncodingUTF8), v, []request.Part{partFile(p)}, passwords); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
