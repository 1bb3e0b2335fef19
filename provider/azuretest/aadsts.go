package azuretest

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// aadstsForm is how Entra reports one of its error numbers: the HTTP status, the OAuth error and the
// text, whose names in braces are filled in from the request.
type aadstsForm struct {
	status int
	oauth  string
	text   string
}

// aadstsForms are the numbers a sign-in with a client assertion or secret meets. Status, OAuth error
// and the words that identify a case are from responses that users of Azure published and from
// Microsoft's list of AADSTS codes; the advice that follows them there is shortened.
var aadstsForms = map[int]aadstsForm{
	50013:   {401, "invalid_client", "Assertion failed signature validation. [Reason - {reason}]"},
	50027:   {400, "invalid_request", "JWT token is invalid or malformed."},
	50049:   {400, "invalid_instance", "Unknown or invalid instance."},
	50166:   {400, "invalid_request", "Request to External OIDC endpoint failed."},
	50196:   {400, "invalid_grant", "The server terminated an operation because it encountered a client request loop."},
	53003:   {400, "invalid_grant", "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance."},
	70003:   {400, "unsupported_grant_type", "The app requested an unsupported grant type '{grant}'."},
	70021:   {400, "invalid_request", "No matching federated identity record found for presented assertion. Assertion Issuer: '{issuer}'. Assertion Subject: '{subject}'. Assertion Audience: '{audience}'. {docs}"},
	70025:   {401, "invalid_client", "The client '{client}' has no configured federated identity credentials."},
	90002:   {400, "invalid_request", "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud."},
	90033:   {503, "temporarily_unavailable", "A transient error has occurred. Please try again."},
	90055:   {429, "temporarily_unavailable", "There are too many incoming requests for this tenant."},
	90061:   {400, "invalid_request", "Request to External OIDC endpoint failed."},
	500011:  {400, "invalid_resource", "The resource principal named {resource} was not found in the tenant named {tenant}. It may not be installed or consented to there, or the request went to the wrong tenant."},
	501661:  {400, "invalid_request", "Request to External OIDC endpoint failed."},
	700016:  {400, "unauthorized_client", "Application with identifier '{client}' was not found in the directory '{tenant}'. It may not be installed or consented to there, or the request went to the wrong tenant."},
	700024:  {401, "invalid_client", "Client assertion is not within its valid time range. Current time: {now}, assertion valid from {from}, expiry time of assertion {until}."},
	700027:  {401, "invalid_client", "Client assertion failed signature validation. [Reason - {reason}]"},
	700211:  {401, "invalid_client", "No matching federated identity record found for presented assertion issuer '{issuer}'. {check}"},
	700212:  {401, "invalid_client", "No matching federated identity record found for presented assertion audience '{audience}'. {check}"},
	700213:  {401, "invalid_client", "No matching federated identity record found for presented assertion subject '{subject}'. {check}"},
	900023:  {400, "invalid_request", "Specified tenant identifier '{tenant}' is neither a valid DNS name, nor a valid external domain."},
	900144:  {400, "invalid_request", "The request body must contain the following parameter: '{parameter}'."},
	900561:  {400, "invalid_request", "The endpoint only accepts POST requests. Received a {method} request."},
	900612:  {400, "invalid_request", "Failed to parse provider signing keys."},
	1002012: {400, "invalid_scope", "The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."},
	7000112: {400, "unauthorized_client", "Application '{client}' is disabled."},
	7000215: {401, "invalid_client", "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{client}'."},
	7000218: {401, "invalid_client", "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."},
	7000222: {401, "invalid_client", "The provided client secret keys for app '{client}' are expired."},
	7000229: {400, "invalid_client", "The client application {client} is missing service principal in the tenant {tenant}."},
	7000272: {401, "invalid_client", "The certificate with identifier {kid} used to sign the federated credential could not be found in the metadata of identity provider {issuer}. Make sure that it publishes the key."},
	7002137: {401, "invalid_client", "No matching federated identity record found for presented assertion subject '{subject}'. {check}"},
	7002138: {401, "invalid_client", "No matching federated identity record found for presented assertion subject '{subject}'. The subject matches with case-insensitive comparison, but not with case-sensitive comparison. {check}"},
}

// aadstsCommon stand in the texts of several numbers.
var aadstsCommon = []string{
	"{check}", "Check your federated identity credential Subject, Audience and Issuer against the presented assertion. {docs}",
	"{docs}", "https://learn.microsoft.com/entra/workload-id/workload-identity-federation",
}

