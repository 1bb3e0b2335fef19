package keyvault_test

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/throttle"
	"akv-csi-provider/provider/transport"
)

var reasons = []fault.Reason{
	fault.VaultNotFound, fault.AccessDenied, fault.VaultFirewall, fault.WrongTenant,
	fault.TokenRejected, fault.ObjectNotFound, fault.ObjectDisabled, fault.VaultRefused,
	fault.Throttled, fault.ServiceUnavailable, fault.Timeout, fault.ContentInvalid,
}

// FuzzAnswer answers with anything: what comes of it is a value with a version, or
// an error of one short line with a known reason that contains nothing of the answer but
// codes, addresses and IDs.
func FuzzAnswer(f *testing.F) {
	const canary = "CANARY"
	for _, seed := range []struct {
		status          int
		challenge, body string
	}{
		{200, "", `{"value":"v","id":"https://contoso.vault.azure.net/secrets/x/1","kid":"https://contoso.vault.azure.net/keys/x/1"}`},
		{200, "", `{"value":"v"}`},
		{200, "", `<html>CANARY</html>`},
		{200, "", `{"value":"v","id":"https://contoso.vault.azure.net/secrets/x","managed":true}`},
		{200, "", `{"id":"https://contoso.vault.azure.net/certificates/x/1","attributes":{"enabled":false}}`},
		{400, "", `{"error":{"code":"BadParameter","message":"The specified version (CANARY) is not recognized. Consider using the latest supported version (7.1)."}}`},
		{403, "", `{"error":{"code":"Forbidden","message":"Vault subscription CANARY is disabled."}}`},
		{409, "", `{"error":{"code":"CANARY","message":"CANARY"}}`},
		{400, "", `{"error":{"code":"BadParameter","message":"CANARY","innererror":{"code":"Odd"}}}`},
		{401, `Bearer authorization="https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555", resource="https://vault.azure.net"`,
			`{"error":{"code":"Unauthorized","message":"AKV10032: Invalid issuer. CANARY"}}`},
		{401, "CANARY", `{"error":{"code":"Unauthorized","message":"AKV10022: Invalid audience."}}`},
		{403, "", `{"error":{"code":"Forbidden","message":"Caller: appid=11111111-2222-3333-4444-555555555555;oid=CANARY","innererror":{"code":"ForbiddenByRbac"}}}`},
		{403, "", `{"error":{"code":"Forbidden","message":"Client address: 203.0.113.7\r\nCANARY","innererror":{"code":"ForbiddenByFirewall"}}}`},
		{403, "", `{"error":{"code":"Forbidden","message":"CANARY","innererror":{"code":"SecretDisabled"}}}`},
		{404, "", `{"error":{"code":"SecretNotFound","message":"CANARY"}}`},
		{429, "", `{"error":{"code":"Throttled","message":"CANARY"}}`},
		{503, "", `CANARY`},
	} {
		f.Add(seed.status, seed.challenge, seed.body)
	}
	f.Fuzz(func(t *testing.T, status int, challenge, body string) {
		// A new one for each question: an answer may open its circuit.
		reader := func() *keyvault.Reader {
			r, err := keyvault.NewReader(keyvault.Config{
				Transport: transport.New(vault(func(*http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Header: http.Header{"Www-Authenticate": {challenge}}}, nil
				}), "test").For(transport.PhaseRead),
				Throttle: throttle.Config{Max: 1}, Timeout: time.Minute,
			})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		for _, kind := range []request.Type{request.TypeSecret, request.TypeKey, request.TypeCert} {
			value, err := reader().Get(t.Context(), caller("a"), object(kind, "x"), fresh())()
			if err == nil {
				if value.Version == "" && (kind != request.TypeSecret || value.Managed || !strings.Contains(strings.ToLower(body), `"managed"`)) {
					t.Errorf("a value without a version: %+v", value)
				}
				continue
			}
			var typed *fault.Error
			if !errors.As(err, &typed) || !slices.Contains(reasons, typed.Reason) {
				t.Fatalf("%T %v", err, err)
			}
			text := err.Error()
			if len(text) > 1024 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.Contains(text, "{") {
				t.Errorf("not one short line: %q", text)
			}
			if typed.Reason != fault.VaultRefused && strings.Contains(text, canary) {
				t.Errorf("contains a piece of the answer: %q", text)
			}
			if _, err := reader().Versions(t.Context(), caller("a"), object(kind, "x"), 2, fresh())(); err != nil && !errors.As(err, &typed) {
				t.Fatalf("%T %v", err, err)
			}
		}
	})
}
