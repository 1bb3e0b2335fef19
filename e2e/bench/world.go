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

// world is a fake Azure, and a cluster whose pods all mount the same from its vaults.
type world struct {
	box     *azuretest.Box
	cluster *azuretest.Cluster
	vault   *azuretest.Vault   // the classes' own
	vaults  []*azuretest.Vault // all of them
	volume  volume
	classes map[string][]byte // by service account
}

func newWorld(http2 bool, fill content) (*world, error) {
	box, err := azuretest.New(azuretest.Options{DisableHTTP2: !http2})
	if err != nil {
		return nil, err
	}
	w := &world{box: box, classes: map[string][]byte{}}
	if w.cluster, err = box.Cluster(issuer); err != nil {
		return nil, errors.Join(err, box.Close())
	}
	w.vault = w.addVault(vaultName)
	w.volume = fill(w)
	for kind, d := range latencies {
		box.SetLatency(kind, d)
	}
	return w, nil
}

func (w *world) addVault(name string) *azuretest.Vault {
	vault := w.box.Vault(name, w.box.Tenant(tenantID))
	w.vaults = append(w.vaults, vault)
	return vault
}

// secret adds the secret of that number to a vault and returns its name.
func (w *world) secret(vault *azuretest.Vault, i int) string {
	name := fmt.Sprintf("secret-%02d", i)
	vault.SetSecret(name, azuretest.Secret{Value: "value of " + name})
	return name
}

// pods are the volumes of n new pods, as the driver requests them: each with its own
// token. They run under one service account, or each under its own.
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

// class is the SecretProviderClass of the pod's service account, which gets its own
// identity that may read and list the vaults.
func (w *world) class(pod azuretest.Pod) []byte {
	if w.classes[pod.ServiceAccount] == nil {
		clientID := fmt.Sprintf("5b1e7a90-0000-4000-8000-%012d", len(w.classes))
		w.box.Tenant(tenantID).Application(clientID).Federate(issuer, pod.Subject(), azuretest.TokenExchangeAudience)
		for _, vault := range w.vaults {
			vault.Grant(clientID, azuretest.SecretsGet, azuretest.SecretsList)
		}
		w.classes[pod.ServiceAccount] = w.volume.class(clientID)
	}
	return w.classes[pod.ServiceAccount]
}

// class is the SecretProviderClass for such volumes, read as that client.
func (v volume) class(clientID string) []byte {
	return fmt.Appendf(nil, `
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
    %s
    objects: |
      %s
`, namespace, vaultName, tenantID, clientID, v.parameters, strings.ReplaceAll(v.entries, "\n", "\n      "))
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
