package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/provider/azuretest"
)

// ailment is why a pod hangs, and what kubectl akv doctor must say of it first.
type ailment struct {
	name string
	// make changes what is sound; what it returns are more manifests.
	make func(m *mistake) string
	// change edits the pod's manifest.
	change func(pod string) string
	// event is what the pod's event contains before doctor is run; "" where none comes.
	event string
	check string // the check that finds it
	text  string // its text has this
	does  string // and what to do has this
}

var ailments = []ailment{
	{name: "class-missing", change: func(pod string) string {
		return strings.ReplaceAll(pod, "secretProviderClass: app}", "secretProviderClass: ap}")
	}, event: "not found", check: "class", text: `SecretProviderClass ap does not exist in namespace`, does: "create it"},
	{name: "class-invalid", make: func(m *mistake) string {
		m.parameters["keyvaultName"] = m.vault.URL()
		return ""
	}, event: "[InvalidParameter]", check: "parameters", text: "is invalid: keyvaultName", does: ""},
	{name: "overridden", change: func(pod string) string {
		return strings.ReplaceAll(pod, "secretProviderClass: app}", `secretProviderClass: app, cloudName: Azure}`)
	}, event: "[InvalidParameter]", check: "parameters", text: "the pod's volumeAttributes are invalid: cloudName", does: "AzurePublicCloud"},
	{name: "no-annotation", make: func(m *mistake) string {
		m.account = ""
		return ""
	}, event: "[NoIdentity]", check: "identity", text: "ServiceAccount app has no annotation", does: "annotate serviceaccount app"},
	{name: "no-credential", make: func(m *mistake) string {
		m.app.Unfederate()
		return ""
	}, event: "[FederatedCredentialMissing]", check: "federation", text: "no federated credential", does: "az identity federated-credential create"},
	{name: "no-secret", make: func(m *mistake) string {
		m.account, m.publish = "", "publish"
		return ""
	}, event: "publish", check: "secret", text: "Secret publish, which nodePublishSecretRef names, does not exist", does: "create secret generic publish"},
	{name: "denied", make: func(m *mistake) string {
		m.vault.Revoke(m.app.ClientID())
		return ""
	}, event: "[AccessDenied]", check: "event", text: "[AccessDenied]", does: "role"},
	{name: "no-object", make: func(m *mistake) string {
		m.objects = []string{"no-such-secret"}
		return ""
	}, event: "[ObjectNotFound]", check: "event", text: "no-such-secret", does: ""},
	{name: "firewall", make: func(m *mistake) string {
		m.vault.SetFirewall("ForbiddenByFirewall")
		return ""
	}, event: "[VaultFirewall]", check: "event", text: "[VaultFirewall]", does: ""},
	{name: "no-vault", make: func(m *mistake) string {
		m.parameters["keyvaultName"] = "kv-that-is-not-there"
		return ""
	}, event: "[ProxyRefused]", check: "event", text: "kv-that-is-not-there", does: ""},
}

// diagnosis is what doctor prints with -o json.
type diagnosis struct {
	Pod     string
	Problem *finding
	Checks  []finding
}

type finding struct {
	Check, State, Text, Fix string
	Commands, Reasons       []string
}

// akv runs the kubectl plugin by way of kubectl, and returns its exit code and what it printed.
func (c *cluster) akv(ctx context.Context, args ...string) (int, string, error) {
	// kubectl finds a plugin in PATH.
	command := append([]string{"PATH=" + setup.Cache + ":" + os.Getenv("PATH"), c.kubectlPath(), "akv"}, args...)
	out, err := c.run(ctx, "", "env", command...)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return 1, out, nil
	}
	return 0, out, err
}

// diagnose returns what doctor says of a pod.
func (p *place) diagnose(ctx context.Context, pod string, args ...string) (diagnosis, error) {
	code, out, err := p.akv(ctx, append([]string{"doctor", pod, "-n", p.namespace, "-o", "json"}, args...)...)
	if err != nil {
		return diagnosis{}, err
	}
	var d diagnosis
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		return d, fmt.Errorf("%w: %s", err, out)
	}
	if (code == 1) != (d.Problem != nil) {
		return d, fmt.Errorf("exit code %d with %+v", code, d.Problem)
	}
	return d, nil
}

