package entra

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"akv-csi-provider/provider/kube"
	"akv-csi-provider/provider/request"
)

// claims are what a federated credential is matched with. They are read without any check, so
// that the sender of the token chooses them, and are for messages only; see
// federatedCredentialMissing.
type claims struct {
	issuer, subject, audience string
}

// expiry is when a JWT ends, if it says so in the form of RFC 7519,
// section 4.1.4. It is not verified.
func expiry(token request.Secret) (time.Time, bool) {
	var payload map[string]json.RawMessage // a struct would take "EXP" for "exp"
	var end float64
	parts := strings.Split(string(token), ".")
	if len(parts) != 3 {
		return time.Time{}, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(raw, &payload) != nil || json.Unmarshal(payload["exp"], &end) != nil {
		return time.Time{}, false
	}
	const latest = 253402300799 // in the year 9999
	if end < 1 || end > latest {
		return time.Time{}, false
	}
	return time.Unix(int64(end), 0), true
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
	return claims{issuer: kube.Printable(payload.Issuer), subject: kube.Printable(payload.Subject), audience: kube.Printable(string(payload.Audience))}
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
