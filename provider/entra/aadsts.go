package entra

import (
	"fmt"
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
	fromSecret  = "the secret that nodePublishSecretRef names"
	newSecret   = "create another: az ad app credential reset --append --id {id}"
	propagating = "; if it is there already, retry: it may still be propagating"
)

var (
	applicationNotFound = refusal{reason: fault.ApplicationNotFound,
		cause: "Entra has no enabled application or managed identity with client ID {client} ({clientFrom}) in tenant {tenant} ({tenantFrom})",
		fix:   "check both; az ad sp show --id {id} shows whether it is there and enabled"}
	tenantNotFound = refusal{reason: fault.TenantNotFound,
		cause: "no tenant {tenant} ({tenantFrom}) at {authority}",
		fix:   "set tenantID to the tenant of the identity, and cloudName to its cloud; az account show --query tenantId shows it"}
	tenantThrottled = refusal{reason: fault.Throttled,
		cause: "{endpoint} is throttling sign-ins of tenant {tenant}", fix: slowDown}
	clientThrottled  = refusal{reason: fault.Throttled, cause: "{endpoint} is throttling sign-ins of {who}", fix: slowDown}
	resourceNotFound = refusal{reason: fault.SignInFailed, cause: "AADSTS500011: tenant {tenant} does not know the resource {resource}", fix: "{resourceFix}"}
	transientFailure = refusal{reason: fault.ServiceUnavailable, cause: "AADSTS{code}: {endpoint} reports a temporary failure", fix: retries, passes: true}

	clientSecretInvalid = refusal{reason: fault.ClientSecretInvalid,
		cause: "Entra rejected the client secret of {who} (clientsecret of " + fromSecret + ")", fix: "{blank}put the client secret's value there, not its ID; or " + newSecret}
	certificateInvalid = refusal{reason: fault.SignInFailed,
		cause: "AADSTS{code}: Entra rejected the certificate of {who} (clientcertificate of " + fromSecret + ")",
		fix:   "register it: az ad app credential reset --append --id {id} --cert @FILE; if it is there, check its dates and the clock of the node"}

	tokenInvalid = refusal{reason: fault.TokenInvalid,
		cause: "Entra cannot verify the service-account token with the keys of {issuer}",
		fix:   "check that the issuer serves the cluster's current signing keys (JWKS); after a key rotation wait until Entra has read them"}
	issuerUnreachable = refusal{reason: fault.IssuerUnreachable,
		cause: "Entra cannot read the OIDC documents of {issuer}",
		fix: "make its /.well-known/openid-configuration and JWKS public, with a certificate that public clients trust;" +
			" if they are, retry: it may still be propagating", passes: true}
)

const (
	slowDown = "the next mount retries; spread restarts, or let fewer pods share an identity"
	retries  = "the next mount retries"
)

// refusals are those of every credential. The numbers are those of Microsoft's "Microsoft Entra
// authentication and authorization error codes" and of real responses. More are in
// descriptions.
var refusals = map[int]refusal{
	700016:  applicationNotFound,
	7000229: applicationNotFound, // no service principal in this tenant
	7000112: applicationNotFound, // disabled
	70001:   applicationNotFound, // older than the two before
	700011:  applicationNotFound,

	90002:  tenantNotFound,
	900023: tenantNotFound,

	90033: tenantThrottled, // transient, "try again later"
	90055: tenantThrottled, // tenant limit
	50196: clientThrottled, // the same request in a loop

	90006: transientFailure,
	90012: transientFailure,
	90024: transientFailure,

	500011: resourceNotFound,
	53003: {reason: fault.SignInFailed, cause: "AADSTS53003: a Conditional Access policy blocks {who}",
		fix: "add the nodes' egress IP addresses to the policy's trusted locations, or exclude this identity"},
}

// secretRefusals are those about a client secret.
var secretRefusals = map[int]refusal{
	7000215: clientSecretInvalid,
	70002:   clientSecretInvalid, // older
	7000222: {reason: fault.ClientSecretExpired,
		cause: "the client secret of {who} has expired (clientsecret of " + fromSecret + ")",
		fix:   newSecret + "; or use workload identity, which has none"},
}

// certificateRefusals are those about the certificate of a service principal.
var certificateRefusals = map[int]refusal{
	700027: certificateInvalid, 700024: certificateInvalid, 700030: certificateInvalid, 7000222: certificateInvalid, 50012: certificateInvalid,
}

// assertionRefusals are those about a service-account token. The cause of a
// FederatedCredentialMissing says what the client's federated credentials do not have.
var assertionRefusals = map[int]refusal{
	70021:   {reason: fault.FederatedCredentialMissing, cause: "has no federated credential for the pod's service account", passes: true}, // older than the next three
	700211:  {reason: fault.FederatedCredentialMissing, cause: "has no federated credential with this issuer", passes: true},
	700212:  {reason: fault.FederatedCredentialMissing, cause: "has no federated credential with this audience", passes: true},
	700213:  {reason: fault.FederatedCredentialMissing, cause: noSubject, passes: true},
	7002137: {reason: fault.FederatedCredentialMissing, cause: noSubject, passes: true}, // of a managed identity
	7002138: {reason: fault.FederatedCredentialMissing, cause: "has a federated credential with this subject in another letter case"},
	70025:   {reason: fault.FederatedCredentialMissing, cause: "has no federated credential at all", passes: true},

	700024: {reason: fault.TokenExpired, cause: "the service-account token of {subject} has expired or is not valid yet",
		fix: "check the clocks of the node and of the control plane; kubelet sends a new token with the next mount"},
	50012:   tokenInvalid, // older than the next ones
	50013:   tokenInvalid,
	700027:  tokenInvalid,
	7000272: tokenInvalid, // the issuer's keys do not contain the token's
	90061:   issuerUnreachable,
	50166:   issuerUnreachable,
	501661:  issuerUnreachable,
	900612:  issuerUnreachable, // its keys cannot be parsed
}

const noSubject = "has no federated credential with this subject"

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
	return refusal{reason: fault.SignInFailed, cause: "AADSTS{code}: " + d.text + " (sign-in of {who})", fix: d.fix}, ok
}

// aadstsError is the error of an AADSTS number, nil if the number is not known.
func (s signIn) aadstsError(code int) *fault.Error {
	r, ok := s.refusalOf(code)
	if !ok {
		return nil
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
	resourceFix := "check that cloudName is the cloud of the tenant"
	if s.custom {
		resourceFix = fmt.Sprintf("set keyVaultEndpoint of the cloud's environment file to the resource that stands for its vaults there; it is %q now", resource)
	}
	blank := ""
	if secret := string(s.ClientSecret); secret != strings.TrimSpace(secret) {
		blank = "remove the white space at its start or end (a line break, where it comes from a file or from echo without -n); else "
	}
	names := strings.NewReplacer(
		"{who}", s.String(), "{client}", strconv.Quote(s.ClientID), "{clientFrom}", s.ClientIDFrom, "{id}", shell(s.ClientID),
		"{tenant}", strconv.Quote(s.TenantID), "{tenantFrom}", s.TenantIDFrom, "{authority}", s.Authority, "{endpoint}", s.endpoint,
		"{code}", strconv.Itoa(s.code), "{resource}", strconv.Quote(resource), "{resourceFix}", resourceFix, "{blank}", blank,
		"{issuer}", s.issuer(), "{subject}", strconv.Quote(readClaims(s.Assertion).subject))
	return &fault.Error{Reason: r.reason, Cause: names.Replace(r.cause), Fix: names.Replace(r.fix)}
}
