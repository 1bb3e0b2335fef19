package render

import (
	"bytes"
	"cmp"
	"crypto/fips140"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"slices"
	"strings"

	"akv-csi-provider/provider/pkcs12"
)

// Bounds of the work for one PFX, which can contain hundreds of certificates of one name. What
// is beyond them costs quality, not correctness: without a signature check, names and key
// identifiers decide, and of very many ways up to a root, one that was found is taken.
const (
	maxSignatureChecks = 256
	maxSteps           = 1_000_000

	// RSA keys that crypto/x509 does not check signatures with, or that take too long; the
	// upper bound is that of crypto/tls.
	minRSABits = 1024
	maxRSABits = 8192
)

// graph is the certificates of a PFX, each of them once, with their possible issuers.
type graph struct {
	nodes     []*node
	bySubject map[string][]int
	checks    int // signature checks that are left
	steps     int // steps of walk that are left
}

// order returns the certificates as a chain: the one of a private key, then each issuer as far
// as the certificates go. All others follow in stored order. It also returns the length of the
// chain.
//
// It only finds the order: the chain may be expired or not trusted.
func order(stored [][]byte, keys []pkcs12.PrivateKey) (all [][]byte, joined int) {
	g := newGraph(stored)
	var (
		chain []int
		rank  int
	)
	for _, s := range g.starts(keys) {
		// The file starts with the first key: so does the chain.
		if len(chain) > 0 && (s.rank > rank || g.steps < 0) {
			break
		}
		if path := g.climb(s.at); len(chain) == 0 || g.better(path, chain) {
			chain, rank = path, s.rank
		}
	}
	used := make(map[int]bool, len(chain))
	for _, at := range chain {
		all = append(all, g.nodes[at].der)
		used[g.nodes[at].index] = true
	}
	for i, der := range stored {
		if !used[i] {
			all = append(all, der)
		}
	}
	return all, len(chain)
}

// better compares the chains of certificates that have one key. The key is that of a server, not
// of an authority that uses it as well. Of two equally long chains, one does not start with a
// root; the newer one is valid for longer: the other one is from before a renewal.
func (g *graph) better(a, b []int) bool {
	first, other := g.nodes[a[0]], g.nodes[b[0]]
	return cmp.Or(
		-cmp.Compare(first.authority, other.authority),
		cmp.Compare(len(a), len(b)),
		-cmp.Compare(first.selfIssued(), other.selfIssued()),
		first.notBefore.Compare(other.notBefore)) > 0
}

func newGraph(stored [][]byte) *graph {
	g := &graph{bySubject: make(map[string][]int), checks: maxSignatureChecks, steps: maxSteps}
	seen := make(map[string]bool, len(stored))
	for i, der := range stored {
		if seen[string(der)] {
			continue
		}
		seen[string(der)] = true
		c := newNode(der)
		c.index = i
		at := len(g.nodes)
		g.nodes = append(g.nodes, c)
		if c.subject != "" {
			g.bySubject[c.subject] = append(g.bySubject[c.subject], at)
		}
	}
	return g
}

// start is a certificate that the chain may start with, and the index of its private key.
type start struct{ at, rank int }

// starts returns the certificates of the private keys, without those that issued another one of
// them: an authority may use one key on several levels. Where the keys do not contain their
// public key, it returns those that may be theirs, and if there are none, it chooses from all.
func (g *graph) starts(keys []pkcs12.PrivateKey) []start {
	var certain, possible, all []start
	for rank, key := range keys {
		for at, c := range g.nodes {
			switch match, isCertain := key.Matches(c.spki); {
			case match && isCertain:
				certain = append(certain, start{at, rank})
			case match:
				possible = append(possible, start{at, rank})
			}
		}
	}
	for at := range g.nodes {
		all = append(all, start{at: at})
	}
	for _, starts := range [][]start{certain, possible} {
		if len(starts) > 0 {
			return g.lowest(starts)
		}
	}
	return g.lowest(all)
}

// lowest returns the starts that are not above another one. If they all are, because
// authorities have signed each other, it returns all.
func (g *graph) lowest(starts []start) []start {
	above := make([]bool, len(g.nodes))
	for _, s := range starts {
		if above[s.at] { // so is all above it
			continue
		}
		for queue := []int{s.at}; len(queue) > 0; queue = queue[1:] {
			for _, issuer := range g.issuers(queue[0]) {
				if !above[issuer] {
					above[issuer] = true
					queue = append(queue, issuer)
				}
			}
		}
	}
	if low := slices.DeleteFunc(slices.Clone(starts), func(s start) bool { return above[s.at] }); len(low) > 0 {
		return low
	}
	return starts
}

