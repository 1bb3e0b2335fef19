package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// account is the signed-in account, as "az account show" prints it.
type account struct {
	ID              string
	TenantID        string
	EnvironmentName string
	User            struct{ Name, Type string }
}

// tools are the programs that the quick start needs, with the oldest version that it names.
var tools = []struct {
	program, oldest string
	version         []string // prints the version
}{
	{"az", "2.47.0", []string{"version", "--query", `"azure-cli"`, "-o", "tsv"}},
	{"kubectl", "", []string{"version", "--client"}},
	{"helm", "3.14", []string{"version", "--short"}},
	{"go", "1.26", []string{"env", "GOVERSION"}},
	{"make", "", []string{"--version"}},
	{"tar", "", []string{"--version"}},
	{"git", "", []string{"--version"}},
	{"envsubst", "", []string{"--version"}},
	{"bash", "", []string{"--version"}},
}

// actions are what the run does in the subscription.
var actions = []string{
	"Microsoft.Resources/subscriptions/resourceGroups/write", "Microsoft.Resources/subscriptions/resourceGroups/delete",
	"Microsoft.ContainerService/managedClusters/write", "Microsoft.ContainerRegistry/registries/write",
	"Microsoft.KeyVault/vaults/write", "Microsoft.KeyVault/locations/deletedVaults/purge/action",
	"Microsoft.ManagedIdentity/userAssignedIdentities/write",
	"Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/write",
	"Microsoft.Authorization/roleAssignments/write",
}

// namespaces are the resource providers of what the run creates.
var namespaces = []string{
	"Microsoft.Compute", "Microsoft.ContainerRegistry", "Microsoft.ContainerService", "Microsoft.KeyVault",
	"Microsoft.ManagedIdentity", "Microsoft.Network",
}

var errNotChecked = errors.New("not checked")

// check prints a line for each prerequisite, and returns how many are missing. It changes nothing.
func (t *trial) check(ctx context.Context) (missing int) {
	report := func(what string, got string, err error) bool {
		if err != nil {
			missing++
			t.say("MISSING %s: %v", what, err)
			return false
		}
		t.say("ok      %s: %s", what, got)
		return true
	}
	kubectl := ""
	for _, tool := range tools {
		if t.clean && tool.program != "az" {
			continue
		}
		got, err := t.version(ctx, tool.program, tool.oldest, tool.version)
		if report(tool.program, got, err) && tool.program == "kubectl" {
			kubectl = got
		}
	}
	if got, err := t.signedIn(ctx); !report("signed in", got, err) || t.clean {
		return missing
	}
	for _, c := range []struct {
		what string
		do   func(context.Context) (string, error)
	}{
		{"rights in the subscription", t.rights},
		{"resource providers", t.registered},
		{"names", t.names},
		{"kubectl and AKS", func(ctx context.Context) (string, error) { return t.skew(ctx, kubectl) }},
	} {
		got, err := c.do(ctx)
		report(c.what, got, err)
	}
	return missing
}

var number = regexp.MustCompile(`\d+\.\d+(\.\d+)?`)

func (t *trial) version(ctx context.Context, program, oldest string, args []string) (string, error) {
	if _, err := exec.LookPath(program); err != nil {
		return "", errors.New("not found; see \"What you need\" in deploy/QUICKSTART.md")
	}
	out, err := t.shell.run(ctx, "", program, args...)
	if err != nil {
		return "", err
	}
	got := number.FindString(out)
	if older(got, oldest) {
		return "", fmt.Errorf("version %q, need %s or newer", got, oldest)
	}
	return cmp.Or(got, "found"), nil
}

// older compares versions number by number.
func older(got, oldest string) bool {
	if oldest == "" {
		return false
	}
	return slices.Compare(numbers(got), numbers(oldest)) < 0
}

func numbers(version string) (all []int) {
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil // the oldest
		}
		all = append(all, n)
	}
	return all
}

func (t *trial) signedIn(ctx context.Context) (string, error) {
	out, err := t.az(ctx, "account", "show", "-o", "json")
	if err != nil {
		return "", fmt.Errorf("%w; run az login --tenant %s", err, t.tenant)
	}
	if err := json.Unmarshal([]byte(out), &t.user); err != nil {
		return "", fmt.Errorf("az account show: %w", err)
	}
	switch u := t.user; {
	case !strings.EqualFold(u.TenantID, t.tenant):
		return "", fmt.Errorf("to tenant %s, not %s; run az login --tenant %[2]s", u.TenantID, t.tenant)
	case !strings.EqualFold(u.ID, t.subscription):
		return "", fmt.Errorf("subscription %s is selected, not %s; run az account set --subscription %[2]s", u.ID, t.subscription)
	case u.EnvironmentName != "AzureCloud":
		return "", fmt.Errorf("the cloud is %s, need AzureCloud; run az cloud set --name AzureCloud", u.EnvironmentName)
	}
	return t.user.User.Name, nil
}

