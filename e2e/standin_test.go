package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// standIn records how it was called and prints what the commands after it need. What has to
// wait for something to propagate fails at first. As envsubst it fails where a variable of the
// manifest is not exported.
const standIn = `#!/bin/sh
PATH=${PATH##*:} # of the system: no stand-ins
program=$(basename "$0")
all="$*"
echo "$program $*" >>"$RECORD"
once() { # where a loop waits for it
  grep -q "until $1 " "$RECORD.sh" || return 0
  [ -e "$RECORD.$2" ] && return 0
  touch "$RECORD.$2"
  exit 1
}
case "$program $*" in
envsubst*)
  text=$(cat)
  for name in $(echo "$text" | grep -o '\${[A-Z_]*}' | tr -d '${}'); do
    printenv "$name" >/dev/null || { echo "$name is not exported" >&2; exit 1; }
  done
  echo "$text" ;;
"az keyvault secret set"*)
  file=${all##*--file }
  [ "$file" = "$all" ] || [ -n "$(tail -c 1 "${file%% *}")" ] || { # the command removes a newline
    echo "${file%% *} is empty, or the secret ends with a newline" >&2; exit 1; }
  once "az keyvault secret set" secret ;;
"openssl rand "*) echo 0123456789abcdef ;;
"kubectl apply -f "[!-]* | "kubectl patch "*" --patch-file "*)
  file=${all##* }
  [ -e "$file" ] || { echo "nothing says to create $file" >&2; exit 1; } ;;
"kubectl "*" wait "*) once kubectl wait ;;
"kubectl "*" get secret "*) once kubectl synced ;;
"kubectl apply"*" -f -" | "kubectl delete"*" -f -") [ -n "$(cat)" ] || exit 1 ;;
"go "*--password-stdin) [ "$(cat)" = accessToken ] || exit 1 ;;
*"--query oidcIssuerProfile.issuerUrl"*) echo https://issuer.example/ ;;
"date "*) echo 1764288000 ;;
"az acr show"*) echo crcontoso.azurecr.io ;;
*" --query "*" -o tsv") echo "$*" | sed 's/.*--query \([^ ]*\) .*/\1/' ;;
esac
`

// standIns are the programs of the documents as the script, but for those that only pass text on.
// It returns the PATH that finds them and, at its end, the tools that the script needs itself: the
// rest of the system is out of reach.
func standIns(t *testing.T, dir, script string) (path string) {
	t.Helper()
	bin, tools := filepath.Join(dir, "bin"), filepath.Join(dir, "tools")
	for _, folder := range []string{bin, tools} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for program := range needs {
		if !slices.Contains([]string{"cat", "printf", "cd", "mktemp", "rm", ":"}, program) {
			if err := os.WriteFile(filepath.Join(bin, program), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tool := range []string{"basename", "bash", "cat", "grep", "mktemp", "printenv", "rm", "sed", "sleep", "tail", "tr", "touch"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(tools, tool)); err != nil {
			t.Fatal(err)
		}
	}
	return bin + ":" + tools
}

// cloneIn makes what the documents' commands need of a clone, and returns its path.
func cloneIn(t *testing.T, dir string) string {
	t.Helper()
	clone := filepath.Join(dir, "akv-csi-provider")
	if err := os.Mkdir(clone, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, "deploy"), filepath.Join(clone, "deploy")); err != nil {
		t.Fatal(err)
	}
	return clone
}

// runCommands runs all commands of a document in one shell, as a reader does who follows it
// from top to bottom, and returns the calls. The files that it says to save
// are there. Only cat, printf, mktemp, rm and what the shell has are real.
func runCommands(t *testing.T, document string) []string {
	t.Helper()
	dir := t.TempDir()
	clone, record := cloneIn(t, dir), filepath.Join(dir, "record")
	path := standIns(t, dir, standIn)
	script := "set -eu\n"
	blocks := shell.FindAllStringSubmatch(read(t, document), -1)
	for _, m := range blocks {
		script += strings.ReplaceAll("\n"+m[2], "\n"+m[1], "\n")
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(record+".sh", []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, text := range savedIn(t, document) {
		if err := os.WriteFile(filepath.Join(clone, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	temporary := filepath.Join(dir, "tmp")
	if err := os.Mkdir(temporary, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bash, record+".sh")
	cmd.Dir = clone
	if strings.Contains(script, "\ncd akv-csi-provider\n") {
		cmd.Dir = dir
	}
	cmd.Env = []string{"PATH=" + path, "RECORD=" + record, "HOME=" + dir, "TMPDIR=" + temporary}
	out, err := cmd.CombinedOutput()
	calls := strings.Split(strings.TrimSpace(read(t, record)), "\n")
	if err != nil {
		t.Fatalf("%s: %v after %q: %s", document, err, calls[len(calls)-1], out)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("%s: %d files with secrets are not deleted, %v", document, len(left), err)
	}
	return calls
}

// What a reader of the quick start runs reaches each program with the values that the
// commands before it found.
func TestQuickStartRuns(t *testing.T) {
	calls := runCommands(t, "../deploy/QUICKSTART.md")
	for _, want := range []string{
		`az role assignment create --role Key Vault Secrets User --scope id/secrets/my-secret --assignee-object-id principalId .*`,
		`az identity federated-credential create .* --issuer https://issuer\.example/ --subject system:serviceaccount:default:quick-start --audiences api://AzureADTokenExchange .*`,
		`az aks create .* --enable-oidc-issuer --attach-acr cr1764288000 .*`,
		`make image IMAGE=crcontoso\.azurecr\.io/akv-csi-provider:dev`,
		`go .* auth login crcontoso\.azurecr\.io .*`,
		`go .* push \.\./\.\./\.\./bin/image crcontoso\.azurecr\.io/akv-csi-provider:dev`,
		`helm .* deploy/chart .*linux\.image\.repository=crcontoso\.azurecr\.io/akv-csi-provider --set linux\.image\.tag=dev`,
		`kubectl -n default logs quick-start`,
		`az group delete --name akv-quick-start-1764288000 --yes`,
	} {
		expression := regexp.MustCompile("^" + want + "$")
		if !slices.ContainsFunc(calls, expression.MatchString) {
			t.Errorf("no call of %s in\n%s", want, strings.Join(calls, "\n"))
		}
	}
	for _, twice := range []string{"az keyvault secret set ", "kubectl -n default wait "} { // the first of each fails
		if n := len(slices.DeleteFunc(slices.Clone(calls), func(call string) bool { return !strings.HasPrefix(call, twice) })); n != 2 {
			t.Errorf("%d calls of %s", n, twice)
		}
	}
}

// The commands of each how-to run from top to bottom: every variable that they use has a value
// by then, also those that only envsubst sees.
func TestHowTosRun(t *testing.T) {
	for _, page := range howTos(t) {
		if shell.MatchString(read(t, page)) {
			t.Run(filepath.Base(page), func(t *testing.T) { runCommands(t, page) })
		}
	}
}
