package render

import (
	"bytes"
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
	errCert      = errors.New("has a certificate that cannot be parsed")
)

// partsOf reads a secret that contains a certificate: a PFX in base64 or PEM. The content type of
// a secret that is not behind a certificate is ignored: a secret that is written by hand may
// have any.
func partsOf(o request.Object, v keyvault.Value) (identity, error) {
	read := pfxIdentity
	if strings.Contains(v.Text, "-----BEGIN ") { // which base64 has no characters for
		read = pemIdentity
	}
	id, err := read(v)
	if err == nil {
		return id, nil
	}
	cause, ok := pfxCauses[err]
	if !ok {
		cause = err.Error()
	}
	e := invalid(fmt.Sprintf("%s %s", o, cause),
		"files needs a certificate: base64 of a PFX without a password, or PEM with at most one private key")
	if v.Managed { // else the vault cannot convert it
		e.Err = err
	}
	return identity{}, e
}

func pfxIdentity(v keyvault.Value) (identity, error) {
	contents, err := decodePFX(v)
	if err != nil {
		return identity{}, err
	}
	return newIdentity(contents.PrivateKeys, contents.Certificates)
}

func pemIdentity(v keyvault.Value) (identity, error) {
	if len(v.Text) > maxPFXText {
		return identity{}, pkcs12.ErrTooLarge
	}
	var (
		keys  []pkcs12.PrivateKey
		certs [][]byte
	)
	for block, rest := pem.Decode([]byte(v.Text)); block != nil; block, rest = pem.Decode(rest) {
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
	if err != nil { // its text may quote the key
		return pkcs12.PrivateKey{}, errPEM
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return pkcs12.PrivateKey{}, errPEM
	}
	out, ok := pkcs12.NewPrivateKey(der)
	if !ok {
		return pkcs12.PrivateKey{}, errPEM
	}
	return out, nil
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
	path, joined := order(stored, keys)
	isChain := joined == len(slices.CompactFunc(slices.SortedFunc(slices.Values(stored), bytes.Compare), bytes.Equal))
	if !isChain && len(keys) == 0 { // a list of authorities
		path = stored
	}
	for _, der := range path {
		cert := certs[slices.IndexFunc(certs, func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, der) })]
		if !slices.ContainsFunc(id.all, cert.Equal) {
			id.all = append(id.all, cert)
		}
	}
	members := id.all
	if len(keys) > 0 {
		id.key = keys[0].PKCS8
		if len(certs) > 0 {
			if match, _ := keys[0].Matches(id.all[0].RawSubjectPublicKeyInfo); !match {
				return identity{}, errMatch
			}
			members = id.issuers()
		}
	}
	id.sort(members, isChain || id.key != nil)
	return id, nil
}

// issuers returns the first certificate and those above it, also by cross-signing. Others belong to
// no part but the bundle.
func (id *identity) issuers() []*x509.Certificate {
	stored := make([][]byte, len(id.all))
	for i, cert := range id.all {
		stored[i] = cert.Raw
	}
	g := newGraph(stored)
	above := map[int]bool{0: true}
	for queue := []int{0}; len(queue) > 0; queue = queue[1:] {
		for _, at := range g.issuers(queue[0]) {
			if !above[at] {
				above[at] = true
				queue = append(queue, at)
			}
		}
	}
	var members []*x509.Certificate
	for i, cert := range id.all { // each once, so that a node has the same index
		if above[i] {
			members = append(members, cert)
		}
	}
	return members
}

// sort finds the role of each certificate.
func (id *identity) sort(rest []*x509.Certificate, hasLeaf bool) {
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

func selfSigned(cert *x509.Certificate) bool {
	n := newNode(cert.Raw)
	return n.selfIssued() == 1 && (&graph{checks: 1}).check(n, n.spki) != notSigned
}
