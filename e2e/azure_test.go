package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	azureTenant       = "11111111-2222-3333-4444-555555555555"
	azureSubscription = "99999999-8888-7777-6666-555555555555"
)

// azureCases are the answers of a subscription and a cluster that e2e/azure asks for besides what
// the quick start does. Groups and vaults exist from their creation on until they are deleted.
const azureCases = `case "$program $*" in
"az $FAILS"*) [ -z "$FAILS" ] || { echo "ERROR: refused" >&2; exit 1; } ;;
esac
case "$program $*" in
"az version"*) echo 2.47.0; exit ;;
"az account show -o json") echo "$ACCOUNT"; exit ;;
"az rest "*) echo "$PERMISSIONS"; exit ;;
"az provider list"*)
  for n in Compute ContainerRegistry ContainerService KeyVault ManagedIdentity Network; do echo Microsoft.$n; done; exit ;;
"az group exists"*) if [ -e "$RECORD.group" ]; then echo true; else echo false; fi; exit ;;
"az group create"*) touch "$RECORD.group"; exit ;;
"az group delete"*) rm "$RECORD.group"; cat "$RECORD.vaults" >"$RECORD.deleted"; exit ;;
"az keyvault create"*) echo "$4" "$5" | sed 's/.*--name //; s/ .*//' >>"$RECORD.vaults"; exit ;;
"az keyvault list-deleted"*) [ -e "$RECORD.deleted" ] && cat "$RECORD.deleted"; exit 0 ;;
"az keyvault purge"*) grep -v -x -e "$4" "$RECORD.deleted" >"$RECORD.rest"; cat "$RECORD.rest" >"$RECORD.deleted"; exit 0 ;;
*" check-name "*) echo true; exit ;;
"az aks get-versions"*) echo 1.34; exit ;;
"az aks create"*) [ -z "$HANGS" ] || { touch "$RECORD.hangs"; exec sleep 600; } ;;
"kubectl version"*) echo "Client Version: v1.34.1"; exit ;;
"helm version"*) echo v3.14.0+g3fc9f4b; exit ;;
"go env GOVERSION") echo go1.26.0; exit ;;
"kubectl -n default apply -f -") cat >>"$RECORD.applied"; exit ;;
"kubectl -n default get events --field-selector reason=FailedMount "*) cat "$RECORD.events"; exit ;;
"kubectl -n default logs "*) cat "$RECORD.logs/$(basename "$4")"; exit ;;
*" -o jsonpath={.type}") once kubectl synced; echo kubernetes.io/tls; exit ;;
esac
`

// azureLogs are what the pods of the examples and of the sound cases print.
var azureLogs = map[string]string{
	"quick-start": "Hello!", "environment": "Hello!", "several-versions": "Hello!Hello!Hello!", "several-vaults": "Hello!of all",
	"optional-objects": "Hello!my-secret", "search": "s3cretpayWORKER_QUEUE=orders", "json-pieces": "apps3cretinfoorders",
	"certificate-pieces": "-rw-r--r-- 1 root root 9 Nov 1 12:00 /mnt/secrets/keystore.p12\n-rw-r--r-- 1 root root 9 Nov 1 12:00 /mnt/secrets/tls.crt\n" +
		"-r-------- 1 root root 9 Nov 1 12:00 /mnt/secrets/tls.key",
	"documents":        "[database]\nuser = app\npassword = \"s3cret\"\n\n[features]\nsearch = on",
	"managed-identity": "Hello!", "pfx-rsa": azurePrivate, "pfx-ec": azurePrivate, "pem-certificate": azurePrivate,
	"certificate": "-----BEGIN CERTIFICATE", "key-rsa": "-----BEGIN PUBLIC KEY", "key-ec": "-----BEGIN PUBLIC KEY",
	"expired-secret": "old", "secret-not-valid-yet": "new", "access-policy": "Hello!",
}

const azurePrivate = "-----BEGIN PRIVATE KEY\n-----BEGIN CERTIFICATE"

