package pkcs12

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"hash"
)

// macData is the MacData of RFC 7292 section 4.
type macData struct {
	Digest struct {
		Algorithm pkix.AlgorithmIdentifier
		Value     []byte
	}
	Salt   []byte
	Rounds int `asn1:"optional,default:1"`
}

const (
	oidPBES2  = "1.2.840.113549.1.5.13"
	oidPBMAC1 = "1.2.840.113549.1.5.14"
)

// digests are those of a MAC (RFC 7292 appendix A, RFC 9879).
var digests = map[string]func() hash.Hash{
	"1.3.14.3.2.26":          sha1.New,
	"2.16.840.1.101.3.4.2.4": sha256.New224,
	"2.16.840.1.101.3.4.2.1": sha256.New,
	"2.16.840.1.101.3.4.2.2": sha512.New384,
	"2.16.840.1.101.3.4.2.3": sha512.New,
}

// blockCipher is one to use in CBC mode.
type blockCipher struct {
	keySize int
	make    func(key []byte) (cipher.Block, error)
}

// pbe1 are the ciphers of RFC 7292 appendix C. The two with RC4 are not: a stream
// cipher shows no wrong password, and no writer of PFX is known that takes them.
var pbe1 = map[string]blockCipher{
	"1.2.840.113549.1.12.1.3": {24, des.NewTripleDESCipher},
	"1.2.840.113549.1.12.1.4": {16, newTwoKeyDES},
	"1.2.840.113549.1.12.1.5": {16, newRC2},
	"1.2.840.113549.1.12.1.6": {5, newRC2},
}

// pbes2 are ciphers of RFC 8018 appendix B.2.
var pbes2 = map[string]blockCipher{
	"2.16.840.1.101.3.4.1.2":  {16, aes.NewCipher},
	"2.16.840.1.101.3.4.1.22": {24, aes.NewCipher},
	"2.16.840.1.101.3.4.1.42": {32, aes.NewCipher},
	"1.2.840.113549.3.7":      {24, des.NewTripleDESCipher},
}

// newTwoKeyDES makes a triple DES whose third key is the first again.
func newTwoKeyDES(key []byte) (cipher.Block, error) {
	return des.NewTripleDESCipher(append(bytes.Clone(key), key[:des.BlockSize]...))
}

// lock opens what a file keeps under an empty password. Its errors are the causes that
// pkcs12.go lists.
type lock struct {
	left      budget
	passwords [][]byte // that may be the file's; as soon as one has fitted, the only one
}

// newLock knows both ways to write an empty password for RFC 7292 appendix B: with the
// two zero bytes that end every other one, as the RFC has it and OpenSSL does, and as
// no bytes at all, as Windows may.
func newLock() lock { return lock{left: MaxRounds, passwords: [][]byte{{0, 0}, nil}} }

// verify checks the MAC over the message. It has the password fitted, if its kind tells
// the ways to write it apart.
func (l *lock) verify(mac macData, message []byte) error {
	algorithm := mac.Digest.Algorithm
	if algorithm.Algorithm.String() == oidPBMAC1 {
		return l.verifyPBMAC1(mac, message)
	}
	newHash := digests[algorithm.Algorithm.String()]
	if newHash == nil {
		return ErrAlgorithm
	}
	for _, password := range l.passwords {
		key, err := l.left.derivePKCS12(newHash, forMAC, password, mac.Salt, mac.Rounds, newHash().Size())
		if err != nil {
			return err
		}
		if fits(newHash, key, mac, message) {
			l.passwords = [][]byte{password}
			return nil
		}
	}
	return ErrPassword
}

func fits(newHash func() hash.Hash, key []byte, mac macData, message []byte) bool {
	h := hmac.New(newHash, key)
	h.Write(message)
	return hmac.Equal(h.Sum(nil), mac.Digest.Value)
}

