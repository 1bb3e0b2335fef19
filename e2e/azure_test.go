package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// No Azure is needed: the calls of e2e/azure are recorded and checked.
func TestAzure(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "azure")
	if out, err := exec.Command("go", "build", "-o", binary, "./azure").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, test := range map[string]func(*testing.T, string){
		"Runs": testAzureRuns, "RowFails": testAzureRowFails, "StepFails": testAzureStepFails, "CleanUpFails": testAzureCleanUpFails,
		"Interrupted": testAzureInterrupted, "KeepsAndCleans": testAzureKeepsAndCleans, "Missing": testAzureMissing,
	} {
		t.Run(name, func(t *testing.T) { test(t, binary) })
	}
}

// A whole run: every command of the quick start with the run's own names, then the examples and
// the errors, then nothing is left.
func testAzureRuns(t *testing.T, binary string) {
	r := newAzureRun(t, binary)
	calls := r.calls(0)
	r.want(calls,
		`az group create --name abc-akv-e2e --location westeurope .*`,
		`az acr create --resource-group abc-akv-e2e --name abc[0-9a-f]{6}e2e .*`,
		`az aks create --resource-group abc-akv-e2e .*`,
		`az role assignment create --role Key Vault Secrets User --scope id/secrets/my-secret --assignee-object-id principalId .*`,
		`az identity federated-credential create .* --subject system:serviceaccount:default:quick-start .*`,
		`make image IMAGE=crcontoso\.azurecr\.io/akv-csi-provider:dev`,
		`helm .* deploy/chart .*linux\.image\.tag=dev`,
		`kubectl -n default logs quick-start`,
		`az role assignment create --role Key Vault Administrator --scope id --assignee-object-id id .*`,
		`az keyvault certificate create --vault-name abc-[0-9a-f]{6} --name web .*`,
		`az keyvault create --name abc-[0-9a-f]{6}-o .* --enable-rbac-authorization false .*`,
		`az keyvault create --name abc-[0-9a-f]{6}-c .* --default-action Deny --bypass None .*`,
		`az identity federated-credential create .* --identity-name e2e-quick-start .* --subject system:serviceaccount:default:several-vaults .*`,
		`kubectl -n default apply -f -`,
		`kubectl -n default logs several-vaults`,
		`kubectl -n default get events .*`,
		`kubectl -n default logs pfx-ec`,
		`az group delete --name abc-akv-e2e --yes`,
		`az keyvault purge --name abc-[0-9a-f]{6} --location westeurope`,
		`az keyvault purge --name abc-[0-9a-f]{6}-p --location westeurope`,
	)
	if left := strings.TrimSpace(read(t, r.record+".deleted")); left != "" {
		t.Errorf("vaults that are not purged: %s", left)
	}
	if slices.ContainsFunc(calls, func(call string) bool {
		return strings.HasPrefix(call, "az login") || strings.HasPrefix(call, "git clone")
	}) {
		t.Error("it signed in or cloned")
	}
	r.prints(`^  clean-up +always, `, `^ +example several-vaults +"Hello!of all" +"Hello!of all" `, `^ +error no-role +AccessDenied +AccessDenied `, `^\d+ rows, 0 failed`)
	for reason := range azureReasons {
		if !strings.Contains(read(t, r.record+".applied"), `"secretProviderClass":"`+reason+`"`) {
			t.Errorf("no pod %s was created", reason)
		}
	}
}

// A row that differs fails the run, and the table says how. Everything is deleted all the same.
func testAzureRowFails(t *testing.T, binary string) {
	r := newAzureRun(t, binary)
	other := make(map[string]string)
	for pod, reason := range azureReasons {
		other[pod] = reason
	}
	other["no-role"], other["several-versions"] = "Timeout", "ObjectNotFound"
	delete(other, "unknown-vault")
	r.events(other)
	if err := os.Remove(r.record + ".logs/several-versions"); err != nil {
		t.Fatal(err)
	}
	r.want(r.calls(1), `az group delete .*`, `az keyvault purge .*`)
	r.prints(`^FAILED +error no-role +AccessDenied +Timeout `, `^FAILED +error unknown-vault +VaultNotFound +no event `,
		`^FAILED +example several-versions +"Hello!Hello!Hello!" +ObjectNotFound `, `^\d+ rows, 3 failed`)
}

