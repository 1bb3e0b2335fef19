package doctor_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/cmd/kubectl-akv/doctor"
	"akv-csi-provider/cmd/kubectl-akv/kubetest"
)

func TestMain(m *testing.M) {
	doctor.SetNow(kubetest.Now)
	os.Exit(m.Run())
}

// run runs doctor and returns its exit code by the rules of main, and what it printed.
func run(t *testing.T, s *kubetest.Server, args ...string) (int, string) {
	t.Helper()
	return runWith(t, s, func(*cli.Env) {}, args...)
}

func runWith(t *testing.T, s *kubetest.Server, change func(*cli.Env), args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	env := cli.NewEnv(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &out})
	change(env)
	cmd := doctor.New(env)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(append(args, "--kubeconfig", s.Kubeconfig))
	switch err := cmd.ExecuteContext(t.Context()); {
	case err == nil:
		return 0, out.String()
	case errors.Is(err, cli.ErrProblems):
		return 1, out.String()
	default:
		return 2, out.String() + err.Error()
	}
}

func examine(t *testing.T, s *kubetest.Server) doctor.Report {
	t.Helper()
	code, out := run(t, s, "web", "-o", "json")
	var r doctor.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if (code == 1) != (r.Problem != nil) {
		t.Fatalf("exit code %d with %+v", code, r.Problem)
	}
	return r
}

func states(r doctor.Report) map[string]doctor.State {
	m := make(map[string]doctor.State)
	for _, c := range r.Checks {
		m[c.Name] = c.State
	}
	return m
}

func edit[T any](s *kubetest.Server, path string, object *T, change func(*T)) {
	change(object)
	s.Put(path, object)
}

const federated = `client "` + kubetest.ClientID + `" has no federated credential at all; run az identity federated-credential create --identity-name IDENTITY -g GROUP --name NAME ` +
	`--issuer https://oidc.contoso.example/cluster/ --subject system:serviceaccount:shop:web --audiences api://AzureADTokenExchange; if it is there already, retry [FederatedCredentialMissing]`

const denied = `client "` + kubetest.ClientID + `" is not allowed to get secret "db" from kv-shop.vault.azure.net; run az role assignment create --assignee X [AccessDenied]`

func logged(at time.Duration, pod, message, rest string) string {
	return fmt.Sprintf("time=%s level=INFO msg=%q pod=%s namespace=shop serviceAccount=web class=web vault=kv-shop objects=1 %s\n", kubetest.Now.Add(-at).Format(time.RFC3339Nano), message, pod, rest)
}

func parameters(s *kubetest.Server, m map[string]string) {
	all := map[string]string{"keyvaultName": "kv-shop", "tenantID": "contoso.example", "objects": "- {objectName: db, objectType: secret}"}
	for name, value := range m {
		all[name] = value
	}
	s.Put(kubetest.ClassPath, kubetest.Class("azure", all))
}

func running(s *kubetest.Server) {
	s.Put(kubetest.PodPath, kubetest.Running())
	s.Put(kubetest.StatusPath, kubetest.Mounted("uid-web"))
}

