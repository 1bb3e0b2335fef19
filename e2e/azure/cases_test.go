package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/e2e/mounter"
	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/fault"

	"software.sslmate.com/src/go-pkcs12"
)

const issuer = "https://oidc.contoso.example/cluster/"

// fake is the subscription after the preparation, as a fake Azure.
type fake struct {
	t       *testing.T
	trial   *trial
	cluster *azuretest.Cluster
	mounter *mounter.Mounter
	api     *azuretest.APIServer
}

func newFake(t *testing.T) *fake {
	t.Helper()
	get := map[string]string{"AZURE_TENANT_ID": "11111111-2222-3333-4444-555555555555", "AZURE_SUBSCRIPTION_ID": nobody, "E2E_PREFIX": "abc"}
	s, err := fromEnvironment(func(name string) string { return get[name] })
	if err != nil {
		t.Fatal(err)
	}
	box, err := azuretest.New(azuretest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fake{t: t, trial: &trial{settings: s, values: s.values()}}
	f.prepare(box)
	if f.cluster, err = box.Cluster(issuer); err != nil {
		t.Fatal(err)
	}
	if f.api, err = f.cluster.APIServer(); err != nil {
		t.Fatal(err)
	}
	if f.mounter, err = mounter.New(box, f.api, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	return f
}

// prepare creates the identities, their credentials and the vaults.
func (f *fake) prepare(box *azuretest.Box) {
	s := f.trial.settings
	tenant := box.Tenant(s.tenant)
	clients := map[string]*azuretest.Application{}
	for i, name := range []string{"CLIENT_ID", "STRANGER_ID", "BARE_ID"} {
		clients[name] = tenant.Application(fmt.Sprintf("aaaaaaaa-0000-4000-8000-%012d", i))
		f.trial.values[name] = clients[name].ClientID()
	}
	box.IMDS().Assign(tenant.Application("aaaaaaaa-0000-4000-8000-00000000000f")) // kubelet's
	sound, stranger := clients["CLIENT_ID"], clients["STRANGER_ID"]
	federate := func(app *azuretest.Application, account, issuer, audience string) {
		app.Federate(issuer, "system:serviceaccount:default:"+account, audience)
	}
	federate(sound, accountSound, issuer, azuretest.TokenExchangeAudience)
	federate(stranger, accountNoRole, issuer, azuretest.TokenExchangeAudience)
	federate(stranger, accountWrongIssuer, "https://issuer.contoso.example/", azuretest.TokenExchangeAudience)
	federate(stranger, accountWrongAudience, issuer, "api://AnotherAudience")
	f.fill(box.Vault(s.vault, tenant), sound.ClientID())
	other := box.Vault(s.otherVault(), tenant)
	other.UseAccessPolicies(true)
	other.Grant(sound.ClientID(), azuretest.SecretsGet)
	other.SetSecret("my-secret", azuretest.Secret{Value: "Hello!"})
	box.Vault(s.closedVault(), tenant).SetFirewall("ForbiddenByFirewall")
	box.Vault(s.privateVault(), tenant).SetFirewall("ForbiddenByConnection")
}

// fill is what the preparation puts into the vault.
func (f *fake) fill(vault *azuretest.Vault, client string) {
	f.t.Helper()
	vault.Grant(client, azuretest.SecretsGet, azuretest.SecretsList, azuretest.KeysGet, azuretest.CertificatesGet)
	past, future := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
	vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello!"})
	vault.SetSecret("disabled", azuretest.Secret{Value: "off", Disabled: true})
	vault.SetSecret("expired", azuretest.Secret{Value: "old", Expires: &past})
	vault.SetSecret("early", azuretest.Secret{Value: "new", NotBefore: &future})
	rsaKey, rsaErr := rsa.GenerateKey(rand.Reader, 2048)
	ecKey, ecErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(rsaErr, ecErr); err != nil {
		f.t.Fatal(err)
	}
	vault.SetKey("rsa", azuretest.Key{Public: rsaKey.Public()})
	vault.SetKey("ec-256", azuretest.Key{Public: ecKey.Public()})
	vault.SetKey("ec-256k", azuretest.Key{Kty: "EC-256K"})
	vault.SetCertificate("pending", azuretest.Certificate{NotIssued: true})
	for name, key := range map[string]any{"web": rsaKey, "ec": ecKey, "pem": rsaKey} {
		certificate := azuretest.Certificate{}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: past, NotAfter: future}
		var public any = rsaKey.Public()
		if name == "ec" {
			public = ecKey.Public()
		}
		var err error
		if certificate.DER, err = x509.CreateCertificate(rand.Reader, template, template, public, key); err != nil {
			f.t.Fatal(err)
		}
		parsed, parseErr := x509.ParseCertificate(certificate.DER)
		pfx, pfxErr := pkcs12.Modern.Encode(key, parsed, nil, "")
		pkcs8, keyErr := x509.MarshalPKCS8PrivateKey(key)
		if err := errors.Join(parseErr, pfxErr, keyErr); err != nil {
			f.t.Fatal(err)
		}
		certificate.SecretValue = base64.StdEncoding.EncodeToString(pfx)
		if name == "pem" {
			certificate.ContentType = "application/x-pem-file"
			certificate.SecretValue = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})) +
				string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.DER}))
		}
		vault.SetCertificate(name, certificate)
	}
}

