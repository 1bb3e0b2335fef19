// Package render turns values of Key Vault into the content of files. It is pure: no
// network, no clock, no file system.
package render

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"strconv"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

// File is one file of the volume.
type File struct {
	Path    string      // clean and relative to the mount
	Mode    fs.FileMode // 0 to 0777
	Content []byte
	// Hidden says that the path contains a key of the value, which no message may show.
	Hidden bool
}

// String names the file in messages.
func (f File) String() string {
	if f.Hidden {
		return fmt.Sprintf("a key in %.64q", path.Dir(f.Path))
	}
	return strconv.Quote(f.Path)
}

// invalid is the error of a value that does not match its object. Its text never contains a
// part of the value.
func invalid(cause, fix string) *fault.Error {
	return &fault.Error{Reason: fault.ContentInvalid, Cause: cause, Fix: fix}
}

// Options configure how certificates with their private keys are rendered.
type Options struct {
	// StoredOrder writes certificates in stored order, instead of leaf first.
	StoredOrder bool
	// SeparateFiles adds <path>.crt with the certificates and <path>.key with the private
	// keys, before the file itself.
	SeparateFiles bool
}

// Files renders a value as its object requests: one file at the object's path, or three
// with Options.SeparateFiles. It also returns warnings about the value, which is written all
// the same. Its error is a *fault.Error.
func Files(o request.Object, v keyvault.Value, opts Options) (files []File, warnings []string, err error) {
	var content []byte
	switch {
	case o.Type == request.TypeCert:
		content, err = certificate(o, v)
	case o.Type == request.TypeKey && o.Format == request.FormatJWK:
		content, err = keyJWK(o, v)
	case o.Type == request.TypeKey:
		content, err = key(o, v)
	case v.Managed:
		return managed(o, v, opts)
	default: // objectFormat is for certificates: the provider that this one replaces ignores it here
		content, err = decode(o, v)
		if (o.FormatSet || o.Format == request.FormatPFX) && containsPFX(v.Text) {
			warnings = []string{fmt.Sprintf("objectFormat of %s is ignored: the secret contains a PFX, but does not belong to a certificate", o)}
		}
	}
	if err != nil {
		return nil, nil, err
	}
	return []File{{Path: o.Path, Mode: o.Mode, Content: content}}, warnings, nil
}

// decode decodes the text of a secret by its objectEncoding.
func decode(o request.Object, v keyvault.Value) ([]byte, error) {
	var (
		content []byte
		err     error
	)
	switch o.Encoding {
	case request.EncodingBase64:
		content, err = base64.StdEncoding.DecodeString(v.Text)
	case request.EncodingHex:
		content, err = hex.DecodeString(v.Text)
	default:
		return []byte(v.Text), nil
	}
	if err == nil {
		return content, nil
	}
	// The decoder's error is not used: it quotes a byte of the value.
	kind, fix := "", fmt.Sprintf("store it as %s, or change objectEncoding", o.Encoding)
	if v.Managed {
		kind, fix = " of a certificate", "remove objectEncoding"
	}
	if v.ContentType != "" {
		kind += fmt.Sprintf(" (content type %.64q)", v.ContentType)
	}
	return nil, invalid(fmt.Sprintf("%s%s is not valid %s", o, kind, o.Encoding), fix)
}
