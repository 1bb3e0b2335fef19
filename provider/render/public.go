package render

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math"
	"math/big"
	"slices"

	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/pkcs12"
	"akv-csi-provider/provider/request"
)

// PEM labels (RFC 7468).
const (
	labelCertificate = "CERTIFICATE"
	labelPrivateKey  = "PRIVATE KEY"
	labelPublicKey   = "PUBLIC KEY"

	labelRSAPrivateKey = "RSA PRIVATE KEY"
	labelECPrivateKey  = "EC PRIVATE KEY"
)

func encodePEM(label string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})
}

// certificate returns a certificate as PEM. Its content is not checked: crypto/x509 rejects
// curves and serial numbers that Key Vault accepts.
func certificate(o request.Object, v keyvault.Value) ([]byte, error) {
	if !pkcs12.IsSequence(v.CER) {
		return nil, invalid(fmt.Sprintf("%s has no DER certificate", o),
			"Azure admin: issue or import the certificate again")
	}
	return encodePEM(labelCertificate, v.CER), nil
}

// curves are the curves of RFC 7518 section 6.2.1.1. The standard library does not have
// P-256K (RFC 8812), which Key Vault supports as well.
var curves = map[string]elliptic.Curve{
	"P-256": elliptic.P256(),
	"P-384": elliptic.P384(),
	"P-521": elliptic.P521(),
}

// key returns a public key as PEM of its SubjectPublicKeyInfo (RFC 5280).
func key(o request.Object, v keyvault.Value) ([]byte, error) {
	public, err := publicKeyOf(o, v)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, malformed(o, v)
	}
	return encodePEM(labelPublicKey, der), nil
}

func malformed(o request.Object, v keyvault.Value) error {
	return invalid(fmt.Sprintf("%s has type %.64q, but no valid key of that type", o, v.Key.Type),
		"Azure admin: create or import the key again")
}

// publicKeyOf returns an *rsa.PublicKey or an *ecdsa.PublicKey.
func publicKeyOf(o request.Object, v keyvault.Value) (public any, _ error) {
	k := cmp.Or(v.Key, &keyvault.Key{})
	switch k.Type {
	case "RSA", "RSA-HSM":
		public = rsaKey(k)
	case "EC", "EC-HSM":
		curve, ok := curves[k.Curve]
		if !ok {
			return nil, invalid(fmt.Sprintf("%s has type %.64q and curve %.64q", o, k.Type, k.Curve),
				"use a key on P-256, P-384 or P-521")
		}
		public = ecKey(curve, k)
	default:
		return nil, invalid(fmt.Sprintf("%s has type %.64q", o, k.Type),
			"use a key of type RSA, RSA-HSM, EC or EC-HSM")
	}
	if public == nil {
		return nil, malformed(o, v)
	}
	return public, nil
}

// rsaKey returns an *rsa.PublicKey, or nil if the numbers are not valid: the modulus must
// be odd, and the exponent odd and smaller (RFC 8017 section 3.1), up to the largest
// exponent that crypto/rsa and Windows support.
func rsaKey(k *keyvault.Key) any {
	n, e := new(big.Int).SetBytes(k.N), new(big.Int).SetBytes(k.E)
	switch {
	case n.Bit(0) == 0, e.Bit(0) == 0, e.Cmp(n) >= 0,
		e.Cmp(big.NewInt(3)) < 0, e.Cmp(big.NewInt(math.MaxInt32)) > 0:
		return nil
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}
}

// ecKey returns an *ecdsa.PublicKey, or nil if the coordinates are not a point on the
// curve. RFC 7518 section 6.2.1.2 requires coordinates of full length. Missing or extra
// leading zeros are accepted nevertheless: some software makes this mistake with one key
// in 128, the number is the same, and the provider that this one replaces reads it.
func ecKey(curve elliptic.Curve, k *keyvault.Key) any {
	size := (curve.Params().BitSize + 7) / 8
	x, y := new(big.Int).SetBytes(k.X), new(big.Int).SetBytes(k.Y)
	if x.BitLen() > 8*size || y.BitLen() > 8*size {
		return nil
	}
	const uncompressed = 4 // SEC 1 section 2.3.3
	point := slices.Concat([]byte{uncompressed}, x.FillBytes(make([]byte, size)), y.FillBytes(make([]byte, size)))
	public, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil
	}
	return public
}
