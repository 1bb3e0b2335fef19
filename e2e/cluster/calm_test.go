package cluster_test

import (
	"os"
	"path/filepath"
	"testing"

	"akv-csi-provider/provider/azuretest"
)

// quickStart takes the steps of deploy/QUICKSTART.md: the manifests as is, and the
// secret in the pod's log. The class names no client ID; the service account does.
func (c *cluster) quickStart(t *testing.T) {
	p := c.newPlace(t)
	app := p.identity("quick-start")
	p.vault.Grant(app.ClientID(), azuretest.SecretsGet)
	p.vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello!"})
	p.apply(t, p.example(t, "quick-start", app.ClientID()))
	if got := p.output(t, "quick-start"); got != "Hello!" {
		t.Errorf("the pod's log is %q, want Hello!", got)
	}
	// A pod that is slow to start is rotated before it reads its file.
	if r := p.requests(app.ClientID()); r[azuretest.Token] != 1 || r[azuretest.GetSecret] == 0 || len(r) != 2 {
		t.Errorf("the pod cost %v, want one token and reads", r)
	}
}

// clientSecret is that of every application that has one.
const clientSecret = "s3cr3t~of.the-application"

// example reads a folder of deploy/examples as envsubst would.
func (p *place) example(t *testing.T, name, clientID string) string {
	t.Helper()
	return p.exampleFile(t, name, clientID, "*.yaml")
}

// exampleFile reads the files of an example whose names match.
func (p *place) exampleFile(t *testing.T, name, clientID, pattern string) string {
	t.Helper()
	files, err := filepath.Glob("../../deploy/examples/" + name + "/" + pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("example %s: %v, %v", name, files, err)
	}
	values := map[string]string{"NAMESPACE": p.namespace, "KEYVAULT_NAME": p.vaultName, "TENANT_ID": tenant, "CLIENT_ID": clientID, "CLIENT_SECRET": clientSecret,
		"OTHER_KEYVAULT_NAME": p.otherVault(), "CLIENT_CERTIFICATE": clientCertificate().pfx, "CERTIFICATE_NAME": "web", "HOST_NAME": "web.contoso.example"}
	var all string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all += os.Expand(string(text), func(v string) string {
			if values[v] == "" {
				t.Fatalf("%s: what is $%s?", file, v)
			}
			return values[v]
		}) + "\n"
	}
	return all
}
