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

// maxSignatureChecks bounds the signature checks that order the certificates of one PFX.
// A chain takes one check for each certificate, and more only where several certificates
// have the same subject.
const maxSignatureChecks = 64

// maxRSABits bounds the keys of these checks, as crypto/tls does.
const maxRSABits = 8192

// publicKey is implemented by every public key of the standard library.
type publicKey interface {
	Equal(crypto.PublicKey) bool
}

// ordered returns certificates in DER as a chain. If they are not one, it returns them in
// stored order, also if crypto/x509 cannot parse one of them or its key is too large to
// check signatures with.
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
	if path := chain(certs, keys); path != nil {
		return path
	}
	return stored
}

// chain returns the certificates in DER, leaf first, then each issuer up to the root, each of
// them once. It returns nil if they are not one chain. The leaf is the certificate of one
// of the keys or, if the keys have no certificate, the one that the chain of all others
// starts from.
//
// It only finds the order: the chain may be expired or not trusted.
func chain(stored []*x509.Certificate, keys []pkcs12.PrivateKey) [][]byte {
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
			out := make([][]byte, len(path))
			for i, at := range path {
				out[i] = certs[at].Raw
			}
			return out
		}
	}
	return nil
}

// leaves returns the indexes of the certificates that a chain may start from: those of
// the keys or, if there are none, all.
func leaves(certs []*x509.Certificate, keys []pkcs12.PrivateKey) []int {
	var ofKeys, all []int
	for i, cert := range certs {
		all = append(all, i)
		if slices.ContainsFunc(keys, func(key pkcs12.PrivateKey) bool {
			public, ok := key.Public.(publicKey)
			return ok && public.Equal(cert.PublicKey)
		}) {
			ofKeys = append(ofKeys, i)
		}
	}
	if len(ofKeys) > 0 {
		return ofKeys
	}
	return all
}

// climb follows the issuers up to the root, or until it reaches a certificate again: two
// authorities may have signed each other.
func climb(issuers []int, leaf int) []int {
	var path []int
	for at := leaf; !slices.Contains(path, at); at = issuers[at] {
		path = append(path, at)
	}
	return path
}

// findIssuers returns the index of the issuer of each certificate, which is its own for a
// root and where the issuer is missing. It returns nil if a certificate has two issuers, as
// after cross-signing, because then there is more than one chain. It also returns nil if
// this takes too many signature checks.
func findIssuers(certs []*x509.Certificate) []int {
	issuers := make([]int, len(certs))
	checks := maxSignatureChecks
	for i, cert := range certs {
		issuers[i] = i
		for n := range certs {
			j := (i + n) % len(certs) // itself first: a self-signed certificate is a root
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
			if issuers[i] != i {
				return nil
			}
			issuers[i] = j
		}
	}
	return issuers
}

// mayIssue reports whether the names of the certificates (RFC 5280 section 6.1.3) or their
// key identifiers (section 4.2.1.1) match. The provider that this one replaces compares
// only the key identifiers.
func mayIssue(parent, child *x509.Certificate) bool {
	return bytes.Equal(parent.RawSubject, child.RawIssuer) || sameKeyID(parent, child)
}

func sameKeyID(parent, child *x509.Certificate) bool {
	return len(child.AuthorityKeyId) > 0 && bytes.Equal(parent.SubjectKeyId, child.AuthorityKeyId)
}

// signed reports whether the parent's key signed the child. It does not check whether the
// parent is an authority, because old ones do not state it. Where the standard library no
// longer supports the algorithm (MD5, DSA), the key identifiers decide.
func signed(parent, child *x509.Certificate) bool {
	err := parent.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature)
	if _, insecure := errors.AsType[x509.InsecureAlgorithmError](err); insecure || errors.Is(err, x509.ErrUnsupportedAlgorithm) {
		return sameKeyID(parent, child)
	}
	return err == nil
}