// azureReasons are those of the events, by pod.
var azureReasons = map[string]string{
	"unknown-object-type": "InvalidParameter", "no-identity": "NoIdentity", "no-federated-credential": "FederatedCredentialMissing",
	"wrong-subject": "FederatedCredentialMissing", "wrong-issuer": "FederatedCredentialMissing", "wrong-audience": "FederatedCredentialMissing",
	"unknown-client": "ApplicationNotFound", "unknown-tenant": "TenantNotFound", "unknown-managed-identity": "ManagedIdentityUnavailable",
	"no-role": "AccessDenied", "no-access-policy": "AccessDenied", "vault-firewall": "VaultFirewall", "vault-without-public-access": "VaultFirewall",
	"unknown-vault": "VaultNotFound", "unknown-secret": "ObjectNotFound", "unknown-version": "ObjectNotFound", "secret-as-key": "ObjectNotFound",
	"disabled-secret": "ObjectDisabled", "key-of-another-type": "ContentInvalid", "pending-certificate": "ContentInvalid", "not-hexadecimal": "ContentInvalid",
}

var buildAzure = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "e2e-azure-test")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "azure")
	out, err := exec.Command("go", "build", "-o", binary, "./azure").CombinedOutput()
	if err != nil {
		err = errors.New(string(out))
	}
	return binary, err
})

// azureRun is a run of e2e/azure against stand-ins.
type azureRun struct {
	t      *testing.T
	cmd    *exec.Cmd
	record string
	out    *strings.Builder
}

func newAzureRun(t *testing.T, env ...string) *azureRun {
	t.Helper()
	binary, err := buildAzure()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	root, record := filepath.Join(dir, "akv-csi-provider"), filepath.Join(dir, "record")
	for _, folder := range []string{root, record + ".logs"} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	project, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(project, "deploy"), filepath.Join(root, "deploy")); err != nil {
		t.Fatal(err)
	}
	r := &azureRun{t: t, record: record, out: new(strings.Builder)}
	r.write(".sh", read(t, "../deploy/QUICKSTART.md")) // whose loops the stand-ins let fail once
	for pod, text := range azureLogs {
		r.write(".logs/"+pod, text)
	}
	r.write(".vaults", "")
	r.events(azureReasons)
	const common = "case \"$program $*\" in\n"
	head, tail, found := strings.Cut(standIn, common)
	if !found {
		t.Fatal("the stand-in has no cases")
	}
	path := standIns(t, dir, head+azureCases+common+tail)
	r.cmd = exec.CommandContext(t.Context(), binary, "--root="+root, "--pause=1ms")
	r.cmd.Stdout, r.cmd.Stderr = r.out, r.out
	r.cmd.Env = append([]string{"PATH=" + path, "RECORD=" + record, "HOME=" + dir, "TMPDIR=" + dir, "FAILS=", "HANGS=",
		"AZURE_TENANT_ID=" + azureTenant, "AZURE_SUBSCRIPTION_ID=" + azureSubscription, "E2E_PREFIX=abc",
		`ACCOUNT={"id":"` + azureSubscription + `","tenantId":"` + azureTenant + `","environmentName":"AzureCloud","user":{"name":"me@contoso.example","type":"user"}}`,
		`PERMISSIONS={"value":[{"actions":["*"],"notActions":[]}]}`}, env...)
	return r
}

