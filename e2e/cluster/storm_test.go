package cluster_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// sound is a place with an application that may read its vault, and a class of one secret.
func (c *cluster) sound(t *testing.T) *place {
	t.Helper()
	p := c.newPlace(t)
	app := p.identity("app")
	p.vault.Grant(app.ClientID(), azuretest.SecretsGet)
	p.vault.SetSecret("password", azuretest.Secret{Value: "geheim"})
	p.apply(t, p.account("app", app.ClientID()), p.class("app", "password"))
	return p
}

// killed: the plugin dies in the middle of mounts. Another one starts, and the pods get
// their volumes, whole.
func (c *cluster) killed(t *testing.T) {
	c.noNamespaces(t) // whose pods the plugin would have to serve too
	const pods, size = 8, 20 << 10
	var objects []string
	p := c.sound(t)
	want := ""
	for i := range 10 {
		value := strings.Repeat(strconv.Itoa(i), size)
		p.vault.SetSecret(fmt.Sprint("large-", i), azuretest.Secret{Value: value})
		objects = append(objects, fmt.Sprint("large-", i))
		want += value
	}
	sum := sha256.Sum256([]byte(want))
	p.apply(t, p.class("large", objects...))
	p.vault.SetLatency(3 * time.Second)
	var manifests, names []string
	for i := range pods {
		names = append(names, fmt.Sprint("app-", i))
		manifests = append(manifests, p.pod(names[i], "app", "large", "cat /mnt/secrets/large-* | sha256sum | cut -c1-64"))
	}
	before := c.box.Count(azuretest.GetSecret)
	p.apply(t, manifests...)
	eventually(t, busy, "reads are under way", func(context.Context) error {
		if n := c.box.Count(azuretest.GetSecret) - before; n < 10 {
			return fmt.Errorf("%d reads", n)
		}
		return nil
	})
	c.killPlugin(t)
	for _, name := range names {
		if pod, err := p.getPod(t.Context(), name); err != nil || runs(pod) == nil {
			t.Errorf("pod %s was not in the middle of its mount: %v", name, err)
		}
	}
	p.vault.SetLatency(0)
	for _, name := range names {
		if got := strings.TrimSpace(p.output(t, name)); got != hex.EncodeToString(sum[:]) {
			t.Errorf("pod %s read files with the sum %s, want %x", name, got, sum)
		}
	}
}

