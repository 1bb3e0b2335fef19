package render_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"unicode"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"
)

const (
	contentTypePEM    = "application/x-pem-file"
	contentTypePKCS12 = "application/x-pkcs12"
)

func object(encoding request.Encoding) request.Object {
	return request.Object{Type: request.TypeSecret, Name: "tls", Path: "certs/tls", History: 1,
		Format: request.FormatPEM, Encoding: encoding, Mode: 0o440}
}

func TestSecret(t *testing.T) {
	block := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("not a key, and never parsed")}))
	utf8, b64, hx := request.EncodingUTF8, request.EncodingBase64, request.EncodingHex
	for _, c := range []struct {
		name     string
		encoding request.Encoding
		secret   keyvault.Value
		want     string
	}{
		{"plain", utf8, keyvault.Value{Text: "Hello!"}, "Hello!"},
		{"empty", utf8, keyvault.Value{}, ""},
		{"nothing is trimmed", utf8, keyvault.Value{Text: " \r\n\tx\n\n"}, " \r\n\tx\n\n"},
		{"any bytes", utf8, keyvault.Value{Text: "\x00\xff\ufeffé"}, "\x00\xff\ufeffé"},
		{"looks like base64", utf8, keyvault.Value{Text: "SGVsbG8="}, "SGVsbG8="},
		{"content types are informational", utf8, keyvault.Value{Text: "{}", ContentType: "application/json"}, "{}"},
		{"PKCS#12 that is a plain secret", utf8, keyvault.Value{Text: "MIIK", ContentType: contentTypePKCS12}, "MIIK"},
		{"base64", b64, keyvault.Value{Text: "SGVsbG8="}, "Hello"},
		{"base64 of bytes", b64, keyvault.Value{Text: "AP/+"}, "\x00\xff\xfe"},
		{"base64 in lines", b64, keyvault.Value{Text: "SGVs\r\nbG8=\n"}, "Hello"},
		{"empty base64", b64, keyvault.Value{}, ""},
		{"hex", hx, keyvault.Value{Text: "00fFfe"}, "\x00\xff\xfe"},
		{"empty hex", hx, keyvault.Value{}, ""},
		{"PEM behind a certificate", utf8, keyvault.Value{Text: block, ContentType: contentTypePEM, Managed: true}, block},
		{"content type in another case", utf8, keyvault.Value{Text: block, ContentType: "Application/X-PEM-File", Managed: true}, block},
	} {
		t.Run(c.name, func(t *testing.T) {
			files, _, err := render.Files(object(c.encoding), c.secret, render.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(files) != 1 || files[0].Path != "certs/tls" || files[0].Mode != 0o440 || string(files[0].Content) != c.want {
				t.Errorf("got %q, want one certs/tls of mode 0440 with %q", files, c.want)
			}
		})
	}
}

func TestSecretRefused(t *testing.T) {
	const value = "p@ssw0rd-of-nobody"
	for _, c := range []struct {
		name     string
		encoding request.Encoding
		secret   keyvault.Value
		says     []string
	}{
		{"not valid base64", request.EncodingBase64, keyvault.Value{Text: value}, []string{"base64", "objectEncoding"}},
		{"base64 without padding", request.EncodingBase64, keyvault.Value{Text: "SGVsbG8"}, []string{"base64"}},
		{"base64 for URLs", request.EncodingBase64, keyvault.Value{Text: "_-__"}, []string{"base64"}},
		{"base64 with a blank", request.EncodingBase64, keyvault.Value{Text: "SGVs bG8="}, []string{"base64"}},
		{"not hex", request.EncodingHex, keyvault.Value{Text: value}, []string{"hex", "objectEncoding"}},
		{"odd hex", request.EncodingHex, keyvault.Value{Text: "abc"}, []string{"hex"}},
		{"hex with a prefix", request.EncodingHex, keyvault.Value{Text: "0xab"}, []string{"hex"}},
		{"hex with a line end", request.EncodingHex, keyvault.Value{Text: "ab\n"}, []string{"hex"}},
		{"PEM as base64", request.EncodingBase64, keyvault.Value{Text: "-----BEGIN", ContentType: contentTypePEM, Managed: true}, []string{"base64", contentTypePEM}},
		{"PEM as hex", request.EncodingHex, keyvault.Value{Text: "-----BEGIN", ContentType: contentTypePEM, Managed: true}, []string{"hex", contentTypePEM}},
		{"certificate without content type", request.EncodingUTF8, keyvault.Value{Text: value, Managed: true}, []string{"certificate", "no content type"}},
		{"certificate of another kind", request.EncodingUTF8, keyvault.Value{Text: value, ContentType: "application/x-new\n", Managed: true}, []string{"certificate", `application/x-new\n`}},
		{"PKCS#12 behind a certificate", request.EncodingUTF8, keyvault.Value{Text: value, ContentType: contentTypePKCS12, Managed: true}, []string{"not valid base64", contentTypePKCS12}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := object(c.encoding)
			files, _, err := render.Files(o, c.secret, render.Options{})
			refused(t, o, files, err)
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("does not say %q: %v", s, err)
				}
			}
			if v := c.secret.Text; strings.Contains(err.Error(), v) {
				t.Errorf("shows the value: %v", err)
			}
		})
	}
}

