package render

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"slices"

	"akv-csi-provider/provider/pkcs12"
)

// maxSignatureChecks bounds the signatures checked to order the certificates of
// one PFX. A chain takes one for each certificate, and more only where several
// certificates have one subject.
const maxSignatureChecks = 64

// maxRSABits bounds the keys that check them, as crypto/tls does.
const maxRSABits = 8192

// publicKey is what every public key of the standard library can do.
type publicKey interface {
	Equal(crypto.PublicKey) bool
}

// ordered returns certificates in DER as a chain or, if they are not one, as they are:
// also where crypto/x509 cannot read one of them, or its key is too big to check with.
func ordered(stored [][]byte, keys []pkcs12.PrivateKey) [][]byte {
	certs := make([]*x509.Certificate, len(stored))
	for i, der := range stored {
		var err error
		if certs[i], err = x509.ParseCertificate(der); err != nil {
			return stored
		}
		if key, ok := certs[i].PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSABits {
			return stored
		}
	}
	path := chain(certs, publicKeys(keys))
	if path == nil {
		return stored
	}
	out := make([][]byte, len(path))
	for i, cert := range path {
		out[i] = cert.Raw
	}
	return out
}

func publicKeys(keys []pkcs12.PrivateKey) []publicKey {
	var out []publicKey
	for _, key := range keys {
		if public, ok := key.Public.(publicKey); ok {
			out = append(out, public)
		}
	}
	return out
}

// chain returns the certificates leaf first, then each issuer up to the root, every
// one once; or nil if they are not one chain. The leaf is the certificate of one of the
// keys or, if they have none, the one that all others lead up from.
//
// Order is all that it finds out: a chain from it may be expired or not trusted.
func chain(stored []*x509.Certificate, keys []publicKey) []*x509.Certificate {
	var certs []*x509.Certificate
	for _, cert := range stored {
		if !slices.ContainsFunc(certs, cert.Equal) {
			certs = append(certs, cert)
		}
		if len(certs) > maxSignatureChecks {
			return nil
		}
	}
	issuers := findIssuers(certs)
	if issuers == nil {
		return nil
	}
	for _, leaf := range leaves(certs, keys) {
		if path := climb(issuers, leaf); len(path) == len(certs) {
			out := make([]*x509.Certificate, len(path))
			for i, at := range path {
				out[i] = certs[at]
			}
			return out
		}
	}
	return nil
}

// leaves returns where a chain may begin: the certificates of the keys or, if there are
// none, anywhere.
func leaves(certs []*x509.Certificate, keys []publicKey) []int {
	var ofKeys, all []int
	for i, cert := range certs {
		all = append(all, i)
		if slices.ContainsFunc(keys, func(k publicKey) bool { return k.Equal(cert.PublicKey) }) {
			ofKeys = append(ofKeys, i)
		}
	}
	if len(ofKeys) > 0 {
		return ofKeys
	}
	return all
}

// climb goes from issuer to issuer, up to the root or to where it has been before:
// two authorities may have signed one another.
func climb(issuers []int, leaf int) []int {
	var path []int
	for at := leaf; at != noIssuer && !slices.Contains(path, at); at = issuers[at] {
		path = append(path, at)
	}
	return path
}

const noIssuer = -1

// findIssuers returns for each certificate which of the others issued it, or
// noIssuer: it is a root, or its issuer is missing. It returns nil if one has two
// issuers, as after cross-signing, for then more than one way leads up; and if that
// would take too many signature checks to find out.
func findIssuers(certs []*x509.Certificate) []int {
	issuers := make([]int, len(certs))
	checks := maxSignatureChecks
	for i, cert := range certs {
		issuers[i] = noIssuer
		for n := range certs {
			j := (i + n) % len(certs) // itself first: what it issued is a root
			if !mayIssue(certs[j], cert) {
				continue
			}
			if checks--; checks < 0 {
				return nil
			}
			if !signed(certs[j], cert) {
				continue
			}
			if j == i {
				break
			}
			if issuers[i] != noIssuer {
				return nil
			}
			issuers[i] = j
		}
	}
	return issuers
}

// mayIssue tells whether the names of the certificates (RFC 5280 section 6.1.3) or
// their key identifiers (section 4.2.1.1) fit. The provider we replace goes by the
// latter alone.
func mayIssue(parent, child *x509.Certificate) bool {
	return bytes.Equal(parent.RawSubject, child.RawIssuer) || sameKeyID(parent, child)
}

func sameKeyID(parent, child *x509.Certificate) bool {
	return len(child.AuthorityKeyId) > 0 && bytes.Equal(parent.SubjectKeyId, child.AuthorityKeyId)
}

// signed tells whether the parent's key signed the child. It does not ask whether
// the parent may do so, as old authorities do not say. Where the standard library
// does not know the algorithm any more (MD5, DSA), the key identifiers must do.
func signed(parent, child *x509.Certificate) bool {
	err := parent.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature)
	if _, insecure := errors.AsType[x509.InsecureAlgorithmError](err); insecure || errors.Is(err, x509.ErrUnsupportedAlgorithm) {
		return sameKeyID(parent, child)
	}
	return err == nil
}
