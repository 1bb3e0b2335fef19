package entra

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"unicode"

	"akv-csi-provider/provider/request"
)

// claims are what a federated credential is matched with. They are read without
// any check and serve messages only, which whoever sent the token can shape; see
// federatedCredentialMissing.
type claims struct {
	issuer, subject, audience string
}

// readClaims reads the payload of a JWT (RFC 7519). What cannot be read is empty.
func readClaims(token request.Secret) claims {
	var payload struct {
		Issuer   string   `json:"iss"`
		Subject  string   `json:"sub"`
		Audience audience `json:"aud"`
	}
	parts := strings.Split(string(token), ".")
	if len(parts) != 3 {
		return claims{}
	}
	if raw, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
		_ = json.Unmarshal(raw, &payload) // an odd claim stays empty
	}
	return claims{issuer: oneLine(payload.Issuer), subject: oneLine(payload.Subject), audience: oneLine(string(payload.Audience))}
}

// audience is a JWT's "aud": one string or a list of them, of which the first
// counts (kubelet asks for one).
type audience string

// UnmarshalJSON implements [json.Unmarshaler].
func (a *audience) UnmarshalJSON(data []byte) error {
	var list []string
	if json.Unmarshal(data, &list) == nil && len(list) > 0 {
		*a = audience(list[0])
		return nil
	}
	return json.Unmarshal(data, (*string)(a))
}

// oneLine drops what does not print and bounds the length.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	const most = 256 // longer than any issuer or subject Entra takes
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most])
	}
	return text
}
