package render

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"

	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

// Content types under which Key Vault keeps a certificate's private side.
const (
	contentTypePEM    = "application/x-pem-file"
	contentTypePKCS12 = "application/x-pkcs12"
)

// maxPFXText bounds the text of a PFX that is read. Key Vault keeps 25 KB at most;
// the time that big numbers take in a key or signature grows faster than they do.
const maxPFXText = 64 << 10

// bundle is the private side of a certificate as PEM: what goes into .crt and .key.
type bundle struct {
	certs, keys []byte
}

// managed renders a secret behind a certificate.
func managed(o request.Object, v keyvault.Value, opts Options) ([]File, error) {
	var (
		content []byte
		parts   bundle
		err     error
	)
	switch mediaType(v.ContentType) {
	case contentTypePEM:
		if content, err = decode(o, v); err == nil && opts.SeparateFiles {
			parts = splitPEM(content)
		}
	case contentTypePKCS12:
		if o.Format == request.FormatPFX {
			if content, err = decode(o, v); err == nil && opts.SeparateFiles {
				parts, err = openPKCS12(o, v, opts)
			}
			break
		}
		if o.Encoding == request.EncodingBase64 || o.Encoding == request.EncodingHex {
			return nil, &Error{Object: o,
				cause: fmt.Sprintf("%s (content type %.64q) is written as PEM, which is not %s text", o, v.ContentType, o.Encoding),
				fix:   "remove its objectEncoding, or set objectFormat: pfx to mount the PFX"}
		}
		if parts, err = openPKCS12(o, v, opts); err == nil {
			content = bytes.Join([][]byte{parts.keys, parts.certs}, nil)
		}
	default:
		kind := "no content type"
		if v.ContentType != "" {
			kind = fmt.Sprintf("content type %.64q", v.ContentType)
		}
		return nil, &Error{Object: o,
			cause: fmt.Sprintf("%s is the private side of a certificate, with %s", o, kind),
			fix:   fmt.Sprintf("those that can be mounted are %s and %s", contentTypePEM, contentTypePKCS12)}
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

// mediaType is a content type without its parameters, in lower case (RFC 9110
// section 8.3.1).
func mediaType(contentType string) string {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// splitPEM sorts the blocks of a PEM text. What is not a certificate goes with the
// keys, because parameters of a key stand in blocks of their own.
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

// openPKCS12 turns a PFX into PEM: the private keys, and the certificates as a chain if
// they are one.
func openPKCS12(o request.Object, v keyvault.Value, opts Options) (bundle, error) {
	stored, err := readPFX(v.Text)
	if err != nil {
		return bundle{}, &Error{Object: o,
			cause: fmt.Sprintf("%s (content type %.64q) %v", o, v.ContentType, err),
			fix:   "import the certificate into the vault again"}
	}
	certs := stored.certs
	if !opts.StoredOrder {
		certs = ordered(certs, stored.public)
	}
	var out bundle
	for _, key := range stored.keys {
		out.keys = append(out.keys, encodePEM(labelPrivateKey, key)...)
	}
	for _, cert := range certs {
		out.certs = append(out.certs, encodePEM(labelCertificate, cert)...)
	}
	return out, nil
}

// readPFX reads the text under which Key Vault returns a PFX.
func readPFX(text string) (pfx, error) {
	if len(text) > maxPFXText {
		return pfx{}, errTooLong
	}
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return pfx{}, errNotBase64
	}
	return parsePFX(der)
}
