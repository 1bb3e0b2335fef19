package entra

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// person is an identity of the mode with names as long as real ones.
func person(mode Mode) signIn {
	s := signIn{Identity: Identity{
		Mode: mode, Authority: "https://login.microsoftonline.com",
		TenantID: "11111111-2222-3333-4444-555555555555", TenantIDFrom: "annotation azure.workload.identity/tenant-id of ServiceAccount shop/reader",
		ClientID: "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", ClientIDFrom: "annotation azure.workload.identity/client-id of ServiceAccount shop/reader",
		ServiceAccount: "system:serviceaccount:shop:reader",
	}, scope: "https://vault.azure.net/.default"}
	// {"iss":"https://oidc.example/","sub":"system:serviceaccount:shop:reader","aud":"api://..."}
	const exchange = "e30.eyJpc3MiOiJodHRwczovL29pZGMuZXhhbXBsZS8iLCJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6c2hvcDpyZWFkZXIiLCJhdWQiOiJhcGk6Ly9BenVyZUFEVG9rZW5FeGNoYW5nZSJ9.x"
	const bound = "e30.eyJpc3MiOiJodHRwczovL29pZGMuZXhhbXBsZS8iLCJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6c2hvcDpyZWFkZXIiLCJhdWQiOiJhcGk6Ly9BS1NJZGVudGl0eUJpbmRpbmcifQ.x"
	switch mode {
	case WorkloadIdentity:
		s.Assertion = exchange
	case IdentityBinding:
		s.Assertion, s.via = bound, "10.0.0.1"
	case ServicePrincipal:
		s.ClientSecret = "secret"
	case ManagedIdentity:
		s.Authority, s.TenantID, s.via = "", "", nodeHost
	}
	return s
}

func answer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body))}
}

// reasons are all that a refusal may be called.
var reasons = []string{
	ReasonFederatedCredentialMissing, ReasonApplicationNotFound, ReasonTenantNotFound, ReasonTokenExpired, ReasonTokenInvalid,
	ReasonIssuerUnreachable, ReasonClientSecretInvalid, ReasonClientSecretExpired, ReasonManagedIdentityUnavailable,
	ReasonSignInFailed, ReasonThrottled, ReasonServiceUnavailable,
}

func checkText(t testing.TB, err error) {
	t.Helper()
	e, ok := err.(*Error)
	if !ok || !slices.Contains(reasons, e.Reason()) {
		t.Fatalf("got %T %v", err, err)
	}
	text := e.Error()
	unprintable := strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
	if unprintable || len(text) > 1000 || e.cause == "" || e.fix == "" { // kubelet cuts an event at 1024 bytes
		t.Errorf("%d bytes: %q", len(text), text)
	}
	for _, empty := range []string{`""`, "()", "%!", "  "} {
		if strings.Contains(strings.ReplaceAll(text, `apiGroups: [""]`, ""), empty) {
			t.Errorf("a name is missing: %s", text)
		}
	}
}

// Every known number has a whole sentence for every mode that can meet it.
func TestEveryNumberInEveryMode(t *testing.T) {
	numbers := map[int]bool{123456: true}
	for n := range codes {
		numbers[n] = true
	}
	for n := range assertionCodes {
		numbers[n] = true
		if _, twice := codes[n]; twice {
			t.Errorf("%d stands twice", n)
		}
	}
	for n := range meanings {
		if numbers[n] {
			t.Errorf("%d stands twice", n)
		}
		numbers[n] = true
	}
	for _, mode := range []Mode{WorkloadIdentity, ServicePrincipal, IdentityBinding} {
		for n := range numbers {
			err := refused(answer(400, fmt.Sprintf(`{"error":"invalid_client","error_codes":[%d]}`, n)), person(mode))
			checkText(t, err)
			e := err.(*Error)
			if e.Code != n {
				t.Errorf("%s, AADSTS%d: got number %d", mode, n, e.Code)
			}
			if e.Reason() == ReasonSignInFailed && !strings.Contains(e.cause, fmt.Sprint("AADSTS", n)) {
				t.Errorf("%s, AADSTS%d: %s", mode, n, e)
			}
		}
	}
}

