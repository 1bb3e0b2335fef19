package azuretest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/golang-jwt/jwt/v5"

	"akv-csi-provider/provider/azuretest"
)

// Every refusal that needs no fault of a test's choosing, as the SDK gets it.
func TestSignInRefusals(t *testing.T) {
	const exchange = azuretest.TokenExchangeAudience
	own := func(w *world, change func(claims map[string]any)) func() (string, error) {
		return func() (string, error) {
			claims, err := w.cluster.Claims(w.pod, exchange, time.Hour)
			if err != nil {
				return "", err
			}
			change(claims)
			return w.cluster.Sign(claims)
		}
	}
	forged := func(unsigned bool) func(w *world) func() (string, error) {
		return func(w *world) func() (string, error) {
			return func() (string, error) {
				claims, err := w.cluster.Claims(w.pod, exchange, time.Hour)
				if err != nil {
					return "", err
				}
				return w.cluster.ForgedToken(claims, unsigned)
			}
		}
	}
	for _, c := range []struct {
		name   string
		number int
		status int
		oauth  string
		says   string
		setup  func(w *world) func() (string, error) // returns the assertion, nil for the pod's own
	}{
		{"unknown application", 700016, 400, "unauthorized_client", "Application with identifier '" + clientID + "' was not found in the directory '99999999-",
			func(w *world) func() (string, error) {
				w.tenant = w.Tenant("99999999-2222-3333-4444-555555555555")
				return nil
			}},
		{"unknown tenant", 90002, 400, "invalid_tenant", "Tenant 'no-such.example' not found",
			func(w *world) func() (string, error) {
				w.tenant = elsewhere(t).Tenant("no-such.example")
				return nil
			}},
		{"malformed tenant", 900023, 400, "invalid_tenant", "Specified tenant identifier 'nonsense' is neither a valid DNS name",
			func(w *world) func() (string, error) { w.tenant = elsewhere(t).Tenant("nonsense"); return nil }},
		{"no federated credential", 70025, 401, "invalid_client", "has no configured federated identity credentials",
			func(w *world) func() (string, error) { w.app.Unfederate(); return nil }},
		{"issuer", 700211, 401, "invalid_client", "presented assertion issuer '" + issuer + "'",
			func(w *world) func() (string, error) {
				w.app.Unfederate()
				w.app.Federate(strings.TrimSuffix(issuer, "/"), w.pod.Subject(), exchange)
				return nil
			}},
		{"audience", 700212, 401, "invalid_client", "presented assertion audience 'api://other'",
			func(w *world) func() (string, error) {
				return own(w, func(c map[string]any) { c["aud"] = []string{"api://other"} })
			}},
		{"subject", 700213, 401, "invalid_client", "presented assertion subject 'system:serviceaccount:shop:other'",
			func(w *world) func() (string, error) { w.pod.ServiceAccount = "other"; return nil }},
		{"subject's case", 7002138, 401, "invalid_client", "matches with case-insensitive comparison",
			func(w *world) func() (string, error) { w.pod.ServiceAccount = "Reader"; return nil }},
		{"expired", 700024, 401, "invalid_client", "Client assertion is not within its valid time range. Current time: ",
			func(w *world) func() (string, error) {
				return own(w, func(c map[string]any) { c["exp"] = time.Now().Add(-time.Second).Unix() })
			}},
		{"not yet valid", 700024, 401, "invalid_client", "assertion valid from ",
			func(w *world) func() (string, error) {
				return own(w, func(c map[string]any) { c["nbf"] = time.Now().Add(time.Hour).Unix() })
			}},
		{"signed by another", 50013, 401, "invalid_client", "did not match the expected signature value", forged(false)},
		{"unsigned", 50013, 401, "invalid_client", "Assertion failed signature validation", forged(true)},
		{"no token at all", 50027, 400, "invalid_request", "malformed",
			func(*world) func() (string, error) { return func() (string, error) { return "nonsense", nil } }},
		{"issuer is down", 50166, 400, "invalid_request", "Request to External OIDC endpoint failed",
			func(w *world) func() (string, error) {
				w.SetFault(azuretest.Issuer, azuretest.Fault{Status: http.StatusBadGateway})
				return nil
			}},
		{"issuer resets", 50166, 400, "invalid_request", "Request to External OIDC endpoint failed",
			func(w *world) func() (string, error) {
				w.SetFault(azuretest.Issuer, azuretest.Fault{Reset: true})
				return nil
			}},
		{"foreign issuer", 50166, 400, "invalid_request", "Request to External OIDC endpoint failed",
			func(w *world) func() (string, error) {
				w.app.Federate("https://elsewhere.example", w.pod.Subject(), exchange)
				return own(w, func(c map[string]any) { c["iss"] = "https://elsewhere.example" })
			}},
		{"issuer talks nonsense", 900612, 400, "invalid_request", "Failed to parse provider signing keys",
			func(w *world) func() (string, error) {
				w.SetFault(azuretest.Issuer, azuretest.Fault{HTML: true})
				return nil
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, azuretest.Options{})
			_, err := w.signIn(t, c.setup(w))
			checkRefusal(t, refused(t, err), c.status, c.oauth, c.number, c.says)
		})
	}
}

