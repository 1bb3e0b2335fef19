package render_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"akv-csi-provider/provider/render"
)

// pki is a random set of certificates: the leaf's chain with cross-signed and renewed
// authorities, some of them missing, and certificates that have nothing to do with it.
type pki struct {
	leaf   *entity
	stored []*entity // contains the leaf
}

func randomPKI(random *rand.Rand) pki {
	ids := random.IntN(2) == 0
	chance := func(n int) bool { return random.IntN(n) == 0 }
	edit := func(c *x509.Certificate) {
		c.NotBefore = time.Unix(int64(random.IntN(1000)), 0)
		if !ids { // the library adds them to the authorities that it knows of
			c.IsCA, c.BasicConstraintsValid = false, false
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: seq([]byte{asn1.TagBoolean, 1, 0xff})}}
		}
	}
	keys := []crypto.Signer{newKey(elliptic.P256())}
	key := func() crypto.Signer {
		if !chance(6) { // otherwise one key is used on several levels
			keys = append(keys, newKey(elliptic.P256()))
		}
		return keys[random.IntN(len(keys))]
	}
	var authorities []*entity
	levels := 1 + random.IntN(4)
	for level := range levels {
		name := fmt.Sprint("CA ", level)
		var issuer *entity
		if level > 0 {
			issuer = authorities[random.IntN(len(authorities))]
		}
		first := issue(name, issuer, key(), edit)
		authorities = append(authorities, first)
		for chance(2) { // renewed, cross-signed, with another key
			other, otherKey := authorities[random.IntN(len(authorities))], first.key
			if chance(4) {
				otherKey = key()
			}
			if chance(4) {
				other = nil
			}
			authorities = append(authorities, issue(name, other, otherKey, edit))
		}
	}
	top := authorities[len(authorities)-1]
	noCA := func(c *x509.Certificate) {
		edit(c)
		c.IsCA, c.ExtraExtensions = false, nil
	}
	leaf := issue("www", top, key(), noCA)
	stored := []*entity{leaf}
	for _, ca := range authorities {
		if !chance(6) {
			stored = append(stored, ca)
		}
	}
	if chance(3) {
		stored = append(stored, issue("www", top, leaf.key, noCA))
	}
	if chance(3) {
		stored = append(stored, issue("www", top, nil, noCA))
	}
	for chance(2) {
		stored = append(stored, issue(fmt.Sprint("foreign ", random.IntN(3)), nil, nil, edit))
	}
	if chance(4) {
		stored = append(stored, stored[random.IntN(len(stored))])
	}
	random.Shuffle(len(stored), func(i, j int) { stored[i], stored[j] = stored[j], stored[i] })
	return pki{leaf, stored}
}

func same(a, b crypto.PublicKey) bool { return a.(interface{ Equal(crypto.PublicKey) bool }).Equal(b) }

// issued reports whether the parent issued the child, and is not the child.
func issued(parent, child *x509.Certificate) bool {
	return !parent.Equal(child) && bytes.Equal(parent.RawSubject, child.RawIssuer) &&
		parent.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature) == nil
}

