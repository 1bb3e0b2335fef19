package azuretest_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"akv-csi-provider/provider/azuretest"
)

// uuid is a client ID that no test has used: MSAL caches the tokens of managed identities for the whole
// process.
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// managed is the unchanged SDK's credential; an empty ID means the system-assigned identity.
func (w *world) managed(t testing.TB, id string) *azidentity.ManagedIdentityCredential {
	t.Helper()
	o := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: through(transport(t, w.Box))}
	if id != "" {
		o.ID = azidentity.ClientID(id)
	}
	c, err := azidentity.NewManagedIdentityCredential(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestUserAssignedIdentityReadsASecret(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	id := uuid()
	w.IMDS().Assign(w.tenant.Application(id))
	w.IMDS().Assign(w.tenant.Application(uuid()))
	w.vault.Grant(id, azuretest.SecretsGet)
	got, err := secretsClient(t, w.vault.URL(), w.managed(t, id), through(transport(t, w.Box))).GetSecret(t.Context(), "my-secret", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if *got.Value != "Hello!" {
		t.Errorf("got %q", *got.Value)
	}
	noted := last(w.Requests(), azuretest.Identity)
	if noted.ClientID != id || noted.Status != http.StatusOK || noted.Host != "169.254.169.254" || strings.Contains(noted.Path, "?") {
		t.Errorf("journal: got %+v", noted)
	}
	if n := w.Count(azuretest.Token); n != 0 {
		t.Errorf("%d token requests reached Entra's endpoint", n)
	}
}

func TestSystemAssignedIdentityReadsASecret(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	// A resource of this test's own, for MSAL's cache.
	suffix := "vault." + uuid() + ".example"
	w.AddCloud(azuretest.Cloud{AuthorityHost: "login." + suffix, VaultSuffix: suffix, Resource: "https://" + suffix})
	id := uuid()
	w.IMDS().Assign(w.tenant.Application(uuid()))
	w.IMDS().AssignSystem(w.tenant.Application(id))
	v := w.VaultIn(suffix, "contoso", w.tenant)
	v.SetSecret("my-secret", azuretest.Secret{Value: "Hello!"})
	v.Grant(id, azuretest.SecretsGet)
	if _, err := secretsClient(t, v.URL(), w.managed(t, ""), through(transport(t, w.Box))).GetSecret(t.Context(), "my-secret", "", nil); err != nil {
		t.Fatal(err)
	}
	if noted := last(w.Requests(), azuretest.Identity); noted.ClientID != "" {
		t.Errorf("client ID: got %s, want none", noted.ClientID)
	}
}

// askIMDS sends a request as the SDK does, changed.
func (w *world) askIMDS(t testing.TB, query string, change func(r *http.Request)) (*http.Response, []byte) {
	t.Helper()
	return exchange(t, transport(t, w.Box), w.IMDS().URL()+"/metadata/identity/oauth2/token?"+query, func(r *http.Request) {
		r.Header.Set("Metadata", "true")
		if change != nil {
			change(r)
		}
	})
}

const vaultToken = "api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net"

// The numbers of the answer are strings, and its token lives as long as Entra's. A resource with a
// final slash is another audience, which IMDS grants and vaults refuse.
func TestIMDSToken(t *testing.T) {
	now := &clock{now: time.Unix(1700000000, 0)}
	w := newWorld(t, azuretest.Options{Clock: now.Now})
	w.IMDS().Assign(w.app)
	w.SetTokenLifetime(90 * time.Minute)
	w.SetTokenRefresh(45 * time.Minute)
	for slash, status := range map[string]int{"": http.StatusOK, "/": http.StatusUnauthorized} {
		response, body := w.askIMDS(t, vaultToken+slash, nil)
		var got map[string]string
		if err := json.Unmarshal(body, &got); err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s: %v", response.Status, body, err)
		}
		for name, want := range map[string]string{
			"expires_in": "5400", "ext_expires_in": "5400", "expires_on": "1700005400", "not_before": "1700000000",
			"refresh_in": "2700", "token_type": "Bearer", "client_id": clientID,
			"resource": "https://vault.azure.net" + slash,
		} {
			if got[name] != want {
				t.Errorf("%s: got %q, want %q", name, got[name], want)
			}
		}
		response, body = send(t, transport(t, w.Box), http.MethodGet, w.vault.URL()+"/secrets/my-secret?api-version=7.5", got["access_token"], nil)
		if response.StatusCode != status || status != http.StatusOK && !strings.Contains(string(body), "AKV10022") {
			t.Errorf("vault: %s: %s", response.Status, body)
		}
	}
}

func TestIMDSChoosesAnIdentity(t *testing.T) {
	const system, first, second = "c1c1c1c1-0000-0000-0000-000000000001", "c1c1c1c1-0000-0000-0000-000000000002", "c1c1c1c1-0000-0000-0000-000000000003"
	const missing, many = "Identity not found", "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request"
	for _, c := range []struct {
		name, system string
		assigned     []string
		query        string
		want, says   string
	}{
		{"none", "", nil, "", "", missing},
		{"system", system, nil, "", system, ""},
		{"system before user-assigned", system, []string{first, second}, "", system, ""},
		{"the only one", "", []string{first}, "", first, ""},
		{"the same twice", "", []string{first, first}, "", first, ""},
		{"one of many", "", []string{first, second}, "", "", many},
		{"named", system, []string{first, second}, "&client_id=" + second, second, ""},
		{"named in upper case", "", []string{first, second}, "&client_id=" + strings.ToUpper(second), second, ""},
		{"system by its name", system, []string{first}, "&client_id=" + system, system, ""},
		{"another", system, []string{first}, "&client_id=" + second, "", missing},
		{"no such object", system, []string{first}, "&object_id=" + first, "", missing},
		{"no such resource", system, []string{first}, "&msi_res_id=/subscriptions/x", "", missing},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, azuretest.Options{})
			if c.system != "" {
				w.IMDS().AssignSystem(w.tenant.Application(c.system))
			}
			for _, id := range c.assigned {
				w.IMDS().Assign(w.tenant.Application(id))
			}
			response, body := w.askIMDS(t, vaultToken+c.query, nil)
			if c.want == "" {
				checkIMDS(t, response, body, http.StatusBadRequest, "invalid_request", c.says)
				return
			}
			var got struct {
				ClientID string `json:"client_id"`
			}
			if err := json.Unmarshal(body, &got); err != nil || got.ClientID != c.want {
				t.Errorf("got %s for %q, want %s", response.Status, got.ClientID, c.want)
			}
		})
	}
}

