package preview

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// Every example of the documentation can be previewed: as its pods, and those that need the node
// as the user.
func TestExamples(t *testing.T) {
	folders, err := filepath.Glob("../../../deploy/examples/*/secretproviderclass.yaml")
	if err != nil || len(folders) < 14 {
		t.Fatal(folders, err)
	}
	w := newWorld(t)
	w.asMe(t)
	w.newVault(t, "vault.azure.net", "kv-contoso-west")
	w.newVault(t, "vault.usgovcloudapi.net", "kv-contoso")
	w.setDriver("api://AzureADTokenExchange", "api://AzureADTokenExchangeUSGov")
	password := w.mark("password")
	w.setSecret("default", "service-principal", map[string]string{"clientid": clientID, "clientsecret": os.Getenv("AZURE_CLIENT_SECRET")})
	w.setSecret("default", "client-certificate", map[string]string{"clientid": clientID, "clientcertificate": w.clientPFX(t), "other": password})
	for _, file := range folders {
		name := filepath.Base(filepath.Dir(file))
		t.Run(name, func(t *testing.T) {
			w.setAccount("default", name, annotationsOf(t, filepath.Dir(file)))
			w.app.Federate(issuer, "system:serviceaccount:default:"+name, "api://AzureADTokenExchangeUSGov")
			line := "-f " + expanded(t, file) + " --as-serviceaccount " + name
			switch {
			case name == "managed-identity", name == "identity-binding":
				line = strings.Replace(line, "--as-serviceaccount "+name, "--as-me", 1)
			case name == "service-principal", name == "client-certificate":
				line += " --node-publish-secret " + name
			}
			s := w.preview(t, line)
			if s.err != nil || strings.Count(s.out, "\n") < 2 {
				t.Errorf("%+v", s)
			}
			if name == "sovereign-cloud" && !slices.Contains(w.tokens[len(w.tokens)-1].Spec.Audiences, "api://AzureADTokenExchangeUSGov") {
				t.Errorf("requested %v", w.tokens[len(w.tokens)-1].Spec.Audiences)
			}
		})
	}
}

func annotationsOf(t *testing.T, folder string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(expanded(t, folder+"/serviceaccount.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var account struct {
		Metadata struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	if err := yaml.Unmarshal(text, &account); err != nil {
		t.Fatal(err)
	}
	return account.Metadata.Annotations
}
