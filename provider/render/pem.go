package render

import (
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"akv-csi-provider/provider/pkcs12"
	"akv-csi-provider/provider/request"
)

// pemText is what a PEM text contains.
type pemText struct {
	pair
	contents pkcs12.Contents // without private keys of another form than PKCS#8
	begins   int             // BEGIN lines
	blocks   int             // of them those of a block that others can read as well
	hasKey   bool
	allKeys  bool // all private keys are in contents
}

// beginning is what was meant to be a BEGIN line: in another case, with dashes that are missing
// or that a text processor has replaced, or with blanks between.
var beginning = regexp.MustCompile(`(?i)(?:[-–—]|[-–—]{2}[\t\p{Zs}]+)BEGIN[\t\p{Zs}]`)

// ofCertificate is the label of a certificate, also one that nothing reads, such as CERT.
var ofCertificate = regexp.MustCompile(`\bCERT(?:IFICATE)?S?$`)

// lineBreaks are those of all systems.
var lineBreaks = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// readPEM reads the blocks of a PEM text as OpenSSL does, and also where lines are indented or
// follow a byte order mark. A block that is not a certificate belongs to the keys, because the
// parameters of a key are in a separate block.
func readPEM(text []byte) pemText {
	out := pemText{begins: len(beginning.FindAllIndex(text, -1)), allKeys: true}
	lines := strings.Split(lineBreaks.Replace(string(text)), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimFunc(line, func(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' })
	}
	rest := []byte(strings.Join(lines, "\n"))
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out
		}
		label := strings.ToUpper(block.Type)
		known := label == "X509 CERTIFICATE" || label == "TRUSTED CERTIFICATE" || label == labelCertificate
		if label == block.Type && (known || !ofCertificate.MatchString(label)) { // OpenSSL knows no others
			out.blocks++
		}
		block.Type = label
		switch {
		case block.Type == "TRUSTED CERTIFICATE": // of OpenSSL: what it is trusted for follows
			var cert asn1.RawValue
			if _, err := asn1.Unmarshal(block.Bytes, &cert); err == nil {
				block.Bytes = cert.FullBytes
			}
			fallthrough
		case block.Type == "X509 CERTIFICATE", block.Type == labelCertificate:
			block.Type = labelCertificate
			out.certs = append(out.certs, pem.EncodeToMemory(block)...)
			out.contents.Certificates = append(out.contents.Certificates, block.Bytes)
			continue
		}
		out.keys = append(out.keys, pem.EncodeToMemory(block)...)
		if strings.HasSuffix(block.Type, labelPrivateKey) {
			out.hasKey = true
			key, ok := pkcs12.NewPrivateKey(block.Bytes)
			if ok = ok && block.Type == labelPrivateKey; ok {
				out.contents.PrivateKeys = append(out.contents.PrivateKeys, key)
			}
			out.allKeys = out.allKeys && ok
		}
	}
}

// splitPEM separates the certificates of a PEM text from the rest, and warns if something is
// missing that the text should contain.
func splitPEM(o request.Object, text []byte) (pair, []string) {
	p := readPEM(text)
	switch {
	case p.begins != p.blocks:
		return p.pair, []string{fmt.Sprintf("%s has %d BEGIN lines, but only %d of them begin a PEM block that can be read", o, p.begins, p.blocks)}
	case len(p.certs) == 0:
		return p.pair, []string{o.String() + " has no certificate in PEM"}
	case p.hasKey && !p.allKeys:
		return p.pair, nil
	}
	return p.pair, counterparts(o, &p.contents)
}