// The first problem is the true one.
func TestFirstProblem(t *testing.T) {
	for _, test := range []struct {
		name  string
		make  func(*kubetest.Server)
		check string // "" for no problem
		text  string
		does  string
	}{
		{"nothing", func(*kubetest.Server) {}, "", "", ""},
		{"runs", running, "", "", ""},
		{"not scheduled", func(s *kubetest.Server) {
			edit(s, kubetest.PodPath, kubetest.Pod(), func(p *corev1.Pod) {
				p.Spec.NodeName = ""
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/3 nodes are available"}}
			})
		}, "pod", "0/3 nodes are available", "volumes have no part"},
		{"no driver", func(s *kubetest.Server) { s.Remove(kubetest.DriverPath) }, "driver", "is not installed", "install the driver"},
		{"driver not registered", func(s *kubetest.Server) {
			s.Put(kubetest.NodePath, storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}})
		}, "driver", "is not registered on node node-1", "tolerations"},
		{"driver without pod", func(s *kubetest.Server) {
			s.Remove(kubetest.NodePath)
			s.Remove("/api/v1/namespaces/kube-system/pods/csi-secrets-store-9fj2v")
		}, "driver", "DaemonSet kube-system/csi-secrets-store has no pod there", "tolerations"},
		{"no provider", func(s *kubetest.Server) { s.Remove(kubetest.SetPath) }, "provider", "no DaemonSet serves azure.sock", "install akv-csi-provider"},
		{"provider not on node", func(s *kubetest.Server) { s.Remove(kubetest.ProviderPath) }, "provider", "DaemonSet kube-system/akv-csi-provider has no pod there", "nodeSelector"},
		{"provider is being deleted", func(s *kubetest.Server) {
			edit(s, kubetest.ProviderPath, kubetest.SystemPod("akv-csi-provider", "akv-csi-provider-x7k2p", kubetest.ProviderContainer(), true), func(p *corev1.Pod) {
				p.DeletionTimestamp = &metav1.Time{Time: kubetest.Now}
			})
		}, "provider", "does not run on node node-1", "nodeSelector"},
		{"provider crashes", func(s *kubetest.Server) {
			s.Put(kubetest.ProviderPath, kubetest.SystemPod("akv-csi-provider", "akv-csi-provider-x7k2p", kubetest.ProviderContainer(), false))
		}, "provider", "CrashLoopBackOff", "logs akv-csi-provider-x7k2p --previous"},
		{"two providers", func(s *kubetest.Server) {
			c := kubetest.ProviderContainer()
			c.Image = "mcr.microsoft.com/oss/azure/secrets-store/provider-azure:v1.8.2"
			old := kubetest.SystemPod("old", "old-1", c, true)
			s.Put("/api/v1/namespaces/kube-system/pods/old-1", old)
			s.Put("/apis/apps/v1/namespaces/kube-system/daemonsets/old", &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "old", Namespace: "kube-system"},
				Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: old.Labels}, Template: corev1.PodTemplateSpec{Spec: old.Spec}}})
		}, "provider", "two providers", "MOVING.md"},
		{"no pod info", func(s *kubetest.Server) {
			edit(s, kubetest.DriverPath, kubetest.Driver("api://AzureADTokenExchange"), func(d *storagev1.CSIDriver) { d.Spec.PodInfoOnMount = nil })
		}, "tokens", "no podInfoOnMount", "podInfoOnMount: true"},
		{"no tokens", func(s *kubetest.Server) { s.Put(kubetest.DriverPath, kubetest.Driver("sts.amazonaws.com")) }, "tokens",
			"audience api://AzureADTokenExchange (requested: sts.amazonaws.com)", "--version 1.6.0 --reset-then-reuse-values --set 'tokenRequests[0].audience=sts.amazonaws.com' --set 'tokenRequests[1].audience=api://AzureADTokenExchange'"},
		{"no tokens, no class", func(s *kubetest.Server) {
			s.Put(kubetest.DriverPath, kubetest.Driver())
			s.Remove(kubetest.ClassPath)
		}, "class", "does not exist", "create it"},
		{"no tokens needed", func(s *kubetest.Server) {
			s.Put(kubetest.DriverPath, kubetest.Driver())
			parameters(s, map[string]string{"useVMManagedIdentity": "true"})
		}, "", "", ""},
		{"another cloud's audience", func(s *kubetest.Server) {
			s.Put(kubetest.DriverPath, kubetest.Driver("api://AzureADTokenExchangeChina"))
			parameters(s, map[string]string{"cloudName": "AzureChinaCloud"})
		}, "", "", ""},
		{"binding's audience", func(s *kubetest.Server) {
			parameters(s, map[string]string{"useAzureTokenProxy": "true", "clientID": kubetest.ClientID})
		}, "tokens", "api://AKSIdentityBinding", "api://AKSIdentityBinding"},
		{"rotation half on", func(s *kubetest.Server) {
			running(s)
			edit(s, kubetest.DriverPath, kubetest.Driver("api://AzureADTokenExchange"), func(d *storagev1.CSIDriver) { d.Spec.RequiresRepublish = nil })
		}, "rotation", "no requiresRepublish", "requiresRepublish: true"},
		{"no class", func(s *kubetest.Server) {
			s.Remove(kubetest.ClassPath)
			s.Put(kubetest.ClassPath+"s", map[string]any{"metadata": map[string]any{"name": "webs", "namespace": "shop"}})
		}, "class", "SecretProviderClass web does not exist in namespace shop; there is webs", "create it"},
		{"no class at all", func(s *kubetest.Server) { s.Remove(kubetest.ClassPath) }, "class", "SecretProviderClass web does not exist in namespace shop", "create it"},
		{"another provider's class", func(s *kubetest.Server) { s.Put(kubetest.ClassPath, kubetest.Class("vault", nil)) }, "class", `for provider "vault"`, "spec.provider: azure"},
		{"invalid class", func(s *kubetest.Server) {
			parameters(s, map[string]string{"keyvaultName": "https://kv-shop.vault.azure.net"})
		},
			"parameters", "SecretProviderClass web is invalid: keyvaultName", `use "kv-shop"`},
		{"unknown cloud", func(s *kubetest.Server) { parameters(s, map[string]string{"cloudName": "Azure"}) }, "parameters", `cloudName: unknown cloud "Azure"`, "OurCloud"},
		{"the operator's cloud", func(s *kubetest.Server) { parameters(s, map[string]string{"cloudName": "OurCloud"}) }, "", "", ""},
		{"invalid attributes", func(s *kubetest.Server) {
			edit(s, kubetest.PodPath, kubetest.Pod(), func(p *corev1.Pod) { p.Spec.Volumes[0].CSI.VolumeAttributes["objects"] = "- {objectName: x}" })
		}, "parameters", "the pod's volumeAttributes are invalid: objects[0] \"x\": objectType: missing", "secret, key, cert"},
		{"no account", func(s *kubetest.Server) { s.Remove(kubetest.AccountPath) }, "identity", "ServiceAccount web does not exist", "create it"},
		{"no annotation", func(s *kubetest.Server) { s.Put(kubetest.AccountPath, kubetest.Account(nil, nil)) }, "identity", "has no annotation azure.workload.identity/client-id", "annotate serviceaccount web"},
		{"label", func(s *kubetest.Server) {
			s.Put(kubetest.AccountPath, kubetest.Account(nil, map[string]string{"azure.workload.identity/client-id": kubetest.ClientID}))
		}, "identity", `has the label "azure.workload.identity/client-id", which is ignored`, "annotate"},
		{"not an ID", func(s *kubetest.Server) {
			s.Put(kubetest.AccountPath, kubetest.Account(map[string]string{"azure.workload.identity/client-id": "not an ID"}, nil))
		}, "identity", `is not a client ID: "not an ID"`, "annotate"},
		{"no tenant", func(s *kubetest.Server) { parameters(s, map[string]string{"tenantID": ""}) }, "identity", "no tenant is configured", "tenantID"},
		{"no secret", func(s *kubetest.Server) {
			edit(s, kubetest.PodPath, kubetest.Pod(), func(p *corev1.Pod) {
				p.Spec.Volumes[0].CSI.NodePublishSecretRef = &corev1.LocalObjectReference{Name: "publish"}
			})
		}, "secret", "Secret publish, which nodePublishSecretRef names, does not exist", "create secret generic publish"},
		{"no federated credential", func(s *kubetest.Server) { s.Put(kubetest.EventPath, kubetest.Failed(federated)) }, "federation",
			"has no federated credential at all; it needs issuer https://oidc.contoso.example/cluster/, subject system:serviceaccount:shop:web",
			"az identity federated-credential create --name shop-web --identity-name IDENTITY --resource-group GROUP --issuer https://oidc.contoso.example/cluster/ --subject system:serviceaccount:shop:web --audiences api://AzureADTokenExchange"},
		{"denied", func(s *kubetest.Server) { s.Put(kubetest.EventPath, kubetest.Failed(denied)) }, "event", "5s ago, 3 times: client", "run az role assignment create --assignee X"},
		{"two causes", func(s *kubetest.Server) {
			s.Put(kubetest.EventPath, kubetest.Failed(`no secret "a"; create it [ObjectNotFound] | secret "b" is disabled; enable it [ObjectDisabled]`))
		}, "event", `no secret "a"; create it [ObjectNotFound] | secret "b" is disabled; enable it [ObjectDisabled]`, ""},
		{"without a reason", func(s *kubetest.Server) {
			s.Put(kubetest.EventPath, kubetest.Event(`kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name secrets-store.csi.k8s.io not found in the list of registered CSI drivers`))
		}, "event", "kubelet or the driver, 5s ago", "tolerations"},
		{"another volume's event", func(s *kubetest.Server) {
			edit(s, kubetest.EventPath, kubetest.Event("no"), func(e *corev1.Event) { e.Message = strings.ReplaceAll(e.Message, `"secrets"`, `"other"`) })
		}, "", "", ""},
		{"in the log only", func(s *kubetest.Server) {
			s.Put(kubetest.LogPath, logged(9*time.Second, "web", "mount failed", fmt.Sprintf("rotation=false reason=AccessDenied error=%q", denied)))
		}, "log", "the last mount failed 9s ago: client", "role assignment"},
		{"rotation fails", func(s *kubetest.Server) {
			running(s)
			s.Put(kubetest.LogPath, logged(40*time.Second, "web", "mounted", "rotation=false reason=ok")+
				logged(9*time.Second, "web", "mount failed", fmt.Sprintf("rotation=true reason=AccessDenied error=%q", denied))+
				logged(8*time.Second, "other", "mounted", "rotation=false reason=ok"))
		}, "log", "the last rotation failed 9s ago: client", "role assignment"},
		{"rotation works again", func(s *kubetest.Server) {
			running(s)
			s.Put(kubetest.LogPath, logged(9*time.Second, "web", "mount failed", `rotation=true reason=Timeout error="x"`)+logged(8*time.Second, "web", "mounted", "rotation=true reason=ok"))
		}, "", "", ""},
		{"an older pod's log", func(s *kubetest.Server) {
			s.Put(kubetest.LogPath, logged(time.Hour, "web", "mount failed", `rotation=false reason=Timeout error="x"`))
		}, "", "", ""},
		{"empty volume", func(s *kubetest.Server) { s.Put(kubetest.PodPath, kubetest.Running()) }, "volume", "its volume is empty", "delete pod web"},
		{"an older pod's status", func(s *kubetest.Server) {
			s.Put(kubetest.PodPath, kubetest.Running())
			s.Put(kubetest.StatusPath, kubetest.Mounted("uid-of-another"))
		}, "volume", "its volume is empty", "delete pod web"},
		{"container waits", func(s *kubetest.Server) {
			s.Put(kubetest.StatusPath, kubetest.Mounted("uid-web"))
			edit(s, kubetest.PodPath, kubetest.Pod(), func(p *corev1.Pod) {
				p.Status.ContainerStatuses[0].State.Waiting = &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError", Message: `secret "db" not found`}
			})
		}, "containers", `secret "db" not found`, "syncSecret"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := kubetest.NewReadOnly(t)
			s.Sound()
			test.make(s)
			r := examine(t, s)
			if r.Problem == nil {
				if test.check != "" {
					t.Fatalf("no problem, want %s", test.check)
				}
				return
			}
			does := r.Problem.Fix + strings.Join(r.Problem.Commands, " ")
			if r.Problem.Name != test.check || !strings.Contains(r.Problem.Text, test.text) || !strings.Contains(does, test.does) {
				t.Errorf("%s: %s\nto do: %s", r.Problem.Name, r.Problem.Text, does)
			}
		})
	}
}

