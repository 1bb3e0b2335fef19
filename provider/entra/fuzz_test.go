package entra

import (
	"akv-csi-provider/provider/throttle"
	"akv-csi-provider/provider/transport"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"akv-csi-provider/provider/request"
)

// Whatever an authority or the metadata service answers, the error is a *fault.Error,
// and its text one bounded line that depends on no more of the answer than the status,
// the numbers (those of the description, if there is no list) and the OAuth word.
func FuzzRefusal(f *testing.F) {
	for _, body := range []string{
		`{"error":"invalid_client","error_description":"AADSTS700213: No matching federated identity record. Trace ID: x","error_codes":[700213],"trace_id":"x"}`,
		`{"error":"invalid_client","error_codes":[7000215]}`, `{"error":"invalid_client","error_codes":[700016,123456]}`,
		`{"error":"invalid_request","error_description":"Identity not found"}`,
		`{"error":"invalid_request","error_description":"Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request"}`,
		`{"error":"invalid_resource"}`, `{"error_codes":[1002012]}`, `{"error_codes":[-1,99999999999999999999]}`, `{"error_codes":["700016"]}`,
		`{"error":"Canary\nfoo"}`, `{"error":1}`, `<html>Blocked</html>`, `{"access_token":"eyJ0"}`, `[]`, ``, "\xff",
	} {
		for _, status := range []int{200, 400, 401, 403, 404, 429, 503} {
			f.Add(status, body)
		}
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		var r errorBody
		_ = json.Unmarshal([]byte(body), &r)
		if !oauthError(r.Error) {
			r.Error = ""
		}
		plain, err := json.Marshal(map[string]any{"error": r.Error, "error_codes": r.codes()})
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range []Mode{WorkloadIdentity, ServicePrincipal, IdentityBinding} {
			got := person(mode).refused(answer(status, body))
			checkText(t, got)
			if again := person(mode).refused(answer(status, string(plain))); got.Error() != again.Error() {
				t.Errorf("%s: the text depends on more of the answer: %s, not %s", mode, got, again)
			}
		}
		for _, id := range []string{"", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"} {
			s := person(ManagedIdentity)
			s.ClientID = id
			got := s.refusedByIMDS(answer(status, body))
			checkText(t, got)
			for text := range strings.FieldsSeq(r.Description) {
				if len(text) > 40 && strings.Contains(got.Error(), text) {
					t.Errorf("the description is shown: %s", got)
				}
			}
		}
	})
}

// Whatever a token contains, its claims are bounded lines, and only a JWT has any.
func FuzzClaims(f *testing.F) {
	for _, payload := range []string{
		`{"iss":"https://oidc.example/","sub":"system:serviceaccount:shop:reader","aud":["api://AzureADTokenExchange"]}`,
		`{"aud":"a"}`, `{"aud":[]}`, `{"aud":[1]}`, `{"aud":{}}`, `{"iss":1,"sub":"b\n\u001b[31m"}`, `{"iss":"\ud800"}`, `null`, `[]`, ``,
	} {
		f.Add("e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".x")
	}
	f.Add("a.b")
	f.Add("..")
	f.Add("e30.eyJzdWIiOiJhIn0.x.y")
	f.Fuzz(func(t *testing.T, token string) {
		c := readClaims(request.Secret(token))
		if c != (claims{}) && strings.Count(token, ".") != 2 {
			t.Errorf("claims of what is no JWT: %+v", c)
		}
		for _, text := range []string{c.issuer, c.subject, c.audience} {
			if utf8.RuneCountInString(text) > 256 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("got %q", text)
			}
		}
		for _, code := range []int{700213, 50013, 50166, 700024} {
			s := person(WorkloadIdentity)
			s.Assertion = request.Secret(token)
			if text := s.aadstsError(code).Error(); strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || len(text) > 12<<10 {
				t.Errorf("got %d bytes: %q", len(text), text)
			}
		}
	})
}

// FuzzIMDS has the node's metadata service answer anything. What comes of it is a token with an
// end, or an error of one line that shows no token and no description.
func FuzzIMDS(f *testing.F) {
	for _, body := range []string{
		`{"access_token":"eyJ0.CANARY.x","client_id":"x","expires_in":"3600","expires_on":"4102444800","resource":"https://vault.azure.net","token_type":"Bearer"}`,
		`{"access_token":"CANARY","expires_in":3600,"expires_on":4102444800}`, `{"access_token":"CANARY","expires_on":"1/1/2100 00:00:00 +00:00"}`, `{"access_token":"CANARY"}`,
		`{"access_token":"CANARY","expires_in":"-1"}`, `{"access_token":"CANARY","expires_on":"99999999999999999999"}`, `{"access_token":"","expires_in":"3600"}`, `{"access_token":7}`,
		`{"error":"invalid_request","error_description":"Identity not found CANARY"}`, `{"error":"CANARY"}`, `<html>CANARY</html>`, ``, `[]`, `null`, "\xff",
	} {
		for _, status := range []int{200, 201, 400, 404, 410, 429, 500} {
			f.Add(status, body)
		}
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		x, err := NewExchange(Config{
			Transport: transport.New(roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("not for Entra") }), "test"),
			IMDS:      transport.New(roundTripper(func(*http.Request) (*http.Response, error) { return answer(status, body), nil }), "test").For(transport.PhaseSignIn),
			Throttle:  throttle.Config{Max: 1},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		token, err := x.Token(ctx, person(ManagedIdentity).Identity, "https://vault.azure.net/.default")
		switch {
		case err == nil && (token.Value == "" || token.ExpiresOn.IsZero()):
			t.Errorf("a token without content or end: %d bytes, %v", len(token.Value), token.ExpiresOn)
		case err == nil:
			return
		case token != Token{}:
			t.Error("a token with an error")
		}
		checkText(t, err)
		if strings.Contains(err.Error(), "CANARY") {
			var r errorBody
			if _ = json.Unmarshal([]byte(body), &r); !strings.Contains(r.Error, "CANARY") { // the OAuth word is shown
				t.Errorf("shows the answer: %v", err)
			}
		}
	})
}
