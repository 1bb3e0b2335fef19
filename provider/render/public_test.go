package render_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"unicode"

	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"
)

func publicObject(kind request.Type) request.Object {
	return request.Object{Type: kind, Name: "pub", Path: "p/pub", History: 1, Format: request.FormatPEM, Encoding: request.EncodingUTF8, Mode: 0o400}
}

// jwk returns the public key as in RFC 7518.
func jwk(kty, crv string, k *ecdsa.PrivateKey) *keyvault.Key {
	point := must(k.PublicKey.Bytes())[1:]
	return &keyvault.Key{Type: kty, Curve: crv, X: point[:len(point)/2], Y: point[len(point)/2:]}
}

func publicPEM(k crypto.Signer) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(k.Public()))}))
}

func TestKey(t *testing.T) {
	n, e := rsaKey().N.Bytes(), big.NewInt(int64(rsaKey().E)).Bytes()
	p256, p384, p521 := newKey(elliptic.P256()), newKey(elliptic.P384()), newKey(elliptic.P521())
	short := newKey(elliptic.P256())
	for must(short.PublicKey.Bytes())[1] != 0 {
		short = newKey(elliptic.P256())
	}
	stripped := jwk("EC", "P-256", short)
	stripped.X = stripped.X[1:]
	padded := jwk("EC", "P-256", p256)
	padded.Y = append([]byte{0}, padded.Y...)
	for name, c := range map[string]struct {
		key  *keyvault.Key
		want crypto.Signer
	}{
		"RSA":                     {&keyvault.Key{Type: "RSA", N: n, E: e}, rsaKey()},
		"RSA-HSM, leading zeros":  {&keyvault.Key{Type: "RSA-HSM", N: append([]byte{0}, n...), E: append([]byte{0, 0}, e...)}, rsaKey()},
		"P-256":                   {jwk("EC", "P-256", p256), p256},
		"P-384":                   {jwk("EC-HSM", "P-384", p384), p384},
		"P-521":                   {jwk("EC", "P-521", p521), p521},
		"a leading zero too few":  {stripped, short},
		"a leading zero too many": {padded, p256},
	} {
		t.Run(name, func(t *testing.T) {
			before := [][]byte{bytes.Clone(c.key.X), bytes.Clone(c.key.N)}
			files, _, err := render.Files(publicObject(request.TypeKey), keyvault.Value{Key: c.key}, render.Options{SeparateFiles: true})
			if err != nil {
				t.Fatal(err)
			}
			if len(files) != 1 || files[0].Path != "p/pub" || files[0].Mode != 0o400 || string(files[0].Content) != publicPEM(c.want) {
				t.Errorf("got %q", files)
			}
			if !bytes.Equal(before[0], c.key.X) || !bytes.Equal(before[1], c.key.N) {
				t.Error("the value was written to")
			}
		})
	}
}

func TestKeyRefused(t *testing.T) {
	n := rsaKey().N.Bytes()
	e := []byte{1, 0, 1}
	good := jwk("EC", "P-256", newKey(elliptic.P256()))
	for name, c := range map[string]struct {
		key  *keyvault.Key
		says string
	}{
		"no key":                 {nil, `""`},
		"symmetric":              {&keyvault.Key{Type: "oct-HSM"}, `"oct-HSM"`},
		"type in lower case":     {&keyvault.Key{Type: "rsa", N: n, E: e}, `"rsa"`},
		"type with a newline":    {&keyvault.Key{Type: "x\ny" + strings.Repeat("z", 200)}, `"x\ny`},
		"P-256K":                 {jwk("EC", "P-256K", newKey(elliptic.P256())), `"P-256K"`},
		"no curve":               {&keyvault.Key{Type: "EC", X: good.X, Y: good.Y}, `""`},
		"no modulus":             {&keyvault.Key{Type: "RSA", E: e}, "no valid key of that type"},
		"no exponent":            {&keyvault.Key{Type: "RSA", N: n}, "no valid key of that type"},
		"zero exponent":          {&keyvault.Key{Type: "RSA", N: n, E: []byte{0}}, "no valid key of that type"},
		"exponent one":           {&keyvault.Key{Type: "RSA", N: n, E: []byte{1}}, "no valid key of that type"},
		"even exponent":          {&keyvault.Key{Type: "RSA", N: n, E: []byte{4}}, "no valid key of that type"},
		"even modulus":           {&keyvault.Key{Type: "RSA", N: append(bytes.Clone(n), 0), E: e}, "no valid key of that type"},
		"exponent of 32 bits":    {&keyvault.Key{Type: "RSA", N: n, E: []byte{0x80, 0, 0, 1}}, "no valid key of that type"},
		"exponent of 65 bits":    {&keyvault.Key{Type: "RSA", N: n, E: []byte{1, 0, 0, 0, 0, 0, 0, 0, 3}}, "no valid key of that type"},
		"exponent above modulus": {&keyvault.Key{Type: "RSA", N: []byte{7}, E: e}, "no valid key of that type"},
		"no point":               {&keyvault.Key{Type: "EC", Curve: "P-256"}, "no valid key of that type"},
		"not on the curve":       {&keyvault.Key{Type: "EC", Curve: "P-256", X: good.X, Y: good.X}, "no valid key of that type"},
		"of another curve":       {&keyvault.Key{Type: "EC", Curve: "P-384", X: good.X, Y: good.Y}, "no valid key of that type"},
		"too long":               {&keyvault.Key{Type: "EC", Curve: "P-256", X: append([]byte{1}, good.X...), Y: good.Y}, "no valid key of that type"},
		"x above the field":      {&keyvault.Key{Type: "EC", Curve: "P-256", X: bytes.Repeat([]byte{255}, 32), Y: good.Y}, "no valid key of that type"},
	} {
		t.Run(name, func(t *testing.T) {
			o := publicObject(request.TypeKey)
			files, _, err := render.Files(o, keyvault.Value{Key: c.key}, render.Options{})
			if err == nil || files != nil {
				t.Fatalf("got %q %v", files, err)
			}
			if text := err.Error(); !strings.Contains(text, c.says) || !strings.Contains(text, `key "pub"`) || strings.ContainsFunc(text, unicode.IsControl) || len(text) > 300 {
				t.Errorf("does not say %q, or not on a short line: %q", c.says, text)
			}
		})
	}
}

func TestCertificate(t *testing.T) {
	leaf := line("leaf")[0]
	cer := bytes.Clone(leaf.cert.Raw)
	strange := seq(seq(integer(-1))) // crypto/x509 cannot parse it
	for _, c := range []struct {
		cer  []byte
		want string
	}{
		{cer, certPEM(leaf)},
		{strange, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: strange}))},
	} {
		files, _, err := render.Files(publicObject(request.TypeCert), keyvault.Value{CER: c.cer}, render.Options{SeparateFiles: true})
		if err != nil || len(files) != 1 || files[0].Path != "p/pub" || string(files[0].Content) != c.want {
			t.Errorf("got %q %v", files, err)
		}
	}
	if !bytes.Equal(cer, leaf.cert.Raw) {
		t.Error("the value was written to")
	}
	for _, bad := range [][]byte{nil, {}, {0x30}, []byte("canary"), append(bytes.Clone(cer), 0), cer[:len(cer)-1]} {
		files, _, err := render.Files(publicObject(request.TypeCert), keyvault.Value{CER: bad}, render.Options{})
		if err == nil || files != nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%.20x: got %q %v", bad, files, err)
		}
	}
}
