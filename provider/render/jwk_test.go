package render_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"
)

func jwkObject() request.Object {
	o := publicObject(request.TypeKey)
	o.Format = request.FormatJWK
	return o
}

func rawURL(text string) []byte { return must(base64.RawURLEncoding.DecodeString(text)) }

// The key of RFC 7638 section 3.1: the hash of the file is the thumbprint in the RFC.
func TestThumbprint(t *testing.T) {
	const n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs" +
		"tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	for _, kty := range []string{"RSA", "RSA-HSM"} {
		files, _, err := render.Files(jwkObject(), keyvault.Value{Key: &keyvault.Key{Type: kty, N: append([]byte{0}, rawURL(n)...), E: []byte{0, 1, 0, 1}}}, render.Options{})
		if err != nil || len(files) != 1 || files[0].Path != jwkObject().Path {
			t.Fatalf("got %v, %v", files, err)
		}
		if want := `{"e":"AQAB","kty":"RSA","n":"` + n + `"}`; string(files[0].Content) != want {
			t.Errorf("got  %s\nwant %s", files[0].Content, want)
		}
		sum := sha256.Sum256(files[0].Content)
		if got := base64.RawURLEncoding.EncodeToString(sum[:]); got != "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" {
			t.Errorf("thumbprint %s", got)
		}
	}
}

// Coordinates have the length of the curve, also those that start with zeros.
func TestJWKOfCurves(t *testing.T) {
	for crv, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		for range 300 { // one key in 128 has a coordinate that starts with a zero
			key := newKey(curve).Public().(*ecdsa.PublicKey)
			point := must(key.Bytes())
			size := len(point) / 2
			x, y := new(big.Int).SetBytes(point[1:1+size]), new(big.Int).SetBytes(point[1+size:])
			files, _, err := render.Files(jwkObject(), keyvault.Value{Key: &keyvault.Key{Type: "EC-HSM", Curve: crv, X: x.Bytes(), Y: y.Bytes()}}, render.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]string
			if err := json.Unmarshal(files[0].Content, &got); err != nil || len(got) != 4 || got["kty"] != "EC" || got["crv"] != crv {
				t.Fatalf("got %s, %v", files[0].Content, err)
			}
			if !strings.HasPrefix(string(files[0].Content), `{"crv":"`+crv+`","kty":"EC","x":"`) {
				t.Fatalf("got %s", files[0].Content)
			}
			if string(rawURL(got["x"]))+string(rawURL(got["y"])) != string(point[1:]) {
				t.Fatalf("%s is another point", files[0].Content)
			}
		}
	}
}

func TestJWKErrors(t *testing.T) {
	for want, key := range map[string]*keyvault.Key{
		`has type ""`:               nil,
		`has type "oct"`:            {Type: "oct"},
		`curve "P-256K"`:            {Type: "EC", Curve: "P-256K"},
		"no valid key of that type": {Type: "RSA", N: []byte{4}, E: []byte{3}},
		`"EC", but no valid key`:    {Type: "EC", Curve: "P-256", X: []byte{1}, Y: []byte{1}},
	} {
		if files, _, err := render.Files(jwkObject(), keyvault.Value{Key: key}, render.Options{}); err == nil || files != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v, want %s", files, err, want)
		}
	}
}
