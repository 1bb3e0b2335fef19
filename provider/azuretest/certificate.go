package azuretest

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"

	"github.com/golang-jwt/jwt/v5"
)

// checkCertificate decides whether an assertion that an application has signed itself signs it in:
// with the key of a certificate that is registered and named by its thumbprint, for this token
// endpoint.
func (b *Box) checkCertificate(x *exchange, a *Application) *aadsts {
	if x.form.Get("client_assertion_type") != jwtBearer {
		return refuse(900144, "{parameter}", "client_assertion_type")
	}
	unknown := refuse(700027, "{reason}", "The key was not found.")
	endpoint := "https://" + x.entraHost() + x.URL.Path
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256", "PS256"}), jwt.WithTimeFunc(b.clock),
		jwt.WithAudience(endpoint), jwt.WithExpirationRequired(), jwt.WithSubject(a.clientID))
	_, err := parser.Parse(x.form.Get("client_assertion"), func(t *jwt.Token) (any, error) {
		for _, c := range a.certificates() {
			sum := sha256.Sum256(c.Raw)
			key, ok := c.PublicKey.(*rsa.PublicKey)
			if ok && t.Header["x5t#S256"] == base64.StdEncoding.EncodeToString(sum[:]) {
				return key, nil
			}
		}
		return nil, errNoKey
	})
	if err != nil {
		return unknown
	}
	return nil
}