func (r *azureRun) write(suffix, text string) {
	r.t.Helper()
	if err := os.WriteFile(r.record+suffix, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r *azureRun) events(reasons map[string]string) {
	r.t.Helper()
	var items []any
	for pod, reason := range reasons {
		items = append(items, map[string]any{"involvedObject": map[string]string{"name": pod},
			"message": "MountVolume.SetUp failed for volume \"secrets\" : rpc error: code = NotFound desc = no [x] in y; do z [" + reason + "]"})
	}
	text, err := json.Marshal(map[string]any{"items": items})
	if err != nil {
		r.t.Fatal(err)
	}
	r.write(".events", string(text))
}

// calls runs it to its end and returns the calls; the exit code must be the wanted one.
func (r *azureRun) calls(code int) []string {
	r.t.Helper()
	if r.cmd.Process == nil {
		if err := r.cmd.Start(); err != nil {
			r.t.Fatal(err)
		}
	}
	err := r.cmd.Wait()
	if got := r.cmd.ProcessState.ExitCode(); got != code {
		log, _ := os.ReadFile(filepath.Join(filepath.Dir(r.record), "akv-csi-provider", "bin", "e2e-azure.log"))
		r.t.Fatalf("exit code %d (%v), want %d:\n%s\n%.20000s", got, err, code, r.out, log)
	}
	return strings.Split(strings.TrimSpace(read(r.t, r.record)), "\n")
}

// want checks that each regular expression matches the calls after the match of the one before.
func (r *azureRun) want(calls []string, expressions ...string) {
	r.t.Helper()
	rest := calls
	for _, e := range expressions {
		i := slices.IndexFunc(rest, regexp.MustCompile("^"+e+"$").MatchString)
		if i < 0 {
			r.t.Fatalf("no call of %s in this order in\n%s", e, strings.Join(calls, "\n"))
		}
		rest = rest[i+1:]
	}
}

func (r *azureRun) prints(expressions ...string) {
	r.t.Helper()
	for _, e := range expressions {
		if !regexp.MustCompile(`(?m)` + e).MatchString(r.out.String()) {
			r.t.Errorf("no %s in\n%s", e, r.out)
		}
	}
}

// A whole run: every command of the quick start with the run's own names, then the examples and
// the errors, then nothing is left.
func TestAzureRuns(t *testing.T) {
	r := newAzureRun(t)
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
func TestAzureRowFails(t *testing.T) {
	r := newAzureRun(t)
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
func TestAzureStepFails(t *testing.T) {
	r := newAzureRun(t, "FAILS=identity create --name e2e-stranger")
	calls := r.calls(1)
	r.want(calls, `az identity create --name e2e-(stranger|bare) .*`, `az group delete .*`, `az keyvault purge --name abc-[0-9a-f]{6}-o .*`)
	r.prints(`^FAILED +prepare: identities +done +az identity create: exit status 1: ERROR: refused `)
	if slices.ContainsFunc(calls, func(call string) bool {
		return strings.HasPrefix(call, "kubectl -n default get events --field-selector reason")
	}) {
		t.Error("it continued")
	}
}

// Where the clean-up fails, the run says what is left and what to do.
func TestAzureCleanUpFails(t *testing.T) {
	r := newAzureRun(t, "FAILS=group delete")
	r.calls(1)
	r.prints(`^The clean-up is NOT complete.*make e2e-azure E2E_CLEAN=yes.*abc-akv-e2e`)
}

// Ctrl-C ends the command that runs, and the clean-up follows.
func TestAzureInterrupted(t *testing.T) {
	r := newAzureRun(t, "HANGS=yes")
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
func TestAzureKeepsAndCleans(t *testing.T) {
	r := newAzureRun(t, "E2E_KEEP=yes")
	calls := r.calls(0)
	if slices.ContainsFunc(calls, func(call string) bool { return strings.HasPrefix(call, "az group delete") }) {
		t.Error("it deleted the group")
	}
	clean := newAzureRun(t, "E2E_CLEAN=yes")
	clean.write(".group", "")
	clean.write(".vaults", read(t, r.record+".vaults"))
	calls = clean.calls(0)
	clean.want(calls, `az account show -o json`, `az group delete .*`, `az keyvault purge --name abc-[0-9a-f]{6}-c .*`)
	if slices.ContainsFunc(calls, func(call string) bool { return strings.Contains(call, " create ") }) {
		t.Error("it created something")
	}
}

// What is missing is named with its fix, all at once, and nothing is created or deleted.
func TestAzureMissing(t *testing.T) {
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
			r := newAzureRun(t, c.env)
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
		r := newAzureRun(t)
		r.write(".group", "")
		r.want(r.calls(2), `az group exists .*`)
		r.prints(`MISSING names: resource group abc-akv-e2e exist already; if an earlier run left them, run make e2e-azure E2E_CLEAN=yes`)
	})
}
