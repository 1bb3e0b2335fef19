package render

import "hash"

// For tests.
const (
	MaxRounds  = maxRounds
	MaxPFXText = maxPFXText
	MaxKey     = maxKey
	MaxNesting = maxNesting
	ForKey     = forKey
	ForIV      = forIV
	ForMAC     = forMAC
)

// PFXErrors are all the causes that a PFX can be refused for.
var PFXErrors = []error{errTooLong, errNotBase64, errNotPFX, errPassword, errAlgorithm, errRounds}

// NewRC2 makes the cipher.
var NewRC2 = newRC2

// RC2Words returns the expanded key.
func RC2Words(key []byte) [64]uint16 {
	block, _ := newRC2(key)
	return block.(*rc2).k
}

// DerivePKCS12 derives bytes at no cost.
func DerivePKCS12(newHash func() hash.Hash, use byte, password, salt []byte, rounds, size int) ([]byte, error) {
	left := budget(maxRounds)
	return left.derivePKCS12(newHash, use, password, salt, rounds, size)
}

// Charged returns the rounds that a PFX is charged for, which are all that it costs.
func Charged(der []byte) (int, error) {
	d := newDecoder()
	err := d.file(der)
	return maxRounds - int(d.lock.left), err
}
