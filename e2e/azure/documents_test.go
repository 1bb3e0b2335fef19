package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/provider/fault"
)

// otherReasons are those of the reference that a run does not produce, and why.
var otherReasons = map[fault.Reason]string{
	fault.IdentityModeRefused:           "needs other flags of the provider",
	fault.TokenRequestMissing:           "needs another CSIDriver object, which all pods share",
	fault.ServiceAccountLookupForbidden: "needs other RBAC rules of the provider",
	fault.ClientSecretInvalid:           "needs an application registration, which is in the tenant, not in the resource group",
	fault.ClientSecretExpired:           "needs an application registration",
	fault.TokenExpired:                  "the cluster issues valid tokens",
	fault.TokenInvalid:                  "the cluster issues valid tokens",
	fault.IssuerUnreachable:             "AKS serves the issuer",
	fault.SignInFailed:                  "needs a Conditional Access policy of the tenant",
	fault.WrongTenant:                   "needs a second tenant",
	fault.TokenRejected:                 "needs a second cloud",
	fault.VaultRefused:                  "Key Vault accepts the provider's requests",
	fault.TooLarge:                      "needs more than 4 MiB of secrets",
	fault.Throttled:                     "would throttle the subscription's other users",
	fault.TLSUntrusted:                  "needs a proxy",
	fault.ProxyRefused:                  "needs a proxy",
	fault.Timeout:                       "needs a network that loses packets",
	fault.ServiceUnavailable:            "needs an outage",
	fault.Canceled:                      "nobody waits for it",
	fault.Internal:                      "is a bug",
}

// otherExamples are the folders that a run leaves out, and why.
var otherExamples = map[string]string{
	"quick-start":        "is the quick start",
	"service-principal":  "an application registration is in the tenant, not in the resource group",
	"client-certificate": "an application registration is in the tenant, not in the resource group",
	"identity-binding":   "needs identity binding, a preview of AKS, turned on for the subscription",
	"sync-controller":    "needs secrets-store-sync-controller in the cluster",
	"sovereign-cloud":    "needs a subscription of another cloud",
}

