package render_test

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"
)

// PEM in every shape that OpenSSL reads is split without a warning. For another shape, the
// warning says that something is missing. The file itself is always as stored.
func TestPEMShapes(t *testing.T) {
	c := line("leaf", "root")
	key, certs := keyPEM(c[0].key), certPEM(c...)
	text := key + certs
	first, second, _ := strings.Cut(certs, "-----END CERTIFICATE-----\n")
	first += "-----END CERTIFICATE-----\n"
	trusted := toPEM("TRUSTED CERTIFICATE", append(append([]byte{}, c[0].cert.Raw...), seq(seq(oid(1, 3, 6, 1, 5, 5, 7, 3, 1)))...))
	encrypted := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: []byte("x"),
		Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}}))
	replace := func(old, new string) string { return strings.ReplaceAll(text, old, new) }
	lines := func(begins, blocks int) string {
		return fmt.Sprintf(`secret "tls" has %d BEGIN lines, but only %d of them begin a PEM block that can be read`, begins, blocks)
	}
	for _, r := range []struct{ name, text, crt, key, warning string }{
		{"as it should be", text, certs, key, ""},
		{"CR LF", replace("\n", "\r\n"), certs, key, ""},
		{"CR", replace("\n", "\r"), certs, key, ""},
		{"no last line break", strings.TrimSpace(text), certs, key, ""},
		{"a byte order mark first", "\ufeff" + text, certs, key, ""},
		{"a byte order mark before each block", replace("-----BEGIN", "\ufeff-----BEGIN"), certs, key, ""},
		{"X509 CERTIFICATE", replace(" CERTIFICATE-", " X509 CERTIFICATE-"), certs, key, ""},
		{"TRUSTED CERTIFICATE", key + trusted + second, certs, key, ""},
		{"indented", "  " + replace("\n", "\n  "), certs, key, ""},
		{"indented by tabs", "\t" + replace("\n", "\n\t"), certs, key, ""},
		{"blanks behind each line", replace("\n", " \t\n"), certs, key, ""},
		{"text around", "Bag Attributes\n    friendlyName: x\n" + replace("-----BEGIN CERT", "subject=/CN=Begin - begin now\n\n-----BEGIN CERT") + "end", certs, key, ""},
		{"an encrypted key", encrypted + certs, certs, encrypted, ""},
		{"glued", replace("-----\n-----BEGIN", "----------BEGIN"), "", "", lines(3, 0)},
		{"END of another label", key + strings.Replace(first, "END CERT", "END X509 CERT", 1) + second, second, key, lines(3, 2)},
		{"damaged", key + strings.Replace(first, "\nM", "\n!", 1) + second, second, key, lines(3, 2)},
		{"cut", key + first + second[:len(second)-30], first, key, lines(3, 2)},
		{"a missing dash", strings.Replace(text, "-----BEGIN CERT", "----BEGIN CERT", 1), second, key, lines(3, 2)},
		{"long dashes", strings.Replace(text, "-----BEGIN CERT", "——–BEGIN CERT", 1), second, key, lines(3, 2)},
		{"a blank behind the dashes", strings.Replace(text, "-----BEGIN CERT", "----- BEGIN CERT", 1), second, key, lines(3, 2)},
		{"no-break space", strings.Replace(text, "-----BEGIN CERT", "-----BEGIN\u00a0CERT", 1), second, key, lines(3, 2)},
		{"a label that is none", strings.ReplaceAll(text, first, strings.ReplaceAll(first, "CERTIFICATE", "CERT")), second, key + strings.ReplaceAll(first, "CERTIFICATE", "CERT"), lines(3, 2)},
		{"a request", text + toPEM("CERTIFICATE REQUEST", []byte("x")), certs, key + toPEM("CERTIFICATE REQUEST", []byte("x")), ""},
		{"lower case", replace("CERTIFICATE-", "certificate-"), certs, key, lines(3, 1)},
		{"all in lower case", strings.Replace(text, "-----BEGIN PRIVATE KEY", "-----begin PRIVATE KEY", 1), certs, "", lines(3, 2)},
		{"line breaks as \\n", replace("\n", `\n`), "", "", lines(3, 0)},
		{"one line", replace("\n", " "), "", "", lines(3, 0)},
		{"quoted", `"` + text + `"`, certs, "", lines(3, 2)},
		{"UTF-16", strings.Join(strings.Split(text, ""), "\x00"), "", "", `secret "tls" has no certificate in PEM`},
		{"nothing", "", "", "", `secret "tls" has no certificate in PEM`},
	} {
		t.Run(r.name, func(t *testing.T) {
			files, warnings, err := render.Files(object(request.EncodingUTF8), managed(contentTypePEM, r.text), render.Options{SeparateFiles: true})
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []string{r.crt, r.key, r.text} {
				if got := string(files[i].Content); got != want {
					t.Errorf("%s: got %q, want %q", files[i].Path, got, want)
				}
			}
			if got := strings.Join(warnings, "\n"); got != r.warning {
				t.Errorf("got %q, want %q", got, r.warning)
			}
		})
	}
}

// objectFormat does not apply to a plain secret. If that contains a PFX, its author may think
// that it does.
func TestPlainPFX(t *testing.T) {
	leaf := line("leaf")[0]
	text := base64.StdEncoding.EncodeToString(pfxFile(certBag(leaf.cert.Raw), keyBag(leaf.key)))
	const warning = `objectFormat of secret "tls" is ignored: the secret contains a PFX, but does not belong to a certificate`
	for _, r := range []struct {
		text   string
		format request.Format
		set    bool
		want   string
	}{
		{text, request.FormatPFX, true, warning},
		{text, request.FormatPEM, true, warning},
		{text + "\n", request.FormatPEM, true, warning},
		{text, request.FormatPEM, false, ""},
		{"text", request.FormatPFX, true, ""},
		{"TWlu", request.FormatPFX, true, ""},
		{base64.StdEncoding.EncodeToString(leaf.cert.Raw), request.FormatPFX, true, ""},
	} {
		o := object(request.EncodingUTF8)
		o.Format, o.FormatSet = r.format, r.set
		files, warnings, err := render.Files(o, keyvault.Value{Text: r.text, ContentType: contentTypePKCS12}, render.Options{})
		if err != nil || string(files[0].Content) != r.text || strings.Join(warnings, "\n") != r.want {
			t.Errorf("%.10s as %s: got %q, want %q", r.text, r.format, warnings, r.want)
		}
	}
}
