package server_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/azuretest"
)

// A PFX that the provider cannot decode is converted by the vault. Where that is not possible
// either, the error has the cause of the first attempt.
func TestVaultConverts(t *testing.T) {
	w := newWorld(t, setup{mounter: func(m *provider.Mounter) { m.Render.SeparateFiles = true }})
	w.vault.Grant(clientID, azuretest.SecretsGet)
	c := newChain(t)
	text := base64.StdEncoding.EncodeToString(unknownPFX)
	w.vault.SetCertificate("tls", azuretest.Certificate{DER: c.leaf.Raw, SecretValue: text})
	pem, pfx := "[{objectName: tls, objectType: secret}]", "[{objectName: tls, objectType: secret, objectFormat: pfx}]"
	mount := func(pod, objects string) (map[string]string, error) {
		p := w.with(map[string]string{"objects": objects})
		p.Name = pod
		resp, err := w.mount(t, w.requestFor(t, "one.yaml", p, nil))
		if err != nil {
			return nil, err
		}
		return files(resp), nil
	}
	if got, err := mount("a", pem); err == nil || !strings.Contains(err.Error(), "is protected by an unsupported algorithm; ") || !strings.HasSuffix(err.Error(), "[ContentInvalid]") {
		t.Errorf("got %v %v", got, err)
	}
	w.vault.SetConverted("tls", certificatesPEM(c.root, c.issuer, c.leaf)+c.keyPEM(t))
	crt, key := certificatesPEM(c.leaf, c.issuer, c.root), c.keyPEM(t)
	for objects, file := range map[string]string{pem: key + crt, pfx: text} {
		got, err := mount("pod"+file[:5], objects)
		if err != nil || got["tls.crt"] != crt || got["tls.key"] != key || got["tls"] != file {
			t.Errorf("%s: got %v %v", objects, got, err)
		}
	}
	// What is wrong may be over at the next attempt: that is the error then.
	w.vault.SetFault(azuretest.Fault{Status: 429, Every: 2})
	w.vault.SetCertificate("tls", azuretest.Certificate{DER: c.leaf.Raw, SecretValue: text})
	if got, err := mount("z", pem); err == nil || !strings.HasSuffix(err.Error(), "[Throttled]") {
		t.Errorf("got %v %v", got, err)
	}
}

// What came from a failover vault is converted there: the first one does not answer.
func TestFailoverVaultConverts(t *testing.T) {
	w := newWorld(t, setup{})
	dr := w.Vault("contoso-dr", w.tenant)
	dr.Grant(clientID, azuretest.SecretsGet)
	c := newChain(t)
	dr.SetCertificate("tls", azuretest.Certificate{DER: c.leaf.Raw, SecretValue: base64.StdEncoding.EncodeToString(unknownPFX)})
	dr.SetConverted("tls", certificatesPEM(c.leaf)+c.keyPEM(t))
	w.vault.SetFault(azuretest.Fault{Status: 503})
	p := w.with(map[string]string{"objects": "[{objectName: tls, objectType: secret, failoverKeyvaultName: contoso-dr}]"})
	resp, err := w.mount(t, w.requestFor(t, "one.yaml", p, nil))
	if want := c.keyPEM(t) + certificatesPEM(c.leaf); err != nil || files(resp)["tls"] != want {
		t.Errorf("got %q, %v", files(resp), err)
	}
}
