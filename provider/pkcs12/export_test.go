package pkcs12

import "hash"

// For tests.
const (
	IDKey = idKey
	IDIV  = idIV
	IDMAC = idMAC
)

// NewRC2 makes the cipher.
var NewRC2 = newRC2

// RC2Words returns the expanded key.
func RC2Words(key []byte) [64]uint16 {
	block, _ := newRC2(key)
	return block.(*rc2).k
}

// DerivePKCS12 derives bytes from a new budget.
func DerivePKCS12(newHash func() hash.Hash, id byte, password, salt []byte, iterations, size int) ([]byte, error) {
	b := budget(MaxRounds)
	return b.derivePKCS12(newHash, id, password, salt, iterations, size)
}

// Charged returns the rounds that a PFX was charged for, which are all that it costs, if it
// may cost that many.
func Charged(der []byte, rounds int) (int, error) {
	d := decoder{decrypter: newDecrypter()}
	d.decrypter.budget = budget(rounds)
	err := d.decode(der)
	return rounds - int(d.decrypter.budget), err
}

// Budget is that of Decode.
func Budget() int { return int(newDecrypter().budget) }
