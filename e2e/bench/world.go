package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"akv-csi-provider/provider/azuretest"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

const (
	tenantID  = "72f988bf-0000-4000-8000-00000000cafe"
	issuer    = "https://westeurope.oic.prod-aks.azure.com/72f988bf-0000-4000-8000-00000000cafe/bench/"
	namespace = "bench"
	vaultName = "kv-bench"
)

// What a round trip takes, here as in the numbers of the provider that this one
// replaces.
const (
	discovery = 20 * time.Millisecond
	signIn    = 40 * time.Millisecond
	read      = 20 * time.Millisecond
)

var latencies = map[azuretest.Kind]time.Duration{
	azuretest.Instance: discovery, azuretest.Metadata: discovery, azuretest.Token: signIn,
	azuretest.Challenge: read, azuretest.GetSecret: read, azuretest.List: read,
}

// world is an Azure in a box, with one vault, and a cluster whose pods all mount the
// same number of secrets from it.
type world struct {
	box     *azuretest.Box
	cluster *azuretest.Cluster
	vault   *azuretest.Vault
	secrets int
	classes map[string][]byte // by service account
}

func newWorld(http2 bool, secrets int) (*world, error) {
	box, err := azuretest.New(azuretest.Options{DisableHTTP2: !http2})
	if err != nil {
		return nil, err
	}
	w := &world{box: box, secrets: secrets, classes: map[string][]byte{}}
	if w.cluster, err = box.Cluster(issuer); err != nil {
		return nil, errors.Join(err, box.Close())
	}
	w.vault = box.Vault(vaultName, box.Tenant(tenantID))
	for i := range secrets {
		w.vault.SetSecret(secretName(i), azuretest.Secret{Value: fmt.Sprintf("value of %s", secretName(i))})
	}
	for kind, d := range latencies {
		box.SetLatency(kind, d)
	}
	return w, nil
}

func secretName(i int) string { return fmt.Sprintf("secret-%02d", i) }

// pods are the volumes of n new pods, as the driver asks for them: each with a token
// of its own. They run under one service account, or each under its own.
func (w *world) pods(name string, n int, ownIdentity bool) ([]*v1alpha1.MountRequest, error) {
	volumes := make([]*v1alpha1.MountRequest, n)
	for i := range volumes {
		pod := azuretest.Pod{Namespace: namespace, Name: fmt.Sprintf("%s-%d", name, i), ServiceAccount: "shared"}
		if ownIdentity {
			pod.ServiceAccount = pod.Name
		}
		target := "/var/lib/kubelet/pods/" + pod.Name + "/volumes/kubernetes.io~csi/secrets/mount"
		var err error
		if volumes[i], err = w.cluster.MountRequest(w.class(pod), pod, nil, target); err != nil {
			return nil, err
		}
	}
	return volumes, nil
}

// class is the SecretProviderClass of the pod's service account, which gets an
// identity of its own that may read the vault.
func (w *world) class(pod azuretest.Pod) []byte {
	if w.classes[pod.ServiceAccount] == nil {
		clientID := fmt.Sprintf("5b1e7a90-0000-4000-8000-%012d", len(w.classes))
		w.box.Tenant(tenantID).Application(clientID).Federate(issuer, pod.Subject(), azuretest.TokenExchangeAudience)
		w.vault.Grant(clientID, azuretest.SecretsGet)
		w.classes[pod.ServiceAccount] = classOf(clientID, w.secrets)
	}
	return w.classes[pod.ServiceAccount]
}

func classOf(clientID string, secrets int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: bench
  namespace: %s
spec:
  provider: azure
  parameters:
    keyvaultName: %s
    tenantID: %s
    clientID: %s
    objects: |
`, namespace, vaultName, tenantID, clientID)
	for i := range secrets {
		fmt.Fprintf(&b, "      - objectName: %s\n        objectType: secret\n", secretName(i))
	}
	return []byte(b.String())
}

// counts are the requests that the plugin sent: Entra's own to the cluster's issuer
// are none of them.
func (w *world) counts() map[azuretest.Kind]int {
	counts := w.box.Counts()
	delete(counts, azuretest.Issuer)
	return counts
}

// arrivals are the last of those requests, one by one.
func (w *world) arrivals() []azuretest.Request {
	return slices.DeleteFunc(w.box.Requests(), func(r azuretest.Request) bool { return r.Kind == azuretest.Issuer })
}

// versions are those of HTTP that the plugin spoke.
func (w *world) versions() []string {
	var seen []string
	for _, r := range w.arrivals() {
		if version := strings.TrimPrefix(r.Proto, "HTTP/"); !slices.Contains(seen, version) {
			seen = append(seen, version)
		}
	}
	return seen
}
