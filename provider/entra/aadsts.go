package entra

import (
	"fmt"
	"strings"

	"akv-csi-provider/provider/fault"
)

// codes are the errors of AADSTS numbers: what each means for a mount, and the fix. The
// numbers are those of Microsoft's "Microsoft Entra authentication and
// authorization error codes" and of real responses. More are in descriptions.
var codes = map[int]func(signIn) *fault.Error{
	700016:  applicationNotFound,
	7000229: applicationNotFound, // no service principal in this tenant
	7000112: applicationNotFound, // disabled
	70001:   applicationNotFound, // older than the two before
	700011:  applicationNotFound,

	90002:  tenantNotFound,
	900023: tenantNotFound,

	7000215: clientSecretInvalid,
	70002:   clientSecretInvalid, // older
	7000222: clientSecretExpired,

	90033: tenantThrottled, // transient, "try again later"
	90055: tenantThrottled, // tenant limit
	50196: throttled,       // the same request in a loop

	500011: resourceNotFound,
	53003:  blockedByPolicy,
}

// assertionCodes are those about a service-account token.
var assertionCodes = map[int]func(signIn) *fault.Error{
	70021:   federatedCredentialMissing, // older than the next three
	700211:  federatedCredentialMissing,
	700212:  federatedCredentialMissing,
	700213:  federatedCredentialMissing,
	7002137: federatedCredentialMissing, // subject of a managed identity
	7002138: federatedCredentialMissing,
	70025:   federatedCredentialMissing,

	700024:  tokenExpired,
	50013:   tokenInvalid,
	700027:  tokenInvalid,
	7000272: tokenInvalid, // the issuer's keys do not contain the token's
	90061:   issuerUnreachable,
	50166:   issuerUnreachable,
	501661:  issuerUnreachable,
	900612:  issuerUnreachable, // its keys cannot be parsed
}

// aadstsError is the error of an AADSTS number, nil if the number is not known.
func (s signIn) aadstsError(code int) *fault.Error {
	explain, ok := codes[code]
	if !ok && s.Mode != ServicePrincipal { // which sends no token
		explain, ok = assertionCodes[code]
	}
	if !ok {
		_, ok = descriptions[code]
		explain = descriptionError
	}
	if !ok {
		return nil
	}
	s.code = code
	e := explain(s)
	e.AADSTS = code
	return e
}

// mismatch says which claim of the token no federated credential has.
var mismatch = map[int]string{
	700211:  "the issuer is in none of its federated credentials",
	700212:  "the audience is in none of its federated credentials",
	700213:  "the subject is in none of its federated credentials",
	7002137: "the subject is in none of its federated credentials",
	7002138: "a federated credential differs in the letter case of the subject",
	70025:   "it has no federated credential",
}

// federatedCredentialMissing names the command that fixes it, but only for the
// pod's own service account: where the CSIDriver object requests no tokens, a pod can bring
// its own token, and no message should advise to trust that.
func federatedCredentialMissing(s signIn) *fault.Error {
	c := readClaims(s.Assertion)
	e := &fault.Error{Reason: fault.FederatedCredentialMissing}
	wanted := Audience
	if s.Mode == IdentityBinding {
		wanted = BindingAudience
	}
	if c.subject != s.ServiceAccount || c.audience != wanted || !strings.HasPrefix(c.issuer, "https://") {
		e.Cause = fmt.Sprintf("client %q does not trust the token that came with the mount: its issuer is %q, its subject %q, its audience %q",
			s.ClientID, c.issuer, c.subject, c.audience)
		e.Fix = fmt.Sprintf("that is no token of the pod's service account %q; let the CSIDriver object ask kubelet for one: spec.tokenRequests with audience %s",
			s.ServiceAccount, wanted)
		return e
	}
	if s.Mode == IdentityBinding {
		return bindingMissing(s, fmt.Sprintf("AADSTS%d", s.code))
	}
	why, ok := mismatch[s.code]
	if !ok {
		why = "no federated credential matches"
	}
	verb, name := "create", strings.NewReplacer("system:serviceaccount:", "", ":", "-").Replace(c.subject)
	if s.code == 7002138 {
		verb, name = "update", "NAME" // that of the one that is there
	}
	e.Cause = fmt.Sprintf("client %q does not trust the pod's service account: %s", s.ClientID, why)
	// The token's issuer, subject and audience stand here once: kubelet cuts an
	// event at 1024 bytes, and issuers are long.
	e.Fix = fmt.Sprintf("if the issuer is your cluster's, run az identity federated-credential %[1]s --identity-name IDENTITY -g GROUP"+
		" --name %[2]s --issuer %[3]s --subject %[4]s --audiences %[5]s; or, for an application,"+
		" az ad app federated-credential %[1]s --id %[6]s --parameters FILE, with the same four as JSON",
		verb, shell(name), shell(c.issuer), shell(c.subject), shell(c.audience), shell(s.ClientID))
	return e
}