// permission is one of the sets of rights that "Permissions - List" returns.
type permission struct{ Actions, NotActions []string }

func (t *trial) rights(ctx context.Context) (string, error) {
	out, err := t.az(ctx, "rest", "--method", "get", "--url", "https://management.azure.com/subscriptions/"+t.subscription+
		"/providers/Microsoft.Authorization/permissions?api-version=2022-04-01")
	if err != nil {
		return "", err
	}
	var list struct{ Value []permission }
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return "", fmt.Errorf("az rest: %w", err)
	}
	if refused := without(list.Value, actions); len(refused) > 0 {
		return "", fmt.Errorf("no right to %s; you need the role Owner of the subscription, or Contributor with User Access Administrator",
			strings.Join(refused, ", "))
	}
	return fmt.Sprintf("%d actions allowed", len(actions)), nil
}

// without returns the wanted actions that no set of rights allows. A set allows what one of its
// actions matches and none of its notActions.
func without(sets []permission, wanted []string) (refused []string) {
	for _, action := range wanted {
		if !slices.ContainsFunc(sets, func(p permission) bool {
			match := func(pattern string) bool { return matches(pattern, action) }
			return slices.ContainsFunc(p.Actions, match) && !slices.ContainsFunc(p.NotActions, match)
		}) {
			refused = append(refused, action)
		}
	}
	return refused
}

func matches(pattern, action string) bool {
	expression := "(?i)^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$"
	return regexp.MustCompile(expression).MatchString(action)
}

func (t *trial) registered(ctx context.Context) (string, error) {
	out, err := t.az(ctx, "provider", "list", "--query", "[?registrationState=='Registered'].namespace", "-o", "tsv")
	if err != nil {
		return "", err
	}
	var commands []string
	for _, n := range namespaces {
		if !slices.ContainsFunc(strings.Fields(out), func(have string) bool { return strings.EqualFold(have, n) }) {
			commands = append(commands, "az provider register --wait --namespace "+n)
		}
	}
	if commands != nil {
		return "", fmt.Errorf("not registered; run %s", strings.Join(commands, " && "))
	}
	return "registered", nil
}

// names fails where something has a name of this run. It may not be ours to delete.
func (t *trial) names(ctx context.Context) (string, error) {
	var taken []string
	for _, q := range []struct {
		free, name string
		args       []string
	}{
		{"false", "resource group " + t.group, []string{"group", "exists", "--name", t.group}},
		{"true", "registry " + t.registry, []string{"acr", "check-name", "--name", t.registry, "--query", "nameAvailable", "-o", "tsv"}},
	} {
		out, err := t.az(ctx, q.args...)
		if err != nil {
			return "", err
		}
		if !strings.EqualFold(out, q.free) {
			taken = append(taken, q.name)
		}
	}
	for _, vault := range append(t.vaults(), t.missingVault()) {
		out, err := t.az(ctx, "keyvault", "check-name", "--name", vault, "--query", "nameAvailable", "-o", "tsv")
		if err != nil {
			return "", err
		}
		if !strings.EqualFold(out, "true") {
			taken = append(taken, "vault "+vault)
		}
	}
	if taken != nil {
		return "", fmt.Errorf("%s exist already; if an earlier run left them, run make e2e-azure E2E_CLEAN=yes, otherwise choose another E2E_PREFIX",
			strings.Join(taken, ", "))
	}
	return "free", nil
}

// skew checks that kubectl fits the version that AKS gives a new cluster.
func (t *trial) skew(ctx context.Context, kubectl string) (string, error) {
	if kubectl == "" {
		return "", errNotChecked
	}
	aks, err := t.az(ctx, "aks", "get-versions", "--location", t.location, "--query", "values[?isDefault].version|[0]", "-o", "tsv")
	if err != nil {
		return "", err
	}
	client, cluster := numbers(kubectl), numbers(aks)
	if len(cluster) < 2 { // the region names no default
		return "AKS names no default version", nil
	}
	if d := client[1] - cluster[1]; client[0] != cluster[0] || d < -1 || d > 1 {
		return "", fmt.Errorf("kubectl %s is more than one minor version from the %s of a new AKS cluster; run az aks install-cli --client-version %[2]s.0",
			kubectl, aks)
	}
	return fmt.Sprintf("%s and %s", kubectl, aks), nil
}