func checkIMDS(t testing.TB, response *http.Response, body []byte, status int, code, says string) {
	t.Helper()
	var got struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	if response.StatusCode != status || got.Error != code || !strings.HasPrefix(got.Description, says) {
		t.Errorf("got %d %+v, want %d %s %q", response.StatusCode, got, status, code, says)
	}
	if !strings.HasPrefix(response.Header.Get("Server"), "IMDS/") {
		t.Errorf("Server: got %q", response.Header.Get("Server"))
	}
}

func TestIMDSRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		query  string
		change func(r *http.Request)
		status int
		code   string
		says   string
	}{
		{"no Metadata header", vaultToken, func(r *http.Request) { r.Header.Del("Metadata") }, 400, "invalid_request", "Required metadata header not specified"},
		{"Metadata in upper case", vaultToken, func(r *http.Request) { r.Header.Set("Metadata", "True") }, 400, "invalid_request", "Required metadata header not specified"},
		{"forwarded", vaultToken, func(r *http.Request) { r.Header.Set("X-Forwarded-For", "203.0.113.9") }, 400, "invalid_request", "Requests with the header X-Forwarded-For"},
		{"no resource", "api-version=2018-02-01", nil, 400, "invalid_request", "Required query variable 'resource'"},
		{"no version", "resource=https%3A%2F%2Fvault.azure.net", nil, 400, "invalid_request", "Required query variable 'api-version'"},
		{"post", vaultToken, func(r *http.Request) { r.Method = http.MethodPost }, 405, "invalid_request", "Method not allowed"},
		{"unknown resource", "api-version=2018-02-01&resource=https%3A%2F%2Fvaut.azure.net", nil, 400, "invalid_resource",
			"AADSTS500011: The resource principal named https://vaut.azure.net was not found in the tenant named " + tenantID},
		{"elsewhere", vaultToken, func(r *http.Request) { r.URL.Path = "/metadata/instance" }, 404, "not_found", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, azuretest.Options{})
			w.IMDS().Assign(w.app)
			response, body := w.askIMDS(t, c.query, c.change)
			checkIMDS(t, response, body, c.status, c.code, c.says)
		})
	}
	t.Run("Entra refuses", func(t *testing.T) {
		w := newWorld(t, azuretest.Options{})
		w.IMDS().Assign(w.app)
		w.app.FailWith(7000112)
		response, body := w.askIMDS(t, vaultToken, nil)
		checkIMDS(t, response, body, http.StatusBadRequest, "unauthorized_client", "AADSTS7000112: Application '"+clientID+"' is disabled.")
	})
}

// The SDK distinguishes a refusal of IMDS from an absent IMDS.
func TestIMDSRefusesTheSDK(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	scope := policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}}
	if _, err := w.managed(t, uuid()).GetToken(t.Context(), scope); !errors.Is(err, syscall.EHOSTUNREACH) && !strings.Contains(fmt.Sprint(err), "no route to host") {
		t.Errorf("without IMDS: got %v", err)
	}
	w.IMDS().Assign(w.app)
	_, err := w.managed(t, uuid()).GetToken(t.Context(), scope)
	if response := refused(t, err); response.StatusCode != http.StatusBadRequest {
		t.Errorf("unknown identity: got %s", response.Status)
	}
}

// exchange sends a request that change has the last word on.
func exchange(t testing.TB, rt http.RoundTripper, address string, change func(r *http.Request)) (*http.Response, []byte) {
	t.Helper()
	return send(t, changed{rt, change}, http.MethodGet, address, "", nil)
}

// changed is a transport that changes requests on their way.
type changed struct {
	http.RoundTripper
	change func(r *http.Request)
}

func (c changed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	c.change(r)
	return c.RoundTripper.RoundTrip(r)
}
