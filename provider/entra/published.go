package entra

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// published returns the OIDC metadata of a tenant of an authority whose endpoints are
// published ("Microsoft identity platform and the OAuth 2.0 client credentials flow",
// and "National clouds" for the hosts), so that the first sign-in of a tenant on a node
// needs no request for it; nil for any other. What MSAL reads of it are the three
// fields; that a tenant does not exist comes out when the token is asked for.
func published(u *url.URL, known func(authority string) bool) *document {
	authority := "https://" + u.Host
	tenant, ok := strings.CutSuffix(strings.TrimPrefix(u.Path, "/"), "/v2.0"+documentLocation)
	if !ok || known == nil || !known(authority) || tenant == "" || strings.Contains(tenant, "/") || u.RawQuery != "" {
		return nil
	}
	base := authority + "/" + url.PathEscape(tenant)
	body, err := json.Marshal(map[string]string{
		"token_endpoint":         base + "/oauth2/v2.0/token",
		"authorization_endpoint": base + "/oauth2/v2.0/authorize",
		"issuer":                 base + "/v2.0",
	})
	if err != nil {
		return nil
	}
	return &document{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}}, body: body, until: time.Time{}}
}
