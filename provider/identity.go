package provider

import (
	"cmp"
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
	fromClass        = "clientID"
	fromTenant       = "tenantID"
	fromSecret       = "clientid of the nodePublishSecretRef"
	fromSecretTenant = "tenantid of the nodePublishSecretRef"
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
		return m.federated(req, env, entra.WorkloadIdentity, m.audience(req, env), credentialRef{id.ClientID, fromClass, id.TenantID, fromTenant})
	case id.ServicePrincipal.ClientID != "":
		return m.ofSecret(req, env)
	}
	return m.annotated(ctx, req, env)
}

// binding is a managed identity that the cluster binds to the pod's ServiceAccount.
func (m *Mounter) binding(req *request.Mount, env cloud.Cloud) (entra.Identity, error) {
	if req.Identity.ClientID == "" {
		return entra.Identity{}, &fault.Error{Reason: fault.NoIdentity,
			Cause: "useAzureTokenProxy is set, but clientID is not",
			Fix:   "set clientID to the managed identity's client ID (that of the identity binding)"}
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
			Cause: fmt.Sprintf("pods of namespace %q are not allowed to use the node's managed identity", req.Pod.Namespace),
			Fix:   "use workload identity; or, cluster operator: add the namespace to --managed-identity-namespaces"}
	}
	return entra.Identity{
		Mode:         entra.ManagedIdentity,
		ClientID:     req.Identity.UserAssignedIdentityID,
		ClientIDFrom: "userAssignedIdentityID",
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
		return entra.Identity{}, tokenRequestMissing(req, audience)
	}
	if req.Pod.ServiceAccount != "" {
		id.ServiceAccount = fmt.Sprintf("system:serviceaccount:%s:%s", req.Pod.Namespace, req.Pod.ServiceAccount)
	}
	id.Assertion, id.Audience = assertion, audience
	return id, nil
}

// audience is that of the pod's token for Entra: the cloud's own, or the one that all clouds
// accept where only that came.
func (m *Mounter) audience(req *request.Mount, env cloud.Cloud) string {
	own := cmp.Or(m.TokenAudience, env.TokenAudience, entra.Audience)
	if _, ok := req.Identity.Tokens[own]; ok {
		return own
	}
	if _, ok := req.Identity.Tokens[entra.Audience]; ok {
		return entra.Audience
	}
	return own
}

// ofSecret is the identity that the nodePublishSecretRef names: an application with the client
// secret or certificate there, or without these one that trusts the pod's service account.
func (m *Mounter) ofSecret(req *request.Mount, env cloud.Cloud) (entra.Identity, error) {
	principal := req.Identity.ServicePrincipal
	if !request.IsGUID(principal.ClientID) { // it is the password, if the two were swapped
		return entra.Identity{}, secretProblem(fromSecret, "not a GUID", "set clientid to the application's client ID; it may be swapped with clientsecret")
	}
	ref := credentialRef{principal.ClientID, fromSecret, req.Identity.TenantID, fromTenant}
	if ref.tenant == "" && principal.TenantID != "" {
		if !request.IsTenantID(principal.TenantID) {
			return entra.Identity{}, secretProblem(fromSecretTenant, "not a tenant", "use the tenant's GUID or domain name")
		}
		ref.tenant, ref.tenantFrom = principal.TenantID, fromSecretTenant
	}
	if principal.ClientSecret == "" && principal.ClientCertificate == "" {
		return m.federated(req, env, entra.WorkloadIdentity, m.audience(req, env), ref)
	}
	id, err := m.registered(env, entra.ServicePrincipal, ref)
	if id.ClientSecret = principal.ClientSecret; id.ClientSecret == "" {
		id.ClientCertificate = principal.ClientCertificate
	}
	return id, err
}

func secretProblem(field, cause, fix string) error {
	return fault.Invalid(fault.Problem{Field: field, Cause: cause + " (value hidden)", Fix: fix})
}

