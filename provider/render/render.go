// Package render turns values of Key Vault into the content of files. It is pure: no
// network, no clock, no file system.
package render

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"

	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

// ReasonContentInvalid is the reason of every error of this package.
const ReasonContentInvalid = "ContentInvalid"

// File is one file of the volume.
type File struct {
	Path    string      // clean and relative to the mount
	Mode    fs.FileMode // 0 to 0777
	Content []byte
}

// Error reports a value that does not match its object. Its text is one line and never
// contains a part of the value.
type Error struct {
	Object request.Object
	cause  string
	fix    string
}

// Error implements error.
func (e *Error) Error() string { return e.cause + "; " + e.fix }

// Reason returns the stable word that users search for.
func (e *Error) Reason() string { return ReasonContentInvalid }

// Options configure how certificates with their private keys are rendered.
type Options struct {
	// StoredOrder writes certificates in stored order, instead of leaf first.
	StoredOrder bool
	// SeparateFiles adds <path>.crt with the certificates and <path>.key with the private
	// keys, before the file itself.
	SeparateFiles bool
}

// Files renders a value as its object requests: one file at the object's path, or three
// with Options.SeparateFiles. Its error is an *Error.
func Files(o request.Object, v keyvault.Value, opts Options) ([]File, error) {
	var (
		content []byte
		err     error
	)
	switch {
	case o.Type == request.TypeCert:
		content, err = certificate(o, v)
	case o.Type == request.TypeKey:
		content, err = key(o, v)
	case v.Managed:
		return managed(o, v, opts)
	default: // objectFormat is for certificates: the provider that this one replaces ignores it here
		content, err = decode(o, v)
	}
	if err != nil {
		return nil, err
	}
	return []File{{Path: o.Path, Mode: o.Mode, Content: content}}, nil
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
	kind := ""
	if v.ContentType != "" {
		kind = fmt.Sprintf(" (content type %.64q)", v.ContentType)
	}
	return nil, &Error{Object: o,
		cause: fmt.Sprintf("%s%s is not %s text", o, kind, o.Encoding),
		fix:   "store it so, or change its objectEncoding"}
}
