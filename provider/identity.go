package provider

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/kube"
	"akv-csi-provider/provider/request"
)

// Where the IDs of an identity come from, for messages.
const (
	fromClass  = "clientID of the class or pod"
	fromTenant = "tenantID of the class or pod"
)

// credentialRef is the IDs that were set for an identity, each with its origin.
type credentialRef struct{ client, clientFrom, tenant, tenantFrom string }

// identity decides how the mount authenticates. If the first method that applies fails, the
// mount fails: another one would sign in as an identity that the class does not name.
func (m *Mounter) identity(ctx context.Context, req *request.Mount, env cloud.Cloud) (entra.Identity, error) {
	id := req.Identity
	switch {
	case id.UseAzureTokenProxy:
		return m.binding(req, env)
	case id.UseVMManagedIdentity:
		return m.nodeIdentity(req)
	case id.ClientID != "":
		return m.federated(req, env, entra.WorkloadIdentity, entra.Audience, credentialRef{id.ClientID, fromClass, id.TenantID, fromTenant})
	case id.ServicePrincipal.ClientID != "" && id.ServicePrincipal.ClientSecret != "":
		return m.servicePrincipal(req, env)
	}
	return m.annotated(ctx, req, env)
}

// binding is a managed identity that the cluster binds to the pod's service account.
func (m *Mounter) binding(req *request.Mount, env cloud.Cloud) (entra.Identity, error) {
	if req.Identity.ClientID == "" {
		return entra.Identity{}, &fault.Error{Reason: fault.NoIdentity,
			Cause: "useAzureTokenProxy is set, but clientID is not",
			Fix:   "set clientID to the client ID of the managed identity that is bound to the pod's service account"}
	}
	return m.federated(req, env, entra.IdentityBinding, entra.BindingAudience, credentialRef{req.Identity.ClientID, fromClass, req.Identity.TenantID, fromTenant})
}

// nodeIdentity is a managed identity of the node.
func (m *Mounter) nodeIdentity(req *request.Mount) (entra.Identity, error) {
	if err := m.allowed(entra.ManagedIdentity); err != nil {
		return entra.Identity{}, err
	}
	if m.NodeNamespaces != nil && !slices.Contains(m.NodeNamespaces, req.Pod.Namespace) {
		return entra.Identity{}, &fault.Error{Reason: fault.IdentityModeRefused,
			Cause: fmt.Sprintf("pods of namespace %q may not use the node's managed identity", req.Pod.Namespace),
			Fix:   "use workload identity, or add the namespace to --managed-identity-namespaces of the provider"}
	}
	return entra.Identity{
		Mode:         entra.ManagedIdentity,
		ClientID:     req.Identity.UserAssignedIdentityID,
		ClientIDFrom: "userAssignedIdentityID of the class or pod",
	}, nil
}