// JSON logs are read too, and the lines are bounded.
func TestLogAsJSON(t *testing.T) {
	s := kubetest.NewReadOnly(t)
	s.Sound()
	line := fmt.Sprintf(`{"time":%q,"level":"ERROR","msg":"mount failed","pod":"web","namespace":"shop","class":"web","reason":"Timeout","error":"no answer; retry [Timeout]"}`+"\n", kubetest.Now.Format(time.RFC3339Nano))
	s.Put(kubetest.LogPath, strings.Repeat(line, 20))
	r := examine(t, s)
	if p := r.Problem; p == nil || p.Name != "log" || p.Text != "the last mount failed 0s ago: no answer [Timeout]" || p.Fix != "retry" || len(p.Lines) != 5 {
		t.Errorf("%+v", p)
	}
}

// What cannot be read is not checked, and never a problem.
func TestFewRights(t *testing.T) {
	for resource, want := range map[string]map[string]doctor.State{
		"csidrivers":                     {"tokens": doctor.NotChecked, "rotation": doctor.NotChecked},
		"csinodes":                       {"driver": doctor.NotChecked},
		"daemonsets":                     {"provider": doctor.NotChecked, "log": doctor.NotReached},
		"pods/log":                       {"log": doctor.NotChecked},
		"secretproviderclasses":          {"class": doctor.NotChecked, "parameters": doctor.NotReached, "identity": doctor.NotReached},
		"serviceaccounts":                {"identity": doctor.NotChecked},
		"secrets":                        {"secret": doctor.NotChecked},
		"events":                         {"event": doctor.NotChecked},
		"secretproviderclasspodstatuses": {"volume": doctor.NotChecked},
	} {
		t.Run(resource, func(t *testing.T) {
			s := kubetest.NewReadOnly(t)
			s.Sound()
			if resource == "secrets" {
				edit(s, kubetest.PodPath, kubetest.Pod(), func(p *corev1.Pod) {
					p.Spec.Volumes[0].CSI.NodePublishSecretRef = &corev1.LocalObjectReference{Name: "publish"}
				})
			}
			s.Forbid(resource)
			r := examine(t, s)
			got := states(r)
			for check, state := range want {
				if got[check] != state {
					t.Errorf("%s is %q, want %q", check, got[check], state)
				}
			}
			for _, c := range r.Checks {
				if c.State == doctor.NotChecked && c.Name != "federation" && c.Name != "rotation" && !strings.HasPrefix(c.Text, "no right to read ") {
					t.Errorf("%s: %s", c.Name, c.Text)
				}
			}
			if r.Problem != nil {
				t.Errorf("%+v", r.Problem)
			}
		})
	}
}

