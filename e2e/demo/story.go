package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"akv-csi-provider/provider/azuretest"

	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc/status"
)

// The names of the story. The manifests take them as envsubst would put them in.
const (
	tenantID  = "72f988bf-0000-4000-8000-00000000cafe"
	clientID  = "5b1e7a90-0000-4000-8000-0000000000d1"
	namespace = "default"
	vaultName = "kv-quick-start"
	issuer    = "https://westeurope.oic.prod-aks.azure.com/72f988bf-0000-4000-8000-00000000cafe/quick-start/"
)

// story is the demo in steps. Each prints what it does and fails if it did not succeed.
type story struct {
	out     io.Writer
	dir     string
	box     *azuretest.Box
	cluster *azuretest.Cluster
	api     *azuretest.APIServer
	vault   *azuretest.Vault
	app     *azuretest.Application
	class   []byte        // the SecretProviderClass
	pod     azuretest.Pod // of the quick start
	node    *node
}

func newStory(out io.Writer, dir, examples string) (*story, error) {
	box, err := azuretest.New(azuretest.Options{})
	if err != nil {
		return nil, err
	}
	s := &story{out: out, dir: dir, box: box}
	if err := s.readManifests(examples); err != nil {
		return nil, errors.Join(err, box.Close())
	}
	return s, nil
}

func (s *story) run(ctx context.Context, provider string) error {
	s.say("A pod reads a secret from Azure Key Vault and does nothing for it but read a file.\n" +
		"Azure is simulated on this machine; the plugin and the CSI driver's code are the real ones.")
	if err := inOrder(ctx, s.createCluster, s.createVault, s.createIdentity, s.annotateServiceAccount, s.federate); err != nil {
		return err
	}
	var err error
	if s.node, err = startNode(ctx, provider, s.dir, s.box, s.api); err != nil {
		return err
	}
	err = inOrder(ctx, s.startPod, s.rotate, s.startStranger)
	stopped := s.node.stop(ctx)
	if err != nil {
		return fmt.Errorf("%w\nthe plugin's log:\n%s", err, s.node.Log())
	}
	if stopped != nil {
		return fmt.Errorf("the plugin did not end well: %w\n%s", stopped, s.node.Log())
	}
	s.say("\nEvery step succeeded.")
	return nil
}

