package azuretest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"akv-csi-provider/provider/azuretest"
)

// token is an access token of the world's application for a resource.
func (w *world) token(t testing.TB, resource string) string {
	t.Helper()
	token, err := w.credential(t, through(transport(t, w.Box)), nil).
		GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{resource + "/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	return token.Token
}

// Every refusal of a vault, as the SDK gets it.
func TestVaultRefusals(t *testing.T) {
	const who = "appid=" + clientID + ";oid="
	for _, c := range []struct {
		name        string
		status      int
		code, inner string
		says        []string
		setup       func(w *world)
		object      string // default my-secret
	}{
		{name: "no role", status: 403, code: "Forbidden", inner: "ForbiddenByRbac",
			says: []string{
				"Caller is not authorized to perform action on resource.\r\n", "\r\nCaller: " + who, ";iss=https://sts.windows.net/" + tenantID + "/\r\n",
				"\r\nAction: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'\r\n", "/vaults/contoso/secrets/my-secret'\r\n",
				"\r\nAssignment: (not found)\r\n", "\r\nVault: contoso;location=",
			},
			setup: func(w *world) { w.vault.Revoke(clientID) }},
		{name: "no policy", status: 403, code: "Forbidden", inner: "ForbiddenByPolicy",
			says:  []string{"The user, group or application '" + who, "' does not have secrets get permission on key vault 'contoso;location="},
			setup: func(w *world) { w.vault.Revoke(clientID); w.vault.UseAccessPolicies(true) }},
		{name: "firewall", status: 403, code: "Forbidden", inner: "ForbiddenByFirewall",
			says:  []string{"Client address is not authorized and caller is not a trusted service.\r\nClient address: 203.0.113.7\r\nCaller: " + who},
			setup: func(w *world) { w.vault.SetFirewall("ForbiddenByFirewall") }},
		{name: "private only", status: 403, code: "Forbidden", inner: "ForbiddenByConnection",
			says:  []string{"Public network access is disabled and request is not from a trusted service nor via an approved private link.\r\n"},
			setup: func(w *world) { w.vault.SetFirewall("ForbiddenByConnection") }},
		{name: "outside the perimeter", status: 403, code: "Forbidden", inner: "ForbiddenByNetworkSecurityPerimeter",
			says:  []string{"network security perimeter"},
			setup: func(w *world) { w.vault.SetFirewall("ForbiddenByNetworkSecurityPerimeter") }},
		{name: "a specific message", status: 403, code: "Forbidden", says: []string{"vault subscription is disabled"},
			setup: func(w *world) {
				w.vault.SetForbidden("", "Access denied because vault subscription is disabled or deleted.")
			}},
		{name: "older cloud", status: 400, code: "BadParameter",
			says:  []string{"The specified version (2026-04-01) is not recognized. Consider using the latest supported version (7.1)."},
			setup: func(w *world) { w.vault.SetLatestAPIVersion("7.1") }},
		{name: "no such secret", status: 404, code: "SecretNotFound", object: "other",
			says: []string{"A secret with (name/id) other was not found in this key vault."}},
		{name: "deleted", status: 404, code: "SecretNotFound",
			setup: func(w *world) { w.vault.Delete("secret", "My-Secret") }},
		{name: "disabled", status: 403, code: "Forbidden", inner: "SecretDisabled",
			says:  []string{"Operation get is not allowed on a disabled secret."},
			setup: func(w *world) { w.vault.SetSecret("my-secret", azuretest.Secret{Value: "x", Disabled: true}) }},
		{name: "bad name", status: 400, code: "BadParameter", object: "under_score",
			says: []string{"The request URI contains an invalid name: under_score"}},
		{name: "throttled", status: 429, code: "Throttled", says: []string{"too many requests"},
			setup: func(w *world) { w.SetFault(azuretest.GetSecret, azuretest.Fault{Status: 429}) }},
		{name: "down", status: 503, code: "ServiceUnavailable",
			setup: func(w *world) { w.SetFault(azuretest.GetSecret, azuretest.Fault{Status: 503}) }},
		{name: "failing", status: 500, code: "InternalServerError",
			setup: func(w *world) { w.SetFault(azuretest.GetSecret, azuretest.Fault{Status: 500}) }},
		{name: "gateway", status: 502, code: "BadGateway",
			setup: func(w *world) { w.SetFault(azuretest.GetSecret, azuretest.Fault{Status: 502}) }},
		{name: "older policy code", status: 403, code: "Forbidden", inner: "AccessDenied", says: []string{"does not have secrets get permission"},
			setup: func(w *world) {
				w.SetFault(azuretest.GetSecret, azuretest.Fault{Status: 403, InnerCode: "AccessDenied"})
			}},
		{name: "lost meanwhile", status: 404, code: "SecretNotFound",
			setup: func(w *world) { w.SetFault(azuretest.GetSecret, azuretest.Fault{Status: 404}) }},
		{name: "400 with inner code", status: 400, code: "BadParameter", inner: "Strange",
			setup: func(w *world) {
				w.SetFault(azuretest.GetSecret, azuretest.Fault{Status: 400, InnerCode: "Strange"})
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, azuretest.Options{})
			if c.setup != nil {
				c.setup(w)
			}
			if c.object == "" {
				c.object = "my-secret"
			}
			_, err := w.reader(t, through(transport(t, w.Box))).GetSecret(t.Context(), c.object, "", nil)
			checkVaultError(t, err, c.status, c.code, c.inner, c.says...)
		})
	}
}

