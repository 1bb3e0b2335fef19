package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// place is what a test has for itself: a namespace, and in Azure a vault.
type place struct {
	*cluster
	namespace string
	vault     *azuretest.Vault
	vaultName string
	tenant    string
	apps      map[string]*azuretest.Application // by service account
}

// number makes names that no other test has.
func (c *cluster) number() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	return c.next
}

// ours is a label of the namespaces of tests.
const ours = "akv-csi-provider/e2e"

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// newPlace makes a namespace, deleted when the test ends, and a vault.
func (c *cluster) newPlace(t *testing.T) *place {
	t.Helper()
	n := c.number()
	name := strings.ToLower(t.Name()[strings.LastIndexByte(t.Name(), '/')+1:])
	p := &place{cluster: c, namespace: fmt.Sprintf("akv-e2e-%s-%d", notInNames.ReplaceAllString(name, "-"), n), vaultName: fmt.Sprintf("kv-e2e-%d", n), tenant: tenant, apps: map[string]*azuretest.Application{}}
	p.vault = c.box.Vault(p.vaultName, c.box.Tenant(tenant))
	c.addNamespace(t, p.namespace)
	return p
}

// addNamespace makes a namespace and waits until pods can be made in it.
func (c *cluster) addNamespace(t *testing.T, name string) {
	t.Helper()
	labelled := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{ours: "true"}}}
	if _, err := c.client.CoreV1().Namespaces().Create(t.Context(), labelled, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.dumpNamespace(t, name)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := c.client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
	eventually(t, busy, "the namespace has its ServiceAccount", func(ctx context.Context) error {
		_, err := c.client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// identity makes an application and federates it with a service account, which need not be
// there. Nothing is granted.
func (p *place) identity(serviceAccount string) *azuretest.Application {
	id := fmt.Sprintf("5b1e7a90-0000-4000-8000-%012d", p.number())
	app := p.box.Tenant(p.tenant).Application(id)
	app.Federate(p.issuer, "system:serviceaccount:"+p.namespace+":"+serviceAccount, azuretest.TokenExchangeAudience)
	p.apps[serviceAccount] = app
	return app
}

// app is the application that was made for a service account.
func (p *place) app(serviceAccount string) *azuretest.Application { return p.apps[serviceAccount] }

// account is the manifest of a ServiceAccount that names a client ID, or none if empty.
func (p *place) account(name, clientID string) string {
	manifest := fmt.Sprintf("apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: %s\n  namespace: %s\n", name, p.namespace)
	if clientID != "" {
		manifest += fmt.Sprintf("  annotations: {azure.workload.identity/client-id: %q}\n", clientID)
	}
	return manifest
}

// class is a SecretProviderClass of the place's vault. An object is the name of a secret, or
// fields such as "objectName: x, objectType: key".
func (p *place) class(name string, objects ...string) string {
	return p.classWith(name, map[string]string{"keyvaultName": p.vaultName, "tenantID": p.tenant}, objects...)
}

func (p *place) classWith(name string, parameters map[string]string, objects ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: secrets-store.csi.x-k8s.io/v1\nkind: SecretProviderClass\nmetadata: {name: %s, namespace: %s}\nspec:\n  provider: azure\n  parameters:\n", name, p.namespace)
	for key, value := range parameters {
		fmt.Fprintf(&b, "    %s: %q\n", key, value)
	}
	if len(objects) > 0 {
		b.WriteString("    objects: |\n")
	}
	for _, o := range objects {
		if !strings.Contains(o, ":") {
			o = "objectName: " + o + ", objectType: secret"
		}
		fmt.Fprintf(&b, "      - {%s}\n", o)
	}
	return b.String()
}

// pod is a pod that mounts the class at /mnt/secrets and runs a script of the shell.
func (p *place) pod(name, serviceAccount, class, script string) string {
	return p.podWith(name, serviceAccount, class, script, "")
}

// podWith takes more lines of the container besides.
func (p *place) podWith(name, serviceAccount, class, script, container string) string {
	if container != "" {
		container = "\n      " + container
	}
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: %s
  namespace: %s
spec:
  serviceAccountName: %s
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: busybox:1.37
      command: ["/bin/sh", "-c", %q]
      volumeMounts: [{name: secrets, mountPath: /mnt/secrets, readOnly: true}]%s
  volumes:
    - name: secrets
      csi: {driver: secrets-store.csi.k8s.io, readOnly: true, volumeAttributes: {secretProviderClass: %s}}
`, name, p.namespace, serviceAccount, script, container, class)
}

// stay is the script of a pod that does nothing until it gets SIGTERM.
const stay = "trap 'exit 0' TERM; sleep 100000 & wait"

func (p *place) getPod(ctx context.Context, name string) (*corev1.Pod, error) {
	return p.client.CoreV1().Pods(p.namespace).Get(ctx, name, metav1.GetOptions{})
}

// ready waits until pods run, or ended well.
func (p *place) ready(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		eventually(t, busy, "pod "+name+" runs", func(ctx context.Context) error {
			pod, err := p.getPod(ctx, name)
			if err != nil {
				return err
			}
			return runs(pod)
		})
	}
}

func runs(pod *corev1.Pod) error {
	if pod.Status.Phase == corev1.PodSucceeded {
		return nil
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("phase %s, %+v", pod.Status.Phase, pod.Status.ContainerStatuses)
}

// log is what a pod has printed.
func (p *place) log(ctx context.Context, pod string) (string, error) {
	text, err := p.client.CoreV1().Pods(p.namespace).GetLogs(pod, &corev1.PodLogOptions{}).DoRaw(ctx)
	return string(text), err
}

// output waits until a pod has ended well and returns what it printed.
func (p *place) output(t *testing.T, pod string) string {
	t.Helper()
	eventually(t, busy, "pod "+pod+" ended well", func(ctx context.Context) error {
		got, err := p.getPod(ctx, pod)
		if err == nil && got.Status.Phase != corev1.PodSucceeded {
			err = runs(got)
			if err == nil {
				err = fmt.Errorf("phase %s", got.Status.Phase)
			}
		}
		return err
	})
	text, err := p.log(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// exec runs a script in a running pod.
func (p *place) exec(ctx context.Context, pod, script string) (string, error) {
	out, err := p.run(ctx, "", p.kubectlPath(), "-n", p.namespace, "exec", pod, "--", "/bin/sh", "-c", script)
	return strings.TrimSuffix(out, "\n"), err
}

// failedMounts are the events of a pod that say that its volume could not be mounted.
func (p *place) failedMounts(ctx context.Context, pod string) ([]corev1.Event, error) {
	list, err := p.client.CoreV1().Events(p.namespace).List(ctx, metav1.ListOptions{FieldSelector: "reason=FailedMount,involvedObject.name=" + pod})
	if err != nil {
		return nil, err
	}
	// Before the driver is registered, or while it is replaced, kubelet has its own words.
	return slices.DeleteFunc(list.Items, func(e corev1.Event) bool {
		return !strings.Contains(e.Message, "failed to mount secrets store objects")
	}), nil
}

// refused waits for the event in which a pod reads why its volume cannot be mounted, which
// ends with the reason in brackets, and returns it.
func (p *place) refused(t *testing.T, pod, reason string) (message string) {
	t.Helper()
	eventually(t, busy, "pod "+pod+" has an event with ["+reason+"]", func(ctx context.Context) error {
		events, err := p.failedMounts(ctx, pod)
		if err != nil {
			return err
		}
		for _, e := range events {
			if message = e.Message; strings.HasSuffix(strings.TrimSpace(message), "["+reason+"]") {
				return nil
			}
		}
		return fmt.Errorf("%d events, the last: %s", len(events), message)
	})
	return message
}

// requests counts the requests of an application to the fake Azure.
func (c *cluster) requests(clientID string) map[azuretest.Kind]int {
	counts := map[azuretest.Kind]int{}
	for _, r := range c.box.Requests() {
		if r.ClientID == clientID {
			counts[r.Kind]++
		}
	}
	return counts
}

func (c *cluster) pluginPod(ctx context.Context) (string, error) {
	pods, err := c.client.CoreV1().Pods(system).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=akv-csi-provider"})
	if err != nil {
		return "", err
	}
	for _, p := range pods.Items {
		if p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning {
			return p.Name, nil
		}
	}
	return "", errors.New("no pod of the plugin runs")
}

// pluginLog is the log of the plugin's present pod.
func (c *cluster) pluginLog(ctx context.Context) (string, error) {
	pod, err := c.pluginPod(ctx)
	if err != nil {
		return "", err
	}
	text, err := c.client.CoreV1().Pods(system).GetLogs(pod, &corev1.PodLogOptions{}).DoRaw(ctx)
	return string(text), err
}

// noNamespaces waits until the namespaces of tests are deleted, and with them their pods.
func (c *cluster) noNamespaces(t *testing.T) {
	t.Helper()
	eventually(t, 2*busy, "the namespaces of other tests are deleted", func(ctx context.Context) error {
		list, err := c.client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: ours})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%d are there, such as %s", len(list.Items), list.Items[0].Name)
		}
		return err
	})
}

// dumpNamespace prints what kubectl shows of a test's pods.
func (c *cluster) dumpNamespace(t *testing.T, namespace string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, args := range [][]string{
		{"get", "pods", "-o", "wide"},
		{"get", "events", "--sort-by=.lastTimestamp", "-o", "custom-columns=N:.count,OBJECT:.involvedObject.name,REASON:.reason,MESSAGE:.message"},
	} {
		out, err := c.run(ctx, "", c.kubectlPath(), append([]string{"-n", namespace}, args...)...)
		if err != nil {
			out = err.Error()
		}
		t.Logf("%s: kubectl %s\n%s", namespace, strings.Join(args, " "), tail(out, 60))
	}
}

// dump prints the logs of the plugin, the driver and the node.
func (c *cluster) dump(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c.dumpNamespace(t, system)
	for _, selector := range []string{"app.kubernetes.io/name=akv-csi-provider", "app=csi-secrets-store"} {
		for _, previous := range []string{"--previous=false", "--previous=true"} {
			out, err := c.run(ctx, "", c.kubectlPath(), "-n", system, "logs", "-l", selector, "--all-containers", "--tail=200", "--prefix", previous)
			if err == nil {
				t.Logf("%s %s\n%s", selector, previous, out)
			}
		}
	}
	if c.node == nil {
		return
	}
	files, err := c.node.Logs()
	if err != nil {
		t.Error(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		t.Logf("%s\n%s", filepath.Base(file), tail(string(text), 80))
	}
}

// tail is the last lines of a text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