// verifyPBMAC1 checks a MAC by RFC 9579, which has its salt and rounds in its
// parameters and must say how long its key is.
func (l *lock) verifyPBMAC1(mac macData, message []byte) error {
	var p struct{ KDF, MAC pkix.AlgorithmIdentifier }
	if !unmarshal(mac.Digest.Algorithm.Parameters.FullBytes, &p) {
		return ErrMalformed
	}
	newHash := hmacs[p.MAC.Algorithm.String()]
	if newHash == nil {
		return ErrAlgorithm
	}
	kdf, kdfHash, err := readPBKDF2(p.KDF)
	if err != nil {
		return err
	}
	// The RFC wants keys below 20 bytes refused; none need be longer than a hash.
	if kdf.KeyLength < sha1.Size || kdf.KeyLength > sha512.Size {
		return ErrAlgorithm
	}
	key, err := l.left.derivePBKDF2(kdfHash, kdf, kdf.KeyLength)
	if err != nil {
		return err
	}
	if !fits(newHash, key, mac, message) {
		return ErrPassword
	}
	return nil
}

// open decrypts data, which holds one SEQUENCE: bags or a private key. That tells a
// password that fits from one that does not, where there is no MAC.
func (l *lock) open(a pkix.AlgorithmIdentifier, data []byte) ([]byte, error) {
	if a.Algorithm.String() == oidPBES2 {
		return l.openPBES2(a, data)
	}
	scheme, ok := pbe1[a.Algorithm.String()]
	if !ok {
		return nil, ErrAlgorithm
	}
	var p struct { // PBEParameter, and pkcs-12PbeParams of RFC 7292
		Salt   []byte
		Rounds int
	}
	if !unmarshal(a.Parameters.FullBytes, &p) {
		return nil, ErrMalformed
	}
	for _, password := range l.passwords {
		key, err := l.left.derivePKCS12(sha1.New, forKey, password, p.Salt, p.Rounds, scheme.keySize)
		if err != nil {
			return nil, err
		}
		iv, err := l.left.derivePKCS12(sha1.New, forIV, password, p.Salt, p.Rounds, des.BlockSize)
		if err != nil {
			return nil, err
		}
		plain, err := scheme.decrypt(key, iv, data)
		if err != nil {
			return nil, err
		}
		if isSequence(plain) {
			l.passwords = [][]byte{password}
			return plain, nil
		}
	}
	return nil, ErrPassword
}

// openPBES2 decrypts by RFC 8018 section 6.2.
func (l *lock) openPBES2(a pkix.AlgorithmIdentifier, data []byte) ([]byte, error) {
	var p struct{ KDF, Scheme pkix.AlgorithmIdentifier }
	if !unmarshal(a.Parameters.FullBytes, &p) {
		return nil, ErrMalformed
	}
	scheme, ok := pbes2[p.Scheme.Algorithm.String()]
	if !ok {
		return nil, ErrAlgorithm
	}
	kdf, kdfHash, err := readPBKDF2(p.KDF)
	if err != nil {
		return nil, err
	}
	var iv []byte
	if !unmarshal(p.Scheme.Parameters.FullBytes, &iv) || kdf.KeyLength != 0 && kdf.KeyLength != scheme.keySize {
		return nil, ErrMalformed
	}
	key, err := l.left.derivePBKDF2(kdfHash, kdf, scheme.keySize)
	if err != nil {
		return nil, err
	}
	plain, err := scheme.decrypt(key, iv, data)
	if err != nil {
		return nil, err
	}
	if !isSequence(plain) {
		return nil, ErrPassword
	}
	return plain, nil
}

// decrypt undoes CBC and the padding of RFC 8018 section 6.1.1. Its result is nil if the
// key does not fit.
func (c blockCipher) decrypt(key, iv, data []byte) ([]byte, error) {
	block, err := c.make(key)
	if err != nil { // only a build for FIPS 140 refuses any
		return nil, ErrAlgorithm
	}
	size := block.BlockSize()
	if len(iv) != size || len(data) == 0 || len(data)%size != 0 {
		return nil, ErrMalformed
	}
	out := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, data)
	n := int(out[len(out)-1])
	if n < 1 || n > size || !bytes.Equal(out[len(out)-n:], bytes.Repeat([]byte{byte(n)}, n)) {
		return nil, nil
	}
	return out[:len(out)-n], nil
}
