package provider_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/kube"
)

const resourceID = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/shop(prod)/providers/Microsoft.ManagedIdentity/userAssignedIdentities/web_1"

const otherID = "99999999-8888-7777-6666-555555555555"

// accounts are the annotations of ServiceAccounts by "namespace/name".
type accounts struct {
	known map[string]kube.Annotations
	err   error
	asked int
}

func (a *accounts) Lookup(_ context.Context, namespace, name string) (kube.Annotations, error) {
	a.asked++
	return a.known[namespace+"/"+name], a.err
}

// TestIdentity goes through the order in which the identity is chosen.
func TestIdentity(t *testing.T) {
	type change = map[string]string
	const (
		authority  = "https://login.microsoftonline.com"
		account    = "system:serviceaccount:shop:reader"
		bothTokens = `{"api://AzureADTokenExchange":{"token":"assertion"},"api://AKSIdentityBinding":{"token":"bound"}}`
		password   = `{"ClientID":" ` + otherID + ` ","CLIENTSECRET":"hush"}`
	)
	annotated := map[string]kube.Annotations{"shop/reader": {ClientID: otherID, TenantID: "annotated.example"}, "other/reader": {ClientID: clientID}}
	classTenant, classClient := "tenantID", "clientID"
	for _, c := range []struct {
		name    string
		secrets string
		set     change
		want    entra.Identity
		asked   int
	}{
		{"1 binding, before all", password, change{"useAzureTokenProxy": "true", attrTokens: bothTokens}, entra.Identity{Mode: entra.IdentityBinding, Authority: authority,
			TenantID: tenantID, TenantIDFrom: classTenant, ClientID: clientID, ClientIDFrom: classClient, ServiceAccount: account, Assertion: "bound", Audience: entra.BindingAudience}, 0},
		{"2 node, before a client", password, change{"useVMManagedIdentity": "true", "userAssignedIdentityID": otherID}, entra.Identity{Mode: entra.ManagedIdentity,
			ClientID: otherID, ClientIDFrom: "userAssignedIdentityID"}, 0},
		{"2 node's own, never the class's client", "null", change{"useVMManagedIdentity": "true"}, entra.Identity{Mode: entra.ManagedIdentity,
			ClientIDFrom: "userAssignedIdentityID"}, 0},
		{"3 client of the class, before a password", password, nil, entra.Identity{Mode: entra.WorkloadIdentity, Authority: authority,
			TenantID: tenantID, TenantIDFrom: classTenant, ClientID: clientID, ClientIDFrom: classClient, ServiceAccount: account, Assertion: "assertion", Audience: entra.Audience}, 0},
		{"4 password, before the annotation", password, change{"clientID": ""}, entra.Identity{Mode: entra.ServicePrincipal, Authority: authority,
			TenantID: tenantID, TenantIDFrom: classTenant, ClientID: otherID, ClientIDFrom: "clientid of the nodePublishSecretRef", ClientSecret: "hush"}, 0},
		{"5 annotation, the class's tenant", "null", change{"clientID": ""}, entra.Identity{Mode: entra.WorkloadIdentity, Authority: authority,
			TenantID: tenantID, TenantIDFrom: classTenant, ClientID: otherID, ClientIDFrom: "annotation azure.workload.identity/client-id of ServiceAccount shop/reader",
			ServiceAccount: account, Assertion: "assertion", Audience: entra.Audience}, 1},
		{"5 annotation and its tenant; half a password is none", `{"clientsecret":"x"}`, change{"clientID": "", "tenantID": ""}, entra.Identity{Mode: entra.WorkloadIdentity, Authority: authority,
			TenantID: "annotated.example", TenantIDFrom: "annotation azure.workload.identity/tenant-id of ServiceAccount shop/reader", ClientID: otherID,
			ClientIDFrom:   "annotation azure.workload.identity/client-id of ServiceAccount shop/reader",
			ServiceAccount: account, Assertion: "assertion", Audience: entra.Audience}, 1},
		{"4 client of the Secret, with the pod's token", `{"CLIENTID":"` + otherID + `","tenantid":"secret.example"}`, change{"clientID": "", "tenantID": ""}, entra.Identity{Mode: entra.WorkloadIdentity, Authority: authority,
			TenantID: "secret.example", TenantIDFrom: "tenantid of the nodePublishSecretRef", ClientID: otherID, ClientIDFrom: "clientid of the nodePublishSecretRef",
			ServiceAccount: account, Assertion: "assertion", Audience: entra.Audience}, 0},
		{"4 client of the Secret, the class's tenant", `{"clientid":"` + otherID + `","tenantid":"secret.example"}`, change{"clientID": ""}, entra.Identity{Mode: entra.WorkloadIdentity, Authority: authority,
			TenantID: tenantID, TenantIDFrom: classTenant, ClientID: otherID, ClientIDFrom: "clientid of the nodePublishSecretRef",
			ServiceAccount: account, Assertion: "assertion", Audience: entra.Audience}, 0},
		{"4 certificate", `{"clientid":"` + otherID + `","clientCertificate":" pem\n"}`, change{"clientID": ""}, entra.Identity{Mode: entra.ServicePrincipal, Authority: authority,
			TenantID: tenantID, TenantIDFrom: classTenant, ClientID: otherID, ClientIDFrom: "clientid of the nodePublishSecretRef", ClientCertificate: "pem"}, 0},
		{"4 password, before a certificate", `{"clientid":"` + otherID + `","clientcertificate":"pem","clientsecret":"hush"}`, change{"clientID": ""}, entra.Identity{Mode: entra.ServicePrincipal, Authority: authority,
			TenantID: tenantID, TenantIDFrom: classTenant, ClientID: otherID, ClientIDFrom: "clientid of the nodePublishSecretRef", ClientSecret: "hush"}, 0},
		{"2 node, by its resource", "null", change{"useVMManagedIdentity": "true", "userAssignedIdentityID": resourceID}, entra.Identity{Mode: entra.ManagedIdentity,
			ClientID: resourceID, ClientIDFrom: "userAssignedIdentityID"}, 0},
		{"the annotation's tenant only with its client", "null", change{"tenantID": ""}, entra.Identity{Mode: entra.WorkloadIdentity, Authority: authority,
			TenantID: "default.example", TenantIDFrom: "--tenant-id of the provider", ClientID: clientID, ClientIDFrom: classClient, ServiceAccount: account, Assertion: "assertion", Audience: entra.Audience}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, a := &signIn{}, &accounts{known: annotated}
			m := newMounter(s, &vaults{values: map[string]string{"a": "A"}})
			m.Accounts, m.DefaultTenant = a, "default.example"
			if _, err := m.Mount(t.Context(), parseWith(t, c.secrets, secrets("a"), c.set), time.Time{}); err != nil {
				t.Fatal(err)
			}
			if len(s.ids) != 1 || s.ids[0] != c.want {
				t.Errorf("signed in as\n%#v, want\n%#v", s.ids, c.want)
			}
			if a.asked != c.asked {
				t.Errorf("%d requests to the API server", a.asked)
			}
		})
	}
}

