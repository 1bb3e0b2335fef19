package azuretest_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/throttle"
)

// pipe sends requests to the fake.
type pipe struct{ http.RoundTripper }

func (p pipe) Do(req *http.Request) (*http.Response, error) { return p.RoundTrip(req) }

// The fake lists as Key Vault does: 25 on a page, with tags, and with what is behind a certificate.
func TestListOfObjects(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	w.vault.Revoke(clientID)
	w.vault.Grant(clientID, azuretest.SecretsList)
	for i := range 58 {
		w.vault.SetSecret(fmt.Sprintf("s-%02d", i), azuretest.Secret{Value: "v", Disabled: i == 3, Tags: map[string]string{"n": fmt.Sprint(i)}})
	}
	w.vault.SetSecret("sas", azuretest.Secret{Value: "v", ContentType: "application/vnd.ms-sastoken-storage", Token: true})
	w.vault.SetCertificate("tls", azuretest.Certificate{SecretValue: "v", Tags: map[string]string{"n": "60"}})
	r, err := keyvault.NewReader(keyvault.Config{Transport: pipe{transport(t, w.Box)}, Throttle: throttle.Config{Max: 1}, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	caller := keyvault.Caller{Token: request.Secret(w.token(t, "https://vault.azure.net")), Expires: time.Now().Add(time.Hour)}
	all, err := r.List(t.Context(), caller, "contoso.vault.azure.net", request.TypeSecret, keyvault.Freshness{})()
	if err != nil || len(all) != 61 || w.Count(azuretest.List) != 3 {
		t.Fatalf("%d objects with %d requests, %v", len(all), w.Count(azuretest.List), err)
	}
	if a, b, c := all[4], all[59], all[60]; a.Name != "s-03" || a.Enabled || a.Tags["n"] != "3" || b.Name != "sas" || b.Managed || c.Name != "tls" || !c.Managed || c.Tags["n"] != "60" {
		t.Errorf("got %v, %v, %v", a, b, c)
	}
}
