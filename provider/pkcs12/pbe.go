package pkcs12

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/rc4"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"hash"
)

// macData is the MacData of RFC 7292 section 4.
type macData struct {
	Mac struct { // DigestInfo
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	Salt       []byte
	Iterations int `asn1:"optional,default:1"`
}

const (
	oidPBES2    = "1.2.840.113549.1.5.13"
	oidPBMAC1   = "1.2.840.113549.1.5.14"
	oidSHA1     = "1.3.14.3.2.26"
	oidHMACSHA1 = "1.2.840.113549.2.7"
)

// macHashes are the hashes of a MAC (RFC 7292 appendix A, RFC 9879, and SHA-3, which OpenSSL
// can use as well).
var macHashes = map[string]func() hash.Hash{
	oidSHA1:                   sha1.New,
	"2.16.840.1.101.3.4.2.4":  sha256.New224,
	"2.16.840.1.101.3.4.2.1":  sha256.New,
	"2.16.840.1.101.3.4.2.2":  sha512.New384,
	"2.16.840.1.101.3.4.2.3":  sha512.New,
	"2.16.840.1.101.3.4.2.7":  func() hash.Hash { return sha3.New224() },
	"2.16.840.1.101.3.4.2.8":  func() hash.Hash { return sha3.New256() },
	"2.16.840.1.101.3.4.2.9":  func() hash.Hash { return sha3.New384() },
	"2.16.840.1.101.3.4.2.10": func() hash.Hash { return sha3.New512() },
}

// findHash returns a hash of a table. In FIPS 140-only mode the standard library panics on
// SHA-1, so it is never called there.
func findHash(hashes map[string]func() hash.Hash, id asn1.ObjectIdentifier) (func() hash.Hash, error) {
	newHash, ok := hashes[id.String()]
	switch {
	case !ok:
		return nil, ErrAlgorithm
	case fips140.Enforced() && (id.String() == oidSHA1 || id.String() == oidHMACSHA1):
		return nil, ErrFIPS
	}
	return newHash, nil
}

// encryption is a block cipher in CBC mode or, without one, RC4.
type encryption struct {
	keySize  int
	newBlock func(key []byte) (cipher.Block, error)
}

// pbeCiphers are the ciphers of RFC 7292 appendix C.
var pbeCiphers = map[string]encryption{
	"1.2.840.113549.1.12.1.1": {16, nil},
	"1.2.840.113549.1.12.1.2": {5, nil},
	"1.2.840.113549.1.12.1.3": {24, des.NewTripleDESCipher},
	"1.2.840.113549.1.12.1.4": {16, newTwoKeyTripleDES},
	"1.2.840.113549.1.12.1.5": {16, newRC2},
	"1.2.840.113549.1.12.1.6": {5, newRC2},
}

// pbes2Ciphers are the ciphers of RFC 8018 appendix B.2.
var pbes2Ciphers = map[string]encryption{
	"2.16.840.1.101.3.4.1.2":  {16, aes.NewCipher},
	"2.16.840.1.101.3.4.1.22": {24, aes.NewCipher},
	"2.16.840.1.101.3.4.1.42": {32, aes.NewCipher},
	"1.2.840.113549.3.7":      {24, des.NewTripleDESCipher},
}

// newTwoKeyTripleDES makes a triple DES whose third key is the first one.
func newTwoKeyTripleDES(key []byte) (cipher.Block, error) {
	return des.NewTripleDESCipher(append(bytes.Clone(key), key[:des.BlockSize]...))
}

// decrypter checks and decrypts the parts of one file under the empty password.
type decrypter struct {
	budget budget
	// passwords are the possible encodings of the password. The first one that works
	// becomes the only one.
	passwords [][]byte
}

// newDecrypter uses both encodings of the empty password for RFC 7292 appendix B: the two
// zero bytes that end every password, as in the RFC and OpenSSL, and no bytes at all,
// which Windows may use.
func newDecrypter() decrypter {
	return decrypter{budget: MaxRounds, passwords: [][]byte{{0, 0}, nil}}
}

// verify checks the MAC of a message. It also selects the encoding of the password, unless
// the MAC is a PBMAC1, which has only one.
func (d *decrypter) verify(mac macData, message []byte) error {
	algorithm := mac.Mac.Algorithm
	if algorithm.Algorithm.String() == oidPBMAC1 {
		return d.verifyPBMAC1(mac, message)
	}
	newHash, err := findHash(macHashes, algorithm.Algorithm)
	if err != nil {
		return err
	}
	for _, password := range d.passwords {
		key, err := d.budget.derivePKCS12(newHash, idMAC, password, mac.Salt, mac.Iterations, newHash().Size())
		if err != nil {
			return err
		}
		if validMAC(newHash, key, mac, message) {
			d.passwords = [][]byte{password}
			return nil
		}
	}
	return ErrPassword
}

func validMAC(newHash func() hash.Hash, key []byte, mac macData, message []byte) bool {
	h := hmac.New(newHash, key)
	h.Write(message)
	return hmac.Equal(h.Sum(nil), mac.Mac.Digest)
}

// verifyPBMAC1 checks a MAC of RFC 9579, whose salt, iterations and key length are in the
// parameters of its algorithm.
func (d *decrypter) verifyPBMAC1(mac macData, message []byte) error {
	var params struct{ KeyDerivationFunc, MessageAuthScheme pkix.AlgorithmIdentifier }
	if !unmarshal(mac.Mac.Algorithm.Parameters.FullBytes, &params) {
		return ErrMalformed
	}
	newHash, err := findHash(prfs, params.MessageAuthScheme.Algorithm)
	if err != nil {
		return err
	}
	kdf, prf, err := parsePBKDF2(params.KeyDerivationFunc)
	if err != nil {
		return err
	}
	// The RFC demands that keys below 20 bytes are rejected. No key needs more bytes than
	// the longest hash.
	if kdf.KeyLength < sha1.Size || kdf.KeyLength > sha512.Size {
		return ErrAlgorithm
	}
	key, err := d.budget.derivePBKDF2(prf, kdf, kdf.KeyLength)
	if err != nil {
		return err
	}
	if !validMAC(newHash, key, mac, message) {
		return ErrPassword
	}
	return nil
}

// decrypt decrypts data that contains one SEQUENCE: safe bags or a private key. Where
// there is no MAC, this shows whether the password is right.
func (d *decrypter) decrypt(algorithm pkix.AlgorithmIdentifier, data []byte) ([]byte, error) {
	if algorithm.Algorithm.String() == oidPBES2 {
		return d.decryptPBES2(algorithm, data)
	}
	scheme, ok := pbeCiphers[algorithm.Algorithm.String()]
	switch {
	case !ok:
		return nil, ErrAlgorithm
	case fips140.Enforced(): // all of them derive their keys with SHA-1
		return nil, ErrFIPS
	}
	var params struct { // pkcs-12PbeParams
		Salt       []byte
		Iterations int
	}
	if !unmarshal(algorithm.Parameters.FullBytes, &params) {
		return nil, ErrMalformed
	}
	for _, password := range d.passwords {
		key, err := d.budget.derivePKCS12(sha1.New, idKey, password, params.Salt, params.Iterations, scheme.keySize)
		if err != nil {
			return nil, err
		}
		var iv []byte
		if scheme.newBlock != nil {
			if iv, err = d.budget.derivePKCS12(sha1.New, idIV, password, params.Salt, params.Iterations, des.BlockSize); err != nil {
				return nil, err
			}
		}
		plain, err := scheme.decrypt(key, iv, data)
		if err == nil {
			d.passwords = [][]byte{password}
		}
		if !errors.Is(err, ErrPassword) {
			return plain, err
		}
	}
	return nil, ErrPassword
}

// decryptPBES2 decrypts by RFC 8018 section 6.2.2.
func (d *decrypter) decryptPBES2(algorithm pkix.AlgorithmIdentifier, data []byte) ([]byte, error) {
	var params struct{ KeyDerivationFunc, EncryptionScheme pkix.AlgorithmIdentifier }
	if !unmarshal(algorithm.Parameters.FullBytes, &params) {
		return nil, ErrMalformed
	}
	scheme, ok := pbes2Ciphers[params.EncryptionScheme.Algorithm.String()]
	if !ok {
		return nil, ErrAlgorithm
	}
	kdf, prf, err := parsePBKDF2(params.KeyDerivationFunc)
	if err != nil {
		return nil, err
	}
	var iv []byte
	if !unmarshal(params.EncryptionScheme.Parameters.FullBytes, &iv) || kdf.KeyLength != 0 && kdf.KeyLength != scheme.keySize {
		return nil, ErrMalformed
	}
	key, err := d.budget.derivePBKDF2(prf, kdf, scheme.keySize)
	if err != nil {
		return nil, err
	}
	return scheme.decrypt(key, iv, data)
}

// decrypt decrypts and, in CBC mode, removes the padding of RFC 8018 section 6.1.1. It returns
// ErrPassword if the padding or the data, which is no SEQUENCE, shows that the key is wrong.
func (e encryption) decrypt(key, iv, data []byte) ([]byte, error) {
	out := make([]byte, len(data))
	if e.newBlock == nil {
		stream, err := rc4.NewCipher(key)
		if err != nil {
			return nil, ErrFIPS
		}
		stream.XORKeyStream(out, data)
	} else {
		block, err := e.newBlock(key)
		if err != nil { // 3DES in FIPS 140-only mode: no key has a wrong length
			return nil, ErrFIPS
		}
		size := block.BlockSize()
		if len(iv) != size || len(data) == 0 || len(data)%size != 0 {
			return nil, ErrMalformed
		}
		cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, data)
		n := int(out[len(out)-1])
		if n < 1 || n > size || !bytes.Equal(out[len(out)-n:], bytes.Repeat([]byte{byte(n)}, n)) {
			return nil, ErrPassword
		}
		out = out[:len(out)-n]
	}
	if !IsSequence(out) {
		return nil, ErrPassword
	}
	return out, nil
}
