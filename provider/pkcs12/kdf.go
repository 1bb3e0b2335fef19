package pkcs12

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"hash"
)

// budget are the hash rounds that are left.
type budget int

// charge takes the price of a derivation before it runs: rounds of hashes of so many
// bytes in a block, for each block of the key. RFC 8018 lets counts begin at one.
func (b *budget) charge(rounds, blocks, hashes int, h hash.Hash) error {
	if rounds < 1 || blocks < 1 {
		return ErrMalformed
	}
	const smallBlock = 64 // of SHA-1 and SHA-256; SHA-512 takes twice the bytes and time
	each := hashes * h.BlockSize() / smallBlock
	if blocks > MaxRounds || rounds > int(*b)/(blocks*each) {
		return ErrRounds
	}
	*b -= budget(rounds * blocks * each)
	return nil
}

// Uses of what is derived (RFC 7292 appendix B.3).
const (
	forKey byte = 1
	forIV  byte = 2
	forMAC byte = 3
)

// derivePKCS12 derives bytes by RFC 7292 appendix B.2, whose letters it takes.
func (b *budget) derivePKCS12(newHash func() hash.Hash, use byte, password, salt []byte, rounds, size int) ([]byte, error) {
	h := newHash()
	u, v := h.Size(), h.BlockSize()
	if err := b.charge(rounds, (size+u-1)/u, 1, h); err != nil {
		return nil, err
	}
	D := bytes.Repeat([]byte{use}, v)
	I := append(fill(salt, v), fill(password, v)...)
	var out []byte
	for {
		h.Reset()
		h.Write(D)
		h.Write(I)
		A := h.Sum(nil)
		for range rounds - 1 {
			h.Reset()
			h.Write(A)
			A = h.Sum(A[:0])
		}
		out = append(out, A...)
		if len(out) >= size {
			return out[:size], nil
		}
		B := fill(A, v)
		for i := 0; i < len(I); i += v {
			addOne(I[i:i+v], B)
		}
	}
}

// fill repeats the bytes until they fill blocks of a size; none fill none.
func fill(pattern []byte, size int) []byte {
	out := make([]byte, (len(pattern)+size-1)/size*size)
	for n := 0; n < len(out); {
		n += copy(out[n:], pattern)
	}
	return out
}

// addOne sets x to x + y + 1, as numbers of one length that wrap.
func addOne(x, y []byte) {
	carry := 1
	for i := len(x) - 1; i >= 0; i-- {
		carry += int(x[i]) + int(y[i])
		x[i] = byte(carry)
		carry >>= 8
	}
}

const oidPBKDF2 = "1.2.840.113549.1.5.12"

// hmacs are those that PBKDF2 and PBMAC1 may use (RFC 8018 appendix B).
var hmacs = map[string]func() hash.Hash{
	"1.2.840.113549.2.7":  sha1.New,
	"1.2.840.113549.2.8":  sha256.New224,
	"1.2.840.113549.2.9":  sha256.New,
	"1.2.840.113549.2.10": sha512.New384,
	"1.2.840.113549.2.11": sha512.New,
}

// kdfParameters are the PBKDF2-params of RFC 8018 appendix A.2.
type kdfParameters struct {
	Salt      []byte // no algorithm to make it instead has been defined
	Rounds    int
	KeyLength int                      `asn1:"optional"`
	PRF       pkix.AlgorithmIdentifier `asn1:"optional"`
}

// readPBKDF2 returns the parameters and the hash of a PBKDF2.
func readPBKDF2(a pkix.AlgorithmIdentifier) (kdfParameters, func() hash.Hash, error) {
	var p kdfParameters
	if a.Algorithm.String() != oidPBKDF2 {
		return p, nil, ErrAlgorithm
	}
	if !unmarshal(a.Parameters.FullBytes, &p) {
		return p, nil, ErrMalformed
	}
	newHash := sha1.New // by default
	if len(p.PRF.Algorithm) > 0 {
		newHash = hmacs[p.PRF.Algorithm.String()]
	}
	if newHash == nil {
		return p, nil, ErrAlgorithm
	}
	return p, newHash, nil
}

// derivePBKDF2 derives a key from the empty password, which is no bytes in UTF-8.
func (b *budget) derivePBKDF2(newHash func() hash.Hash, p kdfParameters, size int) ([]byte, error) {
	h := newHash()
	const hashes = 2 // an HMAC hashes within and without
	if err := b.charge(p.Rounds, (size+h.Size()-1)/h.Size(), hashes, h); err != nil {
		return nil, err
	}
	key, err := pbkdf2.Key(newHash, "", p.Salt, p.Rounds, size)
	if err != nil { // only a build for FIPS 140 refuses any
		return nil, ErrAlgorithm
	}
	return key, nil
}
