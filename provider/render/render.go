// Package render turns what Key Vault holds into the content of files. It is pure:
// no network, no clock, no file system.
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

// Error says that a value is not what its object promises. Its text is one line
// and never holds a part of the value.
type Error struct {
	Object request.Object
	cause  string
	fix    string
}

// Error implements error.
func (e *Error) Error() string { return e.cause + "; " + e.fix }

// Reason is the stable word users search for.
func (e *Error) Reason() string { return ReasonContentInvalid }

// Options are the plugin's choices for private keys with their certificates.
type Options struct {
	// StoredOrder leaves certificates as they are stored, instead of leaf first.
	StoredOrder bool
	// SeparateFiles puts <path>.crt with the certificates and <path>.key with the
	// private keys before the file itself.
	SeparateFiles bool
}

// Files renders a value as the object asks for: one file, at the object's path, or
// three with Options.SeparateFiles. Its error is an *Error.
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
	default: // objectFormat is for certificates: the provider we replace ignores it here
		content, err = decode(o, v)
	}
	if err != nil {
		return nil, err
	}
	return []File{{Path: o.Path, Mode: o.Mode, Content: content}}, nil
}

// decode returns the bytes that the secret's text stands for.
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
	// The decoder's own words quote a byte of the value.
	kind := ""
	if v.ContentType != "" {
		kind = fmt.Sprintf(" (content type %.64q)", v.ContentType)
	}
	return nil, &Error{Object: o,
		cause: fmt.Sprintf("%s%s is not %s text", o, kind, o.Encoding),
		fix:   "store it so, or change its objectEncoding"}
}
