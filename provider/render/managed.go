package render

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
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

// bundle is a certificate with its private key as PEM: the content of .crt and .key.
type bundle struct {
	certs, keys []byte
}

// managed renders a secret that Key Vault stores for a certificate.
func managed(o request.Object, v keyvault.Value, opts Options) ([]File, error) {
	var (
		content []byte
		parts   bundle // only read with SeparateFiles
		err     error
	)
	switch mediaType(v.ContentType) {
	case contentTypePEM:
		content, parts, err = managedPEM(o, v, opts)
	case contentTypePKCS12:
		content, parts, err = managedPKCS12(o, v, opts)
	default:
		kind := "no content type"
		if v.ContentType != "" {
			kind = fmt.Sprintf("content type %.64q", v.ContentType)
		}
		err = invalid(fmt.Sprintf("%s is the private side of a certificate, with %s", o, kind),
			fmt.Sprintf("those that can be mounted are %s and %s", contentTypePEM, contentTypePKCS12))
	}
	if err != nil {
		return nil, err
	}
	var files []File
	if opts.SeparateFiles {
		files = []File{
			{Path: o.Path + ".crt", Mode: o.Mode, Content: parts.certs},
			{Path: o.Path + ".key", Mode: o.Mode, Content: parts.keys},
		}
	}
	return append(files, File{Path: o.Path, Mode: o.Mode, Content: content}), nil
}

// managedPEM returns a secret in PEM as stored and, with SeparateFiles, its parts.
func managedPEM(o request.Object, v keyvault.Value, opts Options) ([]byte, bundle, error) {
	content, err := decode(o, v)
	if err != nil || !opts.SeparateFiles {
		return content, bundle{}, err
	}
	return content, splitPEM(content), nil
}

// managedPKCS12 returns a secret in PKCS#12 as PEM or as stored and, with SeparateFiles,
// its parts. A PFX that is written as stored alone is not decoded.
func managedPKCS12(o request.Object, v keyvault.Value, opts Options) ([]byte, bundle, error) {
	if o.Format == request.FormatPFX {
		content, err := decode(o, v)
		if err != nil || !opts.SeparateFiles {
			return content, bundle{}, err
		}
		parts, err := pfxToPEM(o, v, opts)
		return content, parts, err
	}
	if o.Encoding == request.EncodingBase64 || o.Encoding == request.EncodingHex {
		return nil, bundle{}, invalid(fmt.Sprintf("%s (content type %.64q) is written as PEM, which is not %s text", o, v.ContentType, o.Encoding),
			"remove its objectEncoding, or set objectFormat: pfx to mount the PFX")
	}
	parts, err := pfxToPEM(o, v, opts)
	return bytes.Join([][]byte{parts.keys, parts.certs}, nil), parts, err
}

// mediaType is a content type without its parameters, in lower case (RFC 9110
// section 8.3.1).
func mediaType(contentType string) string {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// splitPEM separates the blocks of a PEM text. A block that is not a certificate goes
// with the keys, because the parameters of a key are in a block of their own.
func splitPEM(text []byte) bundle {
	var b bundle
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
func pfxToPEM(o request.Object, v keyvault.Value, opts Options) (bundle, error) {
	contents, err := decodePFX(v.Text)
	if err != nil {
		return bundle{}, invalid(fmt.Sprintf("%s (content type %.64q) %s", o, v.ContentType, pfxCause(err)),
			"import the certificate into the vault again")
	}
	certs := contents.Certificates
	if !opts.StoredOrder {
		certs = ordered(certs, contents.PrivateKeys)
	}
	var out bundle
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

// pfxCause says why decodePFX failed. The text does not depend on the value.
func pfxCause(err error) string {
	switch {
	case errors.Is(err, errNotBase64):
		return "is not base64 text"
	case errors.Is(err, pkcs12.ErrTooLarge):
		return fmt.Sprintf("is longer than %d bytes", maxPFXText)
	case errors.Is(err, pkcs12.ErrPassword):
		return "is damaged or under a password"
	case errors.Is(err, pkcs12.ErrAlgorithm):
		return "is protected by an algorithm that is not supported"
	case errors.Is(err, pkcs12.ErrRounds):
		return fmt.Sprintf("asks for more than %d hash rounds to derive its keys", pkcs12.MaxRounds)
	default: // pkcs12.ErrMalformed
		return "is not PKCS#12 with private keys or certificates"
	}
}
