package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"akv-csi-provider/provider/azuretest"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

const (
	tenantID        = "72f988bf-0000-4000-8000-00000000cafe"
	issuer          = "https://westeurope.oic.prod-aks.azure.com/72f988bf-0000-4000-8000-00000000cafe/trust/"
	innocentVault   = "kv-innocent"
	innocentSpace   = "innocent"
	innocentSecrets = 10
	hostileSpace    = "hostile"
)

// What a round trip takes, as in the benchmarks.
const (
	signIn = 40 * time.Millisecond
	read   = 20 * time.Millisecond
)

// class is the SecretProviderClass of all volumes: the pods' attributes say the rest.
var class = []byte("{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClass, metadata: {name: c}, spec: {provider: azure}}")

// world is a fake Azure and a cluster with innocent pods, who all read one vault.
type world struct {
	box     *azuretest.Box
	cluster *azuretest.Cluster
	tenant  *azuretest.Tenant
	vault   *azuretest.Vault // of the innocents
	front   *front           // between the plugin and the fake Azure; nil without one
	dir     string
	offset  atomic.Int64 // of Azure's clock from the plugin's
	clients atomic.Int64
	client  string // of the innocents
}

// setup is what an attack's world and process have beside the usual.
type setup struct {
	http1 bool          // the vaults offer no HTTP/2, as Key Vault does not
	front bool          // hostile hosts, broken connections, odd answers of Entra
	dns   bool          // no proxy: names are resolved
	api   bool          // an API server, for the ServiceAccounts' annotations
	files int           // open files of the process
	flags []string      // besides those of the manifests
	log   logKind       // where the log of the process goes
	vault time.Duration // latency of the innocents' vault, besides the usual
	pace  time.Duration // between two innocent mounts, in place of the usual
	pprof bool          // profiles are served
}

func newWorld(s setup) (*world, error) {
	w := new(world)
	var err error
	w.box, err = azuretest.New(azuretest.Options{
		DisableHTTP2: s.http1,
		Clock:        func() time.Time { return time.Now().Add(time.Duration(w.offset.Load())) },
	})
	if err != nil {
		return nil, err
	}
	if err := w.fill(s); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *world) fill(s setup) error {
	var err error
	if w.dir, err = os.MkdirTemp("", "akv"); err != nil { // short, for the path of a unix socket
		return err
	}
	if w.cluster, err = w.box.Cluster(issuer); err != nil {
		return err
	}
	w.tenant = w.box.Tenant(tenantID)
	w.box.SetLatency(azuretest.Token, signIn)
	for _, kind := range []azuretest.Kind{azuretest.Challenge, azuretest.GetSecret, azuretest.List} {
		w.box.SetLatency(kind, read)
	}
	w.client = w.newClient()
	w.vault = w.newVault(innocentVault, w.client)
	w.vault.SetLatency(s.vault)
	for i := range innocentSecrets {
		w.vault.SetSecret(innocentName(i), azuretest.Secret{Value: valueOf(innocentName(i))})
	}
	if s.front || s.dns {
		if w.front, err = newFront(w.box); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) close() error {
	if w.front != nil {
		w.front.close()
	}
	return errors.Join(w.box.Close(), os.RemoveAll(w.dir))
}

// environ leads the plugin to the fake Azure, through the front if there is one.
func (w *world) environ(s setup) ([]string, error) {
	env, err := w.box.Environ(w.dir)
	if err != nil || w.front == nil {
		return env, err
	}
	authorities := filepath.Join(w.dir, "azuretest-ca.pem") // written by Environ
	if err := os.WriteFile(authorities, append(w.box.CACert(), w.front.authority...), 0o644); err != nil {
		return nil, err
	}
	if s.dns {
		return append(env, "HTTPS_PROXY="), nil
	}
	return append(env, "HTTPS_PROXY=http://"+w.front.proxy.Addr().String()), nil // the last one counts
}

func innocentName(i int) string  { return fmt.Sprintf("secret-%02d", i) }
func valueOf(name string) string { return "value of " + name }

// newClient registers one more application, which every pod of the hostile and the
// innocent namespace may use, each under a ServiceAccount named like the client ID.
func (w *world) newClient() string {
	id := fmt.Sprintf("5b1e7a90-0000-4000-8000-%012d", w.clients.Add(1))
	app := w.tenant.Application(id)
	for _, namespace := range []string{innocentSpace, hostileSpace} {
		pod := azuretest.Pod{Namespace: namespace, ServiceAccount: id}
		app.Federate(issuer, pod.Subject(), azuretest.TokenExchangeAudience)
	}
	return id
}

// newVault makes a vault that the client may read.
func (w *world) newVault(name, client string) *azuretest.Vault {
	v := w.box.Vault(name, w.tenant)
	v.Grant(client, azuretest.SecretsGet, azuretest.SecretsList, azuretest.CertificatesGet)
	return v
}

// pod is a volume that a pod mounts.
type pod struct {
	namespace, name string
	client          string // ID, and the pod's ServiceAccount
	vault           string
	objects         string
	attributes      map[string]string // over the others
	secrets         map[string]string // of nodePublishSecretRef
	tokens          map[string]string // nil: a genuine one
}

// volume is the pod's, as the driver requests it.
func (w *world) volume(p pod) (*v1alpha1.MountRequest, error) {
	attributes := map[string]string{
		"keyvaultName": p.vault, "tenantID": tenantID, "clientID": p.client, "objects": p.objects,
	}
	maps.Copy(attributes, p.attributes)
	return w.cluster.MountRequest(class, azuretest.Pod{
		Namespace: p.namespace, Name: p.name, ServiceAccount: p.client,
		VolumeAttributes: attributes, NodePublishSecret: p.secrets,
	}, p.tokens, "/var/lib/kubelet/pods/"+p.name+"/volumes/kubernetes.io~csi/secrets/mount")
}

// alike are n volumes of one hostile pod, which differ in nothing but their path.
func (w *world) alike(n int, p pod) ([]*v1alpha1.MountRequest, error) {
	first, err := w.hostile(1, p, nil)
	if err != nil {
		return nil, err
	}
	volumes := make([]*v1alpha1.MountRequest, n)
	for i := range volumes {
		volumes[i] = &v1alpha1.MountRequest{
			Attributes: first[0].Attributes, Secrets: first[0].Secrets, Permission: first[0].Permission,
			TargetPath: fmt.Sprintf("%s-%d", first[0].TargetPath, i),
		}
	}
	return volumes, nil
}

// hostile are the volumes of n hostile pods; edit, if any, makes each different.
func (w *world) hostile(n int, p pod, edit func(i int, p *pod)) ([]*v1alpha1.MountRequest, error) {
	p.namespace = hostileSpace
	volumes := make([]*v1alpha1.MountRequest, n)
	for i := range volumes {
		one := p
		one.name = fmt.Sprintf("hostile-%d", i)
		if edit != nil {
			edit(i, &one)
		}
		var err error
		if volumes[i], err = w.volume(one); err != nil {
			return nil, err
		}
	}
	return volumes, nil
}

func (w *world) newInnocent(name string) (*v1alpha1.MountRequest, error) {
	return w.volume(pod{
		namespace: innocentSpace, name: name, client: w.client, vault: innocentVault,
		objects: objects(innocentSecrets, func(i int) string { return "objectName: " + innocentName(i) }),
	})
}

// objects is the list of n secrets, each with the fields that the function writes.
func objects(n int, fields func(i int) string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "- {objectType: secret, %s}\n", fields(i))
	}
	return b.String()
}
