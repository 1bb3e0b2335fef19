package render

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/pkcs12"
	"akv-csi-provider/provider/request"
)

// identity is what a secret with a certificate consists of.
type identity struct {
	key []byte // PrivateKeyInfo of RFC 5958 in DER; may be missing
	// leaf is the certificate of the key or, without a key, where a chain starts. There is none
	// in a list of authorities.
	leaf []*x509.Certificate
	// intermediates are the issuers that are not self-signed, and top is the root. Without a
	// root, it is the last of the intermediates. A self-signed leaf is its own root.
	intermediates, top []*x509.Certificate
	all                []*x509.Certificate // as a chain, if they are one
}

// The causes for which a secret has no parts. Their texts do not depend on it.
var (
	errPEM       = errors.New("is not PEM with a private key or certificates")
	errEncrypted = errors.New("has an encrypted private key")
	errKeys      = errors.New("has more than one private key")
	errMatch     = errors.New("has a private key that belongs to none of its certificates")
	errCert      = errors.New("has a certificate that cannot be read")
)

// partsOf reads a secret that contains a certificate: a PFX in base64 or PEM. The content type of
// a secret that is not behind a certificate is ignored: a secret that is written by hand may
// have any.
func partsOf(o request.Object, v keyvault.Value) (identity, error) {
	read := pfxIdentity
	if strings.Contains(v.Text, "-----BEGIN ") { // which base64 has no characters for
		read = pemIdentity
	}
	id, err := read(v.Text)
	if err == nil {
		return id, nil
	}
	cause, ok := pfxCauses[err]
	if !ok {
		cause = err.Error()
	}
	return identity{}, invalid(fmt.Sprintf("%s %s", o, cause),
		"files goes with a certificate: a PFX in base64 without a password, or PEM with at most one private key")
}

func pfxIdentity(text string) (identity, error) {
	contents, err := decodePFX(text)
	if err != nil {
		return identity{}, err
	}
	return newIdentity(contents.PrivateKeys, contents.Certificates)
}

func pemIdentity(text string) (identity, error) {
	if len(text) > maxPFXText {
		return identity{}, pkcs12.ErrTooLarge
	}
	var (
		keys  []pkcs12.PrivateKey
		certs [][]byte
	)
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == labelCertificate:
			certs = append(certs, block.Bytes)
		case block.Type == "ENCRYPTED PRIVATE KEY", block.Headers["DEK-Info"] != "":
			return identity{}, errEncrypted
		case strings.HasSuffix(block.Type, labelPrivateKey):
			key, err := privateKey(block)
			if err != nil {
				return identity{}, err
			}
			keys = append(keys, key)
		}
	}
	if len(keys)+len(certs) == 0 {
		return identity{}, errPEM
	}
	return newIdentity(keys, certs)
}

// privateKey reads a private key in any of the forms that openssl writes.
func privateKey(block *pem.Block) (pkcs12.PrivateKey, error) {
	if len(block.Bytes) > pkcs12.MaxPrivateKeySize {
		return pkcs12.PrivateKey{}, errPEM
	}
	var (
		key any
		err error
	)
	switch block.Type {
	case labelPrivateKey:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case labelRSAPrivateKey:
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case labelECPrivateKey:
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return pkcs12.PrivateKey{}, errPEM
	}
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok { // the error may quote the key
		return pkcs12.PrivateKey{}, errPEM
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return pkcs12.PrivateKey{}, errPEM
	}
	return pkcs12.PrivateKey{PKCS8: der, Public: signer.Public()}, nil
}

func newIdentity(keys []pkcs12.PrivateKey, stored [][]byte) (id identity, err error) {
	if len(keys) > 1 {
		return identity{}, errKeys
	}
	certs := make([]*x509.Certificate, len(stored))
	for i, der := range stored {
		if certs[i], err = x509.ParseCertificate(der); err != nil {
			return identity{}, errCert
		}
		if key, ok := certs[i].PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSABits {
			return identity{}, errCert
		}
	}
	path := chain(certs, keys)
	isChain := path != nil
	if !isChain { // cross-signed, or a list of authorities: the leaf first, then as they are stored
		path = stored
	}
	for _, der := range path {
		cert := certs[slices.IndexFunc(certs, func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, der) })]
		if !slices.ContainsFunc(id.all, cert.Equal) {
			id.all = append(id.all, cert)
		}
	}
	if len(keys) > 0 {
		id.key = keys[0].PKCS8
		if public, ok := keys[0].Public.(publicKey); ok && len(certs) > 0 {
			at := slices.IndexFunc(id.all, func(c *x509.Certificate) bool { return public.Equal(c.PublicKey) })
			if at < 0 {
				return identity{}, errMatch
			}
			id.all = slices.Concat(id.all[at:at+1], id.all[:at], id.all[at+1:])
		}
	}
	id.sort(isChain || id.key != nil)
	return id, nil
}

// sort finds the role of each certificate.
func (id *identity) sort(hasLeaf bool) {
	rest := id.all
	if hasLeaf && len(rest) > 0 {
		id.leaf, rest = rest[:1], rest[1:]
	}
	for _, cert := range rest {
		if selfSigned(cert) {
			id.top = append(id.top, cert)
		} else {
			id.intermediates = append(id.intermediates, cert)
		}
	}
	if n := len(id.intermediates); len(id.top) == 0 && n > 0 {
		id.top = id.intermediates[n-1:]
	} else if len(rest) == 0 && len(id.leaf) > 0 && selfSigned(id.leaf[0]) {
		id.top = id.leaf
	}
}

// trusted are the certificates of a truststore: the intermediates and the root. Without a private
// key, it may be a bundle of authorities that is a chain, of which the first is to be trusted too.
func (id *identity) trusted() (certs []*x509.Certificate) {
	if id.key == nil && len(id.leaf) > 0 && id.leaf[0].IsCA {
		certs = slices.Clone(id.leaf)
	}
	for _, cert := range slices.Concat(id.intermediates, id.top) {
		if !slices.ContainsFunc(certs, cert.Equal) {
			certs = append(certs, cert)
		}
	}
	return certs
}

func selfSigned(cert *x509.Certificate) bool { return mayIssue(cert, cert) && signed(cert, cert) }