// says fails unless doctor's first problem is this one.
func (p *place) says(t *testing.T, pod string, a ailment) {
	t.Helper()
	var d diagnosis
	eventually(t, busy, "doctor finds "+a.name, func(ctx context.Context) error {
		var err error
		if d, err = p.diagnose(ctx, pod); err != nil {
			return err
		}
		if d.Problem == nil || d.Problem.Check != a.check {
			return fmt.Errorf("the first problem is %+v", d.Problem)
		}
		return nil
	})
	if does := d.Problem.Fix + strings.Join(d.Problem.Commands, " "); !strings.Contains(d.Problem.Text, a.text) || !strings.Contains(does, a.does) || does == "" {
		t.Errorf("%s: doctor says %q and %q, want %q and %q", a.name, d.Problem.Text, does, a.text, a.does)
	}
	if all := fmt.Sprint(d); strings.Contains(all, "geheim") || strings.Contains(all, "eyJ") {
		t.Errorf("%s: doctor printed a secret: %s", a.name, all)
	}
}

// doctor: its first problem is the true one for pods that hang for thirteen reasons, of which three
// are the whole node's. With few rights it says what it could not see.
func (c *cluster) doctor(t *testing.T) {
	c.noNamespaces(t)
	t.Run("pods", func(t *testing.T) {
		for _, a := range ailments {
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				p := c.ill(t, a)
				if a.event != "" {
					p.reported(t, "web", a.event)
				}
				p.says(t, "web", a)
			})
		}
		t.Run("recorded", func(t *testing.T) {
			t.Parallel()
			c.recorded(t)
		})
		t.Run("few-rights", func(t *testing.T) {
			t.Parallel()
			c.fewRights(t)
		})
	})
	c.sickNode(t)
}

// ill makes a place with a pod that cannot start.
func (c *cluster) ill(t *testing.T, a ailment) *place {
	t.Helper()
	p := c.newPlace(t)
	m := &mistake{place: p, app: p.identity("app"), objects: []string{"password"},
		parameters: map[string]string{"keyvaultName": p.vaultName, "tenantID": tenant}}
	m.account = m.app.ClientID()
	m.vault.Grant(m.app.ClientID(), azuretest.SecretsGet)
	m.vault.SetSecret("password", azuretest.Secret{Value: "geheim"})
	if a.make != nil {
		if more := a.make(m); more != "" {
			p.apply(t, more)
		}
	}
	pod := p.pod("web", "app", "app", stay)
	if m.publish != "" {
		pod = replace(t, pod, "volumeAttributes:", "nodePublishSecretRef: {name: "+m.publish+"}, volumeAttributes:")
	}
	if a.change != nil {
		pod = a.change(pod)
	}
	p.apply(t, p.account("app", m.account), p.classWith("app", m.parameters, m.objects...), pod)
	return p
}

