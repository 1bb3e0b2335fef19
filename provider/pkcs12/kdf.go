package pkcs12

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"hash"
)

// budget is the number of hash rounds that a file may still cost.
type budget int

// charge pays for a derivation before it runs: so many iterations for each block of the
// key, each with a number of hashes. RFC 8018 lets iteration counts begin at one.
func (b *budget) charge(iterations, blocks, hashes int, h hash.Hash) error {
	if iterations < 1 || blocks < 1 {
		return ErrMalformed
	}
	const smallBlock = 64 // of SHA-1 and SHA-256; SHA-512 takes twice the bytes and time
	each := hashes * ((h.BlockSize() + smallBlock - 1) / smallBlock)
	if blocks > MaxRounds || iterations > int(*b)/(blocks*each) {
		return ErrRounds
	}
	*b -= budget(iterations * blocks * each)
	return nil
}

// The ID bytes of RFC 7292 appendix B.3: the purpose of the derived bytes.
const (
	idKey byte = 1
	idIV  byte = 2
	idMAC byte = 3
)

// derivePKCS12 derives bytes by RFC 7292 appendix B.2, with the variable names used there.
func (b *budget) derivePKCS12(newHash func() hash.Hash, id byte, password, salt []byte, iterations, size int) ([]byte, error) {
	h := newHash()
	u, v := h.Size(), h.BlockSize()
	if err := b.charge(iterations, (size+u-1)/u, 1, h); err != nil {
		return nil, err
	}
	D := bytes.Repeat([]byte{id}, v)
	I := append(fill(salt, v), fill(password, v)...)
	var out []byte
	for {
		h.Reset()
		h.Write(D)
		h.Write(I)
		A := h.Sum(nil)
		for range iterations - 1 {
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

// fill repeats a pattern until it fills whole blocks. An empty pattern fills no block.
func fill(pattern []byte, blockSize int) []byte {
	out := make([]byte, (len(pattern)+blockSize-1)/blockSize*blockSize)
	for n := 0; n < len(out); {
		n += copy(out[n:], pattern)
	}
	return out
}

// addOne sets x to x + y + 1, as big-endian numbers of one length that wrap around.
func addOne(x, y []byte) {
	carry := 1
	for i := len(x) - 1; i >= 0; i-- {
		carry += int(x[i]) + int(y[i])
		x[i] = byte(carry)
		carry >>= 8
	}
}

const oidPBKDF2 = "1.2.840.113549.1.5.12"

// prfs are the hashes of the HMACs that PBKDF2 and PBMAC1 may use (RFC 8018 appendix B).
var prfs = map[string]func() hash.Hash{
	oidHMACSHA1:               sha1.New,
	"1.2.840.113549.2.8":      sha256.New224,
	"1.2.840.113549.2.9":      sha256.New,
	"1.2.840.113549.2.10":     sha512.New384,
	"1.2.840.113549.2.11":     sha512.New,
	"2.16.840.1.101.3.4.2.13": func() hash.Hash { return sha3.New224() },
	"2.16.840.1.101.3.4.2.14": func() hash.Hash { return sha3.New256() },
	"2.16.840.1.101.3.4.2.15": func() hash.Hash { return sha3.New384() },
	"2.16.840.1.101.3.4.2.16": func() hash.Hash { return sha3.New512() },
}

// pbkdf2Params are the PBKDF2-params of RFC 8018 appendix A.2.
type pbkdf2Params struct {
	Salt       []byte // the RFC allows an algorithm instead, but none has been defined
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

// parsePBKDF2 returns the parameters of PBKDF2 and the hash of its PRF.
func parsePBKDF2(algorithm pkix.AlgorithmIdentifier) (pbkdf2Params, func() hash.Hash, error) {
	var params pbkdf2Params
	if algorithm.Algorithm.String() != oidPBKDF2 {
		return params, nil, ErrAlgorithm
	}
	if !unmarshal(algorithm.Parameters.FullBytes, &params) {
		return params, nil, ErrMalformed
	}
	if len(params.PRF.Algorithm) == 0 {
		params.PRF.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7} // the default
	}
	prf, err := findHash(prfs, params.PRF.Algorithm)
	return params, prf, err
}

// derivePBKDF2 derives a key from the empty password, which is no bytes in UTF-8.
func (b *budget) derivePBKDF2(prf func() hash.Hash, params pbkdf2Params, size int) ([]byte, error) {
	h := prf()
	const hashes = 2 // the inner and the outer hash of an HMAC
	if err := b.charge(params.Iterations, (size+h.Size()-1)/h.Size(), hashes, h); err != nil {
		return nil, err
	}
	key, err := pbkdf2.Key(prf, "", params.Salt, params.Iterations, size)
	if err != nil { // FIPS 140-only mode rejects a salt of less than 16 bytes
		return nil, ErrFIPS
	}
	return key, nil
}
