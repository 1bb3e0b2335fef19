package entra_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/transport"
)

const authority = "https://login.microsoftonline.com"

// tokens is an authority that answers token requests as a test says.
type tokens func(form string) (status int, body string)

func (f tokens) RoundTrip(req *http.Request) (*http.Response, error) {
	status, body := http.StatusOK, fmt.Sprintf(`{"authorization_endpoint":"%[1]s/t/oauth2/v2.0/authorize","token_endpoint":"%[1]s/t/oauth2/v2.0/token","issuer":"%[1]s/t/v2.0"}`, authority)
	if req.Method == http.MethodPost {
		form, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		status, body = f(string(form))
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

func exchange(t testing.TB, f tokens, changes ...func(*entra.Config)) *entra.Exchange {
	t.Helper()
	return newExchange(t, entra.Config{Transport: transport.New(f, "test").For(transport.PhaseSignIn)}, changes...)
}

func identity(assertion string) entra.Identity {
	return entra.Identity{Mode: entra.WorkloadIdentity, Authority: authority, TenantID: "t", ClientID: "c", Assertion: request.Secret(assertion), Audience: entra.Audience}
}

// jwt is an unsigned token with these claims; Entra does not check it here.
func jwt(t *testing.T, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return "e30." + base64.RawURLEncoding.EncodeToString(payload) + ".x"
}

const scope = "https://vault.azure.net/.default"

// Many callers with one client ID each get the token of their assertion.
func TestEachCallerHasItsOwnToken(t *testing.T) {
	x := exchange(t, func(form string) (int, string) {
		_, assertion, _ := strings.Cut(form, "client_assertion=")
		assertion, _, _ = strings.Cut(assertion, "&")
		return 200, fmt.Sprintf(`{"access_token":"for %s","expires_in":3600,"token_type":"Bearer"}`, assertion)
	})
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			got, err := x.Token(t.Context(), identity(fmt.Sprint("pod", i)), scope)
			if err != nil || string(got.Value) != fmt.Sprint("for pod", i) || got.ExpiresOn.IsZero() {
				t.Errorf("pod%d: got %s, %v", i, string(got.Value), err)
			}
		})
	}
	group.Wait()
}

// MSAL quotes whole responses in its errors; a token in one must not get out, nor the
// credential that was sent.
func TestOddAnswersDoNotLeak(t *testing.T) {
	principal := identity("")
	principal.Mode, principal.ClientSecret = entra.ServicePrincipal, "CANARY"
	for name, body := range map[string]string{
		"token, then garbage": `{"access_token":"CANARY"`,
		"wrong types":         `{"access_token":"CANARY","expires_in":{}}`,
		"error with a token":  `{"error":"CANARY Token","error_description":"CANARY"}`,
		"HTML":                `<p>CANARY</p>`,
		"empty":               ``,
	} {
		for _, status := range []int{200, 400, 401, 403, 404, 418} {
			for _, id := range []entra.Identity{identity("CANARY"), principal, nodeIdentity("c"), nodeIdentity("")} {
				t.Run(fmt.Sprint(name, " ", status, " ", id.Mode, " ", id.ClientID), func(t *testing.T) {
					x := exchange(t, func(string) (int, string) { return status, body }, func(cfg *entra.Config) {
						cfg.IMDS = transporter(func(*http.Request) (*http.Response, error) {
							return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
						})
					})
					_, err := x.Token(t.Context(), id, scope)
					var typed *fault.Error
					if !errors.As(err, &typed) || strings.Contains(err.Error(), "CANARY") || strings.Contains(fmt.Sprintf("%+v", id), "CANARY") {
						t.Errorf("got %v", err)
					}
				})
			}
		}
	}
}

// Numbers are compared as whole numbers: 70021 is not 700211.
func TestNumbersAreWhole(t *testing.T) {
	for number, want := range map[string]fault.Reason{
		"70021": fault.FederatedCredentialMissing, "7002": fault.SignInFailed, "7000": fault.SignInFailed,
		"70021199": fault.SignInFailed, "1,700213": fault.FederatedCredentialMissing,
	} {
		_, err := exchange(t, func(string) (int, string) {
			return 401, fmt.Sprintf(`{"error":"invalid_client","error_description":"AADSTS700016: AADSTS70021","error_codes":[%s]}`, number)
		}).Token(t.Context(), identity(jwt(t, nil)), scope)
		var typed *fault.Error
		if !errors.As(err, &typed) || typed.Reason != want {
			t.Errorf("%s: got %v, want %s", number, err, want)
		}
	}
}

// Authorities other than Entra, such as AD FS, send no numbers.
func TestOAuthError(t *testing.T) {
	_, err := exchange(t, func(string) (int, string) { return 400, `{"error":"invalid_client","error_description":"MSIS9642"}` }).
		Token(t.Context(), identity(""), scope)
	if err == nil || !strings.Contains(err.Error(), ": invalid_client;") {
		t.Errorf("got %v", err)
	}
}

