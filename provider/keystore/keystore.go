// Package keystore writes the keystores and truststores that Java and Windows read: PKCS#12
// (RFC 7292) and JKS. It is pure, and equal input has equal bytes.
//
// # Salts
//
// A keystore has salts and initialization vectors, which libraries draw at random. A file that
// is other bytes each time it is read would be replaced at every rotation, and servers that watch
// it would reload or restart each time, on all nodes and after each restart of the provider. So a
// salt is derived from what it protects: HKDF (RFC 5869) of the private key, and of the format and
// the certificates. This is how deterministic encryption works (RFC 5297). What an attacker who has
// the file gains:
//
//   - He sees that two files have equal content and an equal password: these are equal.
//   - Nothing about the private key: the salt is the output of a pseudorandom function whose key
//     it is. Nor about the password, which is no input: there is no test of a guess that is
//     cheaper than that of the file itself.
//   - No salt, and no stream of JKS, protects two contents under one password: another
//     key or another certificate has another salt.
//
// A key of the process would add nothing here, and would change every file with each restart.
//
// A truststore consists of public certificates, so its salts can be computed by everybody. Its
// password protects it against changes only. Somebody could compute a table of passwords in advance
// for one set of certificates: a password that is generated is in no such table, and for one that
// is not, neither format has more than 2,048 rounds in the way, with any salt.
package keystore

import (
	"bytes"
	"crypto"
	"crypto/fips140"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	jks "github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"
)

// Aliases of the entries, as cert-manager names them: the key with its certificates, and the first
// of the trusted certificates. The others are ca-1, ca-2 and so on.
const (
	AliasKey = "certificate"
	AliasCA  = "ca"
)

// MaxPassword bounds the bytes of a password: deriving keys takes time by its length.
const MaxPassword = 1024

// The errors of keystores. None of them contains a key or a password.
var (
	ErrPassword = fmt.Errorf("the password is empty, longer than %d bytes, or has characters that the keystore cannot have", MaxPassword)
	ErrKey      = errors.New("the private key is of a type that keystores cannot have")
	ErrNoKey    = errors.New("there is no private key")
	ErrNoCerts  = errors.New("there is no certificate")
	ErrFIPS     = errors.New("FIPS 140-only mode does not allow the algorithms of keystores")
)

// Algorithms protect a PKCS#12 file.
type Algorithms int

const (
	// Modern is AES-256 and SHA-256, which OpenSSL 1.1.1, Java 12 and Windows Server 2019 read.
	Modern Algorithms = iota
	// Legacy is 3DES and SHA-1, for older readers. It protects little; so does the whole format.
	Legacy
)

func (a Algorithms) encoder(salts io.Reader) *pkcs12.Encoder {
	if a == Legacy {
		return pkcs12.LegacyDES.WithRand(salts)
	}
	return pkcs12.Modern2023.WithRand(salts)
}

// Identity is a private key with its certificates.
type Identity struct {
	Key          []byte              // PrivateKeyInfo of RFC 5958 in DER
	Certificates []*x509.Certificate // leaf first
}

func (id Identity) check() (crypto.PrivateKey, error) {
	switch {
	case len(id.Key) == 0:
		return nil, ErrNoKey
	case len(id.Certificates) == 0:
		return nil, ErrNoCerts
	}
	key, err := x509.ParsePKCS8PrivateKey(id.Key)
	if err != nil { // its text may quote the key
		return nil, ErrKey
	}
	return key, nil
}

// PKCS12 writes a keystore with the identity, without an alias.
func PKCS12(id Identity, password []byte, algorithms Algorithms) ([]byte, error) {
	key, err := id.check()
	if err != nil {
		return nil, err
	}
	if err := usable(password, 0xffff); err != nil {
		return nil, err
	}
	salts := newSalts(id.Key, fmt.Sprint("pkcs12 ", algorithms), id.Certificates)
	content, err := algorithms.encoder(salts).Encode(key, id.Certificates[0], id.Certificates[1:], string(password))
	if err != nil { // its text may quote the key
		return nil, ErrKey
	}
	return content, nil
}