// HTTPS_PROXY leads out of the cluster.
func TestClusterIsReachedWithoutAProxy(t *testing.T) {
	connections := &clusterPool{caFile: "/nonexistent", orSystem: true, conns: 1}
	pool, err := connections.get("name.example")
	if err != nil {
		t.Fatal(err)
	}
	if same, err := connections.get("name.example"); same != pool || err != nil {
		t.Errorf("another pool for the same name: %v", err)
	}
	if other, err := connections.get("other.example"); err != nil || other.TLSClientConfig.ServerName != "other.example" {
		t.Errorf("the pool of another name: %v", err)
	}
	if pool.Proxy != nil || pool.TLSClientConfig.InsecureSkipVerify || pool.TLSClientConfig.RootCAs != nil || pool.TLSClientConfig.ServerName != "name.example" {
		t.Errorf("got %+v", pool)
	}
	if _, err := (&clusterPool{caFile: "/nonexistent", conns: 1}).get(""); err == nil {
		t.Error("the apiserver must not be trusted for a certificate that somebody can buy")
	}
}

// What is meant for the authority keeps its path, its query and its Host.
func TestRewriting(t *testing.T) {
	for _, c := range []struct{ proxy, request, want string }{
		{"https://10.0.0.1/", "https://login.microsoftonline.com/t/oauth2/v2.0/token", "https://10.0.0.1/t/oauth2/v2.0/token"},
		{"https://10.0.0.1:6443/base/", "https://login.microsoftonline.com/t/x?q=1%2F2", "https://10.0.0.1:6443/base/t/x?q=1%2F2"},
		{"https://10.0.0.1/", "https://login.microsoftonline.com/a%2Fb", "https://10.0.0.1/a%2Fb"},
	} {
		to, err := url.Parse(c.proxy)
		if err != nil {
			t.Fatal(err)
		}
		var sent *http.Request
		p := proxied{to: to, client: transport.New(roundTrip(func(r *http.Request) (*http.Response, error) { sent = r; return answer(200, ""), nil }), "")}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.request, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Do(req); err != nil {
			t.Fatal(err)
		}
		if sent.URL.String() != c.want || sent.Host != "login.microsoftonline.com" || req.URL.String() != c.request {
			t.Errorf("got %s with Host %s, want %s", sent.URL, sent.Host, c.want)
		}
	}
}

func TestClusterID(t *testing.T) {
	for name, want := range map[string]string{
		"hcp-kubernetes.696995ccb303450001b31a18.svc.cluster.local": "696995ccb303450001b31a18",
		"hcp-kubernetes.svc.cluster.local":                          "",
		"hcp-kubernetes..svc.cluster.local":                         "",
		"kubernetes.default.svc.cluster.local":                      "",
		"x.hcp-kubernetes.a.svc.cluster.local":                      "",
		"hcp-kubernetes.a.svc.cluster.local.example":                "",
	} {
		if got, ok := clusterID(name); got != want && ok || ok != (want != "") {
			t.Errorf("%s: got %q, %t", name, got, ok)
		}
	}
}

func TestOnNode(t *testing.T) {
	for text, want := range map[string]bool{
		"http://169.254.169.254/x": true, "http://127.0.0.1:1234": true, "http://[::1]": true, "http://[fe80::1%25eth0]": true,
		"https://169.254.169.254": false, "http://localhost": false, "http://10.0.0.1": false, "http://0.0.0.0": false, "http://metadata": false,
		"http://169.254.169.254@203.0.113.9": false, "http://[::ffff:203.0.113.9]": false, "": false,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if onNode(u) != want {
			t.Errorf("%s: got %t", text, !want)
		}
	}
}

// Without settings of our own, azidentity would wait for minutes.
func TestNodeRetryIsBounded(t *testing.T) {
	o := nodeRetry(policy.RetryOptions{})
	if o.MaxRetries < 1 || o.MaxRetries > 3 || o.RetryDelay <= 0 || o.MaxRetryDelay > 5*time.Second || o.TryTimeout > 10*time.Second {
		t.Errorf("got %+v", o)
	}
	own := policy.RetryOptions{MaxRetries: -1, RetryDelay: 1, MaxRetryDelay: 2, TryTimeout: 3}
	if o := nodeRetry(own); o.MaxRetries != -1 || o.RetryDelay != 1 || o.MaxRetryDelay != 2 || o.TryTimeout != 3 {
		t.Errorf("got %+v", o)
	}
}

// Names that whoever sent them made long or odd stay within bounds.
func TestAccountNames(t *testing.T) {
	for name, want := range map[string]bool{"a": true, "my-account.v2": true, "": false, "..": false, "a..b": false, "a/b": false, "A": false, strings.Repeat("a", 254): false} {
		if isKubernetesName(name) != want {
			t.Errorf("%q: got %t", name, !want)
		}
	}
}