// bindingMissing is for the token proxy, which trusts a service account by the rules
// of Kubernetes instead of a federated credential (AKS: "Set up identity bindings").
func bindingMissing(s signIn, answer string) *fault.Error {
	return &fault.Error{
		Reason: fault.FederatedCredentialMissing,
		Cause: fmt.Sprintf("the token proxy %s does not let service account %q use the managed identity with client ID %q (%s)",
			s.endpoint, s.ServiceAccount, s.ClientID, answer),
		Fix: fmt.Sprintf("bind the identity to the cluster: az aks identity-binding create -g GROUP --cluster-name CLUSTER -n NAME --managed-identity-resource-id RESOURCE_ID;"+
			` and bind the service account to a ClusterRole with apiGroups: ["cid.wi.aks.azure.com"], resources: [%q], verbs: ["use-managed-identity"]`, s.ClientID),
	}
}

func applicationNotFound(s signIn) *fault.Error {
	return &fault.Error{
		Reason: fault.ApplicationNotFound,
		Cause:  fmt.Sprintf("no usable application with client ID %q (%s) in tenant %q (%s)", s.ClientID, s.ClientIDFrom, s.TenantID, s.TenantIDFrom),
		Fix:    "check both; az ad sp show --id " + shell(s.ClientID) + " shows whether it is there and enabled",
	}
}

func tenantNotFound(s signIn) *fault.Error {
	return &fault.Error{
		Reason: fault.TenantNotFound,
		Cause:  fmt.Sprintf("no tenant %q (%s) at %s", s.TenantID, s.TenantIDFrom, s.Authority),
		Fix:    "set tenantID to the tenant of the identity, and cloudName to its cloud; az account show --query tenantId shows it",
	}
}

func clientSecretInvalid(s signIn) *fault.Error {
	if text := string(s.ClientSecret); text != strings.TrimSpace(text) {
		return &fault.Error{
			Reason: fault.ClientSecretInvalid,
			Cause:  fmt.Sprintf("Entra rejected the client secret of %s: clientsecret of the secret that nodePublishSecretRef names starts or ends with white space", s),
			Fix:    "store it without, such as the line break that echo and editors add",
		}
	}
	return &fault.Error{
		Reason: fault.ClientSecretInvalid,
		Cause:  fmt.Sprintf("Entra does not take the client secret of %s (clientsecret of the secret that nodePublishSecretRef names)", s),
		Fix:    "put the client secret's value there, not its ID; az ad app credential reset --append --id " + shell(s.ClientID) + " makes another",
	}
}

func clientSecretExpired(s signIn) *fault.Error {
	return &fault.Error{
		Reason: fault.ClientSecretExpired,
		Cause:  fmt.Sprintf("the client secret of %s has expired (clientsecret of the secret that nodePublishSecretRef names)", s),
		Fix:    "az ad app credential reset --append --id " + shell(s.ClientID) + " makes another; or use workload identity, which has none",
	}
}

func tokenExpired(s signIn) *fault.Error {
	return &fault.Error{
		Reason: fault.TokenExpired,
		Cause:  fmt.Sprintf("the service-account token of %q is outside its time of validity", readClaims(s.Assertion).subject),
		Fix:    "check the clocks of the node and of the control plane; kubelet sends a new token with the next mount",
	}
}

func tokenInvalid(s signIn) *fault.Error {
	return &fault.Error{
		Reason: fault.TokenInvalid,
		Cause:  fmt.Sprintf("Entra cannot verify the service-account token with the keys of issuer %q", readClaims(s.Assertion).issuer),
		Fix:    "check that the issuer serves the cluster's current signing keys (JWKS); after a key rotation wait until Entra has read them",
	}
}

func issuerUnreachable(s signIn) *fault.Error {
	return &fault.Error{
		Reason: fault.IssuerUnreachable,
		Cause:  fmt.Sprintf("Entra cannot read the OIDC documents of issuer %q", readClaims(s.Assertion).issuer),
		Fix:    "make its /.well-known/openid-configuration and JWKS public, with a certificate that public clients trust",
	}
}

func throttled(s signIn) *fault.Error {
	return &fault.Error{
		Reason: fault.Throttled,
		Cause:  fmt.Sprintf("%s limits the sign-ins of %s", s.endpoint, s),
		Fix:    "it is tried again with the next mount; spread restarts, or let fewer pods share an identity",
	}
}

func tenantThrottled(s signIn) *fault.Error {
	e := throttled(s)
	e.Cause = fmt.Sprintf("%s limits the sign-ins of tenant %q", s.endpoint, s.TenantID)
	return e
}

func resourceNotFound(s signIn) *fault.Error {
	return &fault.Error{
		Reason: fault.SignInFailed,
		Cause:  fmt.Sprintf("AADSTS500011: tenant %q does not know the resource %q", s.TenantID, strings.TrimSuffix(s.scope, "/.default")),
		Fix:    "check that cloudName is the cloud of the tenant",
	}
}

func blockedByPolicy(s signIn) *fault.Error {
	return &fault.Error{
		Reason: fault.SignInFailed,
		Cause:  fmt.Sprintf("AADSTS53003: a Conditional Access policy blocks %s", s),
		Fix:    "let the policy pass the node's addresses for this identity",
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