// chainOf returns how many certificates of a file are a chain.
func chainOf(file []*x509.Certificate) int {
	n := 1
	for n < len(file) && issued(file[n], file[n-1]) && !selfSigned(file[n-1]) && !slices.ContainsFunc(file[:n], file[n].Equal) {
		n++
	}
	return n
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// naive is the length of the chain when the first certificate in stored order that fits is
// the next one.
func naive(leaf *x509.Certificate, stored []*x509.Certificate) int {
	path := []*x509.Certificate{leaf}
next:
	for at := leaf; !selfSigned(at); {
		for _, c := range stored {
			if issued(c, at) && !slices.ContainsFunc(path, c.Equal) {
				path, at = append(path, c), c
				continue next
			}
		}
		break
	}
	return len(path)
}

// The file of every PKI starts with a certificate of the private key. Each next one issued the
// one before it, as far as there is one, and nothing is lost or added.
func TestRandomPKI(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	count := 150
	if testing.Short() {
		count = 30
	}
	for n := range count {
		p := randomPKI(random)
		text := rendered(t, secretPFX(pfxFile(append(certBags(p.stored...), keyBag(p.leaf.key))...)), render.Options{})
		if problem := p.check(t, []byte(text)); problem != "" {
			t.Fatalf("seed %d, set %d: %s", seed, n, problem)
		}
	}
}

func (p pki) check(t *testing.T, text []byte) string {
	var file []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			file = append(file, must(x509.ParseCertificate(block.Bytes)))
		}
	}
	sorted := func(list []*x509.Certificate) []*x509.Certificate {
		return slices.SortedFunc(slices.Values(list), func(a, b *x509.Certificate) int { return bytes.Compare(a.Raw, b.Raw) })
	}
	stored := certs(p.stored...)
	if !slices.EqualFunc(sorted(file), sorted(stored), (*x509.Certificate).Equal) {
		return fmt.Sprintf("%d certificates of %d, or others", len(file), len(stored))
	}
	if !same(p.leaf.key.Public(), file[0].PublicKey) {
		return "the first certificate is not that of the private key: " + file[0].Subject.String()
	}
	if file[0].Subject.CommonName != "www" {
		return "the first certificate is that of an authority: " + file[0].Subject.String()
	}
	joined := chainOf(file)
	last := file[joined-1]
	if !selfSigned(last) && slices.ContainsFunc(file[joined:], func(c *x509.Certificate) bool {
		return issued(c, last) && !slices.ContainsFunc(file[:joined], c.Equal)
	}) {
		return fmt.Sprintf("the chain of %d ends although its next issuer is there", joined)
	}
	for _, leaf := range stored {
		if same(leaf.PublicKey, p.leaf.key.Public()) && leaf.Subject.CommonName == "www" && joined < naive(leaf, stored) {
			return fmt.Sprintf("a chain of %d, where %d are possible", joined, naive(leaf, stored))
		}
	}
	rest := slices.Clone(stored)
	for _, c := range file[:joined] {
		at := slices.IndexFunc(rest, c.Equal)
		rest = slices.Delete(rest, at, at+1)
	}
	if !slices.EqualFunc(file[joined:], rest, (*x509.Certificate).Equal) {
		return "what follows the chain is not in stored order"
	}
	return ""
}

// OpenSSL builds the same chain of the certificates, if it is installed.
func TestOpenSSLAgrees(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Log("openssl is not installed")
		return
	}
	random := rand.New(rand.NewPCG(rand.Uint64(), 0))
	dir := t.TempDir()
	write := func(name string, list []*x509.Certificate) string {
		var text []byte
		for _, c := range list {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	compared := 0
	for range 40 {
		p := randomPKI(random)
		text := rendered(t, secretPFX(pfxFile(append(certBags(p.stored...), keyBag(p.leaf.key))...)), render.Options{})
		var file []*x509.Certificate
		for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "CERTIFICATE" {
				file = append(file, must(x509.ParseCertificate(block.Bytes)))
			}
		}
		chain := file[:chainOf(file)]
		// A certificate that an authority has issued to itself for another key is self-signed to
		// OpenSSL, which does not verify the signature.
		if len(chain) < 2 || slices.ContainsFunc(chain[:len(chain)-1], func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }) {
			continue
		}
		compared++
		out, err := exec.Command(openssl, "verify", "-partial_chain", "-no_check_time", "-trusted", write("root", chain[len(chain)-1:]),
			"-untrusted", write("chain", chain[:len(chain)-1]), write("leaf", chain[:1])).CombinedOutput()
		if err != nil {
			t.Errorf("a chain of %d: %s", len(chain), out)
		}
	}
	if compared < 10 {
		t.Errorf("only %d chains were compared", compared)
	}
}