// Without the right to read the issuer, the command has the one that the provider saw.
func TestIssuerOfTheEvent(t *testing.T) {
	s := kubetest.NewReadOnly(t)
	s.Sound()
	s.Forbid(strings.Trim(kubetest.IssuerPath, "/"))
	s.Put(kubetest.EventPath, kubetest.Failed(federated))
	if p := examine(t, s).Problem; p == nil || !strings.Contains(strings.Join(p.Commands, " "), "--issuer https://oidc.contoso.example/cluster/ ") {
		t.Errorf("%+v", p)
	}
}

func TestUsage(t *testing.T) {
	s := kubetest.NewReadOnly(t)
	s.Sound()
	edit(s, "/api/v1/namespaces/shop/pods/plain", kubetest.Pod(), func(p *corev1.Pod) { p.Name, p.Spec.Volumes = "plain", nil })
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"no-such-pod"}, "not found"},
		{[]string{"plain"}, "pod shop/plain has no volume of the Secrets Store CSI driver"},
		{[]string{"web", "-A"}, "not both"},
	} {
		if code, out := run(t, s, test.args...); code != 2 || !strings.Contains(out, test.want) {
			t.Errorf("%q: %d %s", test.args, code, out)
		}
	}
	s.Forbid("pods")
	if code, out := run(t, s, "web"); code != 2 || !strings.Contains(out, "forbidden") {
		t.Errorf("%d %s", code, out)
	}
}

