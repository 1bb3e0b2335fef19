package azuretest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"akv-csi-provider/provider/azuretest"
)

const (
	tenantID = "11111111-2222-3333-4444-555555555555"
	clientID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	issuer   = "https://westeurope.oic.prod-aks.azure.com/11111111-2222-3333-4444-555555555555/abc/"
	public   = "https://login.microsoftonline.com"
)

// world is the quick start's: a cluster, an identity federated with a service account, a vault that
// lets it read secrets.
type world struct {
	*azuretest.Box
	tenant  *azuretest.Tenant
	app     *azuretest.Application
	cluster *azuretest.Cluster
	vault   *azuretest.Vault
	pod     azuretest.Pod
}

func newWorld(t testing.TB, o azuretest.Options) *world {
	t.Helper()
	b, err := azuretest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	cluster, err := b.Cluster(issuer)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		Box: b, cluster: cluster, tenant: b.Tenant(tenantID),
		pod: azuretest.Pod{Namespace: "shop", Name: "quick-start", ServiceAccount: "reader"},
	}
	w.app = w.tenant.Application(clientID)
	w.app.Federate(issuer, w.pod.Subject(), azuretest.TokenExchangeAudience)
	w.vault = b.Vault("contoso", w.tenant)
	w.vault.Grant(clientID, azuretest.SecretsGet, azuretest.SecretsList)
	w.vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello!"})
	return w
}

// clock is set by hand.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// through are SDK options that reach the fake by the transport, without retries.
func through(rt http.RoundTripper) azcore.ClientOptions {
	return azcore.ClientOptions{
		Transport: &http.Client{Transport: rt},
		Retry:     policy.RetryOptions{MaxRetries: -1},
	}
}

func transport(t testing.TB, b *azuretest.Box) *http.Transport {
	tr := b.Transport()
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// proxied is a transport as a process behind a proxy has it.
func proxied(t testing.TB, b *azuretest.Box, http2 bool) *http.Transport {
	t.Helper()
	address, err := url.Parse(b.ProxyURL())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(b.CACert()) {
		t.Fatal("CACert is no PEM certificate")
	}
	tr := &http.Transport{
		Proxy: http.ProxyURL(address), TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: http2,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// credential signs in with the pod's own token, unless token returns another.
func (w *world) credential(t testing.TB, o azcore.ClientOptions, token func() (string, error)) azcore.TokenCredential {
	t.Helper()
	if token == nil {
		token = func() (string, error) {
			return w.cluster.Token(w.pod, azuretest.TokenExchangeAudience, time.Hour)
		}
	}
	c, err := azidentity.NewClientAssertionCredential(w.tenant.ID(), clientID,
		func(context.Context) (string, error) { return token() },
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func secretsClient(t testing.TB, vault string, c azcore.TokenCredential, o azcore.ClientOptions) *azsecrets.Client {
	t.Helper()
	client, err := azsecrets.NewClient(vault, c, &azsecrets.ClientOptions{ClientOptions: o})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func keysClient(t testing.TB, vault string, c azcore.TokenCredential, o azcore.ClientOptions) *azkeys.Client {
	t.Helper()
	client, err := azkeys.NewClient(vault, c, &azkeys.ClientOptions{ClientOptions: o})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func certificatesClient(t testing.TB, vault string, c azcore.TokenCredential, o azcore.ClientOptions) *azcertificates.Client {
	t.Helper()
	client, err := azcertificates.NewClient(vault, c, &azcertificates.ClientOptions{ClientOptions: o})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// reader is a secrets client of the world's pod.
func (w *world) reader(t testing.TB, o azcore.ClientOptions) *azsecrets.Client {
	t.Helper()
	return secretsClient(t, w.vault.URL(), w.credential(t, o, nil), o)
}

// signIn requests a token for the vault's resource from Entra.
func (w *world) signIn(t testing.TB, token func() (string, error)) (azcore.AccessToken, error) {
	t.Helper()
	c := w.credential(t, through(transport(t, w.Box)), token)
	return c.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}})
}

// entraBody is Entra's error body, read as strictly as it is documented.
type entraBody struct {
	Error         string `json:"error"`
	Description   string `json:"error_description"`
	Codes         []int  `json:"error_codes"`
	Timestamp     string `json:"timestamp"`
	TraceID       string `json:"trace_id"`
	CorrelationID string `json:"correlation_id"`
	URI           string `json:"error_uri"`
}

// vaultBody is Key Vault's error body.
type vaultBody struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Inner   struct {
			Code string `json:"code"`
		} `json:"innererror"`
	} `json:"error"`
}

func decode(t testing.TB, body io.Reader, into any) {
	t.Helper()
	raw, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
}

// refused returns the response of a failed sign-in.
func refused(t testing.TB, err error) *http.Response {
	t.Helper()
	var failed *azidentity.AuthenticationFailedError
	if !errors.As(err, &failed) || failed.RawResponse == nil {
		t.Fatalf("sign-in: got %v, want an answer of Entra", err)
	}
	return failed.RawResponse
}

// send makes a request without the SDK.
func send(t testing.TB, rt http.RoundTripper, method, address, bearer string, form url.Values) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, bytes.NewReader([]byte(form.Encode())))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	response, err := rt.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, body
}

// Short names of the SDK's pages.
type (
	secretVersions      = azsecrets.ListSecretPropertiesVersionsResponse
	keyVersions         = azkeys.ListKeyPropertiesVersionsResponse
	certificateVersions = azcertificates.ListCertificatePropertiesVersionsResponse
	certificateNames    = azcertificates.ListCertificatePropertiesResponse
)
