package render_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"testing"

	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/pkcs12"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"

	gopkcs12 "software.sslmate.com/src/go-pkcs12"
)

func TestManaged(t *testing.T) {
	c := line("leaf", "root")
	leaf, root := c[0], c[1]
	der := encode(gopkcs12.Modern2023, "", leaf, root)
	pfx := base64.StdEncoding.EncodeToString(der)
	keys, chain := keyPEM(leaf.key), certPEM(leaf, root)
	both := keys + chain
	// The file has the stored order and line ends of a PEM, its parts do not.
	stored := strings.ReplaceAll(certPEM(root), "\n", "\r\n") + "note\n" + keys + certPEM(leaf)
	ec := toPEM("EC PARAMETERS", []byte{6, 1, 1}) + toPEM("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(leaf.key.(*ecdsa.PrivateKey))))
	pemFormat, pfxFormat := request.FormatPEM, request.FormatPFX
	utf8, b64 := request.EncodingUTF8, request.EncodingBase64
	for _, r := range []struct {
		name           string
		format         request.Format
		encoding       request.Encoding
		value          keyvault.Value
		file, crt, key string
	}{
		{"PFX as PEM", pemFormat, utf8, managed(contentTypePKCS12, pfx), both, chain, keys},
		{"media type in another case", pemFormat, utf8, managed(" Application/X-PKCS12 ; charset=utf-8", pfx), both, chain, keys},
		{"PFX as stored", pfxFormat, utf8, managed(contentTypePKCS12, pfx), pfx, chain, keys},
		{"PFX as bytes", pfxFormat, b64, managed(contentTypePKCS12, pfx), string(der), chain, keys},
		{"PEM", pemFormat, utf8, managed(contentTypePEM, stored), stored, certPEM(root, leaf), keys},
		{"PEM with parameters", pemFormat, utf8, managed(contentTypePEM+";a=b", ec+chain), ec + chain, chain, ec},
		{"PEM requested as PFX", pfxFormat, utf8, managed(contentTypePEM, both), both, chain, keys},
		{"PEM without a key", pemFormat, utf8, managed(contentTypePEM, chain), chain, chain, ""},
		{"no PEM", pemFormat, utf8, managed(contentTypePEM, "text"), "text", "", ""},
		{"base64 of PEM", pemFormat, b64, managed(contentTypePEM, base64.StdEncoding.EncodeToString([]byte(both))), both, chain, keys},
	} {
		t.Run(r.name, func(t *testing.T) {
			o := object(r.encoding)
			o.Format = r.format
			one, _, err := render.Files(o, r.value, render.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(one) != 1 || one[0].Path != o.Path || one[0].Mode != o.Mode || string(one[0].Content) != r.file {
				t.Errorf("got %q, want %q", one, r.file)
			}
			three, _, err := render.Files(o, r.value, render.Options{SeparateFiles: true})
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

// A plain secret is one file, and its format is ignored.
func TestPlainIsOneFile(t *testing.T) {
	o := object(request.EncodingUTF8)
	o.Format = request.FormatPFX
	for _, contentType := range []string{"", contentTypePEM, contentTypePKCS12} {
		v := keyvault.Value{Text: "text", ContentType: contentType}
		files, _, err := render.Files(o, v, render.Options{SeparateFiles: true})
		if err != nil || len(files) != 1 || files[0].Path != o.Path || string(files[0].Content) != "text" {
			t.Errorf("%q: got %q %v", contentType, files, err)
		}
	}
}

func TestManagedRefused(t *testing.T) {
	leaf := line("leaf")[0]
	pfx := base64.StdEncoding.EncodeToString(encode(gopkcs12.Modern2023, "", leaf))
	const canary = "MIIcanary"
	for _, r := range []struct {
		name     string
		format   request.Format
		encoding request.Encoding
		value    keyvault.Value
		separate bool
		says     []string
	}{
		{"PEM as base64", request.FormatPEM, request.EncodingBase64, managed(contentTypePKCS12, pfx), false, []string{"base64", "objectFormat: pfx"}},
		{"PEM as hex", request.FormatPEM, request.EncodingHex, managed(contentTypePKCS12, pfx), false, []string{"hex", contentTypePKCS12}},
		{"PFX as hex", request.FormatPFX, request.EncodingHex, managed(contentTypePKCS12, pfx), false, []string{"hex", contentTypePKCS12}},
		{"PFX of no base64", request.FormatPFX, request.EncodingBase64, managed(contentTypePKCS12, canary), false, []string{"base64", contentTypePKCS12}},
		{"separate files of no PFX", request.FormatPFX, request.EncodingUTF8, managed(contentTypePKCS12, canary), true, []string{"base64", contentTypePKCS12}},
		{"no content type", request.FormatPEM, request.EncodingUTF8, managed("", canary), true, []string{"no content type"}},
		{"unknown content type", request.FormatPFX, request.EncodingUTF8, managed("application/x-new\r\n", canary), true, []string{`x-new\r\n`}},
	} {
		t.Run(r.name, func(t *testing.T) {
			o := object(r.encoding)
			o.Format = r.format
			files, _, err := render.Files(o, r.value, render.Options{SeparateFiles: r.separate})
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

// Each cause for which a PFX is rejected has its text.
func TestPKCS12Refused(t *testing.T) {
	leaf := line("canary")[0]
	encoded := func(encoder *gopkcs12.Encoder, password string) string {
		return base64.StdEncoding.EncodeToString(encode(encoder, password, leaf))
	}
	signed := seq(integer(3), seq(oid(1, 2, 840, 113549, 1, 7, 2), explicit(octets(seq()))))
	type refusal struct{ text, cause string }
	refusals := []refusal{
		{strings.Repeat("A", 64<<10), "is not PKCS#12 with private keys or certificates"},
		{strings.Repeat("A", 64<<10+1), "is longer than 65536 bytes"},
		{"canary!", "is not valid base64"},
		{"", "is not PKCS#12 with private keys or certificates"},
		{base64.StdEncoding.EncodeToString(pfxFile()), "is not PKCS#12 with private keys or certificates"},
		{encoded(gopkcs12.Modern2023, "canary"), "is damaged or protected by a password"},
		{base64.StdEncoding.EncodeToString(signed), "is protected by an unsupported algorithm"},
		{base64.StdEncoding.EncodeToString(pfxFile(encryptedKeyBag(pkcs12.MaxRounds))), "requires more than 4000000 hash rounds to derive its keys"},
		{base64.StdEncoding.EncodeToString(pfxFile(bag(1, seq()))), "is PKCS#12, but one of its private keys or certificates cannot be read"},
	}
	if fips140.Enforced() {
		for _, encoder := range []*gopkcs12.Encoder{gopkcs12.LegacyRC2, gopkcs12.LegacyDES} {
			refusals = append(refusals, refusal{encoded(encoder, ""), "is protected by an algorithm that FIPS 140-only mode forbids"})
		}
	}
	for _, r := range refusals {
		o := object(request.EncodingUTF8)
		files, _, err := render.Files(o, managed(contentTypePKCS12, r.text), render.Options{})
		refused(t, o, files, err)
		if got, want := err.Error(), pfxText(o, r.cause); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A PFX can have any number of keys and certificates. Keys stay in stored order.
func TestPKCS12Contents(t *testing.T) {
	c := line("leaf", "root")
	leaf, root, other := c[0], c[1], newKey(elliptic.P384())
	odd := seq(integer(1))
	p256K, p256KDER := p256KBag()
	oddPEM, p256KPEM := toPEM("CERTIFICATE", odd), toPEM("PRIVATE KEY", p256KDER)
	for _, r := range []struct {
		name string
		bags [][]byte
		want string
	}{
		{"no key", certBags(root, leaf), certPEM(leaf, root)},
		{"no certificates", [][]byte{keyBag(leaf.key)}, keyPEM(leaf.key)},
		{"two keys", append(certBags(root, leaf), keyBag(other), keyBag(leaf.key)), keyPEM(other, leaf.key) + certPEM(leaf, root)},
		{"keys of leaf and root", append(certBags(root, leaf), keyBag(root.key), keyBag(leaf.key)), keyPEM(root.key, leaf.key) + certPEM(leaf, root)},
		{"the same key twice", append(certBags(leaf), keyBag(leaf.key), keyBag(leaf.key)), keyPEM(leaf.key, leaf.key) + certPEM(leaf)},
		{"P-256K", append(certBags(leaf), p256K), p256KPEM + certPEM(leaf)},
		{"P-256K and another", append(certBags(root, leaf), p256K, keyBag(leaf.key)), p256KPEM + keyPEM(leaf.key) + certPEM(leaf, root)},
		{"a certificate that crypto/x509 cannot read", append(certBags(root, leaf), certBag(odd), keyBag(leaf.key)), keyPEM(leaf.key) + certPEM(leaf, root) + oddPEM},
	} {
		t.Run(r.name, func(t *testing.T) {
			if got := rendered(t, secretPFX(pfxFile(r.bags...)), render.Options{}); got != r.want {
				t.Errorf("got %s\nwant %s", got, r.want)
			}
		})
	}
}

func BenchmarkFiles(b *testing.B) {
	c := line("leaf", "intermediate", "root")
	der := encode(gopkcs12.Modern2023, "", issue("leaf", c[1], crypto.Signer(rsaKey())), c[2], c[1])
	for name, v := range map[string]keyvault.Value{
		"plain": {Text: strings.Repeat("x", 1000)},
		"PFX":   secretPFX(der),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			o := object(request.EncodingUTF8)
			for b.Loop() {
				if _, _, err := render.Files(o, v, render.Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
