package pkcs12_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/provider/pkcs12"

	gopkcs12 "software.sslmate.com/src/go-pkcs12"
)

// Files that the openssl program writes are decoded with the result of that program and, where it can
// read them, of go-pkcs12.
func TestOpenSSL(t *testing.T) {
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl program is installed to compare with:", err)
	}
	chain := line("leaf", "intermediate", "root")
	for kind, key := range map[string]crypto.Signer{"RSA": rsaKey(), "P-256": newKey(elliptic.P256()), "P-384": newKey(elliptic.P384()), "P-521": newKey(elliptic.P521())} {
		folder := t.TempDir()
		in := filepath.Join(folder, "in.pem")
		leaf := issue("leaf", chain[1], key)
		text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))})
		for _, e := range []*entity{leaf, chain[1], chain[2]} {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.cert.Raw})...)
		}
		if err := os.WriteFile(in, text, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, options := range []string{
			"", "-nomac", "-iter 1", "-macalg sha1", "-macalg sha384", "-macalg sha512", "-name friendly -caname one -caname two", "-nokeys", "-keyex",
			"-keypbe AES-128-CBC -certpbe AES-192-CBC", "-keypbe NONE", "-certpbe NONE", "-keypbe NONE -certpbe NONE -nomac",
			"-keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1", "-keypbe PBE-SHA1-3DES -certpbe AES-256-CBC",
		} {
			t.Run(kind+" "+options, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "out.pfx")
				args := append([]string{"pkcs12", "-export", "-in", in, "-passout", "pass:", "-out", file}, strings.Fields(options)...)
				if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				der := must(os.ReadFile(file))
				if _, err := pkcs12.Decode(der); fips140.Enforced() {
					// OpenSSL 3.0 writes salts of 8 bytes, unless nothing has one.
					if err != nil && err != pkcs12.ErrFIPS {
						t.Error(err)
					}
					return
				}
				want := openssl(t, program, file)
				want.check(t, der)
				if len(want.certs) != 3 || (len(want.keys) == 0) != (options == "-nokeys") {
					t.Errorf("openssl reads %d keys and %d certificates", len(want.keys), len(want.certs))
				}
				checkLibrary(t, der)
			})
		}
	}
}

// openssl returns what the program reads from a file.
func openssl(t *testing.T, program, file string) (found contents) {
	t.Helper()
	args := []string{"pkcs12", "-in", file, "-nodes", "-passin", "pass:"}
	text, err := exec.CommandContext(t.Context(), program, args...).Output()
	if err != nil {
		t.Fatalf("openssl cannot read its own file: %v", err)
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			found.certs = append(found.certs, block.Bytes)
		case "PRIVATE KEY":
			found.keys = append(found.keys, must(x509.MarshalPKCS8PrivateKey(must(x509.ParsePKCS8PrivateKey(block.Bytes)))))
		}
	}
	return found
}

// checkLibrary checks that what go-pkcs12 reads from a file is also in ours.
func checkLibrary(t *testing.T, der []byte) {
	t.Helper()
	key, leaf, authorities, err := gopkcs12.DecodeChain(der, "")
	if err != nil {
		return // it wants a key and a MAC
	}
	got := must(pkcs12.Decode(der))
	if want := must(x509.MarshalPKCS8PrivateKey(key)); len(got.PrivateKeys) != 1 || !bytes.Equal(got.PrivateKeys[0].PKCS8, want) {
		t.Error("go-pkcs12 reads another key")
	}
	for _, c := range append(authorities, leaf) {
		if !slices.ContainsFunc(got.Certificates, func(der []byte) bool { return bytes.Equal(der, c.Raw) }) {
			t.Errorf("only go-pkcs12 reads %s", c.Subject)
		}
	}
}
