package render_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"

	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"

	gopkcs12 "software.sslmate.com/src/go-pkcs12"
)

func TestManaged(t *testing.T) {
	c := line("leaf", "root")
	leaf, root := c[0], c[1]
	der := must(gopkcs12.Modern2023.Encode(leaf.key, leaf.cert, certs(root), ""))
	pfx := base64.StdEncoding.EncodeToString(der)
	keys, chain := keyPEM(leaf.key), certPEM(leaf, root)
	both := keys + chain
	// The stored order and line ends of a PEM stay in the file and not in its parts.
	stored := strings.ReplaceAll(certPEM(root), "\n", "\r\n") + "note\n" + keys + certPEM(leaf)
	ec := string(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 1, 1}})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: must(x509.MarshalECPrivateKey(leaf.key.(*ecdsa.PrivateKey)))}))
	pemFormat, pfxFormat := request.FormatPEM, request.FormatPFX
	utf8, b64 := request.EncodingUTF8, request.EncodingBase64
	for _, r := range []struct {
		name           string
		format         request.Format
		encoding       request.Encoding
		value          keyvault.Value
		file, crt, key string
	}{
		{"PFX as PEM", pemFormat, utf8, managed(pkcs12, pfx), both, chain, keys},
		{"media type in another case", pemFormat, utf8, managed(" Application/X-PKCS12 ; charset=utf-8", pfx), both, chain, keys},
		{"PFX as stored", pfxFormat, utf8, managed(pkcs12, pfx), pfx, chain, keys},
		{"PFX as bytes", pfxFormat, b64, managed(pkcs12, pfx), string(der), chain, keys},
		{"PEM", pemFormat, utf8, managed(pemFile, stored), stored, certPEM(root, leaf), keys},
		{"PEM with parameters", pemFormat, utf8, managed(pemFile+";a=b", ec+chain), ec + chain, chain, ec},
		{"PEM asked for as PFX", pfxFormat, utf8, managed(pemFile, both), both, chain, keys},
		{"PEM without a key", pemFormat, utf8, managed(pemFile, chain), chain, chain, ""},
		{"no PEM", pemFormat, utf8, managed(pemFile, "text"), "text", "", ""},
		{"base64 of PEM", pemFormat, b64, managed(pemFile, base64.StdEncoding.EncodeToString([]byte(both))), both, chain, keys},
	} {
		t.Run(r.name, func(t *testing.T) {
			o := object(r.encoding)
			o.Format = r.format
			one, err := render.Files(o, r.value, render.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(one) != 1 || one[0].Path != o.Path || one[0].Mode != o.Mode || string(one[0].Content) != r.file {
				t.Errorf("got %q, want %q", one, r.file)
			}
			three, err := render.Files(o, r.value, render.Options{SeparateFiles: true})
			if err != nil {
				t.Fatal(err)
			}
			want := []render.File{
				{Path: o.Path + ".crt", Content: []byte(r.crt)},
				{Path: o.Path + ".key", Content: []byte(r.key)},
				{Path: o.Path, Content: []byte(r.file)},
			}
			if len(three) != len(want) {
				t.Fatalf("got %d files", len(three))
			}
			for i, w := range want {
				if g := three[i]; g.Path != w.Path || g.Mode != o.Mode || !bytes.Equal(g.Content, w.Content) {
					t.Errorf("got %q, want %q", g, w)
				}
			}
		})
	}
}

// A plain secret stays one file, and its format means nothing.
func TestPlainIsOneFile(t *testing.T) {
	o := object(request.EncodingUTF8)
	o.Format = request.FormatPFX
	for _, contentType := range []string{"", pemFile, pkcs12} {
		v := keyvault.Value{Text: "text", ContentType: contentType}
		files, err := render.Files(o, v, render.Options{SeparateFiles: true})
		if err != nil || len(files) != 1 || files[0].Path != o.Path || string(files[0].Content) != "text" {
			t.Errorf("%q: got %q %v", contentType, files, err)
		}
	}
}

func TestManagedRefused(t *testing.T) {
	leaf := line("leaf")[0]
	pfx := base64.StdEncoding.EncodeToString(must(gopkcs12.Modern2023.Encode(leaf.key, leaf.cert, nil, "")))
	const canary = "MIIcanary"
	for _, r := range []struct {
		name     string
		format   request.Format
		encoding request.Encoding
		value    keyvault.Value
		separate bool
		says     []string
	}{
		{"PEM as base64", request.FormatPEM, request.EncodingBase64, managed(pkcs12, pfx), false, []string{"base64", "objectFormat: pfx"}},
		{"PEM as hex", request.FormatPEM, request.EncodingHex, managed(pkcs12, pfx), false, []string{"hex", pkcs12}},
		{"PFX as hex", request.FormatPFX, request.EncodingHex, managed(pkcs12, pfx), false, []string{"hex", pkcs12}},
		{"PFX of no base64", request.FormatPFX, request.EncodingBase64, managed(pkcs12, canary), false, []string{"base64", pkcs12}},
		{"separate files of no PFX", request.FormatPFX, request.EncodingUTF8, managed(pkcs12, canary), true, []string{"base64", pkcs12}},
		{"no content type", request.FormatPEM, request.EncodingUTF8, managed("", canary), true, []string{"no content type"}},
		{"unknown content type", request.FormatPFX, request.EncodingUTF8, managed("application/x-new\r\n", canary), true, []string{`x-new\r\n`}},
	} {
		t.Run(r.name, func(t *testing.T) {
			o := object(r.encoding)
			o.Format = r.format
			files, err := render.Files(o, r.value, render.Options{SeparateFiles: r.separate})
			refused(t, o, files, err)
			for _, s := range r.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("does not say %q: %v", s, err)
				}
			}
			if strings.Contains(err.Error(), r.value.Text) {
				t.Errorf("shows the value: %v", err)
			}
		})
	}
}

func BenchmarkFiles(b *testing.B) {
	c := line("leaf", "intermediate", "root")
	der := must(gopkcs12.Modern2023.Encode(rsaKey(), issue("leaf", c[1], crypto.Signer(rsaKey())).cert, certs(c[2], c[1]), ""))
	for name, v := range map[string]keyvault.Value{
		"plain": {Text: strings.Repeat("x", 1000)},
		"PFX":   secretPFX(der),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			o := object(request.EncodingUTF8)
			for b.Loop() {
				if _, err := render.Files(o, v, render.Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