// What fails before the rows ends the run; what there is by then is deleted.
func testAzureStepFails(t *testing.T, binary string) {
	r := newAzureRun(t, binary, "FAILS=identity create --name e2e-stranger")
	calls := r.calls(1)
	r.want(calls, `az identity create --name e2e-(stranger|bare) .*`, `az group delete .*`, `az keyvault purge --name abc-[0-9a-f]{6}-o .*`)
	r.prints(`^FAILED +prepare: identities +done +az identity create: exit status 1: ERROR: refused `)
	if slices.ContainsFunc(calls, func(call string) bool {
		return strings.HasPrefix(call, "kubectl -n default get events --field-selector reason")
	}) {
		t.Error("it went on")
	}
}

// Where the clean-up fails, the run says what is left and what to do.
func testAzureCleanUpFails(t *testing.T, binary string) {
	r := newAzureRun(t, binary, "FAILS=group delete")
	r.calls(1)
	r.prints(`^The clean-up is NOT complete.*make e2e-azure E2E_CLEAN=yes.*abc-akv-e2e`)
}

// Ctrl-C ends the command that runs, and the clean-up follows.
func testAzureInterrupted(t *testing.T, binary string) {
	r := newAzureRun(t, binary, "HANGS=yes")
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		if _, err := os.Stat(r.record + ".hangs"); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal("the cluster's creation did not begin")
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	r.want(r.calls(130), `az aks create .*`, `az group exists .*`, `az group delete --name abc-akv-e2e --yes`)
	r.prints(`^FAILED +quick start: Step 1 Cluster +done +bash: interrupt signal received`)
}

// E2E_KEEP leaves everything, and E2E_CLEAN deletes what an earlier run has left.
func testAzureKeepsAndCleans(t *testing.T, binary string) {
	r := newAzureRun(t, binary, "E2E_KEEP=yes")
	calls := r.calls(0)
	if slices.ContainsFunc(calls, func(call string) bool { return strings.HasPrefix(call, "az group delete") }) {
		t.Error("it deleted the group")
	}
	clean := newAzureRun(t, binary, "E2E_CLEAN=yes")
	clean.write(".group", "")
	clean.write(".vaults", read(t, r.record+".vaults"))
	calls = clean.calls(0)
	clean.want(calls, `az account show -o json`, `az group delete .*`, `az keyvault purge --name abc-[0-9a-f]{6}-c .*`)
	if slices.ContainsFunc(calls, func(call string) bool { return strings.Contains(call, " create ") }) {
		t.Error("it created something")
	}
}

// What is missing is named with its fix, all at once, and nothing is created or deleted.
func testAzureMissing(t *testing.T, binary string) {
	for name, c := range map[string]struct {
		env, prints string
	}{
		"no variables":   {"E2E_PREFIX=", `^E2E_PREFIX="": set it to`},
		"wrong variable": {"AZURE_TENANT_ID=contoso", `^AZURE_TENANT_ID="contoso": set it to the tenant's GUID`},
		"not signed in":  {"FAILS=account show", `MISSING signed in: az account show: .*; run az login --tenant ` + azureTenant},
		"another tenant": {"ACCOUNT={}", `MISSING signed in: to tenant , not ` + azureTenant},
		"rights": {`PERMISSIONS={"value":[{"actions":["*"],"notActions":["Microsoft.Authorization/*/Write"]}]}`,
			`MISSING rights in the subscription: no right to Microsoft.Authorization/roleAssignments/write; you need the role Owner`},
		"no rights at all": {`PERMISSIONS={"value":[]}`, `MISSING rights in the subscription: no right to Microsoft.Resources`},
		"providers":        {"FAILS=provider list", `MISSING resource providers: az provider list: `},
	} {
		t.Run(name, func(t *testing.T) {
			r := newAzureRun(t, binary, c.env)
			r.write("", "") // no calls
			for _, call := range r.calls(2) {
				if strings.Contains(call, " create ") || strings.Contains(call, " delete ") {
					t.Errorf("called %s", call)
				}
			}
			r.prints(c.prints)
		})
	}
	t.Run("names", func(t *testing.T) {
		r := newAzureRun(t, binary)
		r.write(".group", "")
		r.want(r.calls(2), `az group exists .*`)
		r.prints(`MISSING names: resource group abc-akv-e2e exist already; if an earlier run left them, run make e2e-azure E2E_CLEAN=yes`)
	})
}
