package cloud_test

import (
	"errors"
	"strings"
	"testing"

	"akv-csi-provider/provider/cloud"
)

func TestLookup(t *testing.T) {
	for _, c := range []struct{ name, first, authority, host, scope string }{
		{"AzurePublicCloud", "AzurePublicCloud", "https://login.microsoftonline.com", "kv.vault.azure.net", "https://vault.azure.net/.default"},
		{"AzureCloud", "AzurePublicCloud", "https://login.microsoftonline.com", "kv.vault.azure.net", "https://vault.azure.net/.default"},
		{"AzureUSGovernmentCloud", "AzureUSGovernmentCloud", "https://login.microsoftonline.us", "kv.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net/.default"},
		{"AzureUSGovernment", "AzureUSGovernmentCloud", "https://login.microsoftonline.us", "kv.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net/.default"},
		{"AzureChinaCloud", "AzureChinaCloud", "https://login.chinacloudapi.cn", "kv.vault.azure.cn", "https://vault.azure.cn/.default"},
	} {
		for _, name := range []string{c.name, strings.ToUpper(c.name), strings.ToLower(c.name)} {
			t.Run(name, func(t *testing.T) {
				got, err := cloud.Lookup(name)
				if err != nil {
					t.Fatal(err)
				}
				if got.Name != c.first || got.Authority != c.authority {
					t.Errorf("got %s at %s, want %s at %s", got.Name, got.Authority, c.first, c.authority)
				}
				if host := got.VaultHost("kv"); host != c.host {
					t.Errorf("host %s, want %s", host, c.host)
				}
				if scope := got.VaultScope(); scope != c.scope {
					t.Errorf("scope %s, want %s", scope, c.scope)
				}
			})
		}
	}
}

func TestLookupRefuses(t *testing.T) {
	for _, c := range []struct{ name, says string }{
		{"AzureGermanCloud", "closed in 2021"},
		{"AZUREGERMANCLOUD", "closed in 2021"},
		{"AzureMoonCloud", `"AzureMoonCloud"`},
		{"AzureStackCloud", "not supported by this version"},
		{"Azure\nCloud", `"Azure\nCloud"`},
		{"", `""`},
		{strings.Repeat("x", 100_000), "xxx"},
	} {
		got, err := cloud.Lookup(c.name)
		if err == nil {
			t.Errorf("%.40q is %s", c.name, got.Name)
			continue
		}
		if got.Name != "" || got.Authority != "" || got.VaultSuffix != "" {
			t.Errorf("%.40q: a cloud came with the error", c.name)
		}
		if u := new(cloud.UnknownError); !errors.As(err, &u) || u.Cause == "" || u.Fix == "" {
			t.Errorf("%T %v is not an *UnknownError with cause and fix", err, err)
		}
		if text := err.Error(); len(text) > 300 || strings.ContainsAny(text, "\n\r") {
			t.Errorf("not one short line: %.400q", text)
		}
		for _, s := range append(cloud.Names(), c.says) {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("does not say %q: %v", s, err)
			}
		}
	}
}

// Every name that is offered is known and is its cloud's first.
func TestNames(t *testing.T) {
	if len(cloud.Names()) == 0 {
		t.Error("no names")
	}
	for _, name := range cloud.Names() {
		if c, err := cloud.Lookup(name); err != nil || c.Name != name {
			t.Errorf("%s is %s: %v", name, c.Name, err)
		}
	}
}
