package provider

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/request"
)

// The reasons of an IdentityError.
const (
	ReasonNoIdentity          = "NoIdentity"
	ReasonIdentityModeRefused = "IdentityModeRefused"
	ReasonTokenRequestMissing = "TokenRequestMissing"
)

// IdentityError says why nobody can sign in for a mount. Its text is one line.
type IdentityError struct {
	reason string
	cause  string
	fix    string
}

// Error implements error.
func (e *IdentityError) Error() string { return e.cause + "; " + e.fix }

// Reason is the stable word users search for.
func (e *IdentityError) Reason() string { return e.reason }

const (
	fromClass  = "clientID of the class or pod"
	fromTenant = "tenantID of the class or pod"
)

// named are the IDs that were set for an identity, and where.
type named struct{ client, clientFrom, tenant, tenantFrom string }

// identity decides who signs in. A mode that is chosen is used or fails: falling
// through to the next would sign in as somebody the class does not name.
func (m *Mounter) identity(ctx context.Context, req *request.Mount, home cloud.Cloud) (entra.Identity, error) {
	id := req.Identity
	switch {
	case id.UseAzureTokenProxy:
		return m.binding(req, home)
	case id.UseVMManagedIdentity:
		return m.nodeIdentity(req)
	case id.ClientID != "":
		return m.federated(req, home, entra.WorkloadIdentity, entra.Audience, named{id.ClientID, fromClass, id.TenantID, fromTenant})
	case id.ServicePrincipal.ClientID != "" && id.ServicePrincipal.ClientSecret != "":
		return m.servicePrincipal(req, home)
	}
	return m.annotated(ctx, req, home)
}

// binding is an identity that the cluster binds to the pod's service account.
func (m *Mounter) binding(req *request.Mount, home cloud.Cloud) (entra.Identity, error) {
	if req.Identity.ClientID == "" {
		return entra.Identity{}, &IdentityError{reason: ReasonNoIdentity,
			cause: "useAzureTokenProxy is set, but clientID is not",
			fix:   "set clientID to the client ID of the managed identity that is bound to the pod's service account"}
	}
	return m.federated(req, home, entra.IdentityBinding, entra.BindingAudience, named{req.Identity.ClientID, fromClass, req.Identity.TenantID, fromTenant})
}

// nodeIdentity is a managed identity of the node.
func (m *Mounter) nodeIdentity(req *request.Mount) (entra.Identity, error) {
	if err := m.allowed(entra.ManagedIdentity); err != nil {
		return entra.Identity{}, err
	}
	if m.NodeNamespaces != nil && !slices.Contains(m.NodeNamespaces, req.Pod.Namespace) {
		return entra.Identity{}, &IdentityError{reason: ReasonIdentityModeRefused,
			cause: fmt.Sprintf("pods of namespace %q may not use the node's managed identity", req.Pod.Namespace),
			fix:   "use workload identity, or add the namespace to --managed-identity-namespaces of the provider"}
	}
	return entra.Identity{
		Mode:         entra.ManagedIdentity,
		ClientID:     req.Identity.UserAssignedIdentityID,
		ClientIDFrom: "userAssignedIdentityID of the class or pod",
	}, nil
}

// federated is an identity that trusts the pod's service-account token of the
// audience.
func (m *Mounter) federated(req *request.Mount, home cloud.Cloud, mode entra.Mode, audience string, who named) (entra.Identity, error) {
	id, err := m.registered(home, mode, who)
	if err != nil {
		return entra.Identity{}, err
	}
	assertion, ok := req.Identity.Tokens[audience]
	if !ok {
		return entra.Identity{}, tokenRequestMissing(audience, req.Identity.Tokens)
	}
	if req.Pod.ServiceAccount != "" {
		id.ServiceAccount = fmt.Sprintf("system:serviceaccount:%s:%s", req.Pod.Namespace, req.Pod.ServiceAccount)
	}
	id.Assertion = assertion
	return id, nil
}

// servicePrincipal is an application with the password of the nodePublishSecretRef.
func (m *Mounter) servicePrincipal(req *request.Mount, home cloud.Cloud) (entra.Identity, error) {
	principal := req.Identity.ServicePrincipal
	if !request.IsGUID(principal.ClientID) { // it may be the password, if the two were swapped
		return entra.Identity{}, &request.Error{Problems: []request.Problem{{Field: "clientid of the nodePublishSecretRef",
			Cause: "no GUID (what it is instead is not shown: it comes from a Secret)", Fix: "use the application's client ID, and its password as clientsecret"}}}
	}
	id, err := m.registered(home, entra.ServicePrincipal,
		named{principal.ClientID, "clientid of the nodePublishSecretRef", req.Identity.TenantID, fromTenant})
	id.ClientSecret = principal.ClientSecret
	return id, err
}

