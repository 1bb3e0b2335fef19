package azuretest

import (
	"net/http"
	"regexp"
	"strings"
	"sync"

	"github.com/golang-jwt/jwt/v5"
)

var (
	objectName = regexp.MustCompile(`^[0-9A-Za-z-]{1,127}$`)
	versionID  = regexp.MustCompile(`^[0-9A-Za-z]{1,64}$`)
)

// objectPath is what a vault's path names.
type objectPath struct {
	collection collection // "" for a path outside the three collections
	name       string
	version    string
	versions   bool // the list of versions
	valid      bool
}

// parseObjectPath reads /<collection>[/<name>[/<version>|/versions]]. SDKs request the latest version
// with an empty one, that is a final slash.
func parseObjectPath(path string) objectPath {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if n := len(parts); n > 1 && parts[n-1] == "" {
		parts = parts[:n-1]
	}
	var p objectPath
	switch c := collection(parts[0]); c {
	case secrets, keys, certificates:
		p.collection = c
	default:
		return p
	}
	p.valid = len(parts) <= 3
	if len(parts) > 1 {
		p.name = parts[1]
		p.valid = p.valid && objectName.MatchString(p.name)
	}
	if len(parts) > 2 {
		p.versions = parts[2] == "versions"
		if !p.versions {
			p.version = parts[2]
			p.valid = p.valid && versionID.MatchString(p.version)
		}
	}
	return p
}

func (p objectPath) list() bool { return p.name == "" || p.versions }

func (p objectPath) kind() Kind {
	switch {
	case p.collection == "":
		return Other
	case p.list():
		return List
	case p.collection == secrets:
		return GetSecret
	case p.collection == keys:
		return GetKey
	}
	return GetCertificate
}

func (p objectPath) permission() Permission {
	if p.list() {
		return Permission(p.collection) + "/list"
	}
	return Permission(p.collection) + "/get"
}

// caller is whom a verified access token names.
type caller struct {
	jwt.RegisteredClaims
	AppID    string `json:"appid"`
	ObjectID string `json:"oid"`
}

// answerVault serves a vault, in Key Vault's order: the token, the firewall, the request's form, the
// permission, and only then the object, so that a stranger does not learn what exists.
func (b *Box) answerVault(x *exchange) reply {
	v := x.place.vault
	token := bearer(x.Request)
	if token == "" {
		return v.unauthorized(x, "AKV10000: Request is missing a Bearer or PoP token.")
	}
	who, problem := v.verify(token)
	if problem != "" {
		return v.unauthorized(x, problem)
	}
	answer := v.answerCaller(x, who)
	answer.clientID = who.AppID
	return answer
}

func (v *Vault) answerCaller(x *exchange, who *caller) reply {
	v.mu.RLock()
	firewall, refusal := v.firewall, v.refusal
	allowed := v.granted[strings.ToLower(who.AppID)]
	p := parseObjectPath(x.URL.Path)
	may := allowed[p.permission()]
	v.mu.RUnlock()
	answer, refused := v.apiVersion(x)
	switch {
	case refusal != nil:
		return v.fail(x, http.StatusForbidden, "Forbidden", refusal.message, refusal.inner)
	case firewall != "":
		return v.forbidden(x, who, firewall)
	case refused:
		return answer
	case p.collection == "":
		return v.fail(x, http.StatusNotFound, "NotFound", "The requested resource does not exist.", "")
	case x.Method != http.MethodGet:
		return v.fail(x, http.StatusMethodNotAllowed, "MethodNotAllowed", "Method "+x.Method+" is not allowed.", "")
	case !p.valid:
		return v.fail(x, http.StatusBadRequest, "BadParameter", "The request URI contains an invalid name: "+p.name, "")
	case !may:
		return v.forbidden(x, who, v.refusalCode())
	}
	if p.list() {
		return v.page(x, v.items(p.collection, p.name))
	}
	one := v.find(p.collection, p.name, p.version)
	switch {
	case one == nil:
		return v.notFound(x, p)
	case one.disabled && p.collection == secrets:
		return v.forbidden(x, who, secretDisabled)
	}
	if p.collection == secrets {
		return v.convert(x, p.name, one)
	}
	return jsonReply(http.StatusOK, v.header(x), one.body)
}

// verify checks an access token and returns whom it names, or what Key Vault says against it.
func (v *Vault) verify(token string) (*caller, string) {
	who, unknown, err := v.box.tokens.read(token)
	now := v.box.clock()
	switch issuer := v.cloud.issuer + v.tenant.id + "/"; {
	case unknown:
		return nil, unknownSigningKey
	case err != nil:
		return nil, "Error validating token: 'S2S12086'."
	case who.ExpiresAt == nil || !now.Before(who.ExpiresAt.Time):
		return nil, "[TokenExpired] Error validating token: 'S2S12086'."
	case len(who.Audience) != 1 || who.Audience[0] != v.cloud.Resource:
		return nil, "AKV10022: Invalid audience. Expected " + v.cloud.Resource + ", found: " + strings.Join(who.Audience, ",") + "."
	case who.Issuer != issuer:
		return nil, "AKV10032: Invalid issuer. Expected one of " + issuer + ", found " + who.Issuer + "."
	}
	return who, ""
}

// readTokens are access tokens whose signature has been verified, as services cache them.
type readTokens struct {
	mu    sync.Mutex // guards known
	known map[string]*caller
}

// read verifies a token's signature and returns its claims, which must not be changed. unknown says
// that the key is not Entra's.
func (r *readTokens) read(token string) (who *caller, unknown bool, err error) {
	r.mu.Lock()
	who = r.known[token]
	r.mu.Unlock()
	if who != nil {
		return who, false, nil
	}
	who = new(caller)
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"ES256", "RS256"}), jwt.WithoutClaimsValidation())
	_, err = parser.ParseWithClaims(token, who, func(t *jwt.Token) (any, error) {
		unknown = t.Header["kid"] != entraKeyID()
		return &entraSigner().PublicKey, nil
	})
	if err != nil {
		return who, unknown, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	const most = 10_000
	if r.known == nil || len(r.known) == most {
		r.known = make(map[string]*caller)
	}
	r.known[token] = who
	return who, unknown, nil
}