// killPlugin ends the plugin's process without a word, or its pod where the node is not ours.
func (c *cluster) killPlugin(t *testing.T) {
	t.Helper()
	if c.node == nil {
		pod, err := c.pluginPod(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.kubectl(t, "-n", system, "delete", "pod", pod, "--force", "--grace-period=0")
		return
	}
	if n, err := c.running.Kill("/akv-csi-provider"); err != nil || n != 1 {
		t.Fatalf("%d processes killed, %v", n, err)
	}
}

// updated: pods that start while the DaemonSet is updated start all the same.
func (c *cluster) updated(t *testing.T) {
	stream := c.startPods(t)
	old, err := c.pluginPod(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.installPlugin(t, "linux.podAnnotations.round=two")
	stream.stop(t)
	if now, err := c.pluginPod(t.Context()); err != nil || now == old {
		t.Errorf("the plugin was not updated: %s, %v", now, err)
	}
}

// podStream starts pods of one secret, one after the other.
type podStream struct {
	*place
	cancel  context.CancelFunc
	group   sync.WaitGroup
	started []string // the pods; after group only
	failed  error    // the same
}

// startPods starts pods until the stream is stopped.
func (c *cluster) startPods(t *testing.T) *podStream {
	t.Helper()
	s := &podStream{place: c.sound(t)}
	ctx, cancel := context.WithCancel(t.Context())
	s.cancel = cancel
	s.group.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			name := fmt.Sprint("app-", i)
			if err := s.tryApply(context.WithoutCancel(ctx), s.pod(name, "app", "app", "cat /mnt/secrets/password")); err != nil {
				s.failed = err
				return
			}
			s.started = append(s.started, name)
			select {
			case <-time.After(500 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	time.Sleep(2 * time.Second)
	return s
}

// stop ends the stream. Every pod must have read its secret.
func (s *podStream) stop(t *testing.T) {
	t.Helper()
	time.Sleep(2 * time.Second)
	s.cancel()
	s.group.Wait()
	if s.failed != nil {
		t.Fatal(s.failed)
	}
	again := 0
	for _, name := range s.started {
		if got := s.output(t, name); got != "geheim" {
			t.Errorf("pod %s printed %q", name, got)
		}
		events, err := s.failedMounts(t.Context(), name)
		if err != nil {
			t.Error(err)
		}
		again += min(1, len(events))
	}
	t.Logf("%d pods started while the plugin was updated, %d of them after a mount that failed first", len(s.started), again)
}

// misconfigured: what an administrator can get wrong is in the pod's event, and when it is
// put right the pod starts without a restart.
func (c *cluster) misconfigured(t *testing.T) {
	p := c.sound(t)
	app := p.identity("annotated")
	p.vault.Grant(app.ClientID(), azuretest.SecretsGet)
	p.apply(t, p.account("annotated", app.ClientID()),
		p.classWith("managed", map[string]string{"keyvaultName": p.vaultName, "tenantID": tenant, "useVMManagedIdentity": "true"}, "password"))

	p.apply(t, p.classWith("with-client", map[string]string{"keyvaultName": p.vaultName, "tenantID": tenant, "clientID": p.app("app").ClientID()}, "password"))
	t.Cleanup(func() { // whatever happens, for the tests that follow
		if t.Failed() {
			c.apply(t, c.csiDriver(t, true))
			c.installPlugin(t)
		}
	})
	c.apply(t, c.csiDriver(t, false))
	p.apply(t, p.pod("no-token", "app", "with-client", stay))
	p.refused(t, "no-token", "TokenRequestMissing")
	c.apply(t, c.csiDriver(t, true))

	c.kubectl(t, "delete", "clusterrolebinding", release)
	p.apply(t, p.pod("no-right", "annotated", "app", stay))
	p.refused(t, "no-right", "ServiceAccountLookupForbidden")
	c.installPlugin(t, "identityModes={workload-identity}") // and puts back the right
	p.apply(t, p.pod("no-mode", "app", "managed", stay))
	p.refused(t, "no-mode", "IdentityModeRefused")
	p.ready(t, "no-token", "no-right")
	c.installPlugin(t)
}

// crowd: as many pods at once as the node takes, with one service account and ten secrets.
func (c *cluster) crowd(t *testing.T) {
	c.noNamespaces(t)
	var objects []string
	p := c.sound(t)
	for i := range 9 {
		name := fmt.Sprint("secret-", i)
		p.vault.SetSecret(name, azuretest.Secret{Value: name})
		objects = append(objects, name)
	}
	p.apply(t, p.class("crowd", append(objects, "password")...))
	nodes, err := c.client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	there, err := c.client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{FieldSelector: "status.phase=Running"})
	if err != nil {
		t.Fatal(err)
	}
	node := nodes.Items[0]
	pods := min(100, int(node.Status.Allocatable.Pods().Value())-len(there.Items))
	app := p.app("app")
	c.box.ResetCounts()
	start := time.Now()
	p.apply(t, p.deployment("crowd", "app", "crowd", pods))
	eventually(t, 2*busy, fmt.Sprintf("%d pods are ready", pods), func(ctx context.Context) error {
		d, err := c.client.AppsV1().Deployments(p.namespace).Get(ctx, "crowd", metav1.GetOptions{})
		if err == nil && d.Status.ReadyReplicas < int32(pods) {
			err = fmt.Errorf("%d are", d.Status.ReadyReplicas)
		}
		return err
	})
	took := time.Since(start)
	r := c.requests(app.ClientID())
	t.Logf("%d pods ready after %.1f s; requests %v, %d TLS handshakes", pods, took.Seconds(), r, c.box.Handshakes())
	// Each pod's own token is exchanged, to prove whose it is. A pod that starts shares a read only
	// with those that start at the same moment; the rest are rotations of those that run.
	if r[azuretest.Token] > pods+pods/10 || r[azuretest.GetSecret] >= 10*pods {
		t.Errorf("%v requests for %d pods", r, pods)
	}
}

// rebooted: the node stops as in a power cut and starts over what is on its disk. The pods
// come back with their secrets, and with the present ones.
func (c *cluster) rebooted(t *testing.T) {
	if c.node == nil {
		t.Skip(noNode)
	}
	p := c.sound(t)
	p.apply(t, p.deployment("app", "app", "app", 3))
	p.kubectl(t, "-n", p.namespace, "rollout", "status", "deployment/app", "--timeout="+busy.String())
	// The driver (1.6.0) takes a volume whose folder is younger than its poll interval for
	// mounted, also when the mount went with the power: see TROUBLESHOOTING.md, empty volumes.
	time.Sleep(pollInterval + 2*time.Second)
	p.vault.SetSecret("password", azuretest.Secret{Value: "new"})
	c.stopNode(t)
	start := time.Now()
	c.bootNode(t)
	eventually(t, busy, "the pods came back with the present secret", func(ctx context.Context) error {
		list, err := p.client.CoreV1().Pods(p.namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=app"})
		if err != nil {
			return err
		}
		back := 0
		for _, pod := range list.Items {
			if runs(&pod) != nil || pod.Status.ContainerStatuses[0].RestartCount == 0 {
				continue
			}
			got, err := p.exec(ctx, pod.Name, "cat /mnt/secrets/password")
			if err != nil {
				return err
			}
			if got != "new" {
				return fmt.Errorf("pod %s reads %q", pod.Name, got)
			}
			back++
		}
		if back != 3 {
			return fmt.Errorf("%d of %d pods", back, len(list.Items))
		}
		return nil
	})
	t.Logf("all pods were back %.1f s after the node's start", time.Since(start).Seconds())
}

// replaced follows deploy/MOVING.md: classes and pods under a DaemonSet of the shape of the
// provider that this one replaces, then under our chart.
func (c *cluster) replaced(t *testing.T) {
	c.helm(t, "uninstall", release, "-n", system, "--wait")
	t.Cleanup(func() { c.remove(t, c.predecessor()) })
	c.apply(t, c.predecessor())
	c.rolledOut(t, "csi-secrets-store-provider-azure")
	p := c.sound(t)
	app := p.app("app")
	// As classes and pods were written for it: the client ID in the class, a string of YAML for
	// each object.
	p.apply(t, fmt.Sprintf(`apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: old, namespace: %s}
spec:
  provider: azure
  parameters:
    usePodIdentity: "false"
    clientID: %s
    keyvaultName: %s
    tenantId: %s
    objects: |
      array:
        - |
          objectName: password
          objectType: secret
          objectVersion: ""
`, p.namespace, app.ClientID(), p.vaultName, tenant), p.pod("before", "app", "old", stay))
	p.ready(t, "before")

	c.kubectl(t, "-n", system, "delete", "daemonset", "csi-secrets-store-provider-azure", "--cascade=foreground")
	p.apply(t, p.pod("between", "app", "old", stay))
	time.Sleep(5 * time.Second) // the driver waits for a provider, without a word
	if pod, err := p.getPod(t.Context(), "between"); err != nil || runs(pod) == nil {
		t.Errorf("the pod runs without a provider: %v", err)
	}
	c.installPlugin(t)
	p.apply(t, p.pod("after", "app", "old", stay))
	p.ready(t, "between", "after")
	p.vault.SetSecret("password", azuretest.Secret{Value: "changed"})
	eventually(t, rotates, "the change reaches pods of both times", func(ctx context.Context) error {
		for _, pod := range []string{"before", "between", "after"} {
			if got, err := p.exec(ctx, pod, "cat /mnt/secrets/password"); err != nil || got != "changed" {
				return errors.Join(err, fmt.Errorf("pod %s reads %q", pod, got))
			}
		}
		return nil
	})
}

// predecessor is a DaemonSet as Azure/secrets-store-csi-driver-provider-azure documents its
// own: name, labels, arguments, ports and paths. Its image is not available here, so ours runs.
func (c *cluster) predecessor() string {
	return fmt.Sprintf(`apiVersion: v1
kind: ServiceAccount
metadata: {name: csi-secrets-store-provider-azure, namespace: kube-system}
---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: csi-secrets-store-provider-azure
  namespace: kube-system
  labels: {app: csi-secrets-store-provider-azure}
spec:
  updateStrategy: {type: RollingUpdate}
  selector: {matchLabels: {app: csi-secrets-store-provider-azure}}
  template:
    metadata: {labels: {app: csi-secrets-store-provider-azure}}
    spec:
      serviceAccountName: csi-secrets-store-provider-azure
      hostNetwork: true
      containers:
        - name: provider-azure-installer
          image: %s
          imagePullPolicy: IfNotPresent
          args: [--endpoint=unix:///provider/azure.sock, --construct-pem-chain=true, --healthz-port=8989, --healthz-path=/healthz, --healthz-timeout=5s]
          env:
            - {name: HTTPS_PROXY, value: %q}
            - {name: SSL_CERT_FILE, value: /ca/ca.crt}
          livenessProbe:
            httpGet: {path: /healthz, port: 8989}
            failureThreshold: 3
            initialDelaySeconds: 5
            timeoutSeconds: 10
            periodSeconds: 30
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, runAsUser: 0, capabilities: {drop: [ALL]}}
          volumeMounts:
            - {mountPath: /provider, name: provider-vol}
            - {mountPath: /ca, name: ca}
      volumes:
        - name: provider-vol
          hostPath: {path: /var/run/secrets-store-csi-providers}
        - name: ca
          configMap: {name: azure-ca}
      nodeSelector: {kubernetes.io/os: linux}
`, setup.Image, c.box.ProxyURL())
}

// deployment runs pods that stay, and that are started again when they end.
func (p *place) deployment(name, serviceAccount, class string, replicas int) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      serviceAccountName: %[4]s
      terminationGracePeriodSeconds: 1
      containers:
        - name: main
          image: busybox:1.37
          command: ["/bin/sh", "-c", %[5]q]
          volumeMounts: [{name: secrets, mountPath: /mnt/secrets, readOnly: true}]
      volumes:
        - name: secrets
          csi: {driver: secrets-store.csi.k8s.io, readOnly: true, volumeAttributes: {secretProviderClass: %[6]s}}
`, name, p.namespace, replicas, serviceAccount, stay, class)
}

// policies refuse a broken class and a pod that breaks one, and accept what works.
func (c *cluster) policies(t *testing.T) {
	p := c.sound(t)
	t.Cleanup(func() { c.kubectl(t, "delete", "--ignore-not-found", "-k", "../../deploy/policy") })
	c.kubectl(t, "apply", "-k", "../../deploy/policy")
	broken := p.classWith("broken", map[string]string{"keyvaultName": p.vault.URL(), "tenantID": tenant}, "password")
	eventually(t, busy, "a broken class is refused", func(ctx context.Context) error {
		err := p.tryCreate(ctx, broken)
		if err == nil || !strings.Contains(err.Error(), "keyvaultName: ") || !strings.Contains(err.Error(), "not its URL") {
			return fmt.Errorf("created: %v", err)
		}
		return nil
	})
	p.apply(t, p.class("fine", "password"))
	override := func(name, attribute string) string {
		return replace(t, p.pod(name, "app", "fine", stay), "secretProviderClass: fine}", "secretProviderClass: fine, "+attribute+"}")
	}
	eventually(t, busy, "a pod that breaks its class is refused", func(ctx context.Context) error {
		err := p.tryCreate(ctx, override("breaks", `usePodIdentity: "true"`))
		if err == nil || !strings.Contains(err.Error(), "volume of class fine: usePodIdentity: AAD Pod Identity is retired") {
			return fmt.Errorf("created: %v", err)
		}
		return nil
	})
	p.apply(t, override("overrides", fmt.Sprintf("tenantID: %q", tenant)), p.pod("plain", "app", "fine", stay))
	p.ready(t, "overrides", "plain")
}

// dryRun: all that deploy/ offers passes the API server's own checks.
func (c *cluster) dryRun(t *testing.T) {
	p := c.newPlace(t)
	for _, args := range [][]string{
		{"-k", "../../deploy/manifests"}, {"-f", "../../deploy/manifests/windows"},
		{"-k", "../../deploy/policy"}, {"-k", "../../deploy/policy/enforce"},
	} {
		c.kubectl(t, append([]string{"apply", "--server-side", "--dry-run=server", "--force-conflicts"}, args...)...)
	}
	classes, err := filepath.Glob("../../deploy/examples/*/secretproviderclass.yaml")
	if err != nil || len(classes) < 8 {
		t.Fatalf("%d examples, %v", len(classes), err)
	}
	for _, class := range classes {
		folder := filepath.Base(filepath.Dir(class))
		if folder == "sync-controller" {
			continue // SyncController applies it, with the controller's CustomResourceDefinition
		}
		manifests := p.example(t, folder, "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee")
		// Nothing is written in a dry run, so that the pod's service account must be there.
		p.apply(t, p.account(folder, ""))
		if _, err := c.run(t.Context(), manifests, c.kubectlPath(), "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"); err != nil {
			t.Errorf("%s: %v", folder, err)
		}
	}
}

// uninstalled: removing the chart as deploy/README.md says leaves no object and no socket, and
// deleted pods left no mount.
func (c *cluster) uninstalled(t *testing.T) {
	c.noNamespaces(t) // such as that of Crowd, whose pods take their time to end
	t.Run("before", func(t *testing.T) {
		p := c.sound(t)
		p.apply(t, p.pod("app", "app", "app", stay))
		p.ready(t, "app")
		if got := c.onNode(t); !strings.Contains(got, "azure.sock") || !strings.Contains(got, "kubernetes.io~csi") {
			t.Errorf("not on the node: %s", got)
		}
	})
	c.noNamespaces(t)
	c.helm(t, "uninstall", release, "-n", system, "--wait")
	kinds := strings.Fields(c.kubectl(t, "api-resources", "--verbs=list", "-o", "name"))
	eventually(t, busy, "no object is left", func(ctx context.Context) error { // pods end after their DaemonSet
		out, err := c.run(ctx, "", c.kubectlPath(), "get", strings.Join(kinds, ","), "-A", "-l", "app.kubernetes.io/instance="+release, "-o", "name", "--ignore-not-found")
		if err != nil {
			return err
		}
		var left []string
		for line := range strings.Lines(out) {
			if !strings.HasPrefix(line, "Warning: ") { // of an API version that will be removed
				left = append(left, strings.TrimSpace(line))
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("left: %s", left)
		}
		return nil
	})
	if got := c.onNode(t); got != "" {
		t.Errorf("on the node: %s", got)
	}
}

// onNode is what a pod sees of providers' sockets and of CSI volumes on its node.
func (c *cluster) onNode(t *testing.T) string {
	t.Helper()
	name := fmt.Sprint("look-", c.number())
	c.apply(t, fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
spec:
  restartPolicy: Never
  containers:
    - name: main
      image: busybox:1.37
      command: ["/bin/sh", "-c", "ls -A /providers; grep kubernetes.io~csi /host/proc/1/mounts; true"]
      volumeMounts: [{name: providers, mountPath: /providers}, {name: proc, mountPath: /host/proc}]
  volumes:
    - {name: providers, hostPath: {path: /var/run/secrets-store-csi-providers}}
    - {name: proc, hostPath: {path: /proc}}
`, name, system))
	p := &place{cluster: c, namespace: system}
	found := strings.TrimSpace(p.output(t, name))
	c.kubectl(t, "-n", system, "delete", "pod", name)
	return found
}