// The caller of a vault is the principal that signed in, whichever the pod is.
func TestNodePrincipal(t *testing.T) {
	v := &vaults{values: map[string]string{"a": "A"}}
	_, err := newMounter(&signIn{}, v).Mount(t.Context(), parse(t, secrets("a"), map[string]string{"useVMManagedIdentity": "true"}), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if !v.callers[keyvault.Caller{Principal: keyvault.Principal{Authority: keyvault.Node}, Token: "for ", Expires: tokenEnd}] {
		t.Errorf("read as %+v", v.callers)
	}
}

func TestNoIdentity(t *testing.T) {
	type change = map[string]string
	forbidden := errors.New("not allowed")
	for _, c := range []struct {
		name     string
		accounts *accounts
		secrets  string
		set      change
		reason   fault.Reason
		says     []string
		asked    int
	}{
		{"nothing set, no token", &accounts{}, "null", change{attrTokens: ""}, "NoIdentity", []string{"set clientID", `annotate ServiceAccount shop/reader with`, "received: none", "; and, cluster operator: add the audience to spec.tokenRequests"}, 0},
		{"nothing set, no token, not in a cluster", nil, "null", change{attrTokens: ""}, "NoIdentity", []string{"set clientID in the SecretProviderClass; and, cluster operator: add"}, 0},
		{"no annotation", &accounts{}, "null", nil, "NoIdentity", []string{"ServiceAccount shop/reader", "azure.workload.identity/client-id"}, 1},
		{"only a tenant", &accounts{known: map[string]kube.Annotations{"shop/reader": {TenantID: tenantID}}}, "null", nil, "NoIdentity", []string{"azure.workload.identity/client-id"}, 1},
		{"odd client", &accounts{known: map[string]kube.Annotations{"shop/reader": {ClientID: "a/b"}}}, "null", nil, "InvalidParameter",
			[]string{"annotation azure.workload.identity/client-id of ServiceAccount shop/reader", `"a/b"`}, 1},
		{"odd tenant", &accounts{known: map[string]kube.Annotations{"shop/reader": {ClientID: clientID, TenantID: "a/b"}}}, "null", change{"tenantID": ""}, "InvalidParameter",
			[]string{"annotation azure.workload.identity/tenant-id of ServiceAccount shop/reader", `"a/b"`}, 1},
		{"key of another spelling", &accounts{known: map[string]kube.Annotations{"shop/reader": {NearClientID: `label "azure.workload.identity/client-id"`}}}, "null", nil, "NoIdentity",
			[]string{`no identity: label "azure.workload.identity/client-id" of ServiceAccount shop/reader is ignored`, "use annotation azure.workload.identity/client-id"}, 1},
		{"tenant's key of another spelling", &accounts{known: map[string]kube.Annotations{"shop/reader": {ClientID: clientID, NearTenantID: `annotation "azure.workload.identity/tenant_id"`}}}, "null", change{"tenantID": ""}, "InvalidParameter",
			[]string{`tenantID: missing: annotation "azure.workload.identity/tenant_id" of ServiceAccount shop/reader is ignored`, "use annotation azure.workload.identity/tenant-id"}, 1},
		{"odd tenant of a Secret", &accounts{}, `{"clientid":"` + otherID + `","tenantid":"hush/"}`, change{"tenantID": ""}, "InvalidParameter", []string{"tenantid of the nodePublishSecretRef", "value hidden"}, 0},
		{"password and client swapped", &accounts{}, `{"clientid":"hush","clientsecret":"` + otherID + `"}`, nil, "InvalidParameter", []string{"clientid of the nodePublishSecretRef", "value hidden"}, 0},
		{"no service account's name", &accounts{}, "null", change{"csi.storage.k8s.io/serviceAccount.name": ""}, "NoIdentity", []string{"kubelet does not name its ServiceAccount; set clientID in the SecretProviderClass; or, cluster operator:", "podInfoOnMount"}, 0},
		{"not in a cluster", nil, "null", nil, "NoIdentity", []string{"does not run in a cluster; set clientID in the SecretProviderClass"}, 0},
		{"may not look", &accounts{err: forbidden}, "null", nil, "", []string{"not allowed"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &signIn{}
			m := newMounter(s, &vaults{})
			if c.accounts != nil {
				m.Accounts = c.accounts
			}
			set := change{"clientID": ""}
			for k, v := range c.set {
				set[k] = v
			}
			volume, err := m.Mount(t.Context(), parseWith(t, c.secrets, secrets("a"), set), time.Time{})
			refused(t, volume, err, c.says...)
			if c.reason != "" {
				wantReason(t, err, c.reason)
			}
			if strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "assertion") {
				t.Errorf("shows a credential: %v", err)
			}
			if len(s.ids) > 0 || c.accounts != nil && c.accounts.asked != c.asked {
				t.Errorf("signed in as %v, %d requests to the API server", s.ids, c.accounts.asked)
			}
		})
	}
}

