package cluster_test

import (
	"fmt"
	"testing"

	"akv-csi-provider/provider/azuretest"
)

// signIn is one of the ways of pods to sign in that no example has.
type signIn struct {
	name       string
	parameters map[string]string
	suffix     string // of the vault, if not the public cloud's
	publish    bool   // a node-publish secret with the client ID alone
}

var signIns = []signIn{
	{name: "ClientIDInSecret", publish: true},
	{name: "ResourceID", parameters: map[string]string{"useVMManagedIdentity": "true", "userAssignedIdentityID": resourceID}},
	// Their tokens have the audience of the public cloud, which is the only one of the CSIDriver.
	{name: "Bleu", parameters: map[string]string{"cloudName": "AzureBleuCloud"}, suffix: "vault.sovcloud-api.fr"},
	{name: "Delos", parameters: map[string]string{"cloudName": "AzureDelosCloud"}, suffix: "vault.sovcloud-api.de"},
}

const resourceID = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/shop/providers/Microsoft.ManagedIdentity/userAssignedIdentities/web"

// identities sign in as the class, the Secret or the ServiceAccount of the pod says.
func (c *cluster) identities(t *testing.T) {
	for _, s := range signIns {
		t.Run(s.name, func(t *testing.T) {
			managed := s.parameters["useVMManagedIdentity"] != ""
			if managed && !setup.ManagedIdentity() {
				t.Skip(noManagedIdentity)
			}
			t.Parallel()
			p := c.newPlace(t)
			if s.suffix != "" {
				p.vault = p.box.VaultIn(s.suffix, p.vaultName, p.box.Tenant(tenant))
			}
			app := p.identity("app")
			p.vault.Grant(app.ClientID(), azuretest.SecretsGet)
			p.vault.SetSecret("password", azuretest.Secret{Value: "geheim"})
			parameters := map[string]string{"keyvaultName": p.vaultName, "tenantID": tenant}
			for name, value := range s.parameters {
				parameters[name] = value
			}
			account, pod := app.ClientID(), p.pod("app", "app", "app", "cat /mnt/secrets/password")
			switch {
			case managed:
				p.box.IMDS().AssignResource(resourceID, app)
				account = ""
			case s.publish:
				account = ""
				p.apply(t, fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: publish, namespace: %s}\nstringData: {clientid: %s}\n", p.namespace, app.ClientID()))
				pod = replace(t, pod, "volumeAttributes:", "nodePublishSecretRef: {name: publish}, volumeAttributes:")
			}
			p.apply(t, p.account("app", account), p.classWith("app", parameters, "password"), pod)
			if got := p.output(t, "app"); got != "geheim" {
				t.Errorf("the pod read %q", got)
			}
		})
	}
}
