package e2e_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	shwords "mvdan.cc/sh/v3/shell"
	classv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
	"sigs.k8s.io/secrets-store-csi-driver/pkg/util/secretutil"
	strictyaml "sigs.k8s.io/yaml"
	"software.sslmate.com/src/go-pkcs12"
)

// hardPassword has characters that each of the formats must escape, and storePassword some that
// properties must.
const (
	hardPassword  = "p:a\\ss'w\"o$rd #1&<é +%"
	storePassword = `change\it:1`
)

// applications are the volume that each class of testdata/applications must make, read as the
// application reads it.
var applications = map[string]func(v volume){
	"postgresql": func(v volume) {
		field := strings.NewReplacer(`\:`, ":", `\\`, `\`)
		host, rest, _ := strings.Cut(strings.TrimSuffix(v.text(".pgpass"), "\n"), ":5432:*:orders:")
		v.equal(field.Replace(rest), hardPassword)
		v.equal(host, "db.contoso.example")
		v.trusts("root.crt")
	},
	"nginx": func(v volume) {
		v.serves("tls.crt", "tls.key")
		v.trusts("client-ca.crt")
	},
	"spring-boot": func(v volume) {
		v.equal(v.text("tree/server/ssl/key-store-password"), storePassword)
		keys := v.jks("keystore.jks")
		entry, err := keys.GetPrivateKeyEntry("certificate", []byte(storePassword)) // of the key, the password is the same
		if err != nil || len(entry.CertificateChain) != 2 {
			v.Errorf("%d certificates, %v", len(entry.CertificateChain), err)
		}
		if authorities := v.jks("truststore.jks"); !authorities.IsTrustedCertificateEntry("ca") || !authorities.IsTrustedCertificateEntry("ca-1") {
			v.Errorf("the truststore has %q", authorities.Aliases())
		}
		v.equal(v.text("application.properties"), `server.port=8443`+"\n"+`spring.datasource.password=p\:a\\ss'w"o$rd \#1&<\u00E9 +%`+"\n")
	},
	"dotnet": func(v volume) {
		var settings map[string]string
		v.check(json.Unmarshal([]byte(v.text("appsettings.secrets.json")), &settings))
		v.equal(settings["ConnectionStrings:Default"], "Server=db;Password="+hardPassword)
		v.equal(settings["Smtp:Password"], hardPassword)
	},
	"kafka": func(v volume) {
		v.serves("client.pem", "client.pem")
		if !strings.HasPrefix(v.text("client.pem"), "-----BEGIN PRIVATE KEY-----\n") { // which it reads first, as PKCS#8
			v.Errorf("the key is not the first of client.pem")
		}
		_, leaf, issuers, err := pkcs12.DecodeChain([]byte(v.text("client.p12")), storePassword)
		if err != nil || leaf.Subject.CommonName != "web.contoso.example" || len(issuers) != 1 {
			v.Errorf("client.p12: %v", err)
		}
		if authorities, err := pkcs12.DecodeTrustStore([]byte(v.text("ca.p12")), storePassword); err != nil || len(authorities) != 2 {
			v.Errorf("ca.p12: %d, %v", len(authorities), err)
		}
		if !strings.Contains(v.text("client.properties"), "\nssl.keystore.password=change\\\\it:1\n") {
			v.Errorf("client.properties: %q", v.text("client.properties"))
		}
	},
	"worker": func(v volume) {
		fields := make(map[string]string) // as a shell reads them
		for line := range strings.Lines(v.text(".env")) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			words, err := shwords.Fields(value, func(string) string { return "EXPANDED" })
			if v.check(err); len(words) == 1 {
				fields[name] = words[0]
			}
		}
		v.equal(fields["DB_PASSWORD"], hardPassword)
		v.equal(fields["QUEUE"], "orders")
	},
	"mongodb": func(v volume) {
		v.trusts("ca.pem")
		v.serves("client.pem", "client.pem")
		uri, err := url.Parse(v.text("uri"))
		if v.check(err); err == nil {
			password, _ := uri.User.Password()
			v.equal(password, hardPassword)
		}
	},
	"istio-gateway": func(v volume) {
		v.serves("tls.crt", "tls.key")
		v.trusts("ca.crt")
		v.synced("tls.crt", "tls.key", "ca.crt")
	},
	"grafana": func(v volume) {
		var file struct {
			Datasources []struct {
				User   string
				Secure struct{ Password, TLSCACert string } `yaml:"secureJsonData"`
			}
		}
		v.check(yaml.Unmarshal([]byte(strings.ReplaceAll(v.text("datasources/orders.yaml"), "tlsCACert", "tlscacert")), &file))
		if len(file.Datasources) != 1 {
			v.Fatalf("got %q", v.text("datasources/orders.yaml"))
		}
		v.equal(strings.ReplaceAll(file.Datasources[0].Secure.Password, "$$", "$"), hardPassword)
		v.files["the certificate in it"] = []byte(file.Datasources[0].Secure.TLSCACert)
		v.trusts("the certificate in it")
	},
	"gitlab-runner": func(v volume) {
		var tokens []string // a string of TOML with these characters is one of JSON
		for line := range strings.Lines(v.text("config.toml")) {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), "token = "); ok {
				var token string
				v.check(json.Unmarshal([]byte(value), &token))
				tokens = append(tokens, token)
			}
		}
		v.equal(strings.Join(tokens, "|"), "glrt-abc|glrt-"+hardPassword)
		v.trusts("ca.crt")
	},
}

