package provider

import (
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

// identity decides who signs in. A mode that is chosen is used or fails: falling
// through to the next would sign in as somebody the class does not name.
func (m *Mounter) identity(id request.Identity, pod request.Pod, home cloud.Cloud) (entra.Identity, error) {
	switch {
	case id.UseAzureTokenProxy:
		return entra.Identity{}, notYet("identity binding (useAzureTokenProxy)")
	case id.UseVMManagedIdentity:
		return entra.Identity{}, notYet("the node's managed identity (useVMManagedIdentity)")
	case id.ClientID != "":
		return m.workloadIdentity(id, pod, home)
	case id.ServicePrincipal.ClientID != "" && id.ServicePrincipal.ClientSecret != "":
		return entra.Identity{}, notYet("a service principal (nodePublishSecretRef)")
	}
	return entra.Identity{}, &IdentityError{reason: ReasonNoIdentity,
		cause: "nothing says who signs in: neither useAzureTokenProxy nor useVMManagedIdentity nor clientID is set," +
			" and no nodePublishSecretRef brings clientid and clientsecret",
		fix: "set clientID to the client ID of an identity that is federated with the pod's service account",
	}
}

func (m *Mounter) workloadIdentity(id request.Identity, pod request.Pod, home cloud.Cloud) (entra.Identity, error) {
	assertion, ok := id.Tokens[entra.Audience]
	if !ok {
		came := "none"
		if audiences := slices.Sorted(maps.Keys(id.Tokens)); len(audiences) > 0 {
			came = fmt.Sprintf("%.64q", audiences[:min(len(audiences), 8)])
		}
		return entra.Identity{}, &IdentityError{reason: ReasonTokenRequestMissing,
			cause: fmt.Sprintf("no service-account token of audience %q came with the mount (audiences that came: %s)", entra.Audience, came),
			fix: fmt.Sprintf("add the audience to spec.tokenRequests of the CSIDriver secrets-store.csi.k8s.io;"+
				" with the driver's Helm chart: --set 'tokenRequests[0].audience=%s'", entra.Audience),
		}
	}
	tenant, from := id.TenantID, "tenantID of the class or pod"
	if tenant == "" {
		tenant, from = m.DefaultTenant, "--tenant-id of the provider"
	}
	if tenant == "" {
		return entra.Identity{}, &request.Error{Problems: []request.Problem{{
			Field: "tenantID", Cause: "missing", Fix: "set it to the tenant of the identity, or start the provider with --tenant-id",
		}}}
	}
	account := ""
	if pod.ServiceAccount != "" {
		account = fmt.Sprintf("system:serviceaccount:%s:%s", pod.Namespace, pod.ServiceAccount)
	}
	return entra.Identity{
		Mode:           entra.WorkloadIdentity,
		ServiceAccount: account,
		Authority:      home.Authority,
		TenantID:       strings.ToLower(tenant),
		TenantIDFrom:   from,
		ClientID:       id.ClientID,
		ClientIDFrom:   "clientID of the class or pod",
		Assertion:      assertion,
	}, nil
}

func notYet(mode string) error {
	return &IdentityError{reason: ReasonIdentityModeRefused,
		cause: mode + " is not supported by this version",
		fix:   "use workload identity: set clientID and federate the pod's service account",
	}
}