func document(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every reason of the reference has a case or an explanation, and so has every example.
func TestNothingIsLeftOut(t *testing.T) {
	for _, known := range fault.Reasons {
		produced := slices.ContainsFunc(settings{}.refusals(), func(r refusal) bool { return r.want == known.Reason })
		if produced == (otherReasons[known.Reason] != "") {
			t.Errorf("%s: want a case or an explanation, and not both", known.Reason)
		}
	}
	if n := len(otherReasons); n >= len(fault.Reasons) {
		t.Errorf("%d explanations for %d reasons", n, len(fault.Reasons))
	}
	folders, err := filepath.Glob("../../deploy/examples/*/secretproviderclass.yaml")
	if err != nil || len(folders) == 0 {
		t.Fatalf("%d examples, %v", len(folders), err)
	}
	for _, file := range folders {
		folder := filepath.Base(filepath.Dir(file))
		runs := slices.ContainsFunc(examples, func(e example) bool { return e.folder == folder })
		if runs == (otherExamples[folder] != "") {
			t.Errorf("%s: want an example that runs or an explanation, and not both", folder)
		}
	}
	if n := len(examples) + len(otherExamples); n != len(folders) {
		t.Errorf("%d examples, there are %d", n, len(folders))
	}
}

// The README has the rows that a run leaves out, with the same explanations, and the variables.
func TestReadme(t *testing.T) {
	_, section, _ := strings.Cut(document(t, "../README.md"), "\n## A real subscription\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for reason, why := range otherReasons {
		if !strings.Contains(section, "`"+string(reason)+"`") {
			t.Errorf("no %s, which %s", reason, why)
		}
	}
	for folder, why := range otherExamples {
		if !strings.Contains(section, "["+folder+"]") {
			t.Errorf("no %s, which %s", folder, why)
		}
	}
	for _, m := range regexp.MustCompile(`read\("([A-Z0-9_]+)"`).FindAllStringSubmatch(document(t, "settings.go"), -1) {
		if !strings.Contains(section, "| `"+m[1]+"` |") {
			t.Errorf("no variable %s", m[1])
		}
	}
	for _, count := range []string{fmt.Sprintf("%d mistakes", len(settings{}.refusals())), fmt.Sprintf("%d pods that must start", len(mounts))} {
		if !strings.Contains(section, "\n3. "+count) && !strings.Contains(section, "\n4. "+count) {
			t.Errorf("no %s", count)
		}
	}
	if !strings.Contains(section, runLimit.String()[:1]+" hours") || !strings.Contains(section, "was never run against Azure") {
		t.Error("no limit, or no word that it was never run")
	}
}

// The quick start's table has the programs that are checked, in the same versions.
func TestVersions(t *testing.T) {
	_, table, _ := strings.Cut(document(t, "../../deploy/QUICKSTART.md"), "\n## What you need\n")
	table, _, _ = strings.Cut(table, "\n## ")
	names := map[string]string{"az": "Azure CLI", "helm": "Helm", "go": "Go"}
	for _, tool := range tools {
		if tool.program == "bash" {
			continue // what a reader types into
		}
		if tool.oldest == "" {
			if !strings.Contains(table, tool.program) {
				t.Errorf("no %s", tool.program)
			}
			continue
		}
		row := regexp.MustCompile(`(?m)^\| \[` + names[tool.program] + `\]\([^)]*\) \| ` + regexp.QuoteMeta(tool.oldest) + ` or newer`)
		if !row.MatchString(table) {
			t.Errorf("no row for %s %s or newer", tool.program, tool.oldest)
		}
	}
}

func TestOlder(t *testing.T) {
	for _, c := range []struct {
		got, oldest string
		want        bool
	}{
		{"2.47.0", "2.47.0", false}, {"2.9.1", "2.47.0", true}, {"2.100.0", "2.47.0", false}, {"3.0", "2.47.0", false},
		{"3.14.0", "3.14", false}, {"3.13.9", "3.14", true}, {"4.0.0", "3.14", false}, {"1.26", "1.26", false}, {"", "1.26", true}, {"", "", false},
	} {
		if got := older(c.got, c.oldest); got != c.want {
			t.Errorf("older(%q, %q) = %t", c.got, c.oldest, got)
		}
	}
}

// The rights of Azure's roles: notActions count within their own set only.
func TestRights(t *testing.T) {
	contributor := permission{Actions: []string{"*"}, NotActions: []string{"Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write",
		"Microsoft.Authorization/elevateAccess/Action"}}
	administrator := permission{Actions: []string{"*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"}}
	for name, c := range map[string]struct {
		sets []permission
		want []string
	}{
		"owner":                                {[]permission{{Actions: []string{"*"}}}, nil},
		"contributor":                          {[]permission{contributor}, []string{"Microsoft.Authorization/roleAssignments/write"}},
		"contributor and access administrator": {[]permission{contributor, administrator}, nil},
		"reader":                               {[]permission{{Actions: []string{"*/read"}}}, actions},
		"nobody":                               {nil, actions},
	} {
		if got := without(c.sets, actions); !slices.Equal(got, c.want) {
			t.Errorf("%s: without %q, want %q", name, got, c.want)
		}
	}
}

// The variables are checked together, and the names that follow from them are names that Azure accepts.
func TestSettings(t *testing.T) {
	sound := map[string]string{"AZURE_TENANT_ID": nobody, "AZURE_SUBSCRIPTION_ID": nobody, "E2E_PREFIX": "abcdefghij"}
	s, err := fromEnvironment(func(name string) string { return sound[name] })
	if err != nil {
		t.Fatal(err)
	}
	for _, vault := range append(s.vaults(), s.missingVault()) {
		if !regexp.MustCompile(`^[a-z](-?[a-z0-9]){2,23}$`).MatchString(vault) || len(vault) > 24 {
			t.Errorf("vault %q", vault)
		}
	}
	if !regexp.MustCompile(`^[a-z0-9]{5,50}$`).MatchString(s.registry) || s.location != "westeurope" || s.keep || s.clean {
		t.Errorf("%+v", s)
	}
	_, err = fromEnvironment(func(name string) string {
		return map[string]string{"E2E_KEEP": "maybe", "E2E_LOCATION": "West Europe"}[name]
	})
	for _, name := range []string{"AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID", "E2E_PREFIX", "E2E_KEEP", "E2E_LOCATION"} {
		if err == nil || !strings.Contains(err.Error(), name+"=") {
			t.Errorf("no word of %s: %v", name, err)
		}
	}
}

// A quick start that changes in a way that this program does not know is an error, not a run with
// a reader's example names.
func TestReadQuickStart(t *testing.T) {
	names := settings{group: "g", cluster: "c", location: "l", vault: "v", registry: "r"}.values()
	q, err := readQuickStart("../..", names)
	if err != nil {
		t.Fatal(err)
	}
	if got := q.steps[0].exports; !slices.Equal(got, []string{"ISSUER"}) {
		t.Errorf("step 1 exports %q", got)
	}
	if got := q.steps[2].exports; !slices.Equal(got, []string{"CLIENT_ID", "PRINCIPAL_ID", "TENANT_ID"}) {
		t.Errorf("step 3 exports %q", got)
	}
	sound := document(t, "../../deploy/QUICKSTART.md")
	for name, change := range map[string]struct{ old, new, want string }{
		"another name":   {"export RESOURCE_GROUP=", "export REGION=x RESOURCE_GROUP=", "REGION"},
		"a missing step": {"## Step 5 ", "## Then 5 ", "seven steps"},
		"no clean-up":    {"## Clean up", "## Afterwards", "Clean up"},
		"no sign-in":     {"\naz login\n", "\naz login --use-device-code\n", "az login"},
	} {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "deploy"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "deploy", "QUICKSTART.md"), []byte(strings.Replace(sound, change.old, change.new, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readQuickStart(root, names); err == nil || !strings.Contains(err.Error(), change.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReasonOf(t *testing.T) {
	for message, want := range map[string]string{
		"rpc error: code = NotFound desc = no secret; create it [ObjectNotFound]":    "ObjectNotFound",
		"[ObjectNotFound] a message that kubelet cuts, with [Other] brackets, an[x]": "ObjectNotFound",
		"MountVolume.SetUp failed: context deadline exceeded":                        `no reason: "MountVolume.SetUp failed: context deadline exceeded"`,
		"": "no event",
	} {
		if got := reasonOf(message); got != want {
			t.Errorf("%q: %q, want %q", message, got, want)
		}
	}
}
