package preview

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes/scheme"

	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/cmd/kubectl-akv/kubetest"
	"akv-csi-provider/provider/azuretest"
)

const (
	tenantID = "11111111-2222-3333-4444-555555555555"
	clientID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	issuer   = "https://oidc.contoso.example/cluster/"

	classPath  = "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/shop/secretproviderclasses/web"
	driverPath = "/apis/storage.k8s.io/v1/csidrivers/secrets-store.csi.k8s.io"
)

// world is an Azure, a cluster and a user of kubectl. All values of the vaults have a mark.
type world struct {
	*azuretest.Box
	api     *kubetest.Server
	cluster *azuretest.Cluster
	app     *azuretest.Application
	vault   *azuretest.Vault
	marks   []string
	tokens  []*authenticationv1.TokenRequest
}

func newWorld(t *testing.T) *world {
	t.Helper()
	box, err := azuretest.New(azuretest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{Box: box, api: kubetest.New(t), app: box.Tenant(tenantID).Application(clientID)}
	if w.cluster, err = box.Cluster(issuer); err != nil {
		t.Fatal(err)
	}
	w.vault = w.newVault(t, "vault.azure.net", "kv-contoso")
	w.setDriver("api://AzureADTokenExchange")
	w.setAccount("shop", "web", map[string]string{"azure.workload.identity/client-id": clientID})
	w.setClass(map[string]string{"keyvaultName": "kv-contoso", "tenantID": tenantID, "objects": "- {objectName: my-secret, objectType: secret, objectAlias: db/password, filePermission: \"0400\"}"})
	return w
}

func (w *world) mark(text string) string {
	mark := text + rand.Text()
	w.marks = append(w.marks, mark)
	return mark
}

// newVault is a vault with what the examples name.
func (w *world) newVault(t *testing.T, suffix, name string) *azuretest.Vault {
	t.Helper()
	v := w.VaultIn(suffix, name, w.Tenant(tenantID))
	v.Grant(clientID, azuretest.SecretsGet, azuretest.SecretsList, azuretest.KeysGet, azuretest.CertificatesGet)
	expires := time.Now().Add(100 * 24 * time.Hour)
	v.SetSecret("my-secret", azuretest.Secret{Value: w.mark("old")})
	v.SetSecret("my-secret", azuretest.Secret{Value: w.mark("value"), Expires: &expires, ContentType: "text/plain"})
	for _, s := range []string{"feature-search", "keystore-password", "payments-password", "payments-user", "session-key", "shared-secret", "worker-queue", "worker-token"} {
		v.SetSecret(s, azuretest.Secret{Value: w.mark("value")})
	}
	v.SetSecret("db", azuretest.Secret{Value: fmt.Sprintf(`{"username":%q,"password":%q}`, w.mark("u"), w.mark("p"))})
	v.SetSecret("appsettings", azuretest.Secret{Value: fmt.Sprintf(`{"logLevel":%q,"queue":%q}`, w.mark("l"), w.mark("q"))})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der := selfSigned(t, key, &key.PublicKey)
	v.SetCertificate("web-tls", azuretest.Certificate{DER: der, SecretValue: base64.StdEncoding.EncodeToString(azuretest.PFX(key, [][]byte{der}, false)), Expires: &expires})
	return v
}

func selfSigned(t *testing.T, key, public any) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "web"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (w *world) setDriver(audiences ...string) {
	driver := storagev1.CSIDriver{TypeMeta: metav1.TypeMeta{Kind: "CSIDriver", APIVersion: "storage.k8s.io/v1"}}
	for _, audience := range audiences {
		driver.Spec.TokenRequests = append(driver.Spec.TokenRequests, storagev1.TokenRequest{Audience: audience})
	}
	w.api.Put(driverPath, driver)
}

// setAccount makes a ServiceAccount, of which the API server issues tokens and which the
// application trusts.
func (w *world) setAccount(namespace, name string, annotations map[string]string) {
	path := "/api/v1/namespaces/" + namespace + "/serviceaccounts/" + name
	w.api.Put(path, corev1.ServiceAccount{
		TypeMeta: metav1.TypeMeta{Kind: "ServiceAccount", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Annotations: annotations}})
	pod := azuretest.Pod{Namespace: namespace, Name: "any", ServiceAccount: name}
	w.app.Federate(issuer, pod.Subject(), azuretest.TokenExchangeAudience)
	w.api.Handle(path+"/token", func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(err)
		}
		object, err := runtime.Decode(scheme.Codecs.UniversalDeserializer(), body)
		if err != nil {
			panic(err)
		}
		request := object.(*authenticationv1.TokenRequest)
		request.Kind, request.APIVersion = "TokenRequest", "authentication.k8s.io/v1"
		if request.Status.Token, err = w.cluster.Token(pod, request.Spec.Audiences[0], time.Duration(*request.Spec.ExpirationSeconds)*time.Second); err != nil {
			panic(err)
		}
		w.tokens = append(w.tokens, request)
		w.marks = append(w.marks, strings.Split(request.Status.Token, ".")[2])
		kubetest.Write(rw, http.StatusCreated, request)
	})
}

