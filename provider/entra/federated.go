package entra

import (
	"fmt"
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

// federatedCredentialMissing names the command that fixes it, but only for the pod's own
// service account. The names of the token stand there once: kubelet cuts an event at 1024
// bytes, and issuers are long.
func (s signIn) federatedCredentialMissing(r refusal) *fault.Error {
	if s.Mode == IdentityBinding && s.ownToken() {
		return bindingMissing(s, fmt.Sprintf("AADSTS%d", s.code))
	}
	e := &fault.Error{Reason: fault.FederatedCredentialMissing}
	c := readClaims(s.Assertion)
	if !s.ownToken() {
		e.Cause = fmt.Sprintf("client %q does not trust the token that came with the mount: its subject is %q, its audience %q", s.ClientID, c.subject, c.audience)
		if s.issuer() == foreignIssuer {
			e.Cause += ", and it was not issued by this cluster"
		}
		e.Fix = fmt.Sprintf("that is no token of the pod's service account %q; let the CSIDriver object request one: spec.tokenRequests with audience %s",
			s.ServiceAccount, s.audience())
		return e
	}
	verb, after := "create", ""
	if r.passes {
		after = propagating
	} else {
		verb = "update" // the one that is there
	}
	issuer := shell(c.issuer)
	if s.issuer() == unknownIssuer {
		issuer, after = "ISSUER", after+"; ISSUER is the cluster's: kubectl get --raw /.well-known/openid-configuration"
	}
	e.Cause = fmt.Sprintf("client %q %s", s.ClientID, r.cause)
	e.Fix = fmt.Sprintf("run az identity federated-credential %[1]s --identity-name IDENTITY -g GROUP --name NAME --issuer %[2]s --subject %[3]s --audiences %[4]s"+
		" (applications: az ad app federated-credential %[1]s --id ID --parameters FILE)%[5]s", verb, issuer, shell(c.subject), shell(c.audience), after)
	return e
}

// ownToken reports whether the token may be the one that kubelet requested for the pod.
func (s signIn) ownToken() bool {
	c := readClaims(s.Assertion)
	return c.subject == s.ServiceAccount && c.audience == s.audience() && strings.HasPrefix(c.issuer, "https://") && s.issuer() != foreignIssuer
}

// audience is the one of the tokens that the sign-in presents.
func (s signIn) audience() string {
	switch {
	case s.Audience != "":
		return s.Audience
	case s.Mode == IdentityBinding:
		return BindingAudience
	}
	return Audience
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