// mount mounts the class under one of the ServiceAccounts, and returns its only file.
func (f *fake) mount(class object, account, client string) (string, error) {
	f.t.Helper()
	annotations := map[string]string{}
	if client != "" {
		annotations["azure.workload.identity/client-id"] = client
	}
	f.api.SetServiceAccount("default", account, annotations)
	pod := azuretest.Pod{Namespace: "default", Name: "pod", ServiceAccount: account}
	token, err := f.cluster.Token(pod, azuretest.TokenExchangeAudience, time.Hour)
	if err != nil {
		f.t.Fatal(err)
	}
	text, err := json.Marshal(class)
	if err != nil {
		f.t.Fatal(err)
	}
	req, err := f.cluster.MountRequest(text, pod, map[string]string{azuretest.TokenExchangeAudience: token}, "/mnt")
	if err != nil {
		f.t.Fatal(err)
	}
	_, volume, err := f.mounter.Mount(f.t.Context(), req)
	if err != nil {
		return "", err
	}
	if len(volume.Files) != 1 {
		f.t.Fatalf("%d files", len(volume.Files))
	}
	return string(volume.Files[0].Content), nil
}

// A fake Azure that is prepared in the same way gives each case its reason.
func TestRefusals(t *testing.T) {
	f := newFake(t)
	for _, r := range f.trial.refusals() {
		t.Run(r.name, func(t *testing.T) {
			account := r.account
			if account == "" {
				account = accountSound
			}
			_, err := f.mount(f.trial.class(r.name, r.parameters, r.objects), account, f.trial.values[accounts[account]])
			if !fault.Is(err, r.want) {
				t.Errorf("got %v, want %s", err, r.want)
			}
		})
	}
}

// And each of the other cases the file that its pod prints of.
func TestMounts(t *testing.T) {
	f := newFake(t)
	begin := regexp.MustCompile(`-----BEGIN [A-Z ]*`)
	for _, m := range mounts {
		t.Run(m.name, func(t *testing.T) {
			got, err := f.mount(f.trial.class(m.name, f.trial.parametersOf(m), m.objects), accountSound, f.trial.values["CLIENT_ID"])
			if err != nil {
				t.Fatal(err)
			}
			if m.command == labels {
				got = strings.Join(begin.FindAllString(got, -1), "\n")
			}
			if got != m.prints {
				t.Errorf("prints %q, want %q", got, m.prints)
			}
		})
	}
}
