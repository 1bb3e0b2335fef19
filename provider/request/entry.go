package request

import (
	"io/fs"
	"regexp"

	template "akv-csi-provider/provider/document"
	"akv-csi-provider/provider/tree"
)

// Find is a search: every enabled object of the vault that matches is an object of the class.
type Find struct {
	Name    *regexp.Regexp    // nil for every name
	Tags    map[string]string // which an object has all; nil for any
	Max     int               // more matches are an error
	Managed bool              // secrets behind certificates are among the matches
}

// Pieces are files that are parts of a secret. One of its fields is set.
type Pieces struct {
	Paths  []Piece
	Expand Expand
	Parts  []Part
}

// Piece is a file with what a JMESPath expression selects of a secret.
type Piece struct {
	Query    *tree.Path
	Path     string
	Mode     fs.FileMode
	Optional bool // there is no file if it selects nothing
}

// Expand is the format of a secret of which every top-level key becomes a file; "" for none.
type Expand string

// The formats, as written in expand.
const (
	ExpandJSON Expand = "json"
	ExpandYAML Expand = "yaml"
)

// PartName is a part of a certificate with its private key.
type PartName string

// The parts, as written in files.
const (
	PartLeaf             PartName = "leaf"
	PartChain            PartName = "chain"     // the intermediates
	PartFullChain        PartName = "fullchain" // leaf and intermediates, without a self-signed root
	PartCA               PartName = "ca"        // the root, or the topmost issuer there is
	PartBundle           PartName = "bundle"    // private key and all certificates
	PartKey              PartName = "key"       // PKCS#8
	PartKeyPKCS1         PartName = "key-pkcs1"
	PartPKCS12           PartName = "pkcs12"
	PartJKS              PartName = "jks"
	PartTrustStorePKCS12 PartName = "truststore-pkcs12" // intermediates and root
	PartTrustStoreJKS    PartName = "truststore-jks"
)

// Part is a file with a part of a certificate.
type Part struct {
	Name         PartName
	Path         string
	Mode         fs.FileMode
	PasswordFrom string // name of the secret with the password of a keystore; "" without
	Legacy       bool   // PKCS#12 for readers that know neither AES nor SHA-256
}

// Document is a file that a template writes.
type Document = template.Template

// typeFind is the type of a search in a template, which is not one of an entry.
const typeFind Type = "find"

// types are those of what templates refer to.
var types = map[template.Kind]Type{template.Secret: TypeSecret, template.Certificate: TypeCert, template.Key: TypeKey, template.Find: typeFind}

// Refers returns the objects that the entry names beside its own: what its template refers to, in the
// order of the template's References, and each secret with a password of its keystores, once. For a
// search of the template it is an object that has the pattern as name, only for lists of objects.
func (o *Object) Refers() (all []Object) {
	add := func(t Type, name string) {
		all = append(all, Object{Vault: o.Vault, Failover: o.Failover, Type: t, Name: name})
	}
	if o.Document != nil {
		for _, r := range o.Document.References() {
			add(types[r.Kind], r.Name)
		}
	}
	if o.Pieces != nil {
		known := map[string]bool{"": true}
		for _, p := range o.Pieces.Parts {
			if !known[p.PasswordFrom] {
				known[p.PasswordFrom] = true
				add(TypeSecret, p.PasswordFrom)
			}
		}
	}
	return all
}
