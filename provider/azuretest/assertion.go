package azuretest

import (
	"context"
	"crypto/rsa"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const jwtBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// peek reads the registered claims of a token without believing them; what is no token has none.
func peek(token string) jwt.RegisteredClaims {
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil {
		return jwt.RegisteredClaims{}
	}
	return claims
}

// peekKeyID reads a token's key ID in the same manner.
func peekKeyID(token string) string {
	t, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
	if err != nil {
		return ""
	}
	id, _ := t.Header["kid"].(string)
	return id
}

func dateText(d *jwt.NumericDate, layout string) string {
	if d == nil {
		return ""
	}
	return d.UTC().Format(layout)
}

// keySource finds an issuer's key.
type keySource func(ctx context.Context, issuer, kid string) (*rsa.PublicKey, error)

// checkAssertion decides whether a client assertion signs in to an application with these
// credentials. The credentials come first: no keys are fetched of an issuer that none of them names.
func (b *Box) checkAssertion(ctx context.Context, form url.Values, credentials []federatedCredential, keys keySource) *aadsts {
	if form.Get("client_assertion_type") != jwtBearer {
		return refuse(900144, "{parameter}", "client_assertion_type")
	}
	var claims jwt.RegisteredClaims
	token, _, err := jwt.NewParser().ParseUnverified(form.Get("client_assertion"), &claims)
	if err != nil && !errors.Is(err, jwt.ErrTokenUnverifiable) {
		return refuse(50027)
	}
	if refusal := matchCredential(credentials, claims); refusal != nil {
		return refusal
	}
	if token.Method != jwt.SigningMethodRS256 {
		return refuse(50013, "{reason}", "The signature algorithm is not supported.")
	}
	kid, _ := token.Header["kid"].(string)
	key, err := keys(ctx, claims.Issuer, kid)
	if err != nil {
		return issuerRefusal(err)
	}
	return b.checkSigned(form.Get("client_assertion"), key)
}

// checkSigned verifies the signature, then the times.
func (b *Box) checkSigned(assertion string, key *rsa.PublicKey) *aadsts {
	var claims jwt.RegisteredClaims
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithoutClaimsValidation())
	_, err := parser.ParseWithClaims(assertion, &claims, func(*jwt.Token) (any, error) { return key, nil })
	if err != nil {
		return refuse(50013, "{reason}", "The provided signature value did not match the expected signature value.")
	}
	now := b.clock()
	// Entra lets clocks differ by five minutes. The fake does so at the beginning only: a test of an
	// expired token should not have to wait.
	early := claims.NotBefore != nil && now.Add(5*time.Minute).Before(claims.NotBefore.Time)
	if claims.ExpiresAt == nil || !now.Before(claims.ExpiresAt.Time) || early {
		return refuse(700024)
	}
	return nil
}

// matchCredential compares issuer, audience and subject in this order and reports the first of which
// no credential is left.
func matchCredential(credentials []federatedCredential, claims jwt.RegisteredClaims) *aadsts {
	if len(credentials) == 0 {
		return refuse(70025)
	}
	credentials = slices.DeleteFunc(credentials, func(c federatedCredential) bool { return c.issuer != claims.Issuer })
	if len(credentials) == 0 {
		return refuse(700211)
	}
	credentials = slices.DeleteFunc(credentials, func(c federatedCredential) bool {
		return !slices.Contains(claims.Audience, c.audience)
	})
	if len(credentials) == 0 {
		return refuse(700212)
	}
	folded := false
	for _, c := range credentials {
		if c.subject == claims.Subject {
			return nil
		}
		folded = folded || strings.EqualFold(c.subject, claims.Subject)
	}
	if folded {
		return refuse(7002138)
	}
	return refuse(700213)
}