func checkVaultError(t *testing.T, err error, status int, code, inner string, says ...string) *http.Response {
	t.Helper()
	var failed *azcore.ResponseError
	if !errors.As(err, &failed) {
		t.Fatalf("got %v, want an answer of the vault", err)
	}
	if failed.StatusCode != status || failed.ErrorCode != code {
		t.Errorf("got %d %s, want %d %s", failed.StatusCode, failed.ErrorCode, status, code)
	}
	var body vaultBody
	decode(t, failed.RawResponse.Body, &body)
	if body.Error.Code != code || body.Error.Inner.Code != inner {
		t.Errorf("body: got %s, inner %q, want %s, %q", body.Error.Code, body.Error.Inner.Code, code, inner)
	}
	for _, s := range says {
		if !strings.Contains(body.Error.Message, s) {
			t.Errorf("message: got %q, want it to say %q", body.Error.Message, s)
		}
	}
	for _, name := range []string{"x-ms-request-id", "x-ms-keyvault-service-version", "x-ms-keyvault-region"} {
		if failed.RawResponse.Header.Get(name) == "" {
			t.Errorf("no header %s", name)
		}
	}
	return failed.RawResponse
}

// The AKV number says what is wrong with a token, and every 401 has the challenge.
func TestVaultRefusesTokens(t *testing.T) {
	now := &clock{now: time.Now()}
	w := newWorld(t, azuretest.Options{Clock: now.Now})
	rt := transport(t, w.Box)
	home := w.token(t, "https://vault.azure.net")
	management := w.token(t, "https://management.azure.com")
	foreign := *w
	foreign.tenant = w.Tenant("99999999-2222-3333-4444-555555555555")
	foreign.tenant.Application(clientID).Federate(issuer, w.pod.Subject(), azuretest.TokenExchangeAudience)
	stranger := foreign.token(t, "https://vault.azure.net")
	clusterToken, err := w.cluster.Token(w.pod, "https://vault.azure.net", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, token, says string }{
		{"none", "", "AKV10000: Request is missing a Bearer or PoP token."},
		{"other resource", management, "AKV10022: Invalid audience. Expected https://vault.azure.net, found: https://management.azure.com."},
		{"other tenant", stranger, "AKV10032: Invalid issuer. Expected one of https://sts.windows.net/" + tenantID +
			"/, found https://sts.windows.net/99999999-2222-3333-4444-555555555555/."},
		{"other issuer", clusterToken, "AKV10046: Unable to resolve the key used for signature validation."},
		{"damaged", home[:len(home)-8] + "AAAAAAAA", "Error validating token: 'S2S12086'."},
		{"no JWT", "nonsense", "Error validating token: 'S2S12086'."},
		{"expired", home, "[TokenExpired] Error validating token: 'S2S12086'."},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "expired" {
				now.add(time.Hour)
			}
			response, body := send(t, rt, http.MethodGet, w.vault.URL()+"/secrets/my-secret?api-version=7.5", c.token, nil)
			var e vaultBody
			decode(t, strings.NewReader(string(body)), &e)
			if response.StatusCode != 401 || e.Error.Code != "Unauthorized" || e.Error.Message != c.says {
				t.Errorf("got %d %s, want %s", response.StatusCode, body, c.says)
			}
			want := `Bearer authorization="https://login.windows.net/` + tenantID + `", resource="https://vault.azure.net"`
			if got := response.Header.Get("WWW-Authenticate"); got != want {
				t.Errorf("challenge: got %s", got)
			}
		})
	}
}