// aadsts is a refusal by Entra: its number, and what the number's text names.
type aadsts struct {
	number int
	names  []string // pairs of "{name}" and value
}

func refuse(number int, names ...string) *aadsts { return &aadsts{number, names} }

// entraError is the body of Entra's errors, in Entra's order.
type entraError struct {
	Error         string `json:"error"`
	Description   string `json:"error_description"`
	Codes         []int  `json:"error_codes"`
	Timestamp     string `json:"timestamp"`
	TraceID       string `json:"trace_id"`
	CorrelationID string `json:"correlation_id"`
	URI           string `json:"error_uri"`
}

// entraFailure is the answer that reports e. The correlation ID is the client's own, if it sent one.
func (b *Box) entraFailure(x *exchange, e *aadsts) reply {
	form, known := aadstsForms[e.number]
	if !known {
		form = aadstsForm{http.StatusBadRequest, "invalid_request", "The sign-in was refused."}
	}
	if x.kind == Metadata && form.oauth == "invalid_request" {
		form.oauth = "invalid_tenant" // as seen for AADSTS90002 at this endpoint
	}
	return b.entraBody(x, form.status, form.oauth, e.number, b.expand(x, form.text, e.names))
}

func (b *Box) entraBody(x *exchange, status int, oauth string, number int, text string) reply {
	trace := newUUID()
	correlation := x.Header.Get("client-request-id")
	if correlation == "" {
		correlation = newUUID()
	}
	timestamp := b.clock().UTC().Format("2006-01-02 15:04:05Z")
	return jsonReply(status, entraHeader(trace), entraError{
		Error: oauth,
		Description: fmt.Sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s",
			number, text, trace, correlation, timestamp),
		Codes: []int{number}, Timestamp: timestamp, TraceID: trace, CorrelationID: correlation,
		URI: fmt.Sprintf("https://%s/error?code=%d", x.entraHost(), number),
	})
}

// expand fills in the names of a text: the refusal's own first, then the request's. An unknown
// name, as a subject when a test forces the number on a client secret, is left empty.
func (b *Box) expand(x *exchange, text string, names []string) string {
	text = strings.NewReplacer(aadstsCommon[:2]...).Replace(text)
	claims := peek(x.form.Get("client_assertion"))
	const ticks = "2006-01-02T15:04:05.0000000Z"
	pairs := append(append([]string{}, names...), aadstsCommon[2:]...)
	return strings.NewReplacer(append(pairs,
		"{client}", x.form.Get("client_id"), "{tenant}", tenantSegment(x.URL.Path),
		"{grant}", x.form.Get("grant_type"), "{scope}", x.form.Get("scope"), "{resource}", firstResource(x.form.Get("scope")),
		"{issuer}", claims.Issuer, "{subject}", claims.Subject, "{audience}", strings.Join(claims.Audience, ","),
		"{now}", b.clock().UTC().Format(ticks), "{from}", dateText(claims.NotBefore, ticks),
		"{until}", dateText(claims.ExpiresAt, ticks), "{method}", x.Method,
		"{reason}", "The key was not found.", "{parameter}", "scope", "{kid}", peekKeyID(x.form.Get("client_assertion")))...).Replace(text)
}

// firstResource is the first resource of a scope.
func firstResource(scope string) string {
	first, _, _ := strings.Cut(scope, " ")
	return strings.TrimSuffix(first, "/.default")
}

// entraFault is Entra's answer to a fault of a test's choosing. Without its own number, a
// throttled or failing Entra names the transient conditions it documents. Names are those of [refuse].
func (b *Box) entraFault(x *exchange, f Fault, names ...string) reply {
	number, err := strconv.Atoi(f.InnerCode)
	if err != nil {
		number = 90033
		if f.Status == http.StatusTooManyRequests {
			number = 90055
		}
	}
	form, known := aadstsForms[number]
	if !known {
		form = aadstsForm{f.Status, "invalid_request", "The sign-in was refused."}
	}
	return b.entraBody(x, f.Status, form.oauth, number, b.expand(x, form.text, names))
}

// entraHeader are the headers of all of Entra's answers.
func entraHeader(trace string) http.Header {
	return http.Header{
		"Cache-Control":             {"no-store, no-cache"},
		"Pragma":                    {"no-cache"},
		"Expires":                   {"-1"},
		"Strict-Transport-Security": {"max-age=31536000; includeSubDomains"},
		"X-Content-Type-Options":    {"nosniff"},
		"X-Ms-Request-Id":           {trace},
		"X-Ms-Ests-Server":          {"2.1.0 - BOX ProdSlices"},
	}
}
