package entra

import (
	"fmt"
	"strings"
)

// codes holds what each AADSTS number means for a mount and how to mend it. The
// numbers are those of Microsoft's "Microsoft Entra authentication and
// authorization error codes" and of real responses.
var codes = map[int]func(id Identity, scope string) *Error{
	70021:   federatedCredentialMissing,
	700211:  federatedCredentialMissing, // issuer
	700212:  federatedCredentialMissing, // audience
	700213:  federatedCredentialMissing, // subject
	7002137: federatedCredentialMissing, // subject of a managed identity
	7002138: federatedCredentialMissing, // subject, but for letter case
	70025:   federatedCredentialMissing, // the client has none at all

	700016:  applicationNotFound,
	7000229: applicationNotFound, // no service principal in this tenant
	7000112: applicationNotFound, // disabled

	90002:  tenantNotFound,
	900023: tenantNotFound,

	700024:  tokenExpired,
	50013:   tokenInvalid,
	700027:  tokenInvalid,
	7000272: tokenInvalid, // the issuer's keys do not hold the token's
	90061:   issuerUnreachable,
	50166:   issuerUnreachable,
	501661:  issuerUnreachable,
	900612:  issuerUnreachable, // its keys cannot be parsed

	90033: throttled, // transient, "try again later"
	90055: throttled, // tenant limit
	50196: throttled, // the same request in a loop

	500011: resourceNotFound,
	53003:  blockedByPolicy,
}

func federatedCredentialMissing(id Identity, _ string) *Error {
	c := readClaims(id.Assertion)
	name := strings.NewReplacer("system:serviceaccount:", "", ":", "-").Replace(c.subject)
	credential := fmt.Sprintf(`{"name":%q,"issuer":%q,"subject":%q,"audiences":[%q]}`, name, c.issuer, c.subject, c.audience)
	return &Error{
		reason: ReasonFederatedCredentialMissing,
		cause: fmt.Sprintf("%s trusts no service account with issuer %q, subject %q, audience %q",
			id, c.issuer, c.subject, c.audience),
		fix: fmt.Sprintf("add a federated credential: az identity federated-credential create"+
			" --identity-name IDENTITY --resource-group GROUP --name %s --issuer %s --subject %s --audiences %s"+
			" (managed identity), or az ad app federated-credential create --id %s --parameters %s (application)",
			shell(name), shell(c.issuer), shell(c.subject), shell(c.audience), shell(id.ClientID), shell(credential)),
	}
}

func applicationNotFound(id Identity, _ string) *Error {
	return &Error{
		reason: ReasonApplicationNotFound,
		cause:  fmt.Sprintf("no usable application with client ID %q (%s) in tenant %q (%s)", id.ClientID, id.ClientIDFrom, id.TenantID, id.TenantIDFrom),
		fix:    "check both; az ad sp show --id " + shell(id.ClientID) + " shows whether it is there and enabled",
	}
}

func tenantNotFound(id Identity, _ string) *Error {
	return &Error{
		reason: ReasonTenantNotFound,
		cause:  fmt.Sprintf("no tenant %q (%s) at %s", id.TenantID, id.TenantIDFrom, id.Authority),
		fix:    "set tenantID to the tenant of the identity, and cloudName to its cloud; az account show --query tenantId shows it",
	}
}

func tokenExpired(id Identity, _ string) *Error {
	c := readClaims(id.Assertion)
	return &Error{
		reason: ReasonTokenExpired,
		cause:  fmt.Sprintf("the service-account token of %q is outside its time of validity", c.subject),
		fix:    "check the clocks of the node and of the control plane; kubelet sends a new token with the next mount",
	}
}

func tokenInvalid(id Identity, _ string) *Error {
	c := readClaims(id.Assertion)
	return &Error{
		reason: ReasonTokenInvalid,
		cause:  fmt.Sprintf("Entra cannot verify the service-account token with the keys of issuer %q", c.issuer),
		fix:    "check that the issuer serves the cluster's current signing keys (JWKS); after a key rotation wait until Entra has read them",
	}
}

func issuerUnreachable(id Identity, _ string) *Error {
	c := readClaims(id.Assertion)
	return &Error{
		reason: ReasonIssuerUnreachable,
		cause:  fmt.Sprintf("Entra cannot read the OIDC documents of issuer %q", c.issuer),
		fix:    "make its /.well-known/openid-configuration and JWKS public, with a certificate that public clients trust",
	}
}

func throttled(id Identity, _ string) *Error {
	return &Error{
		reason: ReasonThrottled,
		cause:  fmt.Sprintf("%s limits the sign-ins of client %q", id.Authority, id.ClientID),
		fix:    "it is tried again with the next mount; spread restarts, or share fewer pods per identity",
	}
}

func resourceNotFound(id Identity, scope string) *Error {
	return &Error{
		reason: ReasonSignInFailed,
		cause:  fmt.Sprintf("AADSTS500011: tenant %q does not know the resource %q", id.TenantID, strings.TrimSuffix(scope, "/.default")),
		fix:    "check that cloudName is the cloud of the tenant",
	}
}

func blockedByPolicy(id Identity, _ string) *Error {
	return &Error{
		reason: ReasonSignInFailed,
		cause:  fmt.Sprintf("AADSTS53003: a Conditional Access policy blocks %s", id),
		fix:    "let the policy pass the node's addresses for this identity",
	}
}

// shell quotes a word for a POSIX shell. Claims come from a token whose signature
// is not checked here, and people copy commands from messages.
func shell(word string) string {
	safe := word != "" && strings.IndexFunc(word, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:/._-@", r)
	}) < 0
	if safe && word[0] != '-' {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
