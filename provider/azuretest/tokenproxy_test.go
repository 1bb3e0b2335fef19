package azuretest_test

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"akv-csi-provider/provider/azuretest"
)

const clusterID = "696995ccb303450001b31a18"

var vaultScope = policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}}

// bound is a world whose pod may act as the application by an identity binding, and in no other way.
func bound(t *testing.T) (w *world, p *azuretest.TokenProxy, credentials string) {
	t.Helper()
	w = newWorld(t, azuretest.Options{})
	w.app.Unfederate()
	s, dir := w.apiServer(t)
	p = s.TokenProxy(clusterID)
	p.Bind(w.app, w.pod.Namespace, w.pod.ServiceAccount)
	return w, p, dir
}

// atProxy are SDK options that send requests for Entra to the token proxy: the URL changes, the Host
// header does not.
func (w *world) atProxy(t testing.TB, p *azuretest.TokenProxy, dir string) azcore.ClientOptions {
	t.Helper()
	s, err := w.cluster.APIServer()
	if err != nil {
		t.Fatal(err)
	}
	return through(changed{clusterTransport(t, dir, p.SNIName()), func(r *http.Request) { r.URL.Host = s.Addr() }})
}

func (w *world) bindingToken() (string, error) {
	return w.cluster.Token(w.pod, azuretest.BindingAudience, time.Hour)
}

func TestIdentityBindingReadsASecret(t *testing.T) {
	w, p, dir := bound(t)
	c := w.credential(t, w.atProxy(t, p, dir), w.bindingToken)
	if _, err := secretsClient(t, w.vault.URL(), c, through(transport(t, w.Box))).GetSecret(t.Context(), "my-secret", "", nil); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []azuretest.Kind{azuretest.Metadata, azuretest.Token} {
		if noted := last(w.Requests(), kind); noted.Host != p.SNIName() || noted.Status != http.StatusOK || w.Count(kind) != 1 {
			t.Errorf("%s: %d, last %+v", kind, w.Count(kind), noted)
		}
	}
	if w.Count(azuretest.Issuer) != 0 {
		t.Error("the proxy fetched the cluster's keys")
	}
	w.SetOutage(true)
	if _, err := w.credential(t, w.atProxy(t, p, dir), w.bindingToken).GetToken(t.Context(), vaultScope); err == nil {
		t.Error("signed in during an outage of Azure")
	}
}

// azidentity's own client of the proxy, as AKS's webhook configures it in pods.
func TestWorkloadIdentityCredentialAtTheProxy(t *testing.T) {
	w, p, dir := bound(t)
	s, err := w.cluster.APIServer()
	if err != nil {
		t.Fatal(err)
	}
	assertion, err := w.bindingToken()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "azure-identity-token")
	if err := os.WriteFile(file, []byte(assertion), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AZURE_KUBERNETES_TOKEN_PROXY", "https://"+s.Addr())
	t.Setenv("AZURE_KUBERNETES_SNI_NAME", p.SNIName())
	t.Setenv("AZURE_KUBERNETES_CA_FILE", filepath.Join(dir, "ca.crt"))
	c, err := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
		ClientID: clientID, TenantID: tenantID, TokenFilePath: file, EnableAzureProxy: true, DisableInstanceDiscovery: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.GetToken(t.Context(), vaultScope); err != nil {
		t.Fatal(err)
	}
}