// What no SDK sends.
func TestMalformedVaultRequests(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	token := w.token(t, "https://vault.azure.net")
	for _, c := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/secrets/my-secret", 400, "BadParameter"},
		{"PUT", "/secrets/my-secret?api-version=7.5", 405, "MethodNotAllowed"},
		{"GET", "/secrets/my-secret/1/2?api-version=7.5", 400, "BadParameter"},
		{"GET", "/secrets/my-secret/a%2Fb?api-version=7.5", 400, "BadParameter"},
		{"GET", "/elsewhere?api-version=7.5", 404, "NotFound"},
		{"GET", "/secrets?api-version=7.5&maxresults=26", 400, "BadParameter"},
		{"GET", "/secrets?api-version=7.5&$skiptoken=x", 400, "BadParameter"},
		{"GET", "/secrets?api-version=7.5&$skiptoken=e30", 400, "BadParameter"},
		{"GET", "/secrets?api-version=7.5&$skiptoken=25", 400, "BadParameter"},
		{"GET", "/secrets/my-secret?api-version=8.0", 400, "BadParameter"},
		{"GET", "/secrets/my-secret/0123?api-version=7.5", 404, "SecretNotFound"},
	} {
		response, body := send(t, transport(t, w.Box), c.method, w.vault.URL()+c.path, token, nil)
		var e vaultBody
		decode(t, strings.NewReader(string(body)), &e)
		if response.StatusCode != c.status || e.Error.Code != c.code {
			t.Errorf("%s %s: got %d %s, want %d %s", c.method, c.path, response.StatusCode, body, c.status, c.code)
		}
	}
}

// Each permission opens its own door and no other.
func TestPermissions(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	w.vault.SetCertificate("tls", azuretest.Certificate{DER: certificate(t), SecretValue: "cGZ4"})
	doors := map[azuretest.Permission]string{
		azuretest.SecretsGet: "/secrets/tls", azuretest.SecretsList: "/secrets/tls/versions",
		azuretest.KeysGet: "/keys/tls", azuretest.KeysList: "/keys",
		azuretest.CertificatesGet: "/certificates/tls", azuretest.CertificatesList: "/certificates/tls/versions",
	}
	token := w.token(t, "https://vault.azure.net")
	for granted := range doors {
		w.vault.Revoke(clientID)
		w.vault.Grant(strings.ToUpper(clientID), granted)
		for needed, path := range doors {
			response, _ := send(t, transport(t, w.Box), http.MethodGet, w.vault.URL()+path+"?api-version=7.5", token, nil)
			want := map[bool]int{true: 200, false: 403}[granted == needed]
			if response.StatusCode != want {
				t.Errorf("%s with %s: got %d, want %d", path, granted, response.StatusCode, want)
			}
		}
	}
}

func certificate(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "contoso"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestKeys(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	w.vault.Grant(clientID, azuretest.KeysGet)
	o := through(transport(t, w.Box))
	client := keysClient(t, w.vault.URL(), w.credential(t, o, nil), o)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) *azkeys.JSONWebKey {
		t.Helper()
		got, err := client.GetKey(t.Context(), name, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if id := *got.Key.KID; id.Name() != name || len(id.Version()) != 32 {
			t.Errorf("kid: got %s", id)
		}
		return got.Key
	}
	exponents := map[azkeys.KeyType][]byte{azkeys.KeyTypeRSA: {1, 0, 1}, azkeys.KeyTypeRSAHSM: {0, 1, 0, 1}}
	for kty, exponent := range exponents {
		w.vault.SetKey("rsa", azuretest.Key{Public: &rsaKey.PublicKey, HSM: kty == azkeys.KeyTypeRSAHSM})
		got := read("rsa")
		if *got.Kty != kty || !slices.Equal(got.N, rsaKey.N.Bytes()) || !slices.Equal(got.E, exponent) {
			t.Errorf("RSA key: got %s with %d bytes of modulus, exponent %x", *got.Kty, len(got.N), got.E)
		}
	}
	for curve, name := range map[elliptic.Curve]azkeys.CurveName{
		elliptic.P256(): azkeys.CurveNameP256, elliptic.P384(): azkeys.CurveNameP384, elliptic.P521(): azkeys.CurveNameP521,
	} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		w.vault.SetKey("ec", azuretest.Key{Public: &key.PublicKey, HSM: true})
		got := read("ec")
		size := (curve.Params().BitSize + 7) / 8
		if curve == elliptic.P521() && (len(got.X) > 0 && got.X[0] == 0 || len(got.Y) > 0 && got.Y[0] == 0) {
			t.Errorf("%s: a leading zero in %x, %x", name, got.X, got.Y)
		} else if curve != elliptic.P521() && (len(got.X) != size || len(got.Y) != size) {
			t.Errorf("%s: coordinates of %d and %d bytes", name, len(got.X), len(got.Y))
		}
		pad := func(b []byte) []byte { return append(make([]byte, size-len(b)), b...) }
		public, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, pad(got.X), pad(got.Y)))
		if err != nil || !public.Equal(&key.PublicKey) || *got.Crv != name || *got.Kty != azkeys.KeyTypeECHSM {
			t.Errorf("%s: got %s %s, %v", name, *got.Kty, *got.Crv, err)
		}
	}
	w.vault.SetKey("odd", azuretest.Key{Kty: "oct-HSM"})
	if got := read("odd"); *got.Kty != "oct-HSM" || got.N != nil || got.X != nil {
		t.Errorf("odd key: got %+v", got)
	}
	w.vault.SetKey("odd", azuretest.Key{Kty: "oct-HSM", Disabled: true})
	if got, err := client.GetKey(t.Context(), "odd", "", nil); err != nil || *got.Attributes.Enabled {
		t.Errorf("disabled key: %+v, %v", got.Attributes, err)
	}
	_, err = client.GetKey(t.Context(), "none", "", nil)
	checkVaultError(t, err, 404, "KeyNotFound", "", "A key with (name/id) none was not found")
	w.vault.Revoke(clientID)
	_, err = client.GetKey(t.Context(), "rsa", "", nil)
	checkVaultError(t, err, 403, "Forbidden", "ForbiddenByRbac", "Action: 'Microsoft.KeyVault/vaults/keys/read'")
}