// reported waits for an event of a pod about its volume that contains the text.
func (p *place) reported(t *testing.T, pod, text string) {
	t.Helper()
	eventually(t, busy, "an event of pod "+pod+" has "+text, func(ctx context.Context) error {
		out, err := p.run(ctx, "", p.kubectlPath(), "-n", p.namespace, "get", "events", "-o", "jsonpath={.items[*].message}",
			"--field-selector", "reason=FailedMount,involvedObject.name="+pod)
		if err == nil && !strings.Contains(out, text) {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
}

// sickNode are the ailments of a whole node.
func (c *cluster) sickNode(t *testing.T) {
	p := c.sound(t)
	p.apply(t, p.classWith("with-client", map[string]string{"keyvaultName": p.vaultName, "tenantID": tenant, "clientID": p.app("app").ClientID()}, "password"),
		p.pod("runs", "app", "app", stay))
	p.ready(t, "runs")
	if d, err := p.diagnose(t.Context(), "runs"); err != nil || d.Problem != nil {
		t.Errorf("of a pod that runs doctor says %+v, %v", d.Problem, err)
	}
	t.Cleanup(func() { // whatever happens, for the tests that follow
		c.applyDriver(t)
		c.installPlugin(t)
	})

	c.apply(t, c.csiDriver(t, false))
	p.apply(t, p.pod("no-token", "app", "with-client", stay))
	p.refused(t, "no-token", "TokenRequestMissing")
	p.says(t, "no-token", ailment{name: "no-token", check: "tokens", text: "api://AzureADTokenExchange (requested: none)", does: "tokenRequests"})
	c.apply(t, c.csiDriver(t, true))

	c.installPlugin(t, "linux.nodeSelector.nowhere=yes")
	p.apply(t, p.pod("no-provider", "app", "app", stay))
	p.says(t, "no-provider", ailment{name: "no-provider", check: "provider", text: "does not run on node", does: "nodeSelector"})
	c.installPlugin(t)

	c.kubectl(t, "-n", system, "delete", "daemonset", "csi-secrets-store", "--cascade=foreground")
	p.apply(t, p.pod("no-driver", "app", "app", stay))
	p.reported(t, "no-driver", "driver name secrets-store.csi.k8s.io not found")
	p.says(t, "no-driver", ailment{name: "no-driver", check: "driver", text: "is not registered on node", does: "DaemonSet"})

	code, out, err := c.akv(t.Context(), "status", "-o", "json")
	if err != nil || code != 1 || !strings.Contains(out, `"driverRegistered": false`) || !strings.Contains(out, `"pod": "no-driver"`) || !strings.Contains(out, `"ok": `) {
		t.Errorf("status: %d, %v\n%s", code, err, out)
	}
	c.applyDriver(t)
	p.ready(t, "no-driver")
}

// few are the rights of a developer who may see pods and classes of one namespace.
const few = `apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: few, namespace: %[1]s}
rules:
  - {apiGroups: [""], resources: [pods, events], verbs: [get, list]}
  - {apiGroups: [secrets-store.csi.x-k8s.io], resources: [secretproviderclasses], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: few, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: few}
subjects: [{kind: User, name: developer}]
`

// fewRights: what cannot be seen is not checked, and the cause is found all the same.
func (c *cluster) fewRights(t *testing.T) {
	p := c.ill(t, ailments[slices.IndexFunc(ailments, func(a ailment) bool { return a.name == "denied" })])
	p.apply(t, fmt.Sprintf(few, p.namespace))
	p.reported(t, "web", "[AccessDenied]")
	d, err := p.diagnose(t.Context(), "web", "--as=developer")
	if err != nil || d.Problem == nil || d.Problem.Check != "event" {
		t.Fatalf("%+v, %v", d.Problem, err)
	}
	states := make(map[string]string)
	for _, f := range d.Checks {
		states[f.Check] = f.State
	}
	for check, want := range map[string]string{"pod": "ok", "driver": "not checked", "provider": "not checked", "tokens": "not checked", "class": "ok",
		"parameters": "ok", "identity": "not checked", "event": "problem", "log": "not reached", "volume": "not checked"} {
		if states[check] != want {
			t.Errorf("with few rights, %s is %q, want %q", check, states[check], want)
		}
	}
}

// recorded: deploy/TROUBLESHOOTING.md shows what doctor prints, apart from names, times and numbers.
func (c *cluster) recorded(t *testing.T) {
	p := c.ill(t, ailments[slices.IndexFunc(ailments, func(a ailment) bool { return a.name == "denied" })])
	p.reported(t, "web", "[AccessDenied]")
	code, out, err := c.akv(t.Context(), "doctor", "web", "-n", p.namespace)
	if err != nil || code != 1 {
		t.Fatalf("exit code %d, %v", code, err)
	}
	t.Logf("kubectl akv doctor web -n %s\n%s", p.namespace, out)
	text, err := os.ReadFile(filepath.FromSlash("../../deploy/TROUBLESHOOTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, recording, _ := strings.Cut(string(text), "$ kubectl akv doctor ")
	_, recording, _ = strings.Cut(recording, "\n")
	recording, _, _ = strings.Cut(recording, "\n```")
	if got, want := form(out), form(recording); got != want {
		t.Errorf("deploy/TROUBLESHOOTING.md shows the form\n%s\ndoctor prints\n%s", want, got)
	}
}

var varying = regexp.MustCompile(`\S*[0-9a-f]{8}-[0-9a-f-]{27}\S*|\bnode \S+|https://\S+|\S*\d\S*|\S*\bshop\b\S*|\S*kv-\S+`)

// form is the output without what differs between two runs. Folded lines are joined.
func form(out string) string {
	out = strings.ReplaceAll(out, ", sent as secrets", "") // with E2E_TOKENS=secrets
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(out)) {
		text := strings.Join(strings.Fields(line), " ")
		if strings.HasPrefix(line, "  ") {
			lines[len(lines)-1] += " " + text
		} else {
			lines = append(lines, text)
		}
	}
	// An event that was sent once has no number.
	return strings.ReplaceAll(varying.ReplaceAllString(strings.Join(lines, "\n"), "*"), ", * times", "")
}
