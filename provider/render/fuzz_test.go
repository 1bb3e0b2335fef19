package render_test

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"slices"
	"testing"

	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"

	gopkcs12 "software.sslmate.com/src/go-pkcs12"
)

// seedPFX are PFX of all encodings. Package pkcs12 has the hostile ones.
func seedPFX() (out [][]byte) {
	c := line("leaf", "one", "root")
	for _, encoder := range []*gopkcs12.Encoder{gopkcs12.LegacyRC2, gopkcs12.LegacyDES, gopkcs12.Modern2023, gopkcs12.Modern2026, gopkcs12.Passwordless} {
		out = append(out, encode(encoder, "", c[0], c[2], c[1]))
	}
	p256K, _ := p256KBag()
	return append(out,
		pfxFile(append(certBags(c...), keyBag(c[0].key), keyBag(c[1].key), p256K)...),
		pfxFile(append(certBags(c[2], c[1], c[2]), certBag(seq(integer(1))))...),
		pfxFile())
}

// sound checks the properties of every result for a secret.
func sound(t *testing.T, o request.Object, v keyvault.Value, files []render.File, err error) {
	t.Helper()
	if err != nil {
		refused(t, o, files, err)
		return
	}
	if len(files) != 1 && len(files) != 3 {
		t.Fatalf("%d files", len(files))
	}
	for i, suffix := range []string{".crt", ".key", ""}[3-len(files):] {
		if files[i].Path != o.Path+suffix || files[i].Mode != o.Mode {
			t.Errorf("file %d is %s of mode %o", i, files[i].Path, files[i].Mode)
		}
	}
}

// pfxCauses are all causes for which a PFX is rejected.
var pfxCauses = []string{
	"is longer than 65536 bytes",
	"is not valid base64",
	"is not PKCS#12 with private keys or certificates",
	"is damaged or protected by a password",
	"is protected by an unsupported algorithm",
	"requires more than 4000000 hash rounds to derive its keys",
	"is PKCS#12, but one of its private keys or certificates cannot be read",
	"is protected by an algorithm that FIPS 140-only mode forbids",
}

// isPFXError reports whether an error is one of those for PKCS#12, word for word: so it
// contains nothing of the value.
func isPFXError(err error, o request.Object) bool {
	return slices.ContainsFunc(pfxCauses, func(cause string) bool { return err.Error() == pfxText(o, cause) })
}

func pfxText(o request.Object, cause string) string {
	return fmt.Sprintf("%s of a certificate (content type %q) %s; Azure admin: import or renew the certificate with content type application/x-pem-file in its policy", o, contentTypePKCS12, cause)
}

func FuzzFiles(f *testing.F) {
	for _, der := range seedPFX() {
		text := base64.StdEncoding.EncodeToString(der)
		f.Add(text, contentTypePKCS12, byte(0), byte(0), true)
		f.Add(text, contentTypePKCS12, byte(1), byte(3), true)
	}
	leaf := line("leaf")[0]
	f.Add(keyPEM(leaf.key)+certPEM(leaf), contentTypePEM+"; a=b", byte(0), byte(1), true)
	f.Add("text", "application/x-unknown", byte(2), byte(7), true)
	f.Add("text", "", byte(0), byte(1), false)
	encodings := []request.Encoding{request.EncodingUTF8, request.EncodingBase64, request.EncodingHex}
	f.Fuzz(func(t *testing.T, text, contentType string, encoding, flags byte, isManaged bool) {
		o := object(encodings[int(encoding)%len(encodings)])
		if flags&2 != 0 {
			o.Format = request.FormatPFX
		}
		opts := render.Options{SeparateFiles: flags&1 != 0, StoredOrder: flags&4 != 0}
		v := keyvault.Value{Text: text, ContentType: contentType, Managed: isManaged}
		files, _, err := render.Files(o, v, opts)
		sound(t, o, v, files, err)
		if err == nil && (len(files) == 3) != (opts.SeparateFiles && isManaged) {
			t.Errorf("%d files", len(files))
		}
		if err != nil && isManaged && contentType == contentTypePKCS12 && o.Format == request.FormatPEM && o.Encoding == request.EncodingUTF8 && !isPFXError(err, o) {
			t.Errorf("not an error for PKCS#12: %v", err)
		}
	})
}

func FuzzPKCS12(f *testing.F) {
	for _, der := range seedPFX() {
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		o, v := object(request.EncodingUTF8), secretPFX(der)
		ordered, _, err := render.Files(o, v, render.Options{})
		sound(t, o, v, ordered, err)
		stored, _, storedErr := render.Files(o, v, render.Options{StoredOrder: true})
		if err != nil {
			if !isPFXError(err, o) || storedErr == nil {
				t.Errorf("%v; in stored order %v", err, storedErr)
			}
			return
		}
		// The order may differ; nothing is lost or added.
		if blocks, want := blocksOf(t, ordered[0].Content), blocksOf(t, stored[0].Content); !slices.Equal(blocks, want) {
			t.Errorf("got %d blocks, stored are %d", len(blocks), len(want))
		}
	})
}

// blocksOf returns the PEM blocks of a text, sorted.
func blocksOf(t *testing.T, text []byte) (out []string) {
	t.Helper()
	for block, rest := pem.Decode(text); ; block, rest = pem.Decode(rest) {
		if block == nil {
			if len(rest) > 0 {
				t.Error("not all is PEM")
			}
			break
		}
		out = append(out, string(pem.EncodeToMemory(block)))
	}
	slices.Sort(out)
	return out
}

func FuzzKey(f *testing.F) {
	f.Add("RSA", "", rsaKey().N.Bytes(), []byte{1, 0, 1})
	f.Add("EC", "P-256", make([]byte, 32), make([]byte, 32))
	f.Add("EC-HSM", "P-521", make([]byte, 66), []byte{1})
	f.Add("oct", "", []byte{}, []byte{0})
	f.Fuzz(func(t *testing.T, kty, crv string, a, b []byte) {
		o := publicObject(request.TypeKey)
		files, _, err := render.Files(o, keyvault.Value{Key: &keyvault.Key{Type: kty, Curve: crv, N: a, E: b, X: a, Y: b}}, render.Options{})
		if err != nil {
			if files != nil {
				t.Errorf("files came with the error: %q", files)
			}
			return
		}
		block, rest := pem.Decode(files[0].Content)
		if len(files) != 1 || files[0].Path != o.Path || block == nil || block.Type != "PUBLIC KEY" || len(rest) > 0 {
			t.Errorf("got %q", files)
		}
	})
}