// The classes of ten applications have what the applications read.
func TestApplications(t *testing.T) {
	text, err := os.ReadFile("testdata/applications.yaml")
	if err != nil {
		t.Fatal(err)
	}
	pfx, authorities := newAuthorities(t)
	s := newSite(t, "vault.azure.net")
	for name, value := range map[string]string{
		"orders-db":                        asJSON(t, map[string]any{"host": "db.contoso.example", "port": 5432, "username": "orders", "password": hardPassword, "ca-bundle": authorities}),
		"ca-bundle":                        authorities,
		"keystore-password":                storePassword,
		"spring":                           asJSON(t, map[string]any{"spring.datasource.password": hardPassword, "server.port": 8443}),
		"Shop--ConnectionStrings--Default": "Server=db;Password=" + hardPassword,
		"Shop--Smtp--Password":             hardPassword,
		"runner-arm":                       "glrt-abc",
		"runner-linux":                     "glrt-" + hardPassword,
		"worker-db-password":               hardPassword,
	} {
		s.vault.SetSecret(name, azuretest.Secret{Value: value})
	}
	s.vault.SetSecret("web-tls-pfx", azuretest.Secret{Value: pfx, ContentType: "application/x-pkcs12"})
	classes := strings.Split(string(text), "---\n")[1:]
	if len(classes) != len(applications) {
		t.Fatalf("%d classes", len(classes))
	}
	for _, text := range classes {
		var class classv1.SecretProviderClass
		if err := strictyaml.UnmarshalStrict([]byte(text), &class); err != nil {
			t.Fatal(err)
		}
		t.Run(class.Name, func(t *testing.T) {
			applications[class.Name](volume{t, class, s.mount(t, class.Name, text), authorities})
		})
	}
}

// mount returns the files of a class.
func (s *site) mount(t *testing.T, name, class string) map[string][]byte {
	t.Helper()
	pod := azuretest.Pod{Namespace: "default", Name: name, ServiceAccount: name}
	s.app.Federate(exampleIssuer, pod.Subject(), entra.Audience)
	token, err := s.cluster.Token(pod, entra.Audience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	req, err := s.cluster.MountRequest([]byte(class), pod, map[string]string{entra.Audience: token}, "/mnt")
	if err != nil {
		t.Fatal(err)
	}
	mount, made, err := s.mounter.Mount(t.Context(), req)
	if err != nil || len(mount.Warnings) > 0 {
		t.Fatalf("%v %v", mount, err)
	}
	files := make(map[string][]byte)
	for _, f := range made.Files {
		files[f.Path] = f.Content
	}
	return files
}

// volume is what an application finds.
type volume struct {
	*testing.T
	class       classv1.SecretProviderClass
	files       map[string][]byte
	authorities string // in PEM
}

func (v volume) text(path string) string {
	v.Helper()
	content, ok := v.files[path]
	if !ok {
		v.Errorf("no file %s", path)
	}
	return string(content)
}

func (v volume) check(err error) {
	v.Helper()
	if err != nil {
		v.Error(err)
	}
}

func (v volume) equal(got, want string) {
	v.Helper()
	if got != want {
		v.Errorf("got  %q\nwant %q", got, want)
	}
}

// serves checks a certificate with its key: a client that knows only the root must accept it.
func (v volume) serves(certificate, key string) {
	v.Helper()
	pair, err := tls.X509KeyPair([]byte(v.text(certificate)), []byte(v.text(key)))
	if err != nil {
		v.Fatal(err)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(v.authorities))
	intermediates.AppendCertsFromPEM([]byte(v.text(certificate)))
	_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, DNSName: "web.contoso.example"})
	v.check(err)
}

func (v volume) trusts(path string) {
	v.Helper()
	v.equal(strings.TrimSpace(v.text(path)), strings.TrimSpace(v.authorities))
}

func (v volume) jks(path string) keystore.KeyStore {
	v.Helper()
	store := keystore.New()
	if err := store.Load(bytes.NewReader([]byte(v.text(path))), []byte(storePassword)); err != nil {
		v.Fatal(err)
	}
	return store
}

// synced checks what the driver makes of the class's one Kubernetes Secret.
func (v volume) synced(keys ...string) {
	v.Helper()
	dir, paths := v.TempDir(), make(map[string]string)
	for path, content := range v.files {
		paths[path] = filepath.Join(dir, path)
		v.check(os.WriteFile(paths[path], content, 0o600))
	}
	object := v.class.Spec.SecretObjects[0]
	data, err := secretutil.GetSecretData(object.Data, corev1.SecretType(object.Type), paths)
	v.check(err)
	for _, key := range keys {
		v.equal(string(data[key]), v.text(key))
	}
	// kubernetes.io/tls is for certificate and key alone.
	if _, err := secretutil.GetSecretData(object.Data, corev1.SecretTypeTLS, paths); err == nil || !strings.Contains(err.Error(), "'ca.crt' is not supported") {
		v.Errorf("a Secret of type kubernetes.io/tls: %v", err)
	}
}

func asJSON(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// newAuthorities returns a certificate with its key and an intermediate as a PFX in base64, and
// a bundle of its root and another one in PEM.
func newAuthorities(t *testing.T) (pfx, authorities string) {
	t.Helper()
	var (
		parent *x509.Certificate
		signer *ecdsa.PrivateKey
		chain  []*x509.Certificate
	)
	issue := func(name string, ca bool) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(len(name))), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: ca, BasicConstraintsValid: true}
		if parent == nil {
			parent, signer = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		if parent, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		signer, chain = key, append([]*x509.Certificate{parent}, chain...)
	}
	issue("another-root", true)
	other := chain[0]
	parent, chain = nil, nil
	issue("root", true)
	issue("intermediate", true)
	issue("web.contoso.example", false)
	raw, err := pkcs12.Modern.Encode(signer, chain[0], chain[1:], "")
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range []*x509.Certificate{chain[2], other} {
		authorities += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}))
	}
	return base64.StdEncoding.EncodeToString(raw), authorities
}
