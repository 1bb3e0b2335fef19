package cluster_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"software.sslmate.com/src/go-pkcs12"
)

// printed is what the pods of the examples print, as regular expressions. The others are in
// quickStart and secrets, but for two: the token proxy of identity-binding is a part of AKS, and the
// workload of ingress-tls serves the network.
var printed = map[string]string{
	"managed-identity":   "Hello!",
	"service-principal":  "Hello!",
	"client-certificate": "Hello!",
	"sovereign-cloud":    "Hello!",
	"several-versions":   "Hello!Hello!Hello[?]",
	"several-vaults":     "Hello!of all",
	"optional-objects":   "Hello!my-secret\n",
	"search":             "s3cretpayWORKER_QUEUE=orders\n",
	"json-pieces":        "apps3cretinfoorders",
	"certificate-pieces": `-rw-r--r-- .*/keystore\.p12\n-rw-r--r-- .*/tls\.crt\n-r-------- .*/tls\.key\n`,
	"documents":          "\\[database]\nuser = app\npassword = \"s3cret\"\n\n\\[features]\nsearch = on\n",
}

// examples mount unchanged from deploy/examples, and their pods see what they promise.
func (c *cluster) examples(t *testing.T) {
	for name, want := range printed {
		t.Run(name, func(t *testing.T) {
			if name == "managed-identity" && !setup.ManagedIdentity() {
				t.Skip(noManagedIdentity)
			}
			t.Parallel()
			p := c.newPlace(t)
			app := p.fill(t, name)
			p.apply(t, p.example(t, name, app.ClientID()))
			if got := p.output(t, name); !regexp.MustCompile(`^(` + want + `)$`).MatchString(got) {
				t.Errorf("the pod's log is %q, want %q", got, want)
			}
		})
	}
}

// fill gives the place what the examples expect in Azure, and the application of one of them.
func (p *place) fill(t *testing.T, example string) *azuretest.Application {
	t.Helper()
	suffix := "vault.azure.net"
	if example == "sovereign-cloud" {
		suffix = "vault.usgovcloudapi.net"
	}
	app := p.identity(example)
	app.AddSecret(clientSecret, time.Now().Add(time.Hour))
	app.AddCertificate(clientCertificate().certificate)
	p.box.IMDS().Assign(app)
	p.vault = p.box.VaultIn(suffix, p.vaultName, p.box.Tenant(tenant))
	p.vault.Grant(app.ClientID(), azuretest.SecretsGet, azuretest.SecretsList)
	p.vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello?", Created: time.Now().Add(-time.Hour)})
	for name, value := range map[string]string{
		"my-secret": "Hello!", "payments-user": "pay", "payments-password": "s3cret", "worker-queue": "orders",
		"db": `{"username": "app", "password": "s3cret"}`, "appsettings": `{"logLevel": "info", "queue": "orders"}`,
		"feature-search": "on", "keystore-password": "changeit",
	} {
		p.vault.SetSecret(name, azuretest.Secret{Value: value})
	}
	pair := newPair(t)
	p.vault.SetCertificate("web", azuretest.Certificate{DER: pair.der, SecretValue: base64.StdEncoding.EncodeToString(pair.pfx)})
	other := p.box.VaultIn(suffix, p.otherVault(), p.box.Tenant(tenant))
	other.Grant(app.ClientID(), azuretest.SecretsGet)
	other.SetSecret("shared-secret", azuretest.Secret{Value: "of all"})
	return app
}

// otherVault is the name of a second vault of the place.
func (p *place) otherVault() string { return p.vaultName + "-2" }

// signedIn is the certificate of applications that have one, and as a PFX in base64.
type signedIn struct {
	certificate *x509.Certificate
	pfx         string
}

var clientCertificate = sync.OnceValue(func() signedIn {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
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
	return signedIn{certificate, base64.StdEncoding.EncodeToString(pfx)}
})

// synced: the driver makes Kubernetes Secrets of files that are pieces, matches of a search or
// documents. Its pods stay, since the driver takes the content from a mounted volume.
func (c *cluster) synced(t *testing.T) {
	tlsSecret := func(data map[string][]byte) error {
		// The driver writes the key in another form than the file has.
		if crt, key := data["tls.crt"], data["tls.key"]; !bytes.HasPrefix(crt, []byte("-----BEGIN CERTIFICATE")) || !bytes.HasPrefix(key, []byte("-----BEGIN EC PRIVATE KEY")) {
			return fmt.Errorf("tls.crt has %d bytes, tls.key %d", len(crt), len(key))
		}
		return nil
	}
	text := func(want string) func(map[string][]byte) error {
		return func(data map[string][]byte) error {
			if got := fmt.Sprintf("%s", data); got != want {
				return fmt.Errorf("got %s, want %s", got, want)
			}
			return nil
		}
	}
	for _, s := range []struct {
		example, secretObjects string // in place of the example's, if any
		check                  func(map[string][]byte) error
	}{
		{"json-pieces", "", text("map[password:s3cret username:app]")},
		{"certificate-pieces", "", tlsSecret},
		{"search", "{objectName: payments/user, key: user}, {objectName: .env, key: env}", text("map[env:WORKER_QUEUE=orders\n user:pay]")},
		{"documents", "{objectName: app/config.ini, key: ini}", text("map[ini:[database]\nuser = app\npassword = \"s3cret\"\n\n[features]\nsearch = on\n]")},
		{"several-vaults", "{objectName: shared-secret, key: shared}", text("map[shared:of all]")},
		{"optional-objects", "{objectName: my-secret, key: mine}", text("map[mine:Hello!]")},
	} {
		t.Run(s.example, func(t *testing.T) {
			t.Parallel()
			p := c.newPlace(t)
			app := p.fill(t, s.example)
			class := p.exampleFile(t, s.example, app.ClientID(), "secretproviderclass.yaml")
			if s.secretObjects != "" {
				class += fmt.Sprintf("  secretObjects: [{secretName: %s, type: Opaque, data: [%s]}]\n", s.example, s.secretObjects)
			}
			p.apply(t, p.account(s.example, app.ClientID()), class, p.pod("stays", s.example, s.example, stay))
			p.ready(t, "stays")
			eventually(t, busy, "the Secret has its content", func(ctx context.Context) error {
				secret, err := p.client.CoreV1().Secrets(p.namespace).Get(ctx, s.example, metav1.GetOptions{})
				if err != nil {
					return err
				}
				return s.check(secret.Data)
			})
			if s.example == "certificate-pieces" {
				p.checkKeystores(t, "stays")
			}
		})
	}
}

// checkKeystores opens the keystores that a pod sees, whose password is in the vault.
func (p *place) checkKeystores(t *testing.T, pod string) {
	t.Helper()
	read := func(file string) []byte {
		out, err := p.exec(t.Context(), pod, "base64 /mnt/secrets/"+file)
		if err != nil {
			t.Fatal(err)
		}
		content, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(out, "\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	if _, leaf, _, err := pkcs12.DecodeChain(read("keystore.p12"), "changeit"); err != nil || leaf.Subject.CommonName != "web.contoso.example" {
		t.Error(errors.Join(err, errors.New("keystore.p12 is not that of the certificate")))
	}
	if got := read("keystore.jks"); !bytes.HasPrefix(got, []byte{0xfe, 0xed, 0xfe, 0xed}) {
		t.Errorf("keystore.jks begins with % x", got[:min(len(got), 4)])
	}
}