// elsewhere is a second fake: its tenants have IDs the first does not know.
func elsewhere(t *testing.T) *azuretest.Box {
	t.Helper()
	b, err := azuretest.New(azuretest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

var description = regexp.MustCompile(`^AADSTS(\d+): .+ Trace ID: ([0-9a-f-]{36}) Correlation ID: ([0-9a-f-]{36}) Timestamp: (\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ)$`)

func checkRefusal(t *testing.T, response *http.Response, status int, oauth string, number int, says string) {
	t.Helper()
	var e entraBody
	decode(t, response.Body, &e)
	if response.StatusCode != status || e.Error != oauth || !slices.Equal(e.Codes, []int{number}) {
		t.Errorf("got %d %s %v, want %d %s [%d]", response.StatusCode, e.Error, e.Codes, status, oauth, number)
	}
	if !strings.Contains(e.Description, says) || strings.ContainsAny(e.Description, "{}") {
		t.Errorf("description: got %q, want it to say %q", e.Description, says)
	}
	m := description.FindStringSubmatch(e.Description)
	want := []string{fmt.Sprint(number), e.TraceID, e.CorrelationID, e.Timestamp}
	if m == nil || !slices.Equal(m[1:], want) {
		t.Errorf("description: got %q, want number, IDs and time %q", e.Description, want)
	}
	if sent := response.Request.Header.Get("client-request-id"); sent != "" && sent != e.CorrelationID {
		t.Errorf("correlation ID: got %s, the client sent %s", e.CorrelationID, sent)
	}
	if !strings.HasSuffix(e.URI, fmt.Sprintf("/error?code=%d", number)) {
		t.Errorf("error_uri: got %s", e.URI)
	}
}

// A test can force any number, known to the fake or not.
func TestForcedRefusals(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	for number, status := range map[int]int{
		70021: 400, 50196: 400, 53003: 400, 700027: 401, 7000112: 400, 7000229: 400, 90033: 503, 90055: 429, 90061: 400, 123456: 400,
		501661: 400, 7000272: 401, 7002137: 401,
	} {
		w.app.FailWith(number)
		_, err := w.signIn(t, nil)
		response := refused(t, err)
		var e entraBody
		decode(t, response.Body, &e)
		if response.StatusCode != status || !slices.Equal(e.Codes, []int{number}) || strings.ContainsAny(e.Description, "{}") {
			t.Errorf("AADSTS%d: got %d %+v, want status %d", number, response.StatusCode, e, status)
		}
	}
	w.app.FailWith(0)
	if _, err := w.signIn(t, nil); err != nil {
		t.Errorf("after FailWith(0): %v", err)
	}
}

func TestClientSecrets(t *testing.T) {
	now := &clock{now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	w := newWorld(t, azuretest.Options{Clock: now.Now})
	w.app.AddSecret("good", now.Now().Add(time.Hour))
	signIn := func(secret string) error {
		c, err := azidentity.NewClientSecretCredential(tenantID, clientID, secret,
			&azidentity.ClientSecretCredentialOptions{ClientOptions: through(transport(t, w.Box)), DisableInstanceDiscovery: true})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}})
		return err
	}
	if err := signIn("good"); err != nil {
		t.Errorf("good secret: %v", err)
	}
	checkRefusal(t, refused(t, signIn("bad")), 401, "invalid_client", 7000215, "Invalid client secret provided")
	now.add(time.Hour)
	checkRefusal(t, refused(t, signIn("good")), 401, "invalid_client", 7000222, "The provided client secret keys for app '"+clientID+"' are expired")
}

