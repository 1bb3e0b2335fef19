package entra

import (
	"cmp"
	"strconv"
	"strings"

	"akv-csi-provider/provider/fault"
)

// refusal is what an AADSTS number means for a mount, and the fix. Names in braces stand for
// those of the sign-in; see fill.
type refusal struct {
	reason     fault.Reason
	cause, fix string
	// passes says that the cause may be over within seconds: what was just created has not
	// reached all of Entra's servers, or one of them could not read the issuer's documents. The
	// request is sent again; see retryRefusals.
	passes bool
}

const (
	newSecret   = "Entra admin: `az ad app credential reset --append --id {id}`; store the new value in the Secret"
	propagating = "; if just created, wait a few minutes"
)

var (
	applicationNotFound = refusal{reason: fault.ApplicationNotFound,
		cause: "tenant {tenant} ({tenantFrom}) has no enterprise application {client} ({clientFrom})",
		fix:   "check both (client ID, not object ID)"}
	// applicationUnavailable is for a number that has both meanings.
	applicationUnavailable = refusal{reason: fault.ApplicationNotFound, cause: applicationNotFound.cause + ", or it is disabled",
		fix: applicationNotFound.fix + "; or, Entra admin: enable it"}
	applicationDisabled = refusal{reason: fault.ApplicationNotFound,
		cause: "client {client} ({clientFrom}) is disabled in tenant {tenant} ({tenantFrom})",
		fix:   "Entra admin: enable its enterprise application"}
	tenantNotFound = refusal{reason: fault.TenantNotFound,
		cause: "no tenant {tenant} ({tenantFrom}) at {endpoint}",
		fix:   "set tenantID to the tenant of the identity, and check cloudName"}
	tenantThrottled = refusal{reason: fault.Throttled,
		cause: "{endpoint} is throttling sign-ins of tenant {tenant}", fix: slowDown}
	clientThrottled = refusal{reason: fault.Throttled,
		cause: "{endpoint} is throttling sign-ins of {who}", fix: slowDown + " or use more identities"}
	nodeThrottled = refusal{reason: fault.Throttled,
		cause: "the node's metadata service is throttling sign-ins of {who}", fix: slowDown}
	tenantUnavailable = refusal{reason: fault.Throttled,
		cause: "Entra is temporarily unavailable to tenant {tenant} (AADSTS{code})", fix: retries}
	resourceNotFound = refusal{reason: fault.SignInFailed, cause: "AADSTS500011: tenant {tenant} does not know {resource}", fix: "{resourceFix}"}
	transientFailure = refusal{reason: fault.ServiceUnavailable, cause: "AADSTS{code}: {endpoint} reports a temporary failure", fix: retries, passes: true}

	clientSecretInvalid = refusal{reason: fault.ClientSecretInvalid,
		cause: "Entra rejected the clientsecret of the nodePublishSecretRef for client {client}",
		fix:   "store its value, not its ID; if it is the value, " + newSecret}
	clientSecretPadded = refusal{reason: fault.ClientSecretInvalid,
		cause: "the clientsecret of the nodePublishSecretRef for client {client} has white space around it, and Entra rejected it",
		fix:   "store it trimmed (`echo` without -n adds a line break)"}
	certificateInvalid = refusal{reason: fault.SignInFailed,
		cause: "AADSTS{code}: Entra rejected the clientcertificate of the nodePublishSecretRef for client {client}",
		fix:   "check its dates and the node's clock; if it is not registered, Entra admin: `az ad app credential reset --append --id {id} --cert @FILE`, with the public certificate only"}

	tokenInvalid = refusal{reason: fault.TokenInvalid,
		cause: "Entra cannot verify the service account token with the keys of {issuer}",
		fix:   "cluster operator: publish the cluster's current signing keys in its JWKS; Entra reads them within minutes"}
	issuerUnreachable = refusal{reason: fault.IssuerUnreachable,
		cause: "Entra cannot read the OIDC documents of {issuer}",
		fix:   "cluster operator: publish its /.well-known/openid-configuration and JWKS, with a publicly trusted certificate" + propagating, passes: true}
)

const (
	retrying = "kubelet retries; if it persists, "
	slowDown = retrying + "restart fewer pods at once"
	retries  = retrying + "check the Azure status page"
)

// refusals are those of every credential. The numbers are those of Microsoft's "Microsoft Entra
// authentication and authorization error codes" and of real responses. More are in
// descriptions.
var refusals = map[int]refusal{
	700016:  applicationNotFound,
	7000229: applicationNotFound, // no service principal in this tenant
	7000112: applicationDisabled,
	70001:   applicationUnavailable, // older than the three before
	700011:  applicationNotFound,

	90002:  tenantNotFound,
	900023: tenantNotFound,

	unavailableToTenant: tenantUnavailable,
	90055:               tenantThrottled, // tenant limit
	50196:               clientThrottled, // the same request in a loop

	90006: transientFailure,
	90012: transientFailure,
	90024: transientFailure,

	500011: resourceNotFound,
	53003: {reason: fault.SignInFailed, cause: "AADSTS53003: a Conditional Access policy blocks client {client}",
		fix: allowNodes},
}

