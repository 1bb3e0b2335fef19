package cloud_test

import (
	"errors"
	"strings"
	"testing"

	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/fault"
)

func TestResolve(t *testing.T) {
	r := &cloud.Resolver{Default: "AzureChinaCloud"}
	for _, c := range []struct{ name, first, authority, host, resource string }{
		{"AzurePublicCloud", "AzurePublicCloud", "https://login.microsoftonline.com", "kv.vault.azure.net", "https://vault.azure.net"},
		{"AzureCloud", "AzurePublicCloud", "https://login.microsoftonline.com", "kv.vault.azure.net", "https://vault.azure.net"},
		{"AzureUSGovernmentCloud", "AzureUSGovernmentCloud", "https://login.microsoftonline.us", "kv.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net"},
		{"AzureUSGovernment", "AzureUSGovernmentCloud", "https://login.microsoftonline.us", "kv.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net"},
		{"AzureChinaCloud", "AzureChinaCloud", "https://login.chinacloudapi.cn", "kv.vault.azure.cn", "https://vault.azure.cn"},
		{"", "AzureChinaCloud", "https://login.chinacloudapi.cn", "kv.vault.azure.cn", "https://vault.azure.cn"},
	} {
		for _, name := range []string{c.name, strings.ToUpper(c.name), strings.ToLower(c.name)} {
			t.Run(name, func(t *testing.T) {
				got, err := r.Resolve(name, "/not/looked/at.json")
				if err != nil {
					t.Fatal(err)
				}
				if got.Name != c.first || got.Authority != c.authority || got.Resource != c.resource || got.Custom {
					t.Errorf("got %+v", got)
				}
				if host := got.VaultHost("kv"); host != c.host {
					t.Errorf("host %s, want %s", host, c.host)
				}
				if err := cloud.CheckName(name); err != nil && name != "" {
					t.Error(err)
				}
			})
		}
	}
}

func TestResolveRefuses(t *testing.T) {
	r := &cloud.Resolver{Default: "AzurePublicCloud"}
	for _, c := range []struct{ name, says string }{
		{"AzureGermanCloud", "closed in 2021"},
		{"AZUREGERMANCLOUD", "closed in 2021"},
		{"AzureMoonCloud", `"AzureMoonCloud"`},
		{"Azure\nCloud", `"Azure\nCloud"`},
		{strings.Repeat("x", 100_000), "xxx"},
	} {
		got, err := r.Resolve(c.name, "")
		refused(t, got, err, "cloudName", append(cloud.Names(), c.says)...)
		if err := cloud.CheckName(c.name); err == nil || strings.Contains(err.Error(), "cloudName") {
			t.Errorf("%.40q as the value of a flag: %v", c.name, err)
		}
	}
}

// refused checks that the error is one of the parameter, that its text is one short line
// which contains the texts, and that no cloud came with it.
func refused(t *testing.T, got cloud.Cloud, err error, field string, says ...string) {
	t.Helper()
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Reason != fault.InvalidParameter || len(e.Problems) != 1 {
		t.Fatalf("%T %v is not a *fault.Error with one problem", err, err)
	}
	if p := e.Problems[0]; p.Field != field || p.Cause == "" || p.Fix == "" {
		t.Fatalf("%+v is not a problem of %s with cause and fix", p, field)
	}
	if got.Name != "" || got.Authority != "" || got.VaultSuffix != "" || got.Resource != "" {
		t.Errorf("a cloud came with the error: %+v", got)
	}
	text := err.Error()
	if len(text) > 600 || strings.ContainsAny(text, "\n\r") {
		t.Errorf("not one short line: %.700q", text)
	}
	for _, s := range says {
		if !strings.Contains(text, s) {
			t.Errorf("does not say %q: %s", s, text)
		}
	}
}

// Every name that is offered is known.
func TestNames(t *testing.T) {
	if len(cloud.Names()) != 6 {
		t.Errorf("names %v", cloud.Names())
	}
	for _, name := range cloud.Names() {
		if err := cloud.CheckName(name); err != nil {
			t.Error(err)
		}
	}
}

func TestScope(t *testing.T) {
	for resource, want := range map[string]string{
		"https://vault.azure.net":        "https://vault.azure.net/.default",
		"https://vault.local.example/":   "https://vault.local.example/.default",
		"https://vault.local.example/id": "https://vault.local.example/id/.default",
	} {
		if got := cloud.Scope(resource); got != want {
			t.Errorf("scope of %s is %s, want %s", resource, got, want)
		}
	}
}

func TestPublished(t *testing.T) {
	for authority, want := range map[string]bool{
		"https://login.microsoftonline.com": true, "https://login.microsoftonline.us": true, "https://login.chinacloudapi.cn": true,
		"https://login.microsoftonline.com.evil.example": false, "http://login.microsoftonline.com": false, "https://adfs.stack.example": false, "": false,
	} {
		if cloud.IsPublished(authority) != want {
			t.Errorf("%q: want %v", authority, want)
		}
	}
}
