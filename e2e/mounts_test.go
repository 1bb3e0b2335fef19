package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"akv-csi-provider/e2e/mounter"
	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"

	corev1 "k8s.io/api/core/v1"
	classv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
	"sigs.k8s.io/secrets-store-csi-driver/pkg/util/secretutil"
	strictyaml "sigs.k8s.io/yaml"
	"software.sslmate.com/src/go-pkcs12"
)

const exampleIssuer = "https://oidc.contoso.example/cluster/"

// site is a fake Azure with what the examples expect, a cluster, and
// the plugin's mounter on a node of it.
type site struct {
	app     *azuretest.Application
	vault   *azuretest.Vault
	cluster *azuretest.Cluster
	api     *azuretest.APIServer
	proxy   *azuretest.TokenProxy
	mounter *mounter.Mounter
}

func newSite(t *testing.T, suffix string) *site {
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
	tenant := box.Tenant(values["TENANT_ID"])
	s := &site{app: tenant.Application(values["CLIENT_ID"])}
	vault := box.VaultIn(suffix, values["KEYVAULT_NAME"], tenant)
	s.vault = vault
	vault.Grant(values["CLIENT_ID"], azuretest.SecretsGet, azuretest.SecretsList)
	vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello?"})
	vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello!"})
	for _, secret := range vaultSecrets {
		vault.SetSecret(secret.name, azuretest.Secret{Value: secret.value})
	}
	vault.SetCertificate(values["CERTIFICATE_NAME"], selfSigned(t))
	other := box.VaultIn(suffix, values["OTHER_KEYVAULT_NAME"], tenant)
	other.Grant(values["CLIENT_ID"], azuretest.SecretsGet)
	other.SetSecret("shared-secret", azuretest.Secret{Value: "of all"})
	if s.cluster, err = box.Cluster(exampleIssuer); err != nil {
		t.Fatal(err)
	}
	if s.api, err = s.cluster.APIServer(); err != nil {
		t.Fatal(err)
	}
	s.proxy = s.api.TokenProxy("0123456789abcdef01234567")
	box.IMDS().Assign(s.app)
	if s.mounter, err = mounter.New(box, s.api, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	return s
}

// clientCertificate is that of an application, and clientPFX it with its key, in base64.
var clientCertificate, clientPFX = func() (*x509.Certificate, string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pfx, err := pkcs12.Modern.Encode(key, certificate, nil, "")
	if err != nil {
		panic(err)
	}
	return certificate, base64.StdEncoding.EncodeToString(pfx)
}()

func selfSigned(t *testing.T) azuretest.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "web.contoso.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return azuretest.Certificate{DER: der, ContentType: "application/x-pem-file", SecretValue: text}
}

// Every example mounts: the plugin signs in as its pod would and makes the files, and
// the driver's code makes of them the Kubernetes Secrets that the class wants.
func TestExamplesMount(t *testing.T) {
	classes, err := filepath.Glob("../deploy/examples/*/secretproviderclass.yaml")
	if err != nil || len(classes) < 14 {
		t.Fatalf("%d examples, %v", len(classes), err)
	}
	for _, file := range classes {
		folder := filepath.Dir(file)
		t.Run(filepath.Base(folder), func(t *testing.T) {
			all := readExample(t, folder)
			for name, class := range all["SecretProviderClass"] {
				suffix := "vault.azure.net"
				if class.Spec.Parameters["cloudName"] == "AzureUSGovernmentCloud" {
					suffix = "vault.usgovcloudapi.net"
				}
				mountExample(t, newSite(t, suffix), all, name)
			}
		})
	}
}

func mountExample(t *testing.T, s *site, all example, name string) {
	t.Helper()
	pod := azuretest.Pod{Namespace: values["NAMESPACE"], Name: name, ServiceAccount: name}
	s.api.SetServiceAccount(pod.Namespace, name, all["ServiceAccount"][name].Metadata.Annotations)
	s.app.Federate(exampleIssuer, pod.Subject(), entra.Audience)
	if secret := all["Secret"][name].StringData; secret != nil {
		if secret["clientsecret"] != "" {
			s.app.AddSecret(secret["clientsecret"], time.Now().Add(time.Hour))
		}
		s.app.AddCertificate(clientCertificate)
		pod.NodePublishSecret = secret
	}
	tokens := make(map[string]string)
	for _, audience := range []string{entra.Audience, azuretest.BindingAudience} {
		token, err := s.cluster.Token(pod, audience, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		tokens[audience] = token
	}
	for _, binding := range all["ClusterRoleBinding"] {
		for _, subject := range binding.Subjects {
			s.proxy.Bind(s.app, subject.Namespace, subject.Name)
		}
	}
	class := all["SecretProviderClass"][name]
	req, err := s.cluster.MountRequest(class.raw, pod, tokens, "/mnt")
	if err != nil {
		t.Fatal(err)
	}
	mount, volume, err := s.mounter.Mount(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	dir, paths := t.TempDir(), make(map[string]string)
	var made []string
	for _, f := range volume.Files {
		made = append(made, f.Path)
		paths[f.Path] = filepath.Join(dir, f.Path)
		if err := os.MkdirAll(filepath.Dir(paths[f.Path]), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(paths[f.Path], f.Content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if want := pathsOf(mount); !slices.Equal(made, want) {
		t.Errorf("files %q, want %q", made, want)
	}
	var typed classv1.SecretProviderClass
	if err := strictyaml.UnmarshalStrict(class.raw, &typed); err != nil {
		t.Fatal(err)
	}
	for _, object := range typed.Spec.SecretObjects {
		data, err := secretutil.GetSecretData(object.Data, corev1.SecretType(object.Type), paths)
		if err != nil || len(data) != len(object.Data) {
			t.Errorf("Secret %s: %d keys, %v", object.SecretName, len(data), err)
		}
	}
}
