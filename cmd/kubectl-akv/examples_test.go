package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"akv-csi-provider/cmd/kubectl-akv/cli"
)

// With this variable, the test's binary is the tool.
const beTool = "KUBECTL_AKV_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(beTool) != "" {
		main()
	}
	os.Exit(m.Run())
}

// shell runs a command line in a shell of which kubectl has the tool as a plugin, and helm and
// kustomize print a class.
func shell(t *testing.T, line string) (string, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	const kubectl = `#!/bin/sh
case "$1" in
kustomize) exec cat class.yaml ;;
akv) shift; KUBECTL_AKV_TEST_MAIN=yes exec "$TOOL" "$@" ;;
esac
exit 9
`
	for name, script := range map[string]string{"kubectl": kubectl, "helm": "#!/bin/sh\nexec cat class.yaml\n"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", line)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "TOOL="+self)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Each example of the help of commands that need no cluster does what its comment says. Those that
// ask questions have a terminal for it, which a test has not.
func TestExamples(t *testing.T) {
	env := cli.NewEnv(genericiooptions.NewTestIOStreamsDiscard())
	ran := 0
	for _, cmd := range newRoot(env).Commands() {
		if cmd.GroupID != "Write SecretProviderClasses:" {
			continue
		}
		for _, line := range strings.Split(strings.ReplaceAll(cmd.Example, "\\\n", ""), "\n") {
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			write(t, map[string]string{"class.yaml": good, "deploy/class.yaml": good})
			out, err := shell(t, line)
			if line == "kubectl akv init" {
				if err == nil || !strings.Contains(out, "set --vault, --object") {
					t.Errorf("%s: %v\n%s", line, err, out)
				}
				continue
			}
			ran++
			if err != nil {
				t.Errorf("%s: %v\n%s", line, err, out)
			}
		}
	}
	if ran < 12 {
		t.Errorf("only %d examples", ran)
	}
}

// A user finds and removes the mistakes of three classes with nothing but the tool: each message
// says what to change, and where.
func TestFreshUser(t *testing.T) {
	for name, steps := range map[string][][3]string{ // what the tool says, what to replace, by what
		"vault and type": {{"spec.parametres: not a field of a SecretProviderClass; did you mean parameters?", "parametres", "parameters"},
			{`use "contoso"`, "https://contoso.vault.azure.net", "contoso"}, {"did you mean secret?", "Secrets", "secret"}},
		"quotes": {{`put it in quotes: "false"`, "false", `"false"`}, {"write objects: | before it", "objects:", "objects: |"}, {`did you mean keyvaultName?`, "keyVaultName", "keyvaultName"}},
		"files":  {{`did you mean objectAlias?`, "objectAliases", "objectAlias"}, {"use a normalized relative path", "../a", "a"}},
	} {
		text := map[string]string{
			"vault and type": strings.NewReplacer("parameters", "parametres", "contoso", "https://contoso.vault.azure.net", "secret}", "Secrets}").Replace(good),
			"quotes":         head + "    keyVaultName: contoso\n    usePodIdentity: false\n    objects:\n      - {objectName: a, objectType: secret}\n",
			"files":          strings.Replace(good, "secret}", "secret, objectAliases: ../a}", 1),
		}[name]
		for _, step := range steps {
			_, out, _ := akv(t, text, "validate", "-f", "-", "--strict")
			if !strings.Contains(out, step[0]) {
				t.Fatalf("%s: no %q in\n%s", name, step[0], out)
			}
			text = strings.Replace(text, step[1], step[2], 1)
		}
		if code, out, _ := akv(t, text, "validate", "-f", "-", "--strict"); code != 0 {
			t.Errorf("%s: %s", name, out)
		}
	}
}