// refused checks the properties of every error.
func refused(t *testing.T, o request.Object, files []render.File, err error) {
	t.Helper()
	if err == nil {
		t.Fatalf("got %q", files)
	}
	if files != nil {
		t.Errorf("files came with the error: %q", files)
	}
	var e *fault.Error
	if !errors.As(err, &e) || e.Reason != fault.ContentInvalid || !strings.Contains(e.Cause, o.String()) {
		t.Fatalf("%T %v is not the error of the object", err, err)
	}
	text := err.Error()
	if !strings.Contains(text, `secret "tls"`) || strings.ContainsFunc(text, unicode.IsControl) {
		t.Errorf("not one line that names the object: %q", text)
	}
}

func FuzzSecret(f *testing.F) {
	for _, value := range []string{"", "Hello!", "SGVsbG8=", "00fFfe", "SGVs\r\nbG8=", "0", "\x00\xff", "-----BEGIN PRIVATE KEY-----\n", "secret is not valid base64"} {
		for i := range byte(3) {
			f.Add(value, "", i, false)
			f.Add(value, contentTypePEM, i, true)
			f.Add(value, contentTypePKCS12, i, true)
		}
	}
	encodings := []request.Encoding{request.EncodingUTF8, request.EncodingBase64, request.EncodingHex}
	f.Fuzz(func(t *testing.T, value, contentType string, encoding byte, managed bool) {
		if managed && strings.Contains(strings.ToLower(contentType), contentTypePKCS12) {
			return // see FuzzFiles and FuzzPKCS12
		}
		o := object(encodings[int(encoding)%len(encodings)])
		files, _, err := render.Files(o, keyvault.Value{Text: value, Version: "v", ContentType: contentType, Managed: managed}, render.Options{})
		if err != nil {
			refused(t, o, files, err)
			// A text that is the same for another value contains nothing of this one.
			other := "\x00!"
			if value == other {
				other = "\x00?"
			}
			if _, _, same := render.Files(o, keyvault.Value{Text: other, ContentType: contentType, Managed: managed}, render.Options{}); same == nil || same.Error() != err.Error() {
				t.Errorf("the text depends on the value: %v and %v", err, same)
			}
			return
		}
		if len(files) != 1 || files[0].Path != o.Path || files[0].Mode != o.Mode {
			t.Fatalf("got %q", files)
		}
		content := files[0].Content
		switch o.Encoding {
		case request.EncodingUTF8:
			if string(content) != value {
				t.Errorf("got %q of %q", content, value)
			}
		case request.EncodingBase64:
			if base64.StdEncoding.EncodeToString(content) != strings.NewReplacer("\r", "", "\n", "").Replace(canonical(value)) {
				t.Errorf("got %q of %q", content, value)
			}
		case request.EncodingHex:
			if hex.EncodeToString(content) != strings.ToLower(value) {
				t.Errorf("got %q of %q", content, value)
			}
		}
	})
}

// canonical clears the bits before the padding, which decoders ignore.
func canonical(value string) string {
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return value
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// Encoded content is decoded to the same bytes.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("Hello!"))
	f.Add([]byte{0, 255, 10, 13})
	f.Fuzz(func(t *testing.T, content []byte) {
		for encoding, value := range map[request.Encoding]string{
			request.EncodingUTF8:   string(content),
			request.EncodingBase64: base64.StdEncoding.EncodeToString(content),
			request.EncodingHex:    hex.EncodeToString(content),
		} {
			files, _, err := render.Files(object(encoding), keyvault.Value{Text: value}, render.Options{})
			if err != nil || len(files) != 1 || string(files[0].Content) != string(content) {
				t.Errorf("%s of %q: %q %v", encoding, content, files, err)
			}
		}
	})
}
