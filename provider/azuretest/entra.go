package azuretest

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// answerEntra serves an authority host.
func (b *Box) answerEntra(x *exchange) reply {
	switch x.kind {
	case Instance:
		return b.instanceDiscovery(x)
	case Metadata:
		return b.openIDConfiguration(x)
	case Keys:
		return jsonReply(http.StatusOK, entraHeader(newUUID()), rawJSON(entraJWKS()))
	case Token:
		return b.token(x)
	}
	return reply{status: http.StatusNotFound, header: entraHeader(newUUID())}
}

// tenantSegment is the first segment of an authority's path.
func tenantSegment(path string) string {
	segment, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return segment
}

// instanceDiscovery lists which authority hosts belong together. Entra knows the clouds that
// Microsoft runs and calls any other instance invalid.
func (b *Box) instanceDiscovery(x *exchange) reply {
	endpoint, err := url.Parse(x.URL.Query().Get("authorization_endpoint"))
	if err != nil {
		return b.entraFailure(x, refuse(50049))
	}
	host := hostName(endpoint.Host)
	type metadata struct {
		PreferredNetwork string   `json:"preferred_network"`
		PreferredCache   string   `json:"preferred_cache"`
		Aliases          []string `json:"aliases"`
	}
	var known bool
	var all []metadata
	for _, c := range builtinClouds() {
		all = append(all, metadata{c.aliases[0], c.aliases[0], c.aliases})
		for _, alias := range c.aliases {
			known = known || alias == host
		}
	}
	if !known {
		return b.entraFailure(x, refuse(50049))
	}
	return jsonReply(http.StatusOK, entraHeader(newUUID()), map[string]any{
		"tenant_discovery_endpoint": "https://" + host + "/" + tenantSegment(endpoint.Path) +
			"/v2.0/.well-known/openid-configuration",
		"api-version": "1.1",
		"metadata":    all,
	})
}

// openIDConfiguration is the metadata of a tenant. MSAL wants the issuer on the authority's own host,
// or one of its aliases (ValidateIssuerMatchesAuthority in its authority package).
func (b *Box) openIDConfiguration(x *exchange) reply {
	name := tenantSegment(x.URL.Path)
	tenant, refusal := b.tenantNamed(name)
	if refusal != nil {
		return b.entraFailure(x, refusal)
	}
	base := "https://" + x.entraHost() + "/" + tenant.id
	oauth, issuer, keys := base+"/oauth2/v2.0", base+"/v2.0", base+"/discovery/v2.0/keys"
	if strings.EqualFold(name, "adfs") { // AD FS knows no versions
		oauth, issuer, keys = base+"/oauth2", base, base+"/discovery/keys"
	}
	header := entraHeader(newUUID())
	header.Set("Cache-Control", "max-age=86400, private")
	return jsonReply(http.StatusOK, header, map[string]any{
		"token_endpoint":                        oauth + "/token",
		"authorization_endpoint":                oauth + "/authorize",
		"issuer":                                issuer,
		"jwks_uri":                              keys,
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
		"response_types_supported":              []string{"code", "id_token", "code id_token", "id_token token"},
		"subject_types_supported":               []string{"pairwise"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"scopes_supported":                      []string{"openid", "profile", "email", "offline_access"},
	})
}

// tenantNamed finds a tenant. What is neither a GUID nor a domain name cannot be one.
func (b *Box) tenantNamed(name string) (*Tenant, *aadsts) {
	if t := b.findTenant(name); t != nil {
		return t, nil
	}
	if !isGUID(name) && !strings.Contains(name, ".") {
		return nil, refuse(900023)
	}
	return nil, refuse(90002)
}

func isGUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, r := range s {
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if r != '-' {
				return false
			}
		case !strings.ContainsRune("0123456789abcdefABCDEF", r):
			return false
		}
	}
	return true
}

