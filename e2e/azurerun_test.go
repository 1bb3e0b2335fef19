package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
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

// azureRun is a run of e2e/azure against stand-ins.
type azureRun struct {
	t      *testing.T
	cmd    *exec.Cmd
	record string
	out    *strings.Builder
}

func newAzureRun(t *testing.T, binary string, env ...string) *azureRun {
	t.Helper()
	dir := t.TempDir()
	root, record := cloneIn(t, dir), filepath.Join(dir, "record")
	if err := os.Mkdir(record+".logs", 0o755); err != nil {
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

// want checks the calls against regular expressions, each of which matches a later call than the one before.
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
