package render

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/pkcs12"
	"akv-csi-provider/provider/request"
)

// The content types of secrets that Key Vault stores for certificates.
const (
	contentTypePEM    = "application/x-pem-file"
	contentTypePKCS12 = "application/x-pkcs12"
)

// maxPFXText bounds the base64 text of a PFX. Key Vault stores 25 KB at most.
const maxPFXText = pkcs12.MaxSize / 3 * 4

// pair is a certificate with its private key as PEM: the content of .crt and .key.
type pair struct {
	certs, keys []byte
}

// managed renders a secret that Key Vault stores for a certificate: as stored, or a PFX as
// PEM. A PFX that is written as stored alone is not decoded.
func managed(o request.Object, v keyvault.Value, opts Options) ([]File, error) {
	media := mediaType(v.ContentType)
	toPEM := media == contentTypePKCS12 && o.Format != request.FormatPFX
	switch {
	case media != contentTypePEM && media != contentTypePKCS12:
		kind := "no content type"
		if v.ContentType != "" {
			kind = fmt.Sprintf("content type %.64q", v.ContentType)
		}
		return nil, invalid(fmt.Sprintf("%s is the private side of a certificate, with %s", o, kind),
			fmt.Sprintf("those that can be mounted are %s and %s", contentTypePEM, contentTypePKCS12))
	case toPEM && o.Encoding != request.EncodingUTF8:
		return nil, invalid(fmt.Sprintf("%s (content type %.64q) is written as PEM, which is not %s text", o, v.ContentType, o.Encoding),
			"remove its objectEncoding, or set objectFormat: pfx to mount the PFX")
	}
	var (
		content []byte
		parts   pair // of a PFX that is written as PEM, or with SeparateFiles
		err     error
	)
	if !toPEM {
		if content, err = decode(o, v); err != nil {
			return nil, err
		}
	}
	switch {
	case toPEM || opts.SeparateFiles && media == contentTypePKCS12:
		if parts, err = pfxToPEM(o, v, opts); err != nil {
			return nil, err
		}
	case opts.SeparateFiles:
		parts = splitPEM(content)
	}
	if toPEM {
		content = slices.Concat(parts.keys, parts.certs)
	}
	file := File{Path: o.Path, Mode: o.Mode, Content: content}
	if !opts.SeparateFiles {
		return []File{file}, nil
	}
	return []File{
		{Path: o.Path + ".crt", Mode: o.Mode, Content: parts.certs},
		{Path: o.Path + ".key", Mode: o.Mode, Content: parts.keys},
		file,
	}, nil
}

// mediaType is a content type without its parameters, in lower case (RFC 9110
// section 8.3.1).
func mediaType(contentType string) string {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// splitPEM separates the blocks of a PEM text. A block that is not a certificate goes
// with the keys, because the parameters of a key are in a block of their own.
func splitPEM(text []byte) pair {
	var b pair
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == labelCertificate {
			b.certs = append(b.certs, pem.EncodeToMemory(block)...)
		} else {
			b.keys = append(b.keys, pem.EncodeToMemory(block)...)
		}
	}
	return b
}

// pfxToPEM returns the private keys of a PFX, and its certificates as a chain if they
// are one.
func pfxToPEM(o request.Object, v keyvault.Value, opts Options) (pair, error) {
	contents, err := decodePFX(v.Text)
	if err != nil {
		return pair{}, invalid(fmt.Sprintf("%s (content type %.64q) %s", o, v.ContentType, pfxCauses[err]),
			"import the certificate into the vault again")
	}
	certs := contents.Certificates
	if !opts.StoredOrder {
		certs = ordered(certs, contents.PrivateKeys)
	}
	var out pair
	for _, key := range contents.PrivateKeys {
		out.keys = append(out.keys, encodePEM(labelPrivateKey, key.PKCS8)...)
	}
	for _, cert := range certs {
		out.certs = append(out.certs, encodePEM(labelCertificate, cert)...)
	}
	return out, nil
}

var errNotBase64 = errors.New("not base64")

// decodePFX decodes the base64 text of a PFX. Its error is errNotBase64 or one of package
// pkcs12.
func decodePFX(text string) (*pkcs12.Contents, error) {
	if len(text) > maxPFXText {
		return nil, pkcs12.ErrTooLarge
	}
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil { // its text quotes a byte of the value
		return nil, errNotBase64
	}
	return pkcs12.Decode(der)
}

// pfxCauses says why decodePFX failed. The texts do not depend on the value.
var pfxCauses = map[error]string{
	errNotBase64:        "is not base64 text",
	pkcs12.ErrTooLarge:  fmt.Sprintf("is longer than %d bytes", maxPFXText),
	pkcs12.ErrMalformed: "is not PKCS#12 with private keys or certificates",
	pkcs12.ErrPassword:  "is damaged or under a password",
	pkcs12.ErrAlgorithm: "is protected by an algorithm that is not supported",
	pkcs12.ErrRounds:    fmt.Sprintf("asks for more than %d hash rounds to derive its keys", pkcs12.MaxRounds),
}