// token answers the client credentials grant.
func (b *Box) token(x *exchange) reply {
	app, resource, refusal := b.signIn(x)
	if refusal != nil {
		return b.entraFailure(x, refusal)
	}
	lifetime := time.Duration(b.lifetime.Load())
	access, err := b.accessToken(app, x.place.authority, resource, lifetime)
	if err != nil {
		return b.entraFailure(x, refuse(90033))
	}
	body := map[string]any{
		"token_type":     "Bearer",
		"expires_in":     int64(lifetime / time.Second),
		"ext_expires_in": int64(lifetime / time.Second),
		"access_token":   access,
	}
	if refresh := time.Duration(b.refresh.Load()); refresh != 0 {
		body["refresh_in"] = int64(refresh / time.Second)
	}
	return jsonReply(http.StatusOK, entraHeader(newUUID()), body)
}

// signIn checks a token request step by step and returns who signed in, and for which resource.
func (b *Box) signIn(x *exchange) (*Application, string, *aadsts) {
	if x.Method != http.MethodPost {
		return nil, "", refuse(900561)
	}
	tenant, refusal := b.tenantNamed(tenantSegment(x.URL.Path))
	if refusal != nil {
		return nil, "", refusal
	}
	for _, parameter := range []string{"grant_type", "client_id", "scope"} {
		if x.form.Get(parameter) == "" {
			return nil, "", refuse(900144, "{parameter}", parameter)
		}
	}
	if x.form.Get("grant_type") != "client_credentials" {
		return nil, "", refuse(70003)
	}
	app := tenant.findApplication(x.form.Get("client_id"))
	if app == nil {
		return nil, "", refuse(700016)
	}
	federated, secrets, forced := app.credentials()
	if forced != 0 {
		return nil, "", refuse(forced)
	}
	switch {
	case x.place.proxy != nil:
		refusal = x.place.proxy.check(x, app)
	case x.form.Has("client_assertion") && strings.EqualFold(peek(x.form.Get("client_assertion")).Issuer, app.clientID):
		refusal = b.checkCertificate(x, app)
	case x.form.Has("client_assertion"):
		refusal = b.checkAssertion(x.Context(), x.form, federated, b.publishedKey)
	default:
		refusal = b.checkSecret(x.form, secrets)
	}
	if refusal != nil {
		return nil, "", refusal
	}
	resource, refusal := resourceOf(x.form.Get("scope"), x.place.authority)
	return app, resource, refusal
}

func (b *Box) checkSecret(form url.Values, secrets []clientSecret) *aadsts {
	if !form.Has("client_secret") {
		return refuse(7000218)
	}
	for _, s := range secrets {
		if s.value != form.Get("client_secret") {
			continue
		}
		if !s.expires.IsZero() && !b.clock().Before(s.expires) {
			return refuse(7000222)
		}
		return nil
	}
	return refuse(7000215)
}

// resourceOf reads the resource from the scope. MSAL appends its usual OpenID scopes, which mean
// nothing here.
func resourceOf(scope string, c *instance) (string, *aadsts) {
	for s := range strings.FieldsSeq(scope) {
		switch s {
		case "openid", "profile", "offline_access", "email":
			continue
		}
		resource, ok := strings.CutSuffix(s, "/.default")
		if !ok {
			return "", refuse(1002012, "{scope}", s)
		}
		// Management is known everywhere, so that a token for the wrong audience can be had.
		if bare := strings.TrimSuffix(resource, "/"); bare != c.Resource && bare != managementResource {
			return "", refuse(500011, "{resource}", resource)
		}
		return resource, nil
	}
	return "", refuse(1002012)
}

// accessToken issues a token of Entra's version 1, the one that Key Vault's registration requires.
func (b *Box) accessToken(a *Application, c *instance, resource string, lifetime time.Duration) (string, error) {
	now := b.clock()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"aud": resource, "iss": c.issuer + a.tenant.id + "/", "tid": a.tenant.id,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(lifetime).Unix(),
		"appid": a.clientID, "azp": a.clientID, "appidacr": "2", "idp": c.issuer + a.tenant.id + "/",
		"idtyp": "app", "oid": a.objectID, "sub": a.objectID, "uti": randomHex(22), "ver": "1.0",
	})
	token.Header["kid"], token.Header["x5t"] = entraKeyID(), entraKeyID()
	signed, err := token.SignedString(entraSigner())
	if err == nil {
		_, _, err = b.tokens.read(signed) // once, and not by each of the requests that come with it at a time
	}
	return signed, err
}
