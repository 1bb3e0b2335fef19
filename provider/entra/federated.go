package entra

import (
	"fmt"
	"strconv"
	"strings"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
)

// Whose issuer a service-account token names. The name is shown only if it is the cluster's:
// where the CSIDriver object requests no tokens, a pod can bring its own token, and no message
// should advise to trust that, or name who issued it.
const (
	unknownIssuer = "its issuer"
	foreignIssuer = "an issuer that is not this cluster's"
)

// issuer names the issuer of the pod's token in a message.
func (s signIn) issuer() string {
	var cluster string
	if s.clusterToken != nil {
		cluster = readClaims(request.Secret(s.clusterToken())).issuer
	}
	switch named := readClaims(s.Assertion).issuer; cluster {
	case "":
		return unknownIssuer
	case named:
		return fmt.Sprintf("issuer %q", named)
	}
	return foreignIssuer
}

// federatedCredentialMissing names what the credential must have, but only for the pod's own
// service account. The command is in TROUBLESHOOTING.md, under the reason: kubelet cuts an event at
// 1024 bytes, and issuers are long.
func (s signIn) federatedCredentialMissing(r refusal) *fault.Error {
	if s.Mode == IdentityBinding && s.ownToken() {
		return bindingMissing(s, fmt.Sprintf("AADSTS%d", s.code))
	}
	e := &fault.Error{Reason: fault.FederatedCredentialMissing}
	c := readClaims(s.Assertion)
	if !s.ownToken() {
		e.Cause = fmt.Sprintf("client %q does not trust the mount's service account token, which has subject %q and audience %q", s.ClientID, c.subject, c.audience)
		if s.issuer() == foreignIssuer {
			e.Cause += ", and was not issued by this cluster"
		}
		e.Fix = fmt.Sprintf("use a token of the pod's ServiceAccount %q; cluster operator: add audience %q to spec.tokenRequests of the CSIDriver",
			s.ServiceAccount, s.Audience)
		return e
	}
	e.Cause = fmt.Sprintf("client %q has no federated credential", s.ClientID)
	if r.cause != "" {
		e.Cause += " " + r.cause
	}
	verb, after := "update that one", ""
	if r.passes {
		verb, after = "create one", propagating
	}
	issuer := strconv.Quote(c.issuer)
	if s.issuer() == unknownIssuer {
		issuer = "of the cluster (`kubectl get --raw /.well-known/openid-configuration`)"
	}
	e.Fix = fmt.Sprintf("Azure admin: %s (issuer %s, subject %q, audience %q)%s", verb, issuer, c.subject, c.audience, after)
	return e
}

// ownToken reports whether the token may be the one that kubelet requested for the pod.
func (s signIn) ownToken() bool {
	c := readClaims(s.Assertion)
	return c.subject == s.ServiceAccount && c.audience == s.Audience && strings.HasPrefix(c.issuer, "https://") && s.issuer() != foreignIssuer
}

// bindingMissing is for the token proxy, which trusts a service account by the rules
// of Kubernetes instead of a federated credential (AKS: "Set up identity bindings").
func bindingMissing(s signIn, answer string) *fault.Error {
	return &fault.Error{
		Reason: fault.FederatedCredentialMissing,
		Cause:  fmt.Sprintf("the AKS token proxy does not allow %q to use managed identity %q (%s)", s.ServiceAccount, s.ClientID, answer),
		Fix: "cluster operator: add what is missing: `az aks identity-binding create`, a ClusterRole" +
			" (apiGroup cid.wi.aks.azure.com, resource the client ID, verb use-managed-identity) and its binding; no federated credential is needed",
	}
}

// shell quotes a word for a POSIX shell: people copy commands from messages.
func shell(word string) string {
	safe := word != "" && strings.IndexFunc(word, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:/._-@", r)
	}) < 0
	if safe && word[0] != '-' {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