func TestTokenProxyRefusals(t *testing.T) {
	claims := func(w *world, change func(c map[string]any)) func() (string, error) {
		return func() (string, error) {
			c, err := w.cluster.Claims(w.pod, azuretest.BindingAudience, time.Hour)
			if err != nil {
				return "", err
			}
			change(c)
			return w.cluster.Sign(c)
		}
	}
	for _, c := range []struct {
		name   string
		number int
		status int
		oauth  string
		says   string
		setup  func(w *world) func() (string, error)
	}{
		{"another service account", 700213, 401, "invalid_client", "subject 'system:serviceaccount:shop:other'",
			func(w *world) func() (string, error) { w.pod.ServiceAccount = "other"; return w.bindingToken }},
		{"audience of workload identity", 700212, 401, "invalid_client", "audience 'api://AzureADTokenExchange'",
			func(w *world) func() (string, error) { return nil }},
		{"another cluster's token", 700211, 401, "invalid_client", "issuer 'https://other.example/'",
			func(w *world) func() (string, error) {
				return func() (string, error) {
					other, err := w.Cluster("https://other.example/")
					if err != nil {
						return "", err
					}
					return other.Token(w.pod, azuretest.BindingAudience, time.Hour)
				}
			}},
		{"forged", 50013, 401, "invalid_client", "Assertion failed signature validation",
			func(w *world) func() (string, error) {
				return func() (string, error) {
					c, err := w.cluster.Claims(w.pod, azuretest.BindingAudience, time.Hour)
					if err != nil {
						return "", err
					}
					return w.cluster.ForgedToken(c, false)
				}
			}},
		{"expired", 700024, 401, "invalid_client", "not within its valid time range",
			func(w *world) func() (string, error) {
				return claims(w, func(c map[string]any) { c["exp"] = time.Now().Add(-time.Second).Unix() })
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, p, dir := bound(t)
			assertion := c.setup(w)
			_, err := w.credential(t, w.atProxy(t, p, dir), assertion).GetToken(t.Context(), vaultScope)
			response := refused(t, err)
			checkRefusal(t, response, c.status, c.oauth, c.number, c.says)
		})
	}
	t.Run("no binding", func(t *testing.T) {
		w, p, dir := bound(t)
		const unbound = "dddddddd-bbbb-cccc-dddd-eeeeeeeeeeee"
		w.tenant.Application(unbound).Federate(issuer, w.pod.Subject(), azuretest.BindingAudience)
		c, err := azidentity.NewClientAssertionCredential(tenantID, unbound,
			func(context.Context) (string, error) { return w.bindingToken() },
			&azidentity.ClientAssertionCredentialOptions{ClientOptions: w.atProxy(t, p, dir), DisableInstanceDiscovery: true})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.GetToken(t.Context(), vaultScope)
		checkRefusal(t, refused(t, err), 401, "invalid_client", 700213, "subject 'system:serviceaccount:shop:reader'")
	})
}

// The proxy passes on metadata and tokens only, and only for assertions.
func TestTokenProxyServesLittle(t *testing.T) {
	w, p, dir := bound(t)
	w.app.AddSecret("good", time.Time{})
	s, err := w.cluster.APIServer()
	if err != nil {
		t.Fatal(err)
	}
	rt := clusterTransport(t, dir, p.SNIName())
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {clientID}, "client_secret": {"good"}, "scope": {"https://vault.azure.net/.default"},
	}
	response, body := send(t, rt, http.MethodPost, "https://"+s.Addr()+"/"+tenantID+"/oauth2/v2.0/token", "", form)
	if response.StatusCode != http.StatusUnauthorized || !strings.Contains(string(body), "AADSTS7000218") {
		t.Errorf("client secret: got %s %s", response.Status, body)
	}
	for _, path := range []string{"/common/discovery/instance", "/" + tenantID + "/discovery/v2.0/keys", "/api/v1/namespaces/shop/serviceaccounts/reader"} {
		if response, _ := send(t, rt, http.MethodGet, "https://"+s.Addr()+path, token(t, dir), nil); response.StatusCode != http.StatusNotFound {
			t.Errorf("%s: got %s", path, response.Status)
		}
	}
	// A client that sends the proxy's own name as Host gets the public cloud's metadata.
	_, body = send(t, rt, http.MethodGet, "https://"+s.Addr()+"/"+tenantID+"/v2.0/.well-known/openid-configuration", "", nil)
	if want := `"token_endpoint":"https://login.microsoftonline.com/` + tenantID + `/oauth2/v2.0/token"`; !strings.Contains(string(body), want) {
		t.Errorf("metadata: got %s, want %s", body, want)
	}
}

// Clients find the cluster's ID in the certificate, once the proxy is on.
func TestCertificateNamesTheTokenProxy(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	s, dir := w.apiServer(t)
	names := func(serverName string) string {
		response, _ := send(t, clusterTransport(t, dir, serverName), http.MethodGet, "https://"+s.Addr()+"/version", "", nil)
		return strings.Join(response.TLS.PeerCertificates[0].DNSNames, " ")
	}
	if got := names(""); strings.Contains(got, "hcp-") || !strings.Contains(got, "kubernetes.default.svc") {
		t.Errorf("without the proxy: got %s", got)
	}
	p := s.TokenProxy(clusterID)
	if p != s.TokenProxy(clusterID) {
		t.Error("a second proxy was made")
	}
	if got := names("kubernetes.default.svc"); !strings.HasSuffix(got, " hcp-kubernetes."+clusterID+".svc.cluster.local") {
		t.Errorf("with the proxy: got %s", got)
	}
	if got := names(p.SNIName()); got != p.SNIName() {
		t.Errorf("proxy: got %s, want %s", got, p.SNIName())
	}
	label, domain, _ := strings.Cut(p.SNIName(), ".")
	if len(label) != 53 || label[0] != 'a' || domain != "ests.aks" || strings.ToLower(label) != label {
		t.Errorf("SNI name: got %s", p.SNIName())
	}
	defer func() {
		if recover() == nil {
			t.Error("one cluster has two IDs")
		}
	}()
	s.TokenProxy("another")
}