// A mode that may not be used sends no request.
func TestAnnotationOfARefusedMode(t *testing.T) {
	a := &accounts{known: map[string]kube.Annotations{"shop/reader": {ClientID: clientID}}}
	m := newMounter(&signIn{}, &vaults{})
	m.Accounts, m.Modes = a, []entra.Mode{entra.ManagedIdentity}
	volume, err := m.Mount(t.Context(), parse(t, secrets("a"), map[string]string{"clientID": ""}), time.Time{})
	refused(t, volume, err, "workload-identity", "--identity-modes")
	wantReason(t, err, fault.IdentityModeRefused)
	if a.asked > 0 {
		t.Error("a request to the API server")
	}
}

// The audience of the pod's token is the cloud's; the one of the public cloud is taken where
// only that came; --token-audience replaces both.
func TestAudience(t *testing.T) {
	const public, gov, own = "api://AzureADTokenExchange", "api://AzureADTokenExchangeUSGov", "api://own"
	tokens := func(audiences ...string) string {
		var all []string
		for _, a := range audiences {
			all = append(all, fmt.Sprintf(`%q:{"token":"for %s"}`, a, a))
		}
		return "{" + strings.Join(all, ",") + "}"
	}
	for _, c := range []struct{ cloud, flag, tokens, want string }{
		{"", "", tokens(public), public},
		{"", "", tokens(public, gov), public},
		{"AzureUSGovernmentCloud", "", tokens(gov), gov},
		{"AzureUSGovernmentCloud", "", tokens(public, gov), gov},
		{"AzureUSGovernmentCloud", "", tokens(public), public},
		{"AzureUSGovernmentCloud", own, tokens(public, gov, own), own},
		{"", own, tokens(public), public},
		{"AzureChinaCloud", "", tokens("api://AzureADTokenExchangeChina", public), "api://AzureADTokenExchangeChina"},
		{"", "", tokens(gov), ""},
		{"AzureUSGovernmentCloud", own, tokens(gov), ""},
	} {
		for _, set := range []map[string]string{{}, {"clientID": ""}} { // by the class, by the annotation
			s := &signIn{}
			m := newMounter(s, &vaults{values: map[string]string{"a": "A"}})
			m.Accounts = &accounts{known: map[string]kube.Annotations{"shop/reader": {ClientID: otherID}}}
			m.TokenAudience = c.flag
			set["cloudName"], set[attrTokens] = c.cloud, c.tokens
			_, err := m.Mount(t.Context(), parse(t, secrets("a"), set), time.Time{})
			if c.want == "" {
				if wanted := cmp.Or(c.flag, public); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", wanted)) || !strings.Contains(err.Error(), gov) {
					t.Errorf("%+v: got %v", c, err)
				}
				continue
			}
			if err != nil || s.ids[0].Audience != c.want || string(s.ids[0].Assertion) != "for "+c.want {
				t.Errorf("%+v: got %+v, %v", c, s.ids, err)
			}
		}
	}
}