// A certificate is three objects under one name and version.
func TestCertificates(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	w.vault.Grant(clientID, azuretest.CertificatesGet, azuretest.KeysGet)
	o := through(transport(t, w.Box))
	c := w.credential(t, o, nil)
	der := certificate(t)
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	version := w.vault.SetCertificate("tls", azuretest.Certificate{DER: der, SecretValue: "cGZ4", Expires: &expires})
	got, err := certificatesClient(t, w.vault.URL(), c, o).GetCertificate(t.Context(), "tls", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.CER, der) || got.ID.Version() != version || len(got.X509Thumbprint) != 20 || !got.Attributes.Expires.Equal(expires) {
		t.Errorf("certificate: got %s, expires %s", *got.ID, got.Attributes.Expires)
	}
	key, err := keysClient(t, w.vault.URL(), c, o).GetKey(t.Context(), got.KID.Name(), got.KID.Version(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if *key.Key.Crv != azkeys.CurveNameP384 || !*key.Managed {
		t.Errorf("key: got %s, managed %t", *key.Key.Crv, *key.Managed)
	}
	secret, err := secretsClient(t, w.vault.URL(), c, o).GetSecret(t.Context(), got.SID.Name(), got.SID.Version(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if *secret.Value != "cGZ4" || *secret.ContentType != "application/x-pkcs12" || string(*secret.KID) != string(*got.KID) || !*secret.Managed {
		t.Errorf("secret: got %s %s", *secret.ContentType, *secret.KID)
	}
	w.vault.SetCertificate("tls", azuretest.Certificate{DER: der, Version: version, Disabled: true})
	got, err = certificatesClient(t, w.vault.URL(), c, o).GetCertificate(t.Context(), "tls", version, nil)
	if err != nil || *got.Attributes.Enabled || !slices.Equal(got.CER, der) {
		t.Errorf("disabled certificate: %+v, %v", got.Attributes, err)
	}
	w.vault.SetCertificate("tls", azuretest.Certificate{NotIssued: true, Version: version})
	got, err = certificatesClient(t, w.vault.URL(), c, o).GetCertificate(t.Context(), "tls", version, nil)
	if err != nil || *got.Attributes.Enabled || got.CER != nil || got.KID != nil || got.SID != nil || got.X509Thumbprint != nil || got.Policy == nil {
		t.Errorf("certificate that is not issued: %+v, %v", got.Certificate, err)
	}
	_, err = secretsClient(t, w.vault.URL(), c, o).GetSecret(t.Context(), "tls", version, nil)
	checkVaultError(t, err, 403, "Forbidden", "SecretDisabled", "Operation get is not allowed on a disabled secret.")
	w.vault.Delete("cert", "tls")
	_, err = certificatesClient(t, w.vault.URL(), c, o).GetCertificate(t.Context(), "tls", "", nil)
	checkVaultError(t, err, 404, "CertificateNotFound", "")
	_, err = secretsClient(t, w.vault.URL(), c, o).GetSecret(t.Context(), "tls", "", nil)
	checkVaultError(t, err, 404, "SecretNotFound", "")
}
