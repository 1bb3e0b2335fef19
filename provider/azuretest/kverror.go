package azuretest

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
)

// Inner codes of a 403, which say its cause.
const (
	forbiddenByRbac       = "ForbiddenByRbac"
	forbiddenByPolicy     = "ForbiddenByPolicy"
	accessDenied          = "AccessDenied" // what vaults with access policies said before ForbiddenByPolicy
	forbiddenByFirewall   = "ForbiddenByFirewall"
	forbiddenByConnection = "ForbiddenByConnection"
	secretDisabled        = "SecretDisabled" // disabled keys and certificates are served
	forbiddenByPerimeter  = "ForbiddenByNetworkSecurityPerimeter"
)

// unknownSigningKey is what a vault says of a token that was signed with a key it does not know.
const unknownSigningKey = "AKV10046: Unable to resolve the key used for signature validation."

// testAddress is the client's address in the firewall's words: one reserved for documentation.
const testAddress = "203.0.113.7"

// kvError is the body of Key Vault's errors.
type kvError struct {
	Error struct {
		Code    string   `json:"code"`
		Message string   `json:"message"`
		Inner   *kvInner `json:"innererror,omitempty"`
	} `json:"error"`
}

type kvInner struct {
	Code string `json:"code"`
}

func (v *Vault) fail(x *exchange, status int, code, message, inner string) reply {
	var body kvError
	body.Error.Code, body.Error.Message = code, message
	if inner != "" {
		body.Error.Inner = &kvInner{inner}
	}
	return jsonReply(status, v.header(x), body)
}

// header are the headers of all of Key Vault's answers.
func (v *Vault) header(x *exchange) http.Header {
	h := http.Header{
		"Cache-Control":                 {"no-cache"},
		"Pragma":                        {"no-cache"},
		"Expires":                       {"-1"},
		"X-Ms-Keyvault-Region":          {"westeurope"},
		"X-Ms-Request-Id":               {newUUID()},
		"X-Ms-Keyvault-Service-Version": {"1.9.2784.1"},
		"X-Ms-Keyvault-Network-Info":    {"conn_type=Ipv4;addr=" + testAddress + ";act_addr_fam=InterNetwork;"},
		"X-Content-Type-Options":        {"nosniff"},
		"Strict-Transport-Security":     {"max-age=31536000;includeSubDomains"},
	}
	if id := x.Header.Get("x-ms-client-request-id"); id != "" {
		h.Set("X-Ms-Client-Request-Id", id)
	}
	return h
}

// unauthorized is a 401 with the challenge that says where to get a token, and for what.
func (v *Vault) unauthorized(x *exchange, message string) reply {
	v.mu.RLock()
	host := v.challenge
	v.mu.RUnlock()
	if host == "" {
		host = cmp.Or(v.cloud.challengeHost, v.cloud.AuthorityHost)
	}
	answer := v.fail(x, http.StatusUnauthorized, "Unauthorized", message, "")
	answer.header.Set("WWW-Authenticate", `Bearer authorization="https://`+host+"/"+v.tenant.id+
		`", resource="`+v.cloud.Resource+`"`)
	return answer
}

// apiVersion refuses a request without a version of the API that the vault has.
func (v *Vault) apiVersion(x *exchange) (answer reply, refused bool) {
	v.mu.RLock()
	latest := cmp.Or(v.latestAPI, APIVersions[len(APIVersions)-1])
	v.mu.RUnlock()
	version := x.URL.Query().Get("api-version")
	switch n := slices.Index(APIVersions, version); {
	case version == "":
		return v.fail(x, http.StatusBadRequest, "BadParameter", "api-version must be specified", ""), true
	case n < 0, n > slices.Index(APIVersions, latest):
		return v.fail(x, http.StatusBadRequest, "BadParameter", "The specified version ("+version+
			") is not recognized. Consider using the latest supported version ("+latest+").", ""), true
	}
	return reply{}, false
}

func (v *Vault) notFound(x *exchange, p objectPath) reply {
	one, id := p.collection.singular(), p.name
	if p.version != "" {
		id += "/" + p.version
	}
	return v.fail(x, http.StatusNotFound, codeNoun(p.collection)+"NotFound",
		"A "+one+" with (name/id) "+id+" was not found in this key vault. A "+one+
			" deleted recently can perhaps be recovered.", "")
}

// refusalCode is the inner code for a caller without permission.
func (v *Vault) refusalCode() string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.policies {
		return forbiddenByPolicy
	}
	return forbiddenByRbac
}

func codeNoun(c collection) string {
	one := c.singular()
	return strings.ToUpper(one[:1]) + one[1:]
}

