package cloud_test

import (
	"path/filepath"
	"strings"
	"testing"

	"akv-csi-provider/provider/cloud"
)

// The audience of pods' tokens follows the cloud, and in a cloud from a file its authority.
func TestTokenAudience(t *testing.T) {
	for name, want := range map[string]string{
		"AzureCloud": "api://AzureADTokenExchange", "AzureUSGovernment": "api://AzureADTokenExchangeUSGov", "azurechinacloud": "api://AzureADTokenExchangeChina",
		"AzureBleuCloud": "api://AzureADTokenExchangeFrance", "AzureDelosCloud": "api://AzureADTokenExchangeGermany",
	} {
		if c, err := new(cloud.Resolver).Resolve(name, ""); err != nil || c.TokenAudience != want {
			t.Errorf("%s: got %q, %v", name, c.TokenAudience, err)
		}
	}
	for authority, want := range map[string]string{
		"https://login.microsoftonline.us/": "api://AzureADTokenExchangeUSGov", "https://login.partner.microsoftonline.cn": "api://AzureADTokenExchangeChina",
		"https://adfs.stack.example/adfs": "", "https://login.stack.example": "",
	} {
		path := write(t, filepath.Join(t.TempDir(), "cloud.json"), `{"activeDirectoryEndpoint":"`+authority+`","keyVaultDNSSuffix":"vault.stack.example"}`)
		c, err := cloud.ReadFile(path)
		if err != nil || c.TokenAudience != want || c.Resource != "https://vault.stack.example" {
			t.Errorf("%s: got %+v, %v", authority, c, err)
		}
	}
}

func TestPublishedAuthorities(t *testing.T) {
	for authority, want := range map[string]bool{
		"https://login.chinacloudapi.cn": true, "https://login.partner.microsoftonline.cn": true, "https://login.sovcloud-identity.fr": true,
		"https://login.sovcloud-identity.de": true, "https://login.microsoftonline.us": true, "https://login.microsoftonline.com": true,
		"": false, "https://login.stack.example": false, "login.microsoftonline.com": false, "https://login.microsoftonline.com.example": false,
	} {
		if cloud.IsPublished(authority) != want {
			t.Errorf("%s: got %t", authority, !want)
		}
	}
}

// The operator's clouds are found by name in any case, before those of the table, and offered
// where a name is unknown.
func TestOwnClouds(t *testing.T) {
	own := cloud.Cloud{Name: "Sky", Authority: "https://login.sky.example", VaultSuffix: "vault.sky.example", Custom: true}
	r := &cloud.Resolver{Own: map[string]cloud.Cloud{"Sky": own, "AzureChinaCloud": own}}
	for _, name := range []string{"Sky", "sKY", "azurechinacloud"} {
		if got, err := r.Resolve(name, "/not/read"); err != nil || got.VaultHost("kv") != "kv.vault.sky.example" {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	r.Default = "sky"
	if got, err := r.Resolve("", ""); err != nil || got.Name != "Sky" {
		t.Errorf("got %+v, %v", got, err)
	}
	got, err := r.Resolve("Moon", "")
	refused(t, got, err, "cloudName", `unknown cloud "Moon"`, "AzureDelosCloud", "Sky")
	if err := cloud.CheckName("SKY", "Sky"); err != nil {
		t.Error(err)
	}
	if err := cloud.CheckName("Moon", "Sky"); err == nil || !strings.Contains(err.Error(), "Sky") {
		t.Errorf("got %v", err)
	}
}