// climb returns the longest way up from a certificate: if an authority has several certificates,
// as after cross-signing, the one whose issuer is there as well.
func (g *graph) climb(at int) (longest []int) {
	var (
		path []int
		walk func(at int)
	)
	used := make([]bool, len(g.nodes))
	walk = func(at int) {
		path, used[at] = append(path, at), true
		defer func() { path, used[at] = path[:len(path)-1], false }()
		if len(path) > len(longest) {
			longest = slices.Clone(path)
		}
		var seen [][]int // a renewed certificate leads where the old one does
		for _, issuer := range g.issuers(at) {
			next := g.issuers(issuer)
			if g.steps -= 1 + len(next); g.steps < 0 {
				return
			}
			if !used[issuer] && !slices.ContainsFunc(seen, func(t []int) bool { return slices.Equal(t, next) }) {
				walk(issuer)
				seen = append(seen, next)
			}
		}
	}
	walk(at)
	return longest
}

// issuers returns the certificates that issued the certificate, the best one first; none for a
// self-signed one, and where the issuer is missing. Of those with the name of the issuer (RFC
// 5280 section 6.1.3), only one key has signed the certificate, and all certificates of this
// key are its issuers. If no signature can be checked, key identifiers decide.
func (g *graph) issuers(at int) []int {
	child := g.nodes[at]
	if !child.hasIssuers {
		child.hasIssuers = true
		if child.issuers = g.findIssuers(child); slices.Contains(child.issuers, at) {
			child.issuers = nil
		}
	}
	return child.issuers
}

func (g *graph) findIssuers(child *node) []int {
	candidates := slices.Clone(g.bySubject[child.issuer])
	slices.SortStableFunc(candidates, func(a, b int) int { return compareIssuers(child, g.nodes[a], g.nodes[b]) })
	verdicts := make(map[string]verdict)
	var all []int
	worst := 1 // of what child.identifies may return
	for _, c := range candidates {
		spki := g.nodes[c].spki
		v, ok := verdicts[string(spki)]
		if !ok {
			v = g.check(child, spki)
			verdicts[string(spki)] = v
		}
		if v == signed {
			all = slices.DeleteFunc(candidates, func(c int) bool { return !bytes.Equal(g.nodes[c].spki, spki) })
			worst = min(child.identifies(g.nodes[all[0]]), 0)
			break
		}
		// An authority with another key identifier is another one.
		if id := child.identifies(g.nodes[c]); v == unknown && id >= 0 {
			all = append(all, c)
			worst = child.identifies(g.nodes[all[0]])
		}
	}
	return slices.DeleteFunc(all, func(c int) bool { return child.identifies(g.nodes[c]) < worst })
}

// compareIssuers compares by key identifiers. Of certificates with the same ones, those that
// are not self-signed lead on, to another root that clients may trust; and newer ones are valid
// for longer.
func compareIssuers(child, a, b *node) int {
	return cmp.Or(
		-cmp.Compare(child.identifies(a), child.identifies(b)),
		cmp.Compare(a.selfIssued(), b.selfIssued()),
		-a.notBefore.Compare(b.notBefore))
}

// verdict is the outcome of a signature check.
type verdict int

const (
	unknown verdict = iota // the standard library does not support the algorithm or the key
	signed
	notSigned
)

// check reports whether a key signed the child. It does not check whether the key is that of an
// authority, because old certificates do not state it.
func (g *graph) check(child *node, spki []byte) verdict {
	if g.checks--; g.checks < 0 {
		return unknown
	}
	cert, err := x509.ParseCertificate(child.der)
	if err != nil {
		return unknown
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return unknown
	}
	algorithm := cert.SignatureAlgorithm
	if fips140.Enforced() && strings.Contains(algorithm.String(), "SHA1") { // it would panic
		return unknown
	}
	key, isRSA := public.(*rsa.PublicKey)
	if isRSA != strings.Contains(algorithm.String(), "RSA") && algorithm != x509.UnknownSignatureAlgorithm {
		return notSigned
	}
	if isRSA && (key.N.BitLen() < minRSABits || key.N.BitLen() > maxRSABits) {
		return unknown
	}
	err = (&x509.Certificate{PublicKey: public}).CheckSignature(algorithm, cert.RawTBSCertificate, cert.Signature)
	_, insecure := errors.AsType[x509.InsecureAlgorithmError](err)
	switch {
	case err == nil:
		return signed
	case insecure, errors.Is(err, x509.ErrUnsupportedAlgorithm), isRSA && !errors.Is(err, rsa.ErrVerification):
		return unknown
	}
	return notSigned
}