func (w *world) setClass(parameters map[string]string) {
	w.api.Put(classPath, map[string]any{"apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass",
		"metadata": map[string]any{"name": "web", "namespace": "shop"}, "spec": map[string]any{"provider": "azure", "parameters": parameters}})
}

// setSecret makes a Secret of namespace shop.
func (w *world) setSecret(namespace, name string, data map[string]string) {
	secret := corev1.Secret{TypeMeta: metav1.TypeMeta{Kind: "Secret", APIVersion: "v1"}, Data: make(map[string][]byte)}
	for key, value := range data {
		secret.Data[key] = []byte(value)
	}
	w.api.Put("/api/v1/namespaces/"+namespace+"/secrets/"+name, secret)
}

// said is what a command has printed, and its error.
type said struct {
	out, errOut string
	err         error
}

// preview runs the command line, and finds no mark in what it prints unless it shows a file.
func (w *world) preview(t *testing.T, line string, change ...func(*cli.Env)) said {
	t.Helper()
	var out, errOut bytes.Buffer
	env := cli.NewEnv(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &errOut})
	for _, f := range change {
		f(env)
	}
	cmd := newCommand(env, w.Transport())
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	cmd.SetArgs(append(strings.Fields(line), "--kubeconfig="+w.api.Kubeconfig))
	err := cmd.ExecuteContext(t.Context())
	s := said{out.String(), errOut.String(), err}
	if err == nil && strings.Contains(line, "--show") {
		return s
	}
	for where, text := range map[string]string{"output": s.out, "errors": s.errOut, "error": fmt.Sprint(err)} {
		for _, found := range azuretest.FindMarks([]byte(text), w.marks) {
			t.Errorf("preview %s: %s has %s", line, where, found)
		}
	}
	return s
}

// asMe lets the default chain of the SDK find the application as the user.
func (w *world) asMe(t *testing.T) {
	t.Helper()
	password := w.mark("password")
	w.app.AddSecret(password, time.Now().Add(time.Hour))
	t.Setenv("AZURE_TENANT_ID", tenantID)
	t.Setenv("AZURE_CLIENT_ID", clientID)
	t.Setenv("AZURE_CLIENT_SECRET", password)
}

// clientPFX is a certificate of the application with its key, in base64.
func (w *world) clientPFX(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der := selfSigned(t, key, &key.PublicKey)
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	w.app.AddCertificate(certificate)
	return base64.StdEncoding.EncodeToString(azuretest.PFX(key, [][]byte{der}, false))
}

// expanded writes a manifest of an example with values for its variables, and returns its path.
func expanded(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{"NAMESPACE": "default", "KEYVAULT_NAME": "kv-contoso", "OTHER_KEYVAULT_NAME": "kv-contoso-west",
		"TENANT_ID": tenantID, "CLIENT_ID": clientID, "CERTIFICATE_NAME": "web-tls"}
	path := filepath.Join(t.TempDir(), "class.yaml")
	if err := os.WriteFile(path, []byte(os.Expand(string(text), func(name string) string { return values[name] })), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
