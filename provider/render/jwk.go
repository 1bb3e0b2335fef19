package render

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"

	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

// jwk is a public key as JSON Web Key (RFC 7517, RFC 7518 section 6). Its members are those that
// are required, in the order of RFC 7638: the thumbprint of the key is a hash of these very bytes.
// So there is no kid: that of Key Vault names the vault, and changes with it.
type jwk struct {
	Curve string `json:"crv,omitempty"`
	E     string `json:"e,omitempty"`
	Type  string `json:"kty"`
	N     string `json:"n,omitempty"`
	X     string `json:"x,omitempty"`
	Y     string `json:"y,omitempty"`
}

// keyJWK returns a public key as JSON. A key of a hardware module has the type of its numbers:
// RSA-HSM is a name of Key Vault.
func keyJWK(o request.Object, v keyvault.Value) ([]byte, error) {
	public, err := publicKeyOf(o, v)
	if err != nil {
		return nil, err
	}
	encode := base64.RawURLEncoding.EncodeToString
	var out jwk
	switch public := public.(type) {
	case *rsa.PublicKey: // numbers have no leading zeros (RFC 7518 section 2)
		e := binary.BigEndian.AppendUint64(nil, uint64(public.E))
		out = jwk{Type: "RSA", N: encode(public.N.Bytes()), E: encode(bytes.TrimLeft(e, "\x00"))}
	case *ecdsa.PublicKey: // coordinates have the length of the curve (section 6.2.1.2)
		point, err := public.Bytes()
		if err != nil {
			return nil, malformed(o, v)
		}
		x, y := point[1:1+len(point)/2], point[1+len(point)/2:]
		out = jwk{Type: "EC", Curve: v.Key.Curve, X: encode(x), Y: encode(y)}
	}
	return json.Marshal(out)
}