// annotated is the identity in the annotations of the pod's ServiceAccount. This is the only
// method that calls the Kubernetes API.
func (m *Mounter) annotated(ctx context.Context, req *request.Mount, env cloud.Cloud) (entra.Identity, error) {
	account, audience := req.Pod.ServiceAccount, m.audience(req, env)
	switch _, ok := req.Identity.Tokens[audience]; {
	case !ok:
		// The ServiceAccount may have the annotation: it was not read.
		return entra.Identity{}, noIdentity(fmt.Sprintf("no clientID, and no service account token for audience %q (received: %s)", audience, audiences(req.Identity.Tokens)),
			m.orAnnotate(req.Pod)+"; and, cluster operator: "+addAudience(req))
	case m.Accounts == nil:
		return entra.Identity{}, noIdentity("no clientID, and the provider does not run in a cluster", "")
	case account == "":
		return entra.Identity{}, noIdentity("no clientID, and kubelet does not name its ServiceAccount", "; or, cluster operator: set podInfoOnMount: true on the CSIDriver")
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
	case found.NearClientID != "":
		return entra.Identity{}, &fault.Error{Reason: fault.NoIdentity,
			Cause: fmt.Sprintf("the pod has no identity: %s of ServiceAccount %s/%s is ignored", found.NearClientID, req.Pod.Namespace, account),
			Fix:   "use annotation " + kube.ClientIDAnnotation + "=CLIENT_ID, or set clientID in the SecretProviderClass"}
	case found.ClientID == "":
		return entra.Identity{}, noIdentity("no clientID, no annotation on its ServiceAccount", m.orAnnotate(req.Pod))
	case !request.IsClientID(found.ClientID):
		return entra.Identity{}, wrongID(ref.clientFrom, found.ClientID, "the client ID, a GUID")
	}
	if ref.tenant == "" {
		ref.tenant, ref.tenantFrom = found.TenantID, annotation(kube.TenantIDAnnotation, req.Pod)
		if found.TenantID != "" && !request.IsTenantID(found.TenantID) {
			return entra.Identity{}, wrongID(ref.tenantFrom, found.TenantID, "the tenant's GUID or domain name")
		}
		if m.DefaultTenant == "" && found.NearTenantID != "" {
			return entra.Identity{}, fault.Invalid(fault.Problem{Field: "tenantID", Cause: fmt.Sprintf("missing: %s of ServiceAccount %s/%s is ignored", found.NearTenantID, req.Pod.Namespace, account),
				Fix: "use annotation " + kube.TenantIDAnnotation + "=TENANT_ID, or set tenantID"})
		}
	}
	return m.federated(req, env, entra.WorkloadIdentity, audience, ref)
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
			Field: "tenantID", Cause: "missing", Fix: "set it to the identity's tenant; or, cluster operator: set a default with --tenant-id",
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
	others := make([]string, len(m.Modes))
	for i, other := range m.Modes {
		others[i] = fmt.Sprintf("%s (%s)", other, settings[other])
	}
	return &fault.Error{Reason: fault.IdentityModeRefused,
		Cause: fmt.Sprintf("identity mode %q is disabled", mode),
		Fix:   fmt.Sprintf("use %s; or, cluster operator: add it to --identity-modes", strings.Join(others, " or "))}
}

// settings are what an author sets for each mode.
var settings = map[entra.Mode]string{
	entra.WorkloadIdentity: "clientID",
	entra.ServicePrincipal: "nodePublishSecretRef",
	entra.ManagedIdentity:  "useVMManagedIdentity",
	entra.IdentityBinding:  "useAzureTokenProxy",
}

// noIdentity is the error of a pod without a client ID; more is what else helps.
func noIdentity(why, more string) error {
	return &fault.Error{Reason: fault.NoIdentity, Cause: "the pod has no identity: " + why, Fix: "set clientID in the SecretProviderClass" + more}
}

// orAnnotate is another fix, "" where the provider cannot read the pod's ServiceAccount.
func (m *Mounter) orAnnotate(pod request.Pod) string {
	if m.Accounts == nil || pod.ServiceAccount == "" {
		return ""
	}
	return fmt.Sprintf(", or annotate ServiceAccount %s/%s with %s=CLIENT_ID", pod.Namespace, pod.ServiceAccount, kube.ClientIDAnnotation)
}

func wrongID(field, value, want string) error {
	return fault.Invalid(fault.Problem{Field: field, Cause: fmt.Sprintf("%.64q is not valid", value), Fix: "use " + want})
}

// addAudience is the fix of an audience that the caller does not request. secrets-store-sync-controller
// names no class, nor do drivers before 1.6 when they rotate.
func addAudience(req *request.Mount) string {
	const fix = "add the audience to spec.tokenRequests of the CSIDriver"
	if req.Class == "" {
		return fix + ", or to --token-request-audience of secrets-store-sync-controller"
	}
	return fix
}

// tokenRequestMissing names the audience that must be requested.
func tokenRequestMissing(req *request.Mount, audience string) error {
	needs := ""
	if req.Identity.UseAzureTokenProxy {
		needs = ", which useAzureTokenProxy needs"
	}
	return &fault.Error{Reason: fault.TokenRequestMissing,
		Cause: fmt.Sprintf("no service account token for audience %q%s (received: %s)", audience, needs, audiences(req.Identity.Tokens)),
		Fix:   "cluster operator: " + addAudience(req) + " (see TROUBLESHOOTING.md)"}
}

// audiences lists those of the tokens, for a message.
func audiences(tokens map[string]request.Secret) string {
	if len(tokens) == 0 {
		return "none"
	}
	all := slices.Sorted(maps.Keys(tokens))
	return fmt.Sprintf("%.64q", all[:min(len(all), 8)])
}