// All pods that wait are checked, and those that run with an empty volume.
func TestAll(t *testing.T) {
	s := kubetest.NewReadOnly(t)
	s.Sound()
	if code, out := run(t, s, "-A"); code != 0 || out != "NAMESPACE\tPOD\tCHECK\tREASON\tPROBLEM\nshop\tweb\t\t\tnone found\n" {
		t.Errorf("%d %q", code, out)
	}
	s.Put(kubetest.EventPath, kubetest.Failed(denied))
	edit(s, "/api/v1/namespaces/other/pods/empty", kubetest.Running(), func(p *corev1.Pod) { p.Name, p.Namespace, p.UID = "empty", "other", "uid-empty" })
	code, out := run(t, s, "-A")
	lines := strings.Split(out, "\n")
	if code != 1 || len(lines) != 4 || !strings.HasPrefix(lines[1], "other\tempty\tclass\t") || !strings.HasPrefix(lines[2], "shop\tweb\tevent\tAccessDenied\t") {
		t.Errorf("%d %s", code, out)
	}
	if code, out = run(t, s); code != 1 || strings.Contains(out, "empty") {
		t.Errorf("%d %s", code, out)
	}
	running(s)
	s.Remove(kubetest.EventPath)
	if code, out = run(t, s, "-n", "shop"); code != 0 || out != "No pod waits for a volume. Pods with volumes of the driver: 1.\n" {
		t.Errorf("%d %q", code, out)
	}
}

