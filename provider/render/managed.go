package render

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/pkcs12"
	"akv-csi-provider/provider/request"
)

// The content types of secrets that Key Vault stores for certificates.
const (
	contentTypePEM    = "application/x-pem-file"
	contentTypePKCS12 = "application/x-pkcs12"
)

// maxPFXText bounds the base64 text of a PFX, and the PEM that it was converted to: the time of
// order grows by the square of the number of certificates. Key Vault stores 25 KB at most.
const maxPFXText = pkcs12.MaxSize / 3 * 4

// pair is a certificate with its private key as PEM: the content of .crt and .key.
type pair struct {
	certs, keys []byte
}

// managed renders a secret that Key Vault stores for a certificate: as stored, or a PFX as
// PEM. A PFX that is written as stored alone is not decoded.
func managed(o request.Object, v keyvault.Value, opts Options) ([]File, []string, error) {
	media := mediaType(v.ContentType)
	toPEM := media == contentTypePKCS12 && o.Format != request.FormatPFX
	switch {
	case media != contentTypePEM && media != contentTypePKCS12:
		kind := "no content type"
		if v.ContentType != "" {
			kind = fmt.Sprintf("content type %.64q", v.ContentType)
		}
		return nil, nil, invalid(fmt.Sprintf("%s of a certificate has %s", o, kind),
			fmt.Sprintf("Azure admin: import the certificate with content type %s or %s", contentTypePEM, contentTypePKCS12))
	case toPEM && o.Encoding != request.EncodingUTF8:
		return nil, nil, invalid(fmt.Sprintf("%s (content type %.64q) is written as PEM, which is not %s", o, v.ContentType, o.Encoding),
			"remove objectEncoding, or set objectFormat: pfx to mount the PFX")
	}
	var (
		content  []byte
		parts    pair
		warnings []string
		err      error
	)
	if !toPEM {
		if content, err = decode(o, v); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case media == contentTypePEM:
		parts, warnings = splitPEM(o, content)
	case toPEM || opts.SeparateFiles:
		if parts, warnings, err = pfxToPEM(o, v, opts); err != nil {
			return nil, nil, err
		}
	}
	if toPEM {
		content = slices.Concat(parts.keys, parts.certs)
	}
	file := File{Path: o.Path, Mode: o.Mode, Content: content}
	if !opts.SeparateFiles {
		return []File{file}, warnings, nil
	}
	return []File{
		{Path: o.Path + ".crt", Mode: o.Mode, Content: parts.certs},
		{Path: o.Path + ".key", Mode: o.Mode, Content: parts.keys},
		file,
	}, warnings, nil
}

// mediaType is a content type without its parameters, in lower case (RFC 9110
// section 8.3.1).
func mediaType(contentType string) string {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// pfxToPEM returns the private keys of a PFX, and its certificates as a chain.
func pfxToPEM(o request.Object, v keyvault.Value, opts Options) (out pair, warnings []string, _ error) {
	contents, err := decodePFX(v)
	if err != nil {
		return pair{}, nil, &fault.Error{Reason: fault.ContentInvalid, Err: err,
			Cause: fmt.Sprintf("%s of a certificate (content type %.64q) %s", o, v.ContentType, pfxCauses[err]),
			Fix:   "Azure admin: import or renew the certificate with content type application/x-pem-file in its policy"}
	}
	keys, certs := contents.PrivateKeys, contents.Certificates
	for _, key := range keys {
		out.keys = append(out.keys, encodePEM(labelPrivateKey, key.PKCS8)...)
	}
	if slices.ContainsFunc(keys, func(key pkcs12.PrivateKey) bool { return key.Unchecked }) {
		warnings = append(warnings, o.String()+" has a private key that is written as stored: it is of a kind that cannot be checked, or its numbers do not match")
	}
	if !opts.StoredOrder {
		joined := 0
		if certs, joined = order(certs, keys); joined < len(certs) {
			warnings = append(warnings, fmt.Sprintf("certificates of %s that are not part of the chain of its private key follow the chain: %d of %d", o, len(certs)-joined, len(certs)))
		}
	}
	for _, cert := range certs {
		out.certs = append(out.certs, encodePEM(labelCertificate, cert)...)
	}
	return out, append(warnings, counterparts(o, contents)...), nil
}

// counterparts warns if the private key or its certificate is missing.
func counterparts(o request.Object, c *pkcs12.Contents) []string {
	switch {
	case len(c.PrivateKeys) == 0:
		return []string{o.String() + " has no private key; the policy of its certificate may make the key not exportable"}
	case !slices.ContainsFunc(c.Certificates, func(der []byte) bool {
		spki := newNode(der).spki
		return slices.ContainsFunc(c.PrivateKeys, func(key pkcs12.PrivateKey) bool {
			match, _ := key.Matches(spki)
			return match
		})
	}):
		return []string{o.String() + " has no certificate of its private key"}
	}
	return nil
}

var errNotBase64 = errors.New("not base64")

// decodePFX decodes the base64 text of a PFX, unless the vault has converted it. Its error is
// errNotBase64 or one of package pkcs12.
func decodePFX(v keyvault.Value) (*pkcs12.Contents, error) {
	if v.PEM != "" && len(v.PEM) <= maxPFXText {
		if contents := readPEM([]byte(v.PEM)).contents; len(contents.PrivateKeys) > 0 || len(contents.Certificates) > 0 {
			return &contents, nil
		}
	}
	if len(v.Text) > maxPFXText {
		return nil, pkcs12.ErrTooLarge
	}
	der, err := base64.StdEncoding.DecodeString(v.Text)
	if err != nil { // its text quotes a byte of the value
		return nil, errNotBase64
	}
	return pkcs12.Decode(der)
}

// Convertible reports whether the error of Files is about a PFX that package pkcs12 cannot
// decode. The vault may be able to convert it; see keyvault.Value.PEM.
func Convertible(err error) bool {
	e, ok := errors.AsType[*fault.Error](err)
	return ok && e.Err != errNotBase64 && pfxCauses[e.Err] != ""
}

// containsPFX reports whether the text of a secret looks like a PFX.
func containsPFX(text string) bool {
	if len(text) > maxPFXText {
		return false
	}
	der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return false
	}
	e := pkcs12.Elements(der)
	return len(e) > 1 && bytes.Equal(e[0].FullBytes, []byte{2, 1, 3}) // version 3 (RFC 7292 section 4)
}

// pfxCauses says why decodePFX failed. The texts do not depend on the value.
var pfxCauses = map[error]string{
	errNotBase64:        "is not valid base64",
	pkcs12.ErrTooLarge:  fmt.Sprintf("is longer than %d bytes", maxPFXText),
	pkcs12.ErrMalformed: "is not PKCS#12 with private keys or certificates",
	pkcs12.ErrContents:  "is PKCS#12, but one of its private keys or certificates cannot be read",
	pkcs12.ErrPassword:  "is damaged or protected by a password",
	pkcs12.ErrAlgorithm: "is protected by an unsupported algorithm",
	pkcs12.ErrFIPS:      "is protected by an algorithm that FIPS 140-only mode forbids",
	pkcs12.ErrRounds:    fmt.Sprintf("requires more than %d hash rounds to derive its keys", pkcs12.MaxRounds),
}