// forbidden is a 403 in the words of its inner code. Key Vault separates the facts by CRLF.
func (v *Vault) forbidden(x *exchange, who *caller, inner string) reply {
	p := parseObjectPath(x.URL.Path)
	caller := "appid=" + who.AppID + ";oid=" + who.ObjectID + ";iss=" + who.Issuer
	where := v.name + ";location=westeurope"
	var lines []string
	switch inner {
	case forbiddenByRbac:
		lines = []string{
			"Caller is not authorized to perform action on resource.",
			"If role assignments, deny assignments or role definitions were changed recently, please observe propagation time.",
			"Caller: " + caller,
			"Action: '" + rbacAction(p) + "'",
			"Resource: '" + v.resourceID(p) + "'",
			"Assignment: (not found)",
			"DenyAssignmentId: null",
			"DecisionReason: 'DeniedWithNoValidRBAC' ",
			"Vault: " + where, "",
		}
	case forbiddenByPolicy, accessDenied:
		_, verb, _ := strings.Cut(string(p.permission()), "/")
		lines = []string{"The user, group or application '" + caller + "' does not have " + string(p.collection) + " " +
			verb + " permission on key vault '" + where + "'. For help resolving this issue, please see " +
			"https://go.microsoft.com/fwlink/?linkid=2125287"}
	case forbiddenByFirewall:
		lines = []string{
			"Client address is not authorized and caller is not a trusted service.",
			"Client address: " + testAddress, "Caller: " + caller, "Vault: " + where,
		}
	case forbiddenByConnection:
		lines = []string{
			"Public network access is disabled and request is not from a trusted service nor via an approved private link.",
			"Caller: " + caller, "Vault: " + where,
		}
	case forbiddenByPerimeter:
		lines = []string{"Access to the resource was denied by the network security perimeter configuration."}
	case secretDisabled:
		lines = []string{"Operation get is not allowed on a disabled secret."}
	default:
		lines = []string{"The operation is not allowed."}
	}
	return v.fail(x, http.StatusForbidden, "Forbidden", strings.Join(lines, "\r\n"), inner)
}

// rbacAction is the data action that the built-in reader roles carry for the request.
func rbacAction(p objectPath) string {
	const prefix = "Microsoft.KeyVault/vaults/"
	switch {
	case p.collection != secrets:
		return prefix + string(p.collection) + "/read"
	case p.list():
		return prefix + "secrets/readMetadata/action"
	}
	return prefix + "secrets/getSecret/action"
}

func (v *Vault) resourceID(p objectPath) string {
	id := "/subscriptions/" + derivedUUID("subscription", v.tenant.id) +
		"/resourcegroups/box/providers/microsoft.keyvault/vaults/" + v.name
	if p.name != "" {
		id += "/" + string(p.collection) + "/" + strings.ToLower(p.name)
	}
	return id
}

// fault is Key Vault's answer to a fault of a test's choosing. It is sent before the token is
// checked, so it names a caller that does not exist.
func (v *Vault) fault(x *exchange, f Fault) reply {
	nobody := &caller{AppID: derivedUUID("nobody"), ObjectID: derivedUUID("nobody's object")}
	nobody.Issuer = v.cloud.issuer + v.tenant.id + "/"
	switch f.Status {
	case http.StatusBadRequest:
		return v.fail(x, f.Status, "BadParameter", "The request is malformed.", f.InnerCode)
	case http.StatusUnauthorized:
		if f.InnerCode == "AKV10046" {
			return v.unauthorized(x, unknownSigningKey)
		}
		return v.unauthorized(x, "Error validating token: 'S2S12086'.")
	case http.StatusForbidden:
		return v.forbidden(x, nobody, f.InnerCode)
	case http.StatusNotFound:
		if p := parseObjectPath(x.URL.Path); p.collection != "" {
			return v.notFound(x, p)
		}
		return v.fail(x, f.Status, "NotFound", "The requested resource does not exist.", f.InnerCode)
	case http.StatusTooManyRequests:
		return v.fail(x, f.Status, "Throttled",
			"Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached", f.InnerCode)
	case http.StatusServiceUnavailable:
		return v.fail(x, f.Status, "ServiceUnavailable", "The service is unavailable.", f.InnerCode)
	case http.StatusInternalServerError:
		return v.fail(x, f.Status, "InternalServerError", "An internal server error has occurred.", f.InnerCode)
	}
	return v.fail(x, f.Status, strings.ReplaceAll(http.StatusText(f.Status), " ", ""), http.StatusText(f.Status)+".", f.InnerCode)
}
