package entra

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/transport"
)

// person is an identity of the mode with names as long as real ones.
func person(mode Mode) signIn {
	s := signIn{Identity: Identity{
		Mode: mode, Authority: "https://login.microsoftonline.com",
		TenantID: "11111111-2222-3333-4444-555555555555", TenantIDFrom: "annotation azure.workload.identity/tenant-id of ServiceAccount shop/reader",
		ClientID: "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", ClientIDFrom: "annotation azure.workload.identity/client-id of ServiceAccount shop/reader",
		ServiceAccount: "system:serviceaccount:shop:reader", Audience: Audience,
	}, scope: "https://vault.azure.net/.default", endpoint: "login.microsoftonline.com", clusterToken: clusterToken}
	// {"iss":"https://oidc.example/","sub":"system:serviceaccount:shop:reader","aud":"api://..."}
	const exchange = "e30.eyJpc3MiOiJodHRwczovL29pZGMuZXhhbXBsZS8iLCJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6c2hvcDpyZWFkZXIiLCJhdWQiOiJhcGk6Ly9BenVyZUFEVG9rZW5FeGNoYW5nZSJ9.x"
	const bound = "e30.eyJpc3MiOiJodHRwczovL29pZGMuZXhhbXBsZS8iLCJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6c2hvcDpyZWFkZXIiLCJhdWQiOiJhcGk6Ly9BS1NJZGVudGl0eUJpbmRpbmcifQ.x"
	switch mode {
	case WorkloadIdentity:
		s.Assertion = exchange
	case IdentityBinding:
		s.Assertion, s.endpoint = bound, "10.0.0.1"
	case ServicePrincipal:
		s.ClientSecret = "secret"
	case ManagedIdentity:
		s.Authority, s.TenantID, s.endpoint = "", "", imdsHost
	}
	return s
}

// clusterToken is a token of the issuer https://oidc.example/.
func clusterToken() string { return "e30.eyJpc3MiOiJodHRwczovL29pZGMuZXhhbXBsZS8ifQ.x" }

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func answer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body))}
}

// reasons are all that a refusal may have.
var reasons = []fault.Reason{
	fault.FederatedCredentialMissing, fault.ApplicationNotFound, fault.TenantNotFound, fault.TokenExpired, fault.TokenInvalid,
	fault.IssuerUnreachable, fault.ClientSecretInvalid, fault.ClientSecretExpired, fault.ManagedIdentityUnavailable,
	fault.SignInFailed, fault.Throttled, fault.ServiceUnavailable,
}

func checkText(t testing.TB, err error) {
	t.Helper()
	e, ok := err.(*fault.Error)
	if !ok || !slices.Contains(reasons, e.Reason) {
		t.Fatalf("got %T %v", err, err)
	}
	text := e.Error()
	unprintable := strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
	if unprintable || len(text) > 1000 || e.Cause == "" || e.Fix == "" { // kubelet cuts an event at 1024 bytes
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
	for _, table := range []map[int]refusal{assertionRefusals, secretRefusals, certificateRefusals} {
		for n := range table {
			numbers[n] = true
		}
	}
	for n := range refusals {
		if numbers[n] {
			t.Errorf("%d is in two tables", n)
		}
		numbers[n] = true
	}
	for n := range descriptions {
		if numbers[n] {
			t.Errorf("%d is in two tables", n)
		}
		numbers[n] = true
	}
	byCertificate := person(ServicePrincipal)
	byCertificate.ClientSecret, byCertificate.ClientCertificate = "", "certificate"
	for _, s := range []signIn{person(WorkloadIdentity), person(ServicePrincipal), byCertificate, person(IdentityBinding)} {
		mode := s.Mode
		for n := range numbers {
			err := s.refused(answer(400, fmt.Sprintf(`{"error":"invalid_client","error_codes":[%d]}`, n)))
			checkText(t, err)
			e := err.(*fault.Error)
			if e.AADSTS != n {
				t.Errorf("%s, AADSTS%d: got number %d", mode, n, e.AADSTS)
			}
			if e.Reason == fault.SignInFailed && !strings.Contains(e.Cause, fmt.Sprint("AADSTS", n)) {
				t.Errorf("%s, AADSTS%d: %s", mode, n, e)
			}
		}
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
		p := proxied{to: to, client: transport.New(roundTripper(func(r *http.Request) (*http.Response, error) { sent = r; return answer(200, ""), nil }), "")}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.request, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{req.Host, ""} { // which net/http takes from the URL
			req.Host = host
			if _, err := p.Do(req); err != nil {
				t.Fatal(err)
			}
			if sent.Host != "login.microsoftonline.com" {
				t.Errorf("sent to %q", sent.Host)
			}
		}
		if sent.URL.String() != c.want || req.URL.String() != c.request {
			t.Errorf("got %s, want %s", sent.URL, c.want)
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
