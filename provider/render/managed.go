package render

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
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

const importAgain = "import the certificate into the vault again"

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

// openPKCS12 turns a PFX into PEM: the private key, and the certificates as a chain if
// they are one.
func openPKCS12(o request.Object, v keyvault.Value, opts Options) (bundle, error) {
	invalid := func(err error) (bundle, error) {
		e := &Error{Object: o, cause: fmt.Sprintf("%s (content type %.64q) %v", o, v.ContentType, err), fix: importAgain}
		if errors.Is(err, errNotPFX) {
			e.fix += "; if its policy makes the private key not exportable, take objectType cert"
		}
		return bundle{}, e
	}
	if len(v.Text) > maxPFXText {
		return invalid(errTooLong)
	}
	der, err := base64.StdEncoding.DecodeString(v.Text)
	if err != nil {
		return invalid(errNotBase64)
	}
	stored, err := parsePFX(der)
	if err != nil {
		return invalid(err)
	}
	// Attributes that Windows puts beside the key are not written, nor were they by the
	// provider we replace.
	key, err := x509.MarshalPKCS8PrivateKey(stored.key)
	if err != nil {
		return invalid(errNotPFX)
	}
	out := bundle{keys: encodePEM(labelPrivateKey, key)}
	certs := stored.certs
	if !opts.StoredOrder {
		if ordered := chain(certs, publicOf(stored.key)); ordered != nil {
			certs = ordered
		}
	}
	for _, cert := range certs {
		out.certs = append(out.certs, encodePEM(labelCertificate, cert.Raw)...)
	}
	return out, nil
}

// publicOf returns the public side of a private key; nil if it has none to compare.
func publicOf(key any) publicKey {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil
	}
	public, _ := signer.Public().(publicKey)
	return public
}
