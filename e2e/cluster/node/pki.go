package node

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificate is one of the cluster's, for a client or a server.
type certificate struct {
	name         string // of its files
	user, group  string // common name and organization, which the API server takes for user and group
	server       bool
	hosts        []string
	withKubeconf bool
}

var certificates = []certificate{
	{name: "apiserver", user: "kube-apiserver", server: true, hosts: []string{
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		"127.0.0.1", apiServer, address,
	}},
	{name: "apiserver-kubelet-client", user: "kube-apiserver-kubelet-client", group: "system:masters"},
	{name: "admin", user: "admin", group: "system:masters", withKubeconf: true},
	{name: "controller-manager", user: "system:kube-controller-manager", withKubeconf: true},
	{name: "scheduler", user: "system:kube-scheduler", withKubeconf: true},
	{name: "kubelet", user: "system:node:" + Name, group: "system:nodes", withKubeconf: true},
}

// writePKI makes a CA, the certificates and kubeconfigs of the cluster's parts, and the key
// that signs service-account tokens, unless they are there from before.
func writePKI(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "sa.pub")); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := template("akv-csi-provider e2e CA", "")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, "ca.crt"), "CERTIFICATE", der); err != nil {
		return err
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	for _, c := range certificates {
		if err := c.write(dir, ca, key); err != nil {
			return fmt.Errorf("certificate %s: %w", c.name, err)
		}
	}
	return writeTokenKey(dir)
}

func (c certificate) write(dir string, ca *x509.Certificate, signer crypto.Signer) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := template(c.user, c.group)
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if c.server {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	for _, h := range c.hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca, key.Public(), signer)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	base := filepath.Join(dir, c.name)
	err = errors.Join(writePEM(base+".crt", "CERTIFICATE", der), writePEM(base+".key", "PRIVATE KEY", private))
	if err != nil || !c.withKubeconf {
		return err
	}
	return os.WriteFile(base+".kubeconfig", fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: e2e, cluster: {server: "https://%s:443", certificate-authority: %s}}]
users: [{name: e2e, user: {client-certificate: %s.crt, client-key: %[3]s.key}}]
contexts: [{name: e2e, context: {cluster: e2e, user: e2e}}]
current-context: e2e
`, apiServer, filepath.Join(dir, "ca.crt"), base), 0o600)
}

func writeTokenKey(dir string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return errors.Join(
		writePEM(filepath.Join(dir, "sa.key"), "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)),
		writePEM(filepath.Join(dir, "sa.pub"), "PUBLIC KEY", public))
}

func template(name, organization string) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	if organization != "" {
		t.Subject.Organization = []string{organization}
	}
	return t
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