// inOrder takes steps up to the first that fails.
func inOrder(ctx context.Context, steps ...func(context.Context) error) error {
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// createCluster and the steps after it are numbered as a platform team takes them
// to give a pod an identity. The first is a cluster whose service-account tokens
// Entra can verify.
func (s *story) createCluster(context.Context) (err error) {
	s.step(1, "a cluster with an OIDC issuer")
	if s.cluster, err = s.box.Cluster(issuer); err != nil {
		return err
	}
	if s.api, err = s.cluster.APIServer(); err != nil {
		return err
	}
	s.show("issuer   " + s.cluster.Issuer())
	return nil
}

func (s *story) createVault(context.Context) error {
	s.step(2, "a key vault with a secret")
	s.vault = s.box.Vault(vaultName, s.box.Tenant(tenantID))
	version := s.vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello!"})
	s.show("vault    "+s.vault.URL(), "secret   my-secret = Hello!   (version "+version+")")
	return nil
}

func (s *story) createIdentity(context.Context) error {
	s.step(3, "a managed identity that may get the vault's secrets")
	s.app = s.box.Tenant(tenantID).Application(clientID)
	s.vault.Grant(clientID, azuretest.SecretsGet)
	s.show("client   "+clientID, "tenant   "+tenantID)
	return nil
}

func (s *story) annotateServiceAccount(context.Context) error {
	s.step(4, "a service account that names the identity")
	s.annotate(s.pod)
	return nil
}

// annotate sets the annotation of the manifest on the pod's service account.
func (s *story) annotate(pod azuretest.Pod) {
	s.api.SetServiceAccount(pod.Namespace, pod.ServiceAccount, map[string]string{"azure.workload.identity/client-id": clientID})
	s.show("account  "+pod.Namespace+"/"+pod.ServiceAccount, "         azure.workload.identity/client-id: "+clientID)
}

func (s *story) federate(context.Context) error {
	s.step(5, "a federated credential: the identity trusts that service account")
	s.app.Federate(issuer, s.pod.Subject(), azuretest.TokenExchangeAudience)
	s.show("subject  "+s.pod.Subject(), "audience "+azuretest.TokenExchangeAudience)
	return nil
}

func (s *story) startPod(ctx context.Context) error {
	s.step(6, "a pod under that service account, with a volume of this SecretProviderClass")
	s.show(strings.Split(strings.TrimPrefix(strings.TrimSpace(string(s.class)), "---\n"), "\n")...)
	s.box.ResetCounts()
	start := time.Now()
	volume, err := s.node.mount(ctx, s.cluster, s.class, s.pod)
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	s.show("", fmt.Sprintf("mounted in %d ms with %s", time.Since(start).Milliseconds(), s.requests()))
	return s.expect(volume, "Hello!")
}

// rotate changes the secret; kubelet calls the driver for the volume again.
func (s *story) rotate(ctx context.Context) error {
	s.step(7, "the secret changes in the vault")
	version := s.vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello again!"})
	s.show("secret   my-secret = Hello again!   (version " + version + ")")
	volume, err := s.node.mount(ctx, s.cluster, s.class, s.pod)
	if err != nil {
		return fmt.Errorf("mount again: %w", err)
	}
	return s.expect(volume, "Hello again!")
}

// startStranger mounts the same class under a service account without a federated
// credential, though it names the same identity: who may edit an account can write that.
func (s *story) startStranger(ctx context.Context) error {
	s.step(8, "a pod under a service account that names the identity too, but has no federated credential")
	stranger := azuretest.Pod{Namespace: s.pod.Namespace, Name: "stranger", ServiceAccount: "stranger"}
	s.annotate(stranger)
	volume, err := s.node.mount(ctx, s.cluster, s.class, stranger)
	message := status.Convert(err).Message()
	if err == nil || !strings.HasSuffix(message, "[FederatedCredentialMissing]") || !strings.Contains(message, stranger.Subject()) {
		return fmt.Errorf("the stranger got %v, want a refusal that names its subject", err)
	}
	files, err := os.ReadDir(volume)
	if err != nil {
		return err
	}
	if len(files) > 0 {
		return fmt.Errorf("the stranger's volume contains %v", files)
	}
	s.show("its event reads", "  "+message)
	return nil
}

// expect prints the volume's one file and checks its content.
func (s *story) expect(volume, want string) error {
	path := filepath.Join(volume, "my-secret")
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	s.show(fmt.Sprintf("%s  my-secret", info.Mode()), "$ cat my-secret", string(got))
	if string(got) != want {
		return fmt.Errorf("my-secret contains %q, want %q", got, want)
	}
	return nil
}

// requests says what the last mount cost. Requests of Entra to the cluster's issuer are
// not the plugin's.
func (s *story) requests() string {
	counts := s.box.Counts()
	delete(counts, azuretest.Issuer)
	delete(counts, azuretest.Lookup) // in the cluster
	total := 0
	for _, n := range counts {
		total += n
	}
	return fmt.Sprintf("%d requests to Azure: %d discovery, %d token, %d challenge, %d get", total,
		counts[azuretest.Instance]+counts[azuretest.Metadata], counts[azuretest.Token],
		counts[azuretest.Challenge], counts[azuretest.GetSecret])
}

// readManifests reads the quick start's manifests as a user would apply them.
func (s *story) readManifests(folder string) error {
	values := map[string]string{"NAMESPACE": namespace, "KEYVAULT_NAME": vaultName, "TENANT_ID": tenantID, "CLIENT_ID": clientID}
	read := func(name string) ([]byte, error) {
		text, err := os.ReadFile(filepath.Join(folder, name))
		return []byte(os.Expand(string(text), func(v string) string { return values[v] })), err
	}
	var err error
	if s.class, err = read("secretproviderclass.yaml"); err != nil {
		return err
	}
	text, err := read("workload.yaml")
	if err != nil {
		return err
	}
	var pod struct {
		Metadata struct{ Name, Namespace string }
		Spec     struct {
			ServiceAccountName string `yaml:"serviceAccountName"`
		}
	}
	if err := yaml.Unmarshal(text, &pod); err != nil {
		return fmt.Errorf("workload.yaml: %w", err)
	}
	s.pod = azuretest.Pod{Namespace: pod.Metadata.Namespace, Name: pod.Metadata.Name, ServiceAccount: pod.Spec.ServiceAccountName}
	return s.checkServiceAccount(read)
}

// checkServiceAccount compares the manifest with what the story says of it.
func (s *story) checkServiceAccount(read func(string) ([]byte, error)) error {
	text, err := read("serviceaccount.yaml")
	if err != nil {
		return err
	}
	var account struct {
		Metadata struct {
			Name, Namespace string
			Annotations     map[string]string
		}
	}
	if err := yaml.Unmarshal(text, &account); err != nil {
		return fmt.Errorf("serviceaccount.yaml: %w", err)
	}
	m := account.Metadata
	if m.Name != s.pod.ServiceAccount || m.Namespace != s.pod.Namespace || m.Annotations["azure.workload.identity/client-id"] != clientID {
		return fmt.Errorf("serviceaccount.yaml is not the account of workload.yaml with the client ID: %+v", m)
	}
	return nil
}

func (s *story) say(text string) { fmt.Fprintln(s.out, text) }

func (s *story) step(n int, title string) { fmt.Fprintf(s.out, "\n%d. %s\n", n, title) }

func (s *story) show(lines ...string) {
	for _, l := range lines {
		fmt.Fprintln(s.out, "     "+l)
	}
}
