package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/fault"
)

// refusal is a mistake, and the reason by which the pod's event names it.
type refusal struct {
	reason string
	// make changes the vault, the application, the class's parameters (without objects) or the
	// object; what it returns are more manifests.
	make func(r *mistake) string
	slow bool // the plugin retries for a while, so that there may be one event only
}

// mistake is what a refusal can do wrong. All begin as sound.
type mistake struct {
	*place
	app        *azuretest.Application
	account    string // the client ID that the ServiceAccount names; none if empty
	parameters map[string]string
	objects    []string
	publish    string // name of a node-publish secret
}

var refusals = []refusal{
	{"InvalidParameter", func(r *mistake) string {
		r.parameters["keyvaultName"] = r.vault.URL()
		return ""
	}, false},
	{"NoIdentity", func(r *mistake) string {
		r.account = ""
		return ""
	}, false},
	{"FederatedCredentialMissing", func(r *mistake) string {
		r.app.Unfederate()
		return ""
	}, false},
	{"ApplicationNotFound", func(r *mistake) string {
		r.parameters["clientID"] = "00000000-1111-4222-8333-444444444444"
		return ""
	}, false},
	{"TenantNotFound", func(r *mistake) string {
		r.parameters["tenantID"] = "00000000-1111-4222-8333-444444444444"
		return ""
	}, false},
	{"ClientSecretInvalid", func(r *mistake) string {
		r.app.AddSecret("another", time.Now().Add(time.Hour))
		return r.servicePrincipal()
	}, false},
	{"ClientSecretExpired", func(r *mistake) string {
		r.app.AddSecret(clientSecret, time.Now().Add(-time.Hour))
		return r.servicePrincipal()
	}, false},
	{"TokenExpired", failWith(700024), false},
	{"TokenInvalid", failWith(700027), false},
	{"IssuerUnreachable", failWith(50166), false},
	{"SignInFailed", failWith(53003), false},
	{"ManagedIdentityUnavailable", func(r *mistake) string {
		r.parameters["useVMManagedIdentity"], r.parameters["userAssignedIdentityID"] = "true", "00000000-1111-4222-8333-444444444444"
		return ""
	}, false},
	{"AccessDenied", func(r *mistake) string {
		r.vault.Revoke(r.app.ClientID())
		return ""
	}, false},
	{"VaultFirewall", func(r *mistake) string {
		r.vault.SetFirewall("ForbiddenByFirewall")
		return ""
	}, false},
	{"WrongTenant", func(r *mistake) string {
		name := fmt.Sprintf("kv-foreign-%d", r.number())
		r.box.Vault(name, r.box.Tenant("0f0f0f0f-0000-4000-8000-00000000beef")).Grant(r.app.ClientID(), azuretest.SecretsGet)
		r.parameters["keyvaultName"] = name
		return ""
	}, false},
	{"TokenRejected", func(r *mistake) string {
		r.vault.SetFault(azuretest.Fault{Status: 401})
		return ""
	}, false},
	{"ObjectNotFound", func(r *mistake) string {
		r.objects = []string{"no-such-secret"}
		return ""
	}, false},
	{"ObjectDisabled", func(r *mistake) string {
		r.vault.SetSecret("password", azuretest.Secret{Value: "x", Disabled: true})
		return ""
	}, false},
	{"VaultRefused", func(r *mistake) string {
		r.vault.SetFault(azuretest.Fault{Status: 400, InnerCode: "BadParameter"})
		return ""
	}, false},
	{"ContentInvalid", func(r *mistake) string {
		r.vault.SetCertificate("password", azuretest.Certificate{DER: []byte("no certificate"), SecretValue: "no PFX"})
		return ""
	}, false},
	{"TooLarge", func(r *mistake) string {
		for i := range 170 { // of the size of the largest secret that Key Vault takes
			r.vault.SetSecret(fmt.Sprint("large-", i), azuretest.Secret{Value: strings.Repeat("x", 25<<10)})
			r.objects = append(r.objects, fmt.Sprint("large-", i))
		}
		return ""
	}, false},
	{"ProxyRefused", func(r *mistake) string { // which does not find the vault
		r.parameters["keyvaultName"] = "kv-that-is-not-there"
		return ""
	}, true},
	{"Throttled", failWith(90033), true},
	{"Timeout", func(r *mistake) string {
		r.vault.SetFault(azuretest.Fault{Stall: true})
		return ""
	}, true},
}