// federated is an identity that trusts the pod's service-account token for the audience.
func (m *Mounter) federated(req *request.Mount, env cloud.Cloud, mode entra.Mode, audience string, ref credentialRef) (entra.Identity, error) {
	id, err := m.registered(env, mode, ref)
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
func (m *Mounter) servicePrincipal(req *request.Mount, env cloud.Cloud) (entra.Identity, error) {
	principal := req.Identity.ServicePrincipal
	if !request.IsGUID(principal.ClientID) { // it is the password, if the two were swapped
		return entra.Identity{}, fault.Invalid(fault.Problem{Field: "clientid of the nodePublishSecretRef",
			Cause: "no GUID (what it is instead is not shown: it comes from a Secret)", Fix: "use the application's client ID, and its password as clientsecret"})
	}
	id, err := m.registered(env, entra.ServicePrincipal,
		credentialRef{principal.ClientID, "clientid of the nodePublishSecretRef", req.Identity.TenantID, fromTenant})
	id.ClientSecret = principal.ClientSecret
	return id, err
}

// annotated is the identity in the annotations of the pod's ServiceAccount. This is the only
// method that calls the Kubernetes API.
func (m *Mounter) annotated(ctx context.Context, req *request.Mount, env cloud.Cloud) (entra.Identity, error) {
	searched := "neither useAzureTokenProxy nor useVMManagedIdentity nor clientID is set, the nodePublishSecretRef brings no clientid with clientsecret, and "
	account := req.Pod.ServiceAccount
	switch _, ok := req.Identity.Tokens[entra.Audience]; {
	case !ok:
		// The ServiceAccount may have the annotation: it was not read.
		return entra.Identity{}, noIdentity(searched+fmt.Sprintf("no service-account token of audience %q came (audiences that came: %s)", entra.Audience, audiences(req.Identity.Tokens)),
			", and add the audience to spec.tokenRequests of the CSIDriver secrets-store.csi.k8s.io")
	case m.Accounts == nil || account == "":
		return entra.Identity{}, noIdentity(searched+"the provider cannot look at the ServiceAccount, as it is not in a cluster or kubelet does not name it", "")
	}
	if err := m.allowed(entra.WorkloadIdentity); err != nil {
		return entra.Identity{}, err
	}
	found, err := m.Accounts.Lookup(ctx, req.Pod.Namespace, account)
	if err != nil {
		return entra.Identity{}, err
	}
	ref := credentialRef{found.ClientID, annotation(kube.ClientIDAnnotation, req.Pod), req.Identity.TenantID, fromTenant}
	switch {
	case found.ClientID == "":
		return entra.Identity{}, noIdentity(searched+fmt.Sprintf("the ServiceAccount %q has no annotation %s", account, kube.ClientIDAnnotation), "")
	case !request.IsClientID(found.ClientID):
		return entra.Identity{}, wrongID(ref.clientFrom, found.ClientID, "the GUID that Microsoft Entra ID shows")
	}
	if ref.tenant == "" {
		ref.tenant, ref.tenantFrom = found.TenantID, annotation(kube.TenantIDAnnotation, req.Pod)
		if found.TenantID != "" && !request.IsTenantID(found.TenantID) {
			return entra.Identity{}, wrongID(ref.tenantFrom, found.TenantID, "the directory's GUID or domain name")
		}
	}
	return m.federated(req, env, entra.WorkloadIdentity, entra.Audience, ref)
}

func annotation(name string, pod request.Pod) string {
	return fmt.Sprintf("annotation %s of ServiceAccount %s/%s", name, pod.Namespace, pod.ServiceAccount)
}

// registered is an identity with a client ID in a tenant.
func (m *Mounter) registered(env cloud.Cloud, mode entra.Mode, ref credentialRef) (entra.Identity, error) {
	if err := m.allowed(mode); err != nil {
		return entra.Identity{}, err
	}
	if ref.tenant == "" {
		ref.tenant, ref.tenantFrom = m.DefaultTenant, "--tenant-id of the provider"
	}
	if ref.tenant == "" {
		return entra.Identity{}, fault.Invalid(fault.Problem{
			Field: "tenantID", Cause: "missing", Fix: "set it to the tenant of the identity, or start the provider with --tenant-id",
		})
	}
	return entra.Identity{
		Mode:         mode,
		Authority:    env.Authority,
		TenantID:     strings.ToLower(ref.tenant),
		TenantIDFrom: ref.tenantFrom,
		ClientID:     ref.client,
		ClientIDFrom: ref.clientFrom,
	}, nil
}

// allowed returns an error if --identity-modes does not contain the mode.
func (m *Mounter) allowed(mode entra.Mode) error {
	if m.Modes == nil || slices.Contains(m.Modes, mode) {
		return nil
	}
	return &fault.Error{Reason: fault.IdentityModeRefused,
		Cause: fmt.Sprintf("the provider does not take identity mode %s", mode),
		Fix:   fmt.Sprintf("use one of %s, or add it to --identity-modes of the provider", modeNames(m.Modes))}
}

func modeNames(modes []entra.Mode) string {
	names := make([]string, len(modes))
	for i, mode := range modes {
		names[i] = string(mode)
	}
	return strings.Join(names, ", ")
}

func noIdentity(searched, more string) error {
	return &fault.Error{Reason: fault.NoIdentity, Cause: "nothing says who signs in: " + searched,
		Fix: "set clientID to the client ID of an identity that is federated with the pod's service account, or annotate the ServiceAccount with it" + more}
}

func wrongID(field, value, want string) error {
	return fault.Invalid(fault.Problem{Field: field, Cause: fmt.Sprintf("%.64q is not valid", value), Fix: "use " + want})
}

// tokenRequestMissing names the audience that the CSIDriver object must request.
func tokenRequestMissing(audience string, tokens map[string]request.Secret) error {
	return &fault.Error{Reason: fault.TokenRequestMissing,
		Cause: fmt.Sprintf("no service-account token of audience %q came with the mount (audiences that came: %s)", audience, audiences(tokens)),
		Fix: fmt.Sprintf("add the audience to spec.tokenRequests of the CSIDriver secrets-store.csi.k8s.io;"+
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
