package initclass_test

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"

	"akv-csi-provider/cmd/kubectl-akv/classes"
	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/cmd/kubectl-akv/initclass"
	"akv-csi-provider/cmd/kubectl-akv/validate"
)

const clientID, tenantID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "11111111-2222-3333-4444-555555555555"

func run(t *testing.T, stdin string, interactive bool, args ...string) (out, errOut string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	env := cli.NewEnv(genericiooptions.IOStreams{In: strings.NewReader(stdin), Out: &stdout, ErrOut: &stderr})
	env.Interactive = interactive
	cmd := initclass.New(env)
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err = cmd.Execute()
	return stdout.String(), stderr.String(), err
}

// check checks that validate accepts the manifests without a warning, and returns them by kind.
func check(t *testing.T, text string) map[string]map[string]any {
	t.Helper()
	found, err := classes.Read([]string{"-"}, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if result := validate.Check(found, nil, true); result.Classes != 1 || len(result.Findings) > 0 || len(result.Skipped) > 0 {
		t.Errorf("%+v\n%s", result, text)
	}
	kinds := make(map[string]map[string]any)
	for _, document := range strings.Split(text, "\n---\n") {
		var object map[string]any
		if err := yaml.UnmarshalStrict([]byte(document), &object); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		kinds[object["kind"].(string)] = object
	}
	if got := slices.Sorted(maps.Keys(kinds)); !slices.Equal(got, []string{"Pod", "SecretProviderClass", "ServiceAccount"}) {
		t.Errorf("kinds %q", got)
	}
	return kinds
}

func TestFlags(t *testing.T) {
	out, errOut, err := run(t, "", false, "--vault", "kv-contoso", "--object", "db-password,cert/web", "--object", "key/true", "--serviceaccount", "web",
		"--client-id", clientID, "--tenant-id", tenantID, "-n", "shop", "--name", "web-secrets")
	if err != nil || errOut != "" {
		t.Fatal(err, errOut)
	}
	kinds := check(t, out)
	account, class, pod := kinds["ServiceAccount"], kinds["SecretProviderClass"], kinds["Pod"]
	metadata := account["metadata"].(map[string]any)
	if metadata["name"] != "web" || metadata["namespace"] != "shop" || metadata["annotations"].(map[string]any)["azure.workload.identity/client-id"] != clientID {
		t.Errorf("%v", metadata)
	}
	parameters := class["spec"].(map[string]any)["parameters"].(map[string]any)
	const objects = "- objectName: db-password\n  objectType: secret\n- objectName: web\n  objectType: cert\n- objectName: \"true\"\n  objectType: key\n"
	if parameters["keyvaultName"] != "kv-contoso" || parameters["tenantID"] != tenantID || strings.TrimSpace(parameters["objects"].(string)) != strings.TrimSpace(objects) {
		t.Errorf("%v", parameters)
	}
	if spec := pod["spec"].(map[string]any); spec["serviceAccountName"] != "web" || !strings.Contains(out, "          secretProviderClass: web-secrets\n") {
		t.Errorf("%v", spec)
	}
}

// Texts that YAML reads as something else are still texts.
func TestNumbers(t *testing.T) {
	out, _, err := run(t, "", false, "--vault", "123", "--object", "123", "--serviceaccount", "1e3", "--client-id", "0x1", "--tenant-id", "1.5", "-n", "123")
	if err != nil {
		t.Fatal(err)
	}
	check(t, out)
}

func TestWrongFlags(t *testing.T) {
	all := map[string]string{"--vault": "kv-contoso", "--object": "a", "--serviceaccount": "web", "--client-id": clientID, "--tenant-id": tenantID, "--namespace": "shop", "--name": "web"}
	for _, test := range []struct{ flag, value, want string }{
		{"--vault", "https://kv", "--vault: \"https://kv\" is not valid; use the vault's name"},
		{"--object", "a_", "--object: \"a_\" is not valid; use 1 to 127 letters"},
		{"--object", "keys/a", "did you mean key?"},
		{"--object", "https://kv-contoso.vault.azure.net/keys/a", "not its URL: objectName: a, objectType: key"},
		{"--object", "kv-contoso.vault.azure.net/secrets/a", "not its URL: objectName: a"},
		{"--object", "a,a", ""}, // two objects with one path are a warning

		{"--object", ",", "--object: "},
		{"--serviceaccount", "Web", "--serviceaccount: a lowercase RFC 1123 subdomain"},
		{"--client-id", "a b", "--client-id: \"a b\" is not valid"},
		{"--tenant-id", "<tenant>", "is an unreplaced placeholder"},
		{"--namespace", "a.b", "--namespace: "},
		{"--name", "a/b", "--name: "},
		{"--vault", "", "set --vault\nSee 'kubectl akv init --help'"},
	} {
		flags := maps.Clone(all)
		flags[test.flag] = test.value
		var args []string
		for flag, value := range flags {
			if value != "" {
				args = append(args, flag+"="+value)
			}
		}
		out, _, err := run(t, "", false, args...)
		if test.want == "" && err == nil {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), test.want) || out != "" {
			t.Errorf("%s=%s: %v\n%s", test.flag, test.value, err, out)
		}
	}
}

// On a terminal, the command asks for what flags leave out, and again after a wrong answer.
func TestQuestions(t *testing.T) {
	answers := strings.Join([]string{"https://kv", "kv-contoso", "", " db-password, key/signing", "web", clientID, tenantID, ""}, "\n") + "\n"
	out, errOut, err := run(t, answers, true)
	if err != nil {
		t.Fatal(err, errOut)
	}
	kinds := check(t, out)
	if kinds["SecretProviderClass"]["metadata"].(map[string]any)["namespace"] != "default" || !strings.Contains(out, "objectName: signing") {
		t.Error(out)
	}
	for _, want := range []string{"Name of the key vault: ", `"https://kv" is not valid`, "an answer is needed", "Namespace of the pods [default]: "} {
		if !strings.Contains(errOut, want) {
			t.Errorf("no %q in\n%s", want, errOut)
		}
	}
	if _, errOut, err := run(t, "kv-contoso\n", true); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("%v %s", err, errOut)
	}
	if out, errOut, err := run(t, "a\nweb\n"+clientID+"\n"+tenantID+"\nshop\n", true, "--vault", "kv-contoso"); err != nil || !strings.Contains(out, "namespace: shop\n") || strings.Contains(errOut, "key vault:") {
		t.Errorf("%v\n%s\n%s", err, out, errOut)
	}
}
