package pkcs12_test

import (
	"bytes"
	"crypto/des"
	"errors"
	"slices"
	"testing"

	"akv-csi-provider/provider/pkcs12"
)

// seeds are files of all encodings, and hostile ones.
func seeds() (out [][]byte) {
	c := line("leaf", "one", "root")
	for _, encoder := range encoders {
		out = append(out, encode(encoder, "", c[0], c[2], c[1]))
	}
	return append(out,
		pfxFile(plainPart(append(certBags(c...), keyBag(c[0].key))...)),
		pfxFile(plainPart(append(certBags(c...), shroudedBag(10, c[0].key))...)),
		pfxFile(plainPart(append(certBags(c...), keyBag(c[0].key), keyBag(c[1].key), bag(oidKey, p256K()))...)),
		pfxFile(plainPart(nested(2, append(certBags(c...), keyBag(c[0].key))...))),
		pfxFile(encryptedPart(pbe1(3, 24, des.NewTripleDESCipher, nil, 10, seq(certBags(c...)...)))),
		pfxFile(plainPart(hostileKey())),
		pfxFile(encryptedPart(pbes2(10, seq(hostileKey())))),
		pfxFile(plainPart(nested(100, certBags(c...)...))),
		pfxFile(encryptedPart(claim(-1), make([]byte, 16))),
		pfxWithMAC(macOf(integer(1<<62)), seq(plainPart(certBags(c...)...))),
		pfxWithMAC(pbmac1(make([]byte, 32), integer(10), integer(1<<62)), seq(plainPart(certBags(c...)...))))
}

func FuzzDecode(f *testing.F) {
	for _, der := range seeds() {
		f.Add(der)
	}
	known := []error{pkcs12.ErrTooLarge, pkcs12.ErrMalformed, pkcs12.ErrPassword, pkcs12.ErrAlgorithm, pkcs12.ErrRounds, pkcs12.ErrContents, pkcs12.ErrFIPS}
	f.Fuzz(func(t *testing.T, der []byte) {
		stored := bytes.Clone(der)
		got, err := pkcs12.Decode(der)
		if !bytes.Equal(der, stored) {
			t.Error("the file was written to")
		}
		if charged, _ := pkcs12.Charged(der, pkcs12.MaxRounds); charged < 0 || charged > pkcs12.MaxRounds {
			t.Errorf("charged %d", charged)
		}
		if err != nil {
			if got != nil || !slices.ContainsFunc(known, func(e error) bool { return errors.Is(err, e) }) {
				t.Errorf("got %v %v", got, err)
			}
			return
		}
		if len(got.PrivateKeys) == 0 && len(got.Certificates) == 0 {
			t.Error("nothing was decoded")
		}
		// Where the library can decode the file, it returns the same. It only gets files that
		// our decoder accepts: all their iterations have been charged.
		want, err := decodeAll(der)
		if err != nil {
			return
		}
		if !slices.ContainsFunc(got.PrivateKeys, func(k pkcs12.PrivateKey) bool { return bytes.Equal(k.PKCS8, want.keys[0]) }) {
			t.Errorf("missing: %x", want.keys)
		}
		for _, c := range want.certs {
			if !slices.ContainsFunc(got.Certificates, func(der []byte) bool { return bytes.Equal(der, c) }) {
				t.Errorf("missing: %x", c)
			}
		}
	})
}