// Lines fit a terminal, except for commands, which are there to be copied. What the cluster says
// cannot change what the terminal shows.
func TestTerminal(t *testing.T) {
	s := kubetest.NewReadOnly(t)
	s.Sound()
	s.Put(kubetest.EventPath, kubetest.Failed(strings.Replace(federated, "at all", "at all\x1b[2J", 1)))
	_, out := runWith(t, s, func(env *cli.Env) { env.Terminal, env.Width = true, 80 }, "web")
	commands := 0
	for line := range strings.Lines(out) {
		switch {
		case strings.HasPrefix(line, "  az "):
			commands++
		case len([]rune(line)) > 81:
			t.Errorf("%d characters: %s", len([]rune(line)), line)
		}
	}
	if commands != 1 || strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
}

// deploy/TROUBLESHOOTING.md shows a run in the cluster suite. Its form is the one of today.
func TestRecording(t *testing.T) {
	s := kubetest.NewReadOnly(t)
	s.Sound()
	s.Put(kubetest.EventPath, kubetest.Failed(denied))
	s.Put(kubetest.LogPath, logged(9*time.Second, "web", "mount failed", fmt.Sprintf("rotation=false reason=AccessDenied error=%q", denied)))
	_, out := run(t, s, "web")
	text, err := os.ReadFile("../../../deploy/TROUBLESHOOTING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, recording, _ := strings.Cut(string(text), "$ kubectl akv doctor ")
	_, recording, _ = strings.Cut(recording, "\n")
	recording, _, _ = strings.Cut(recording, "\n```")
	if got, want := form(out), form(recording); got != want {
		t.Errorf("doctor prints the form\n%s\nthe guide has\n%s", got, want)
	}
}

// form is the state and name of each check, and the labels below.
func form(text string) string {
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(text)) {
		switch fields := strings.Fields(line); {
		case len(fields) == 0 || strings.HasPrefix(line, "   "):
		case strings.HasPrefix(line, "not "):
			lines = append(lines, strings.Join(fields[:3], " "))
		case strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "problem "):
			lines = append(lines, strings.Join(fields[:2], " "))
		default:
			lines = append(lines, fields[0])
		}
	}
	return strings.Join(lines, "\n")
}