// annotated is the identity that the pod's ServiceAccount names. Only here is the
// API server asked.
func (m *Mounter) annotated(ctx context.Context, req *request.Mount, home cloud.Cloud) (entra.Identity, error) {
	looked := "neither useAzureTokenProxy nor useVMManagedIdentity nor clientID is set, the nodePublishSecretRef brings no clientid with clientsecret, and "
	account := req.Pod.ServiceAccount
	switch _, ok := req.Identity.Tokens[entra.Audience]; {
	case !ok:
		// The ServiceAccount may well name one: it was not looked at.
		return entra.Identity{}, noIdentity(looked+fmt.Sprintf("no service-account token of audience %q came (audiences that came: %s)", entra.Audience, audiences(req.Identity.Tokens)),
			", and add the audience to spec.tokenRequests of the CSIDriver secrets-store.csi.k8s.io")
	case m.Accounts == nil || account == "":
		return entra.Identity{}, noIdentity(looked+"the provider cannot look at the ServiceAccount, as it is not in a cluster or kubelet does not name it", "")
	}
	if err := m.allowed(entra.WorkloadIdentity); err != nil {
		return entra.Identity{}, err
	}
	found, err := m.Accounts.Lookup(ctx, req.Pod.Namespace, account)
	if err != nil {
		return entra.Identity{}, err
	}
	who := named{found.ClientID, annotation(entra.ClientIDAnnotation, req.Pod), req.Identity.TenantID, fromTenant}
	switch {
	case found.ClientID == "":
		return entra.Identity{}, noIdentity(looked+fmt.Sprintf("the ServiceAccount %q has no annotation %s", account, entra.ClientIDAnnotation), "")
	case !request.IsClientID(found.ClientID):
		return entra.Identity{}, wrongID(who.clientFrom, found.ClientID, "the GUID that Microsoft Entra ID shows")
	}
	if who.tenant == "" {
		who.tenant, who.tenantFrom = found.TenantID, annotation(entra.TenantIDAnnotation, req.Pod)
		if found.TenantID != "" && !request.IsTenantID(found.TenantID) {
			return entra.Identity{}, wrongID(who.tenantFrom, found.TenantID, "the directory's GUID or domain name")
		}
	}
	return m.federated(req, home, entra.WorkloadIdentity, entra.Audience, who)
}

func annotation(name string, pod request.Pod) string {
	return fmt.Sprintf("annotation %s of ServiceAccount %s/%s", name, pod.Namespace, pod.ServiceAccount)
}

// registered is an identity with a client ID in a tenant.
func (m *Mounter) registered(home cloud.Cloud, mode entra.Mode, who named) (entra.Identity, error) {
	if err := m.allowed(mode); err != nil {
		return entra.Identity{}, err
	}
	if who.tenant == "" {
		who.tenant, who.tenantFrom = m.DefaultTenant, "--tenant-id of the provider"
	}
	if who.tenant == "" {
		return entra.Identity{}, &request.Error{Problems: []request.Problem{{
			Field: "tenantID", Cause: "missing", Fix: "set it to the tenant of the identity, or start the provider with --tenant-id",
		}}}
	}
	return entra.Identity{
		Mode:         mode,
		Authority:    home.Authority,
		TenantID:     strings.ToLower(who.tenant),
		TenantIDFrom: who.tenantFrom,
		ClientID:     who.client,
		ClientIDFrom: who.clientFrom,
	}, nil
}

// allowed refuses a mode that --identity-modes leaves out.
func (m *Mounter) allowed(mode entra.Mode) error {
	if m.Modes == nil || slices.Contains(m.Modes, mode) {
		return nil
	}
	return &IdentityError{reason: ReasonIdentityModeRefused,
		cause: fmt.Sprintf("the provider does not take identity mode %s", mode),
		fix:   fmt.Sprintf("use one of %s, or add it to --identity-modes of the provider", modeNames(m.Modes))}
}

func modeNames(modes []entra.Mode) string {
	names := make([]string, len(modes))
	for i, mode := range modes {
		names[i] = string(mode)
	}
	return strings.Join(names, ", ")
}

func noIdentity(looked, more string) error {
	return &IdentityError{reason: ReasonNoIdentity, cause: "nothing says who signs in: " + looked,
		fix: "set clientID to the client ID of an identity that is federated with the pod's service account, or annotate the ServiceAccount with it" + more}
}

func wrongID(field, value, want string) error {
	return &request.Error{Problems: []request.Problem{{Field: field, Cause: fmt.Sprintf("%.64q is not valid", value), Fix: "use " + want}}}
}

// tokenRequestMissing tells which audience the CSIDriver object must ask for.
func tokenRequestMissing(audience string, tokens map[string]request.Secret) error {
	return &IdentityError{reason: ReasonTokenRequestMissing,
		cause: fmt.Sprintf("no service-account token of audience %q came with the mount (audiences that came: %s)", audience, audiences(tokens)),
		fix: fmt.Sprintf("add the audience to spec.tokenRequests of the CSIDriver secrets-store.csi.k8s.io;"+
			" with the driver's Helm chart: --set 'tokenRequests[0].audience=%s'", audience)}
}

// audiences lists those of the tokens, for a message.
func audiences(tokens map[string]request.Secret) string {
	if len(tokens) == 0 {
		return "none"
	}
	all := slices.Sorted(maps.Keys(tokens))
	return fmt.Sprintf("%.64q", all[:min(len(all), 8)])
}
