package chart_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// environment is that of the container where everything is set.
func environment(t *testing.T) map[string]string {
	t.Helper()
	sets, _ := objects(t, "testdata/everything.golden")
	env := make(map[string]string)
	for _, e := range sets["akv-csi"].Spec.Template.Spec.Containers[0].Env {
		env[e.Name] = e.Value
	}
	return env
}

func TestEnvironment(t *testing.T) {
	env := environment(t)
	for name, want := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.monitoring.svc:4318",
		"AZURE_ENVIRONMENT_FILEPATH":  "/etc/stack/environment.json",
		"GOGC":                        "50",
	} {
		if env[name] != want {
			t.Errorf("%s=%q, want %q", name, env[name], want)
		}
	}
	if file, ok := env["SSL_CERT_FILE"]; ok {
		t.Errorf("SSL_CERT_FILE=%s replaces the public CAs", file)
	}
}

// Go reads the proxy's environment once in a process: this is the only test that depends on it.
func TestProxy(t *testing.T) {
	env := environment(t)
	t.Setenv("HTTPS_PROXY", env["HTTPS_PROXY"])
	t.Setenv("NO_PROXY", strings.ReplaceAll(env["NO_PROXY"], "$(KUBERNETES_SERVICE_HOST)", "10.96.0.1"))
	for url, proxied := range map[string]bool{
		"https://login.microsoftonline.com/":     true,
		"https://kv-contoso.vault.azure.net/":    true,
		"https://172.20.0.1/":                    true,
		"https://10.96.0.1:443/api":              false,
		"https://169.254.169.254/metadata":       false,
		"https://kubernetes.default.svc/api":     false,
		"https://collector.monitoring.svc:4318/": false,
		"https://x.default.svc.cluster.local/":   false,
		"https://vault.corp.example/":            false,
	} {
		req, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if proxy, err := http.ProxyFromEnvironment(req); err != nil || (proxy != nil) != proxied {
			t.Errorf("%s: by %v, %v", url, proxy, err)
		}
	}
}

// With SSL_CERT_DIR at a ConfigMap, Go trusts its CA and the public ones. It reads CAs
// once in a process: no other test here may.
func TestExtraCA(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SSL_CERT_DIR is for Linux")
	}
	sets, _ := objects(t, "testdata/everything.golden")
	dir := environment(t)["SSL_CERT_DIR"]
	mounted := ""
	for _, m := range sets["akv-csi"].Spec.Template.Spec.Containers[0].VolumeMounts {
		if m.Name == "ca" {
			mounted = m.MountPath
		}
	}
	if dir == "" || dir != mounted {
		t.Fatalf("SSL_CERT_DIR=%q, mounted at %q", dir, mounted)
	}

	own := newCA(t)
	volume := t.TempDir() // as kubelet lays out a ConfigMap
	if err := os.Mkdir(filepath.Join(volume, "..1"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Raw})
	if err := os.WriteFile(filepath.Join(volume, "..1", "ca.crt"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"..data": "..1", "ca.crt": "..data/ca.crt"} {
		if err := os.Symlink(target, filepath.Join(volume, link)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SSL_CERT_DIR", volume)
	t.Setenv("SSL_CERT_FILE", "")
	pool, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	trusted := func(ca *x509.Certificate) {
		t.Helper()
		at := ca.NotBefore.Add(ca.NotAfter.Sub(ca.NotBefore) / 2)
		if _, err := ca.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			t.Errorf("%s: %v", ca.Subject, err)
		}
	}
	trusted(own)

	const image = "/etc/ssl/certs/ca-certificates.crt" // the image has it there
	public, err := os.ReadFile(image)
	if err != nil {
		t.Skip("no public CAs on this machine: ", err)
	}
	block, _ := pem.Decode(public)
	if block == nil {
		t.Fatalf("no certificate in %s", image)
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	trusted(ca)
}

func newCA(t *testing.T) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a proxy that inspects"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}