// elsewhere are the reasons of deploy/TROUBLESHOOTING.md that have no refusal, and why.
var elsewhere = map[string]string{
	"TokenRequestMissing":           "in Misconfigured",
	"ServiceAccountLookupForbidden": "in Misconfigured",
	"IdentityModeRefused":           "in Misconfigured",
	"ServiceUnavailable":            "in Outages",
	"TLSUntrusted":                  "the fake Azure is behind a proxy, whose CA the plugin must trust to start at all",
	"VaultNotFound":                 "the fake Azure is behind a proxy, which answers for names that do not exist: ProxyRefused",
	"Canceled":                      "no caller waits for it",
	"Internal":                      "a bug",
}

// everyReason compares the refusals with the reasons of the plugin.
func everyReason(t *testing.T) {
	for _, known := range fault.Reasons {
		reason := string(known.Reason)
		if elsewhere[reason] == "" && !slices.ContainsFunc(refusals, func(r refusal) bool { return r.reason == reason }) {
			t.Errorf("no pod meets %s", reason)
		}
	}
}

func failWith(aadsts int) func(*mistake) string {
	return func(r *mistake) string {
		r.app.FailWith(aadsts)
		return ""
	}
}

// servicePrincipal makes the pod sign in with a client secret.
func (r *mistake) servicePrincipal() string {
	r.account, r.publish = "", "publish"
	return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: publish, namespace: %s}\nstringData: {clientid: %s, clientsecret: %q}\n",
		r.namespace, r.app.ClientID(), clientSecret)
}

// errors: the event of a pod that cannot start says why in one line that ends with the
// reason, whole within what kubelet shows of it, and repeats fold into it.
func (c *cluster) errors(t *testing.T) {
	everyReason(t)
	for _, r := range refusals {
		if r.reason == "Timeout" && testing.Short() {
			continue // takes a minute
		}
		t.Run(r.reason, func(t *testing.T) {
			if r.reason == "ManagedIdentityUnavailable" && !setup.ManagedIdentity() {
				t.Skip(noManagedIdentity)
			}
			t.Parallel()
			p := c.newPlace(t)
			m := &mistake{place: p, app: p.identity("app"), objects: []string{"password"},
				parameters: map[string]string{"keyvaultName": p.vaultName, "tenantID": tenant}}
			m.account = m.app.ClientID()
			m.vault.Grant(m.app.ClientID(), azuretest.SecretsGet)
			m.vault.SetSecret("password", azuretest.Secret{Value: "geheim"})
			more := r.make(m)
			t.Cleanup(func() { m.vault.SetFault(azuretest.Fault{}) }) // a stalled mount would delay the end of the plugin
			pod := p.pod("app", "app", "app", stay)
			if m.publish != "" {
				pod = replace(t, pod, "volumeAttributes:", "nodePublishSecretRef: {name: "+m.publish+"}, volumeAttributes:")
			}
			manifests := []string{p.account("app", m.account), p.classWith("app", m.parameters, m.objects...), pod}
			if more != "" {
				manifests = append([]string{more}, manifests...)
			}
			p.apply(t, manifests...)
			message := p.refused(t, "app", r.reason)
			if strings.ContainsAny(message, "\n\r") || len(message) > 1024 {
				t.Errorf("not one line of kubelet's 1 KiB: %d bytes: %s", len(message), message)
			}
			for _, hidden := range []string{"geheim", clientSecret, "eyJ"} {
				if strings.Contains(message, hidden) {
					t.Errorf("the event contains %q: %s", hidden, message)
				}
			}
			if r.slow {
				return
			}
			eventually(t, busy, "repeats fold into the event", func(ctx context.Context) error {
				events, err := p.failedMounts(ctx, "app")
				if err == nil && (len(events) != 1 || events[0].Count < 3) {
					err = fmt.Errorf("not one event of three or more: %v", events)
				}
				return err
			})
		})
	}
}
