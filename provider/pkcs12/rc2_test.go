package pkcs12_test

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"math/rand/v2"
	"testing"

	"akv-csi-provider/provider/pkcs12"
)

// The test vectors of RFC 2268 section 5 in which all bits of the key are effective.
func TestRC2(t *testing.T) {
	for _, r := range []struct{ key, plain, data string }{
		{"ffffffffffffffff", "ffffffffffffffff", "278b27e42e2f0d49"},
		{"3000000000000000", "1000000000000001", "30649edf9be7d2c2"},
		{"88bca90e90875a7f0f79c384627bafb2", "0000000000000000", "2269552ab0f85ca6"},
	} {
		got := make([]byte, 8)
		must(pkcs12.NewRC2(must(hex.DecodeString(r.key)))).Decrypt(got, must(hex.DecodeString(r.data)))
		if hex.EncodeToString(got) != r.plain {
			t.Errorf("%s under %s: got %x, want %s", r.data, r.key, got, r.plain)
		}
	}
}

// encrypting adds encryption to RC2 (RFC 2268 section 3).
type encrypting struct {
	cipher.Block
	words [64]uint16
}

func newRC2(key []byte) (cipher.Block, error) {
	block, err := pkcs12.NewRC2(key)
	return encrypting{block, pkcs12.RC2Words(key)}, err
}

func (e encrypting) Encrypt(dst, src []byte) {
	var r [4]uint16
	for i := range r {
		r[i] = binary.LittleEndian.Uint16(src[2*i:])
	}
	for round := range 16 {
		for i, shift := range []int{1, 2, 3, 5} {
			x, y, z := r[(i+3)%4], r[(i+2)%4], r[(i+1)%4]
			r[i] = bits.RotateLeft16(r[i]+e.words[4*round+i]+x&y+^x&z, shift)
		}
		for i := range r {
			if round == 4 || round == 10 {
				r[i] += e.words[r[(i+3)%4]%64]
			}
		}
	}
	for i, word := range r {
		binary.LittleEndian.PutUint16(dst[2*i:], word)
	}
}

func TestRC2Undoes(t *testing.T) {
	random := rand.NewChaCha8([32]byte{})
	for size := 1; size <= 128; size++ {
		key, want, got := make([]byte, size), make([]byte, 8), make([]byte, 8)
		random.Read(key)
		random.Read(want)
		block := must(newRC2(key))
		block.Encrypt(got, want)
		if block.Decrypt(got, got); !bytes.Equal(got, want) {
			t.Errorf("key of %d bytes: got %x, want %x", size, got, want)
		}
	}
}