// What no SDK sends is refused as well.
func TestMalformedTokenRequests(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	w.app.AddSecret("good", time.Time{})
	good := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {clientID}, "client_secret": {"good"},
		"scope": {"https://vault.azure.net/.default openid profile offline_access"},
	}
	for _, c := range []struct {
		name, method, tenant string
		change               url.Values // nil value: parameter left out
		status, number       int
	}{
		{"as it should be", "POST", tenantID, nil, 200, 0},
		{"GET", "GET", tenantID, nil, 400, 900561},
		{"tenant unknown here", "POST", "99999999-2222-3333-4444-555555555555", nil, 400, 90002},
		{"no tenant", "POST", "nonsense", nil, 400, 900023},
		{"no scope", "POST", tenantID, url.Values{"scope": nil}, 400, 900144},
		{"no client", "POST", tenantID, url.Values{"client_id": nil}, 400, 900144},
		{"other grant", "POST", tenantID, url.Values{"grant_type": {"password"}}, 400, 70003},
		{"no credential", "POST", tenantID, url.Values{"client_secret": nil}, 401, 7000218},
		{"scope without .default", "POST", tenantID, url.Values{"scope": {"https://vault.azure.net/read"}}, 400, 1002012},
		{"unknown resource", "POST", tenantID, url.Values{"scope": {"https://vault.azure.cn/.default"}}, 400, 500011},
		{"assertion of no type", "POST", tenantID, url.Values{"client_assertion": {"x"}}, 400, 900144},
	} {
		t.Run(c.name, func(t *testing.T) {
			form := url.Values{}
			for _, from := range []url.Values{good, c.change} {
				for name, value := range from {
					form[name] = value
					if value == nil {
						form.Del(name)
					}
				}
			}
			response, body := send(t, transport(t, w.Box), c.method, public+"/"+c.tenant+"/oauth2/v2.0/token", "", form)
			var e struct {
				Codes []int `json:"error_codes"`
			}
			if err := json.Unmarshal(body, &e); err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != c.status || c.number != 0 && !slices.Equal(e.Codes, []int{c.number}) {
				t.Errorf("got %d %s, want %d AADSTS%d", response.StatusCode, body, c.status, c.number)
			}
		})
	}
}

func TestAccessTokens(t *testing.T) {
	now := &clock{now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	w := newWorld(t, azuretest.Options{Clock: now.Now})
	w.SetTokenLifetime(20 * time.Minute)
	seen := map[any]bool{}
	for range 3 {
		token, err := w.signIn(t, nil)
		if err != nil {
			t.Fatal(err)
		}
		claims := jwt.MapClaims{}
		if _, _, err := jwt.NewParser().ParseUnverified(token.Token, claims); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]any{
			"aud": "https://vault.azure.net", "iss": "https://sts.windows.net/" + tenantID + "/", "tid": tenantID,
			"appid": clientID, "azp": clientID, "idtyp": "app", "exp": float64(now.Now().Add(20 * time.Minute).Unix()),
			"iat": float64(now.Now().Unix()), "nbf": float64(now.Now().Unix()),
		} {
			if claims[name] != want {
				t.Errorf("%s: got %v, want %v", name, claims[name], want)
			}
		}
		if seen[claims["uti"]] || claims["oid"] == "" {
			t.Errorf("uti %v, oid %v: want a new one, and one", claims["uti"], claims["oid"])
		}
		seen[claims["uti"]] = true
		if in := time.Until(token.ExpiresOn); in < 19*time.Minute || in > 20*time.Minute {
			t.Errorf("expires in %s", in)
		}
	}
	w.SetTokenRefresh(5 * time.Minute)
	token, err := w.signIn(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	if in := time.Until(token.RefreshOn); in < 4*time.Minute || in > 5*time.Minute {
		t.Errorf("refresh in %s", in)
	}
}

// Entra caches an issuer's keys: one fetch serves all, and an issuer that becomes unavailable is
// noticed only when its keys are forgotten.
func TestIssuerKeysAreCached(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	for range 3 {
		if _, err := w.signIn(t, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.Count(azuretest.Issuer); got != 2 {
		t.Errorf("requests to the issuer: got %d, want discovery and keys", got)
	}
	w.SetFault(azuretest.Issuer, azuretest.Fault{Status: http.StatusServiceUnavailable})
	if _, err := w.signIn(t, nil); err != nil {
		t.Errorf("with cached keys: %v", err)
	}
	w.ForgetIssuers()
	_, err := w.signIn(t, nil)
	checkRefusal(t, refused(t, err), 400, "invalid_request", 50166, "External OIDC endpoint")
}

// An issuer that is no cluster of the fake is fetched with the client the fake is given: here one that
// reaches a second fake.
func TestForeignIssuer(t *testing.T) {
	other := newWorld(t, azuretest.Options{})
	foreign, err := other.Box.Cluster("https://kind.example/issuer")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, azuretest.Options{IssuerClient: &http.Client{Transport: transport(t, other.Box)}})
	w.app.Federate(foreign.Issuer(), w.pod.Subject(), azuretest.TokenExchangeAudience)
	token := func() (string, error) { return foreign.Token(w.pod, azuretest.TokenExchangeAudience, time.Hour) }
	if _, err := w.signIn(t, token); err != nil {
		t.Fatal(err)
	}
	if got := other.Count(azuretest.Issuer); got != 2 {
		t.Errorf("%d requests to the second fake, want 2", got)
	}
	other.SetOutage(true)
	w.ForgetIssuers()
	_, err = w.signIn(t, token)
	checkRefusal(t, refused(t, err), 400, "invalid_request", 50166, "External OIDC endpoint")
}
