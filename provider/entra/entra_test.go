package entra_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
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

func exchange(f tokens) *entra.Exchange {
	return &entra.Exchange{
		Transport: transport.New(f, "test").For(transport.PhaseSignIn),
		Retry:     policy.RetryOptions{MaxRetries: -1},
	}
}

func identity(assertion string) entra.Identity {
	return entra.Identity{Mode: entra.WorkloadIdentity, Authority: authority, TenantID: "t", ClientID: "c", Assertion: request.Secret(assertion)}
}

// jwt is an unsigned token with these claims; Entra is not asked to check it here.
func jwt(t *testing.T, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return "e30." + base64.RawURLEncoding.EncodeToString(payload) + ".x"
}

const scope = "https://vault.azure.net/.default"

// Many callers with one client ID get each the token of their own assertion.
func TestEachCallerHasItsOwnToken(t *testing.T) {
	x := exchange(func(form string) (int, string) {
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
					x := exchange(func(string) (int, string) { return status, body })
					x.Node = transporter(func(*http.Request) (*http.Response, error) {
						return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
					})
					_, err := x.Token(t.Context(), id, scope)
					var typed *entra.Error
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
	for number, want := range map[string]string{
		"70021": entra.ReasonFederatedCredentialMissing, "7002": entra.ReasonSignInFailed, "7000": entra.ReasonSignInFailed,
		"70021199": entra.ReasonSignInFailed, "1,700213": entra.ReasonFederatedCredentialMissing,
	} {
		_, err := exchange(func(string) (int, string) {
			return 401, fmt.Sprintf(`{"error":"invalid_client","error_description":"AADSTS700016: AADSTS70021","error_codes":[%s]}`, number)
		}).Token(t.Context(), identity(jwt(t, nil)), scope)
		var typed *entra.Error
		if !errors.As(err, &typed) || typed.Reason() != want {
			t.Errorf("%s: got %v, want %s", number, err, want)
		}
	}
}

// Authorities other than Entra, such as AD FS, send no numbers.
func TestOAuthError(t *testing.T) {
	_, err := exchange(func(string) (int, string) { return 400, `{"error":"invalid_client","error_description":"MSIS9642"}` }).
		Token(t.Context(), identity(""), scope)
	if err == nil || !strings.Contains(err.Error(), ": invalid_client;") {
		t.Errorf("got %v", err)
	}
}

// The command in the message carries the claims of the pod's own token, as words of
// a shell and on one line, and never those of a token of another making.
func TestCommandIsSafeToCopy(t *testing.T) {
	const account = "system:serviceaccount:shop:reader"
	refuse := exchange(func(string) (int, string) { return 401, `{"error":"invalid_client","error_codes":[700213]}` })
	for name, c := range map[string]struct {
		claims  map[string]any
		command bool
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
			id.ServiceAccount = account
			_, err := refuse.Token(t.Context(), id, scope)
			if err == nil || strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 2000 {
				t.Fatalf("got %q", err)
			}
			_, command, found := strings.Cut(err.Error(), "run az ")
			if found != c.command {
				t.Fatalf("got %v", err)
			}
			if !found {
				return
			}
			command, _, _ = strings.Cut(command, "; or, for an application,")
			out, err := exec.Command("sh", "-c", `az() { for a in "$@"; do printf '[%s]' "$a"; done; }; az `+command).CombinedOutput()
			issuer := strings.TrimSuffix(c.claims["iss"].(string), "\n")
			if err != nil || strings.Count(string(out), "[") != 15 || !strings.Contains(string(out), "[--issuer]["+issuer+"][--subject]["+account+"]") {
				t.Errorf("the shell read %s, %v", out, err)
			}
		})
	}
}

func TestTokenThatIsNoJWT(t *testing.T) {
	refuse := exchange(func(string) (int, string) { return 401, `{"error":"invalid_client","error_codes":[50013]}` })
	for _, token := range []string{"", "a", "a.b.c", "..", "e30.!!!.x"} {
		_, err := refuse.Token(t.Context(), identity(token), scope)
		var typed *entra.Error
		if !errors.As(err, &typed) || typed.Reason() != entra.ReasonTokenInvalid || typed.Code != 50013 {
			t.Errorf("%q: got %v", token, err)
		}
	}
}

func TestCallerThatLeaves(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	x := exchange(func(string) (int, string) { cancel(); return 503, "" })
	if _, err := x.Token(ctx, identity("a"), scope); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A credential goes out over TLS, wherever metadata says that it should go.
func TestNoClearText(t *testing.T) {
	x := exchange(nil)
	x.Transport = transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.URL.Scheme != "https" {
			t.Errorf("a request to %s", req.URL)
		}
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(fmt.Sprintf(
			`{"authorization_endpoint":"%[1]s/a","token_endpoint":"http://login.microsoftonline.com/t/oauth2/v2.0/token","issuer":"%[1]s/t/v2.0"}`, authority)))}, nil
	}), "test")
	if _, err := x.Token(t.Context(), identity("a"), scope); err == nil {
		t.Error("no error")
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestTenantThatIsNoName(t *testing.T) {
	id := identity("a")
	id.TenantID = "a/b"
	var typed *entra.Error
	if _, err := exchange(nil).Token(t.Context(), id, scope); !errors.As(err, &typed) {
		t.Errorf("got %v", err)
	}
}
