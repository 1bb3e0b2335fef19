package request

import (
	"fmt"
	"slices"

	"akv-csi-provider/provider/tree"
)

// Bounds of the pieces of one object.
const (
	maxPieces = 256
	maxParts  = 64
)

var (
	pieceFields = []string{"path", "objectAlias", "filePermission", "optional"}
	partFields  = []string{"part", "objectAlias", "filePermission", "passwordFrom", "algorithms"}
	parts       = []PartName{PartLeaf, PartChain, PartFullChain, PartCA, PartBundle, PartKey, PartKeyPKCS1,
		PartPKCS12, PartJKS, PartTrustStorePKCS12, PartTrustStoreJKS}
)

// Protected reports whether the part is a keystore or a truststore, which have passwords.
func (p PartName) Protected() bool { return slices.Index(parts, p) >= slices.Index(parts, PartPKCS12) }

// pieces reads jmesPath, expand or files.
func (r *fieldReader) pieces(o *Object) {
	var field string
	for _, f := range []string{"jmesPath", "expand", "files"} {
		switch {
		case !r.has(f):
		case field != "":
			r.wrong(f, "set together with "+field, "use one of jmesPath, expand and files per entry")
		default:
			field = f
		}
	}
	if o.Type != TypeSecret && (o.Type == TypeKey || o.Type == TypeCert) {
		r.wrong(field, "is not allowed with objectType "+quote(string(o.Type)), onlySecrets)
	}
	if o.History > 1 {
		r.wrong("objectVersionHistory", "is not allowed with "+field, "remove one of the two: each version would need its own path")
	}
	if field != "expand" && r.has("bundle") {
		r.wrong("bundle", "is not allowed with "+field, "remove it, or use expand")
	}
	o.Pieces = new(Pieces)
	switch field {
	case "expand":
		o.Pieces.Expand = choice(r, "expand", ExpandJSON, ExpandYAML)
	case "jmesPath":
		r.eachNested(field, maxPieces, pieceFields, func(f *fieldReader) {
			o.Pieces.Paths = append(o.Pieces.Paths, Piece{Query: f.expression(), Path: f.file("objectAlias"), Mode: f.modeOf(o), Optional: f.boolean("optional")})
		})
	default:
		r.eachNested(field, maxParts, partFields, func(f *fieldReader) { o.Pieces.Parts = append(o.Pieces.Parts, f.part(o)) })
	}
}

// expression reads path; it is nil with a problem.
func (r *fieldReader) expression() *tree.Path {
	text := r.values["path"]
	if text == "" {
		r.lacks("path", "use a JMESPath expression, such as db.password")
		return nil
	}
	if len(text) > tree.MaxExpression {
		r.wrong("path", fmt.Sprintf("%d bytes long", len(text)), fmt.Sprintf("use at most %d bytes", tree.MaxExpression))
		return nil
	}
	if !r.speak(expressionPrice * len(text)) {
		return nil
	}
	query, err := tree.ParsePath(text)
	if err != nil {
		r.wrong("path", quote(text)+" "+err.Error(), "use one such as db.password")
	}
	return query
}

func (r *fieldReader) part(o *Object) Part {
	p := Part{Name: choice(r, "part", parts...), Path: r.file("objectAlias"), Mode: r.modeOf(o), PasswordFrom: r.values["passwordFrom"]}
	switch {
	case p.Name == "": // which is reported
	case !p.Name.Protected() && p.PasswordFrom != "":
		r.wrong("passwordFrom", "is not allowed with part "+string(p.Name), "remove it; only keystores and truststores have passwords")
	case p.Name.Protected() && !objectName.MatchString(p.PasswordFrom):
		r.lacks("passwordFrom", nameFix(p.PasswordFrom, "use the name of a secret of the same vault (1 to 127 letters, digits and hyphens)",
			func(_ Type, name, _ string) string { return "passwordFrom: " + name }))
	}
	if !r.has("algorithms") {
		return p
	}
	const modern, legacy = "modern", "legacy"
	p.Legacy = choice(r, "algorithms", modern, legacy) == legacy
	if p.Name != "" && p.Name != PartPKCS12 && p.Name != PartTrustStorePKCS12 {
		r.wrong("algorithms", "is not allowed with part "+string(p.Name), "remove it: it is for pkcs12 and truststore-pkcs12")
	}
	return p
}
