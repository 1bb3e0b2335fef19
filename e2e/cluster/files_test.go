package cluster_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"software.sslmate.com/src/go-pkcs12"
)

// files are what each kind of object becomes, as a container sees it that is not root: mode,
// owner and content.
func (c *cluster) files(t *testing.T) {
	p := c.newPlace(t)
	app := p.identity("app")
	p.vault.Grant(app.ClientID(), azuretest.SecretsGet, azuretest.SecretsList, azuretest.KeysGet, azuretest.CertificatesGet)
	first := p.vault.SetSecret("text", azuretest.Secret{Value: "older", Created: time.Now().Add(-time.Hour)})
	p.vault.SetSecret("text", azuretest.Secret{Value: "newer"})
	p.vault.SetSecret("blob", azuretest.Secret{Value: base64.StdEncoding.EncodeToString([]byte{0, 1, 0xff})})
	pair := newPair(t)
	p.vault.SetKey("signing", azuretest.Key{Public: pair.key.Public()})
	p.vault.SetCertificate("web", azuretest.Certificate{DER: pair.der, SecretValue: base64.StdEncoding.EncodeToString(pair.pfx)})

	p.apply(t, p.account("app", app.ClientID()),
		p.class("files", "text",
			"objectName: text, objectType: secret, objectAlias: before, objectVersion: "+first,
			"objectName: text, objectType: secret, objectAlias: history, objectVersionHistory: 2",
			"objectName: blob, objectType: secret, objectEncoding: base64, filePermission: \"0444\"",
			"objectName: signing, objectType: key, objectAlias: keys/signing.pem, filePermission: \"0444\"",
			"objectName: web, objectType: cert, objectAlias: web.crt",
			"objectName: web, objectType: secret, objectAlias: web.pem",
			"objectName: web, objectType: secret, objectAlias: web.pfx, objectFormat: pfx, objectEncoding: base64",
			"objectName: text, objectType: secret, objectAlias: private, filePermission: \"0400\""),
		p.podWith("files", "app", "files",
			`exec 2>&1; id -u; cd /mnt/secrets; for f in $(find -L . -type f ! -path './..*' | sort); do echo "$f $(stat -Lc '%a %u:%g' $f) $(cat $f 2>/dev/null | sha256sum | cut -c1-64)"; done; cat private; touch new`,
			"securityContext: {runAsUser: 1000, runAsGroup: 1000, runAsNonRoot: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}"))

	private, err := x509.MarshalPKCS8PrivateKey(pair.key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(pair.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	certificate := block("CERTIFICATE", pair.der)
	want := "1000\n" + strings.Join([]string{
		line("./before", "644", "older"),
		line("./blob", "444", "\x00\x01\xff"),
		line("./history/0", "644", "newer"),
		line("./history/1", "644", "older"),
		line("./keys/signing.pem", "444", block("PUBLIC KEY", public)),
		line("./private", "400", ""), // which this user may not read
		line("./text", "644", "newer"),
		line("./web.crt", "644", certificate),
		line("./web.pem", "644", block("PRIVATE KEY", private)+certificate),
		line("./web.pfx", "644", string(pair.pfx)),
	}, "")
	var got string
	eventually(t, busy, "the pod ended", func(ctx context.Context) error {
		pod, err := p.getPod(ctx, "files")
		if err != nil {
			return err
		}
		if pod.Status.Phase != "Failed" { // touch cannot succeed
			return fmt.Errorf("phase %s", pod.Status.Phase)
		}
		got, err = p.log(ctx, "files")
		return err
	})
	refused := "cat: can't open 'private': Permission denied\ntouch: new: Read-only file system\n"
	if got != want+refused {
		t.Errorf("got\n%s\nwant\n%s", got, want+refused)
	}
}

// line is what the script prints of a file that belongs to root.
func line(path, mode, content string) string {
	sum := sha256.Sum256([]byte(content))
	return fmt.Sprintf("%s %s 0:0 %s\n", path, mode, hex.EncodeToString(sum[:]))
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// pair is a key with its certificate, and both as Key Vault stores them.
type pair struct {
	key      *ecdsa.PrivateKey
	der, pfx []byte
}

func newPair(t *testing.T) pair {
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
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pfx, err := pkcs12.Modern.Encode(key, certificate, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	return pair{key, der, pfx}
}

// secrets are what the driver makes of secretObjects: in the pods' environment, owned by
// what owns the pods, and gone with the last of them.
func (c *cluster) secrets(t *testing.T) {
	p := c.newPlace(t)
	app := p.identity("environment")
	p.vault.Grant(app.ClientID(), azuretest.SecretsGet)
	p.vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello!"})
	p.apply(t, p.example(t, "environment", app.ClientID()))
	get := func(ctx context.Context) (value, owner string, err error) {
		s, err := p.client.CoreV1().Secrets(p.namespace).Get(ctx, "environment", metav1.GetOptions{})
		if err != nil {
			return "", "", err
		}
		for _, o := range s.OwnerReferences {
			owner += o.Kind + " "
		}
		return string(s.Data["GREETING"]), owner, nil
	}
	eventually(t, busy, "the Secret has its value and its owner", func(ctx context.Context) error {
		value, owner, err := get(ctx)
		if err == nil && (value != "Hello!" || owner != "ReplicaSet ") {
			err = fmt.Errorf("value %q, owners %q", value, owner)
		}
		return err
	})
	p.kubectl(t, "-n", p.namespace, "rollout", "status", "deployment/environment", "--timeout="+busy.String())
	if got := strings.TrimSpace(p.kubectl(t, "-n", p.namespace, "logs", "deployment/environment")); got != "Hello!" {
		t.Errorf("the pod printed %q, want Hello!", got)
	}
	p.kubectl(t, "-n", p.namespace, "delete", "deployment", "environment", "--wait=false")
	eventually(t, busy, "the Secret is deleted with the last pod", func(ctx context.Context) error {
		_, _, err := get(ctx)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("it is there"), err)
	})
}

// isolation: two namespaces with the same names in them get each their own; a pod whose
// service account merely names another's identity gets nothing.
func (c *cluster) isolation(t *testing.T) {
	mine, other := c.newPlace(t), c.newPlace(t)
	for _, p := range []*place{mine, other} {
		app := p.identity("app")
		p.vault.Grant(app.ClientID(), azuretest.SecretsGet)
		p.vault.SetSecret("password", azuretest.Secret{Value: "of " + p.namespace})
		p.apply(t, p.account("app", app.ClientID()), p.class("app", "password"), p.pod("app", "app", "app", "cat /mnt/secrets/password"))
	}
	for _, p := range []*place{mine, other} {
		if got := p.output(t, "app"); got != "of "+p.namespace {
			t.Errorf("a pod in %s read %q", p.namespace, got)
		}
	}
	thief := c.newPlace(t)
	victim := mine.identity("victim")
	mine.vault.Grant(victim.ClientID(), azuretest.SecretsGet)
	thief.vaultName = mine.vaultName
	mine.apply(t, mine.account("victim", victim.ClientID()), mine.pod("victim", "victim", "app", stay))
	mine.ready(t, "victim") // what it read is in the plugin's memory now
	thief.apply(t, thief.account("victim", victim.ClientID()), thief.class("app", "password"), thief.pod("victim", "victim", "app", stay))
	event := thief.refused(t, "victim", "FederatedCredentialMissing")
	if !strings.Contains(event, "system:serviceaccount:"+thief.namespace+":victim") {
		t.Errorf("the event does not name the pod's own subject: %s", event)
	}
}