// JKS writes a keystore with the identity as AliasKey. The password protects the file and the key.
func JKS(id Identity, password []byte) ([]byte, error) {
	if _, err := id.check(); err != nil {
		return nil, err
	}
	if err := usable(password, 0x7f); err != nil {
		return nil, err
	}
	entry := jks.PrivateKeyEntry{CreationTime: created(id.Certificates[0]), PrivateKey: id.Key}
	for _, cert := range id.Certificates {
		entry.CertificateChain = append(entry.CertificateChain, jksCertificate(cert))
	}
	store := jks.New(jks.WithCustomRandomNumberGenerator(newSalts(id.Key, "jks", id.Certificates)))
	if err := store.SetPrivateKeyEntry(AliasKey, entry, password); err != nil {
		return nil, ErrKey
	}
	return stored(store, password)
}

// TrustStorePKCS12 writes a truststore that Java reads.
func TrustStorePKCS12(certs []*x509.Certificate, password []byte, algorithms Algorithms) ([]byte, error) {
	if len(certs) == 0 {
		return nil, ErrNoCerts
	}
	if err := usable(password, 0xffff); err != nil {
		return nil, err
	}
	entries := make([]pkcs12.TrustStoreEntry, len(certs))
	for i, cert := range certs {
		entries[i] = pkcs12.TrustStoreEntry{Cert: cert, FriendlyName: aliasCA(i)}
	}
	salts := newSalts(nil, fmt.Sprint("truststore-pkcs12 ", algorithms), certs)
	content, err := algorithms.encoder(salts).EncodeTrustStoreEntries(entries, string(password))
	if err != nil {
		return nil, errors.New("the truststore cannot be written")
	}
	return content, nil
}

// TrustStoreJKS writes a truststore.
func TrustStoreJKS(certs []*x509.Certificate, password []byte) ([]byte, error) {
	if len(certs) == 0 {
		return nil, ErrNoCerts
	}
	if err := usable(password, 0x7f); err != nil {
		return nil, err
	}
	store := jks.New(jks.WithOrderedAliases())
	for i, cert := range certs {
		entry := jks.TrustedCertificateEntry{CreationTime: created(cert), Certificate: jksCertificate(cert)}
		if err := store.SetTrustedCertificateEntry(aliasCA(i), entry); err != nil {
			return nil, errors.New("the truststore cannot be written")
		}
	}
	return stored(store, password)
}

func stored(store jks.KeyStore, password []byte) ([]byte, error) {
	var out bytes.Buffer
	if err := store.Store(&out, password); err != nil {
		return nil, errors.New("the keystore cannot be written")
	}
	return out.Bytes(), nil
}

func aliasCA(i int) string {
	if i == 0 {
		return AliasCA
	}
	return fmt.Sprintf("%s-%d", AliasCA, i)
}

func jksCertificate(cert *x509.Certificate) jks.Certificate {
	return jks.Certificate{Type: "X509", Content: cert.Raw}
}

// created stands for the time at which an entry was made, which would differ each time. JKS counts
// from 1970.
func created(cert *x509.Certificate) time.Time {
	if epoch := time.Unix(0, 0); cert.NotBefore.Before(epoch) {
		return epoch
	}
	return cert.NotBefore
}

// usable checks that a password can be entered as it is: JKS takes each byte for a character, and
// PKCS#12 has characters of 16 bits. Both formats derive keys from passwords in ways that are not
// approved, and the standard library panics where only these are allowed.
func usable(password []byte, largest rune) error {
	text := string(password)
	switch {
	case fips140.Enforced():
		return ErrFIPS
	case text == "", len(text) > MaxPassword, !utf8.ValidString(text),
		strings.ContainsFunc(text, func(r rune) bool { return r > largest || r == 0 }):
		return ErrPassword
	}
	return nil
}

// newSalts returns all that is random in one file: see the doc of the package.
func newSalts(key []byte, format string, certs []*x509.Certificate) io.Reader {
	const most = 256 // bytes; 80 are needed at most
	info := []byte("akv-csi-provider keystore 1 " + format)
	for _, cert := range certs {
		info = binary.BigEndian.AppendUint32(info, uint32(len(cert.Raw)))
		info = append(info, cert.Raw...)
	}
	// HKDF says that info is short; it is the input of an HMAC all the same.
	salts, err := hkdf.Key(sha256.New, key, nil, string(info), most)
	if err != nil {
		panic("keystore: " + err.Error()) // the length is a constant
	}
	return bytes.NewReader(salts)
}