// The message has the claims of the pod's token, quoted and on one line, as those of the
// credential to create, and never those of another token.
func TestClaimsInTheAdvice(t *testing.T) {
	const account = "system:serviceaccount:shop:reader"
	var cluster string // a token that the cluster issued
	refuse := exchange(t, func(string) (int, string) { return 401, `{"error":"invalid_client","error_codes":[700213]}` },
		func(c *entra.Config) { c.ClusterToken = func() string { return cluster } })
	for name, c := range map[string]struct {
		claims map[string]any
		own    bool // the token may be the one that kubelet requested
	}{
		"as a cluster makes them": {map[string]any{"iss": "https://oidc.example/x/", "sub": account, "aud": []string{entra.Audience}}, true},
		"one audience":            {map[string]any{"iss": "https://oidc.example/x/", "sub": account, "aud": entra.Audience}, true},
		"attack by the issuer":    {map[string]any{"iss": "https://$(touch x)'; rm -rf / #\n", "sub": account, "aud": entra.Audience}, true},
		"foreign subject":         {map[string]any{"iss": "https://oidc.example/x/", "sub": "@/etc/passwd", "aud": entra.Audience}, false},
		"option as issuer":        {map[string]any{"iss": "--help", "sub": account, "aud": entra.Audience}, false},
		"foreign audience":        {map[string]any{"iss": "https://oidc.example/x/", "sub": account, "aud": "a\nb\x1b[31m`id`"}, false},
		"wrong types":             {map[string]any{"iss": 1, "sub": []string{"a"}, "aud": map[string]string{}}, false},
		"long":                    {map[string]any{"iss": strings.Repeat("é", 5000), "sub": "s", "aud": "a"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			id := identity(jwt(t, c.claims))
			id.ServiceAccount, cluster = account, jwt(t, map[string]any{"iss": c.claims["iss"]})
			_, err := refuse.Token(t.Context(), id, scope)
			if err == nil || strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 2000 {
				t.Fatalf("got %q", err)
			}
			issuer := strings.TrimSuffix(fmt.Sprint(c.claims["iss"]), "\n")
			advice := fmt.Sprintf("Azure admin: create one (issuer %q, subject %q, audience %q)", issuer, account, entra.Audience)
			if strings.Contains(err.Error(), "create one") != c.own || c.own && !strings.Contains(err.Error(), advice) {
				t.Fatalf("got %v", err)
			}
			if !c.own {
				return
			}
			cluster = jwt(t, map[string]any{"iss": "https://oidc.example/another/"})
			_, foreign := refuse.Token(t.Context(), id, scope)
			if strings.Contains(foreign.Error(), "create one") || strings.Contains(foreign.Error(), "oidc.example") || !strings.Contains(foreign.Error(), "not issued by this cluster") {
				t.Errorf("of another issuer: %v", foreign)
			}
			cluster = ""
			_, unknown := refuse.Token(t.Context(), id, scope)
			if !strings.Contains(unknown.Error(), "(issuer of the cluster (`kubectl get --raw /.well-known/openid-configuration`)") || strings.Contains(unknown.Error(), "oidc.example") {
				t.Errorf("where the cluster's issuer is unknown: %v", unknown)
			}
		})
	}
}

func TestTokenThatIsNoJWT(t *testing.T) {
	refuse := exchange(t, func(string) (int, string) { return 401, `{"error":"invalid_client","error_codes":[50013]}` })
	for _, token := range []string{"", "a", "a.b.c", "..", "e30.!!!.x"} {
		_, err := refuse.Token(t.Context(), identity(token), scope)
		var typed *fault.Error
		if !errors.As(err, &typed) || typed.Reason != fault.TokenInvalid || typed.AADSTS != 50013 {
			t.Errorf("%q: got %v", token, err)
		}
	}
}

func TestCallerThatLeaves(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	x := exchange(t, func(string) (int, string) { cancel(); return 503, "" })
	if _, err := x.Token(ctx, identity("a"), scope); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A connection that is closed on behalf of another request, which was canceled, is a failure of
// the network: this caller waits.
func TestCancellationOfAnotherRequest(t *testing.T) {
	x := newExchange(t, entra.Config{Transport: transport.New(roundTripper(func(*http.Request) (*http.Response, error) {
		return nil, fmt.Errorf("the connection is closed: %w", context.Canceled)
	}), "test")})
	_, err := x.Token(t.Context(), identity("a"), scope)
	checkRefusal(t, err, fault.ServiceUnavailable, "login.microsoftonline.com")
}

// A credential goes out over TLS, wherever metadata says that it should go.
func TestNoClearText(t *testing.T) {
	x := newExchange(t, entra.Config{Transport: transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.URL.Scheme != "https" {
			t.Errorf("a request to %s", req.URL)
		}
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(fmt.Sprintf(
			`{"authorization_endpoint":"%[1]s/a","token_endpoint":"http://login.microsoftonline.com/t/oauth2/v2.0/token","issuer":"%[1]s/t/v2.0"}`, authority)))}, nil
	}), "test")})
	if _, err := x.Token(t.Context(), identity("a"), scope); err == nil {
		t.Error("no error")
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// The SDK's own words about a credential that it cannot use are not shown: it has the secret.
func TestTenantThatIsNoName(t *testing.T) {
	for _, mode := range []entra.Mode{entra.WorkloadIdentity, entra.ServicePrincipal} {
		for _, change := range []func(*entra.Identity){
			func(id *entra.Identity) { id.TenantID = "a/b" },
			func(id *entra.Identity) { id.TenantID = "" },
			func(id *entra.Identity) { id.Authority = "http://login.microsoftonline.com" },
			func(id *entra.Identity) { id.Authority = "https://a b" },
		} {
			id := identity("CANARY")
			id.Mode, id.ClientSecret = mode, "CANARY"
			change(&id)
			_, err := exchange(t, nil).Token(t.Context(), id, scope)
			checkRefusal(t, err, fault.SignInFailed, "check tenantID and cloudName")
			if strings.Contains(err.Error(), "CANARY") {
				t.Errorf("got %v", err)
			}
		}
	}
}
