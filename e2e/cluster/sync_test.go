package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"akv-csi-provider/provider/azuretest"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	syncNamespace  = "secrets-store-sync"
	syncDeployment = "secrets-store-sync-controller-manager"
)

// syncController: secrets-store-sync-controller, installed as deploy/sync-controller says, with
// the plugin beside it, makes a Secret of the example, which a pod reads, and updates it when
// the vault has a new value. Its pod has no volume of the driver.
func (c *cluster) syncController(t *testing.T) {
	switch missing, err := setup.Builder().MissingSync(); {
	case err != nil:
		t.Fatal(err)
	case missing != "":
		t.Skipf("%s could not be built, since module proxies may lack it: go run ./prepare says why", missing)
	}
	c.installSyncController(t)
	p := c.newPlace(t)
	app := p.fill(t, "sync-controller")
	p.apply(t, p.example(t, "sync-controller", app.ClientID()))
	if got := strings.TrimSpace(p.output(t, "sync-controller")); got != "Hello!" {
		t.Errorf("the pod printed %q, want Hello!", got)
	}
	p.vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello again!"})
	get := func(ctx context.Context) (string, error) {
		s, err := p.client.CoreV1().Secrets(p.namespace).Get(ctx, "sync-controller", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return string(s.Data["GREETING"]), nil
	}
	eventually(t, busy, "the Secret follows the vault", func(ctx context.Context) error {
		got, err := get(ctx)
		if err == nil && got != "Hello again!" {
			err = fmt.Errorf("it has %q", got)
		}
		return err
	})
	p.vault.Revoke(app.ClientID())
	eventually(t, busy, "the controller's log has the reason of a refusal", func(ctx context.Context) error {
		text, err := c.run(ctx, "", c.kubectlPath(), "-n", syncNamespace, "logs", "deployment/"+syncDeployment, "-c", "manager")
		if err == nil && !strings.Contains(text, "[AccessDenied]") {
			err = errors.New(tail(text, 5))
		}
		return err
	})
	if got, err := get(t.Context()); err != nil || got != "Hello again!" {
		t.Errorf("after the refusal the Secret has %q, %v", got, err)
	}
	p.kubectl(t, "-n", p.namespace, "delete", "secretsync", "sync-controller")
	eventually(t, busy, "the Secret is deleted with its SecretSync", func(ctx context.Context) error {
		_, err := get(ctx)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("it is there"), err)
	})
}

// installSyncController installs the controller's own chart with our values; the driver has
// brought the CustomResourceDefinition of classes. The fake Azure is on
// the node's loopback address, so the pod is in the node's network, and the plugin in it has
// other ports than that of the DaemonSet.
func (c *cluster) installSyncController(t *testing.T) {
	t.Helper()
	c.addNamespace(t, syncNamespace)
	c.apply(t, fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: azure-ca, namespace: %s}\ndata: {ca.crt: %q}\n", syncNamespace, c.box.CACert()))
	t.Cleanup(func() {
		c.helm(t, "uninstall", "sync", "-n", syncNamespace, "--ignore-not-found", "--wait")
		c.kubectl(t, "delete", "--ignore-not-found", "crd", "secretsyncs.secret-sync.x-k8s.io")
	})
	c.kubectl(t, "apply", "--server-side", "-f", setup.Builder().SyncChart()+"/crds/secret-sync.x-k8s.io_secretsyncs.yaml")
	c.kubectl(t, "wait", "--for=condition=Established", "--timeout="+busy.String(), "crd/secretsyncs.secret-sync.x-k8s.io")
	c.helm(t, "upgrade", "--install", "sync", setup.Builder().SyncChart(), "--namespace", syncNamespace, "--skip-crds",
		"--values", "../../deploy/sync-controller/values.yaml",
		"--set", "providerContainer[0].image="+setup.Image, "--set", "rotationPollInterval="+pollInterval.String())
	patch := fmt.Sprintf(`{"spec":{"template":{"spec":{"hostNetwork":true,"dnsPolicy":"ClusterFirstWithHostNet",
		"volumes":[{"name":"azure-ca","configMap":{"name":"azure-ca"}}],
		"containers":[{"name":"akv-csi-provider",
			"args":["--endpoint=unix:///provider/azure.sock","--identity-modes=workload-identity","--healthz-port=8990","--prometheus-port=0","--rotation-cache-ttl=%s"],
			"env":[{"name":"HTTPS_PROXY","value":%q},{"name":"SSL_CERT_FILE","value":"/azure-ca/ca.crt"}],
			"ports":[{"$patch":"replace"},{"name":"healthz","containerPort":8990}],
			"volumeMounts":[{"name":"azure-ca","mountPath":"/azure-ca"}]}]}}}}`, sharedFor, c.box.ProxyURL())
	c.kubectl(t, "-n", syncNamespace, "patch", "deployment", syncDeployment, "--patch", patch)
	c.kubectl(t, "-n", syncNamespace, "rollout", "status", "deployment/"+syncDeployment, "--timeout="+busy.String())
}