// secretRefusals are those about a client secret.
var secretRefusals = map[int]refusal{
	7000215: clientSecretInvalid,
	70002:   clientSecretInvalid, // older
	7000222: {reason: fault.ClientSecretExpired,
		cause: "the clientsecret of the nodePublishSecretRef has expired for client {client}",
		fix:   newSecret + ", or use workload identity"},
}

// certificateRefusals are those about the certificate of a service principal.
var certificateRefusals = map[int]refusal{
	700027: certificateInvalid, 700024: certificateInvalid, 700030: certificateInvalid, 7000222: certificateInvalid, 50012: certificateInvalid,
}

// assertionRefusals are those about a service-account token. The cause of a
// FederatedCredentialMissing says which credential the client does not have.
var assertionRefusals = map[int]refusal{
	70021:   {reason: fault.FederatedCredentialMissing, cause: "for the pod's ServiceAccount", passes: true}, // older than the next three
	700211:  {reason: fault.FederatedCredentialMissing, cause: "with this issuer", passes: true},
	700212:  {reason: fault.FederatedCredentialMissing, cause: "with this audience", passes: true},
	700213:  {reason: fault.FederatedCredentialMissing, cause: noSubject, passes: true},
	7002137: {reason: fault.FederatedCredentialMissing, cause: noSubject, passes: true}, // of a managed identity
	7002138: {reason: fault.FederatedCredentialMissing, cause: noSubject + ", only one that differs in case"},
	70025:   {reason: fault.FederatedCredentialMissing, passes: true},

	700024: {reason: fault.TokenExpired, cause: "the service account token of {subject} has expired or is not valid yet",
		fix: retrying + "cluster operator: check the clocks of node and control plane"},
	50012:   tokenInvalid, // older than the next ones
	50013:   tokenInvalid,
	700027:  tokenInvalid,
	7000272: tokenInvalid, // the issuer's keys do not contain the token's
	90061:   issuerUnreachable,
	50166:   issuerUnreachable,
	501661:  issuerUnreachable,
	900612:  issuerUnreachable, // its keys cannot be parsed
}

// unavailableToTenant is MsodsServiceUnavailable: a short outage of the directory, not a limit. Its
// reason has always been Throttled.
const unavailableToTenant = 90033

const noSubject = "with this subject"

// refusalOf returns what a number means for the credential of this sign-in.
func (s signIn) refusalOf(code int) (r refusal, ok bool) {
	own := assertionRefusals
	switch {
	case s.Mode == ManagedIdentity:
		own = nil
	case s.Mode == ServicePrincipal && s.ClientSecret != "":
		own = secretRefusals
	case s.Mode == ServicePrincipal:
		own = certificateRefusals
	}
	for _, table := range []map[int]refusal{own, refusals} {
		if r, ok = table[code]; ok {
			return r, true
		}
	}
	d, ok := descriptions[code]
	return refusal{reason: fault.SignInFailed, cause: "AADSTS{code}: " + d.text + " ({who})", fix: d.fix}, ok
}

// aadstsError is the error of an AADSTS number, nil if the number is not known.
func (s signIn) aadstsError(code int) *fault.Error {
	r, ok := s.refusalOf(code)
	if !ok {
		return nil
	}
	// White space is part of a secret, and most often why Entra rejects one.
	if secret := string(s.ClientSecret); r.reason == fault.ClientSecretInvalid && secret != strings.TrimSpace(secret) {
		r = clientSecretPadded
	}
	s.code = code
	e := s.fill(r)
	if r.reason == fault.FederatedCredentialMissing {
		e = s.federatedCredentialMissing(r)
	}
	e.AADSTS = code
	return e
}

// fill returns the error of a refusal with the names of this sign-in.
func (s signIn) fill(r refusal) *fault.Error {
	resource := strings.TrimSuffix(s.scope, "/.default")
	resourceFix := checkCloud
	if s.custom {
		resourceFix = "cluster operator: check keyVaultEndpoint in the cloud's environment file"
	}
	names := strings.NewReplacer(
		"{who}", s.String(), "{client}", strconv.Quote(s.ClientID), "{clientFrom}", s.ClientIDFrom, "{id}", shell(s.ClientID),
		"{tenant}", strconv.Quote(s.TenantID), "{tenantFrom}", s.TenantIDFrom, "{authority}", s.Authority, "{endpoint}", s.endpoint,
		"{code}", strconv.Itoa(s.code), "{resource}", strconv.Quote(resource), "{resourceFix}", resourceFix,
		"{issuer}", s.issuer(), "{audience}", strconv.Quote(cmp.Or(s.Audience, Audience)), "{subject}", strconv.Quote(readClaims(s.Assertion).subject))
	return &fault.Error{Reason: r.reason, Cause: names.Replace(r.cause), Fix: names.Replace(r.fix)}
}
