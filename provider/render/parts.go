package render

import (
	"cmp"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"akv-csi-provider/provider/keystore"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

// Parts renders parts of a secret that is a certificate with its private key. The passwords are
// those of keystores and truststores, by the names of their secrets. Equal input has equal bytes.
// Its error is a *fault.Error.
func Parts(o request.Object, v keyvault.Value, parts []request.Part, passwords map[string]string) ([]File, error) {
	id, err := partsOf(o, v)
	if err != nil {
		return nil, err
	}
	files := make([]File, len(parts))
	for i, p := range parts {
		content, err := id.part(p, []byte(passwords[p.PasswordFrom]))
		if err != nil {
			return nil, invalid(fmt.Sprintf("%s has no part %s: %v", o, p.Name, err), cmp.Or(partFixes[err], "remove this part"))
		}
		files[i] = File{Path: p.Path, Mode: p.Mode, Content: content}
	}
	return files, nil
}

const (
	fixKey      = "remove this part; or, Azure admin: reissue the certificate with an exportable key"
	fixIssuer   = "remove this part; or, Azure admin: import the certificate with its chain"
	fixPassword = "use a password of 1 to 1024 characters, ASCII for JKS, without NUL"
)

var (
	errNoIssuer = errors.New("the certificate has no issuer certificate")
	errNotRSA   = errors.New("the private key is not RSA")

	partFixes = map[error]string{
		keystore.ErrNoKey:    fixKey,
		keystore.ErrNoCerts:  fixIssuer,
		errNoIssuer:          fixIssuer,
		errNotRSA:            "use part key",
		keystore.ErrKey:      "use part key, or a key of RSA, P-256, P-384, P-521 or Ed25519",
		keystore.ErrPassword: fixPassword,
		keystore.ErrFIPS:     "use parts in PEM",
	}
)

// part returns one part. Its error has a fix in partFixes.
func (id identity) part(p request.Part, password []byte) ([]byte, error) {
	full, algorithms := slices.Concat(id.leaf, id.intermediates), keystore.Modern
	if p.Legacy {
		algorithms = keystore.Legacy
	}
	switch p.Name {
	case request.PartLeaf:
		return certificates(id.leaf, keystore.ErrNoCerts)
	case request.PartChain: // empty where the root signed the leaf
		return certificates(id.intermediates, nil)
	case request.PartFullChain:
		return certificates(full, keystore.ErrNoCerts)
	case request.PartCA:
		return certificates(id.top, errNoIssuer)
	case request.PartBundle:
		certs, err := certificates(id.all, keystore.ErrNoCerts)
		if err != nil || id.key == nil {
			return certs, err
		}
		return slices.Concat(encodePEM(labelPrivateKey, id.key), certs), nil
	case request.PartKey:
		if id.key == nil {
			return nil, keystore.ErrNoKey
		}
		return encodePEM(labelPrivateKey, id.key), nil
	case request.PartKeyPKCS1:
		return id.pkcs1()
	case request.PartPKCS12:
		return keystore.PKCS12(keystore.Identity{Key: id.key, Certificates: full}, password, algorithms)
	case request.PartJKS:
		return keystore.JKS(keystore.Identity{Key: id.key, Certificates: full}, password)
	default: // the truststores
		trusted := id.trusted()
		switch {
		case len(trusted) == 0 && len(id.leaf) > 0:
			return nil, errNoIssuer
		case p.Name == request.PartTrustStorePKCS12:
			return keystore.TrustStorePKCS12(trusted, password, algorithms)
		}
		return keystore.TrustStoreJKS(trusted, password)
	}
}

// certificates returns PEM, or an error if there are none and there must be.
func certificates(certs []*x509.Certificate, none error) (out []byte, err error) {
	if len(certs) == 0 {
		return []byte{}, none
	}
	for _, cert := range certs {
		out = append(out, encodePEM(labelCertificate, cert.Raw)...)
	}
	return out, nil
}

// pkcs1 returns the private key in the form of RFC 8017, appendix A.1.2.
func (id identity) pkcs1() ([]byte, error) {
	if id.key == nil {
		return nil, keystore.ErrNoKey
	}
	key, err := x509.ParsePKCS8PrivateKey(id.key)
	if err != nil { // P-256K
		return nil, errNotRSA
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, errNotRSA
	}
	return encodePEM(labelRSAPrivateKey, x509.MarshalPKCS1PrivateKey(private)), nil
}
