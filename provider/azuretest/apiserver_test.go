package azuretest_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
)

// apiServer starts the cluster's API server and writes the plugin's credentials for it.
func (w *world) apiServer(t testing.TB) (s *azuretest.APIServer, credentials string) {
	t.Helper()
	s, err := w.cluster.APIServer()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := s.WriteCredentials(dir); err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// partial is the API server's answer to a request for metadata only, or its Status.
type partial struct {
	Kind     string
	Message  string
	Metadata struct {
		Name, Namespace, UID, ResourceVersion string
		Annotations                           map[string]string
	}
}

// asPartial is how client-go's metadata client requests JSON.
const asPartial = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"

// lookUp requests a path below the cluster's API as the plugin does.
func lookUp(t *testing.T, s *azuretest.APIServer, dir, path string) (status int, got partial) {
	t.Helper()
	req := get(t, "https://"+s.Addr()+path)
	req.Header.Set("Accept", asPartial)
	req.Header.Set("Authorization", "Bearer "+token(t, dir))
	response, err := clusterTransport(t, dir, "").RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, got
}

const accountsPath = "/api/v1/namespaces/shop/serviceaccounts/"

func TestServiceAccountLookup(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	s, dir := w.apiServer(t)
	if again, err := w.cluster.APIServer(); err != nil || again != s {
		t.Errorf("a second API server: %v", err)
	}
	annotations := map[string]string{"azure.workload.identity/client-id": clientID}
	s.SetServiceAccount("shop", "reader", annotations)
	lookup := func() partial {
		status, got := lookUp(t, s, dir, accountsPath+"reader")
		if status != http.StatusOK || got.Kind != "PartialObjectMetadata" {
			t.Fatalf("got %d %+v", status, got)
		}
		return got
	}
	first := lookup().Metadata
	if first.Name != "reader" || first.Namespace != "shop" || first.UID == "" || !maps.Equal(first.Annotations, annotations) {
		t.Errorf("got %+v", first)
	}
	s.SetServiceAccount("shop", "reader", nil)
	replaced := lookup().Metadata
	if len(replaced.Annotations) != 0 || replaced.UID != first.UID || replaced.ResourceVersion == first.ResourceVersion {
		t.Errorf("replaced: got %+v", replaced)
	}
	s.DeleteServiceAccount("shop", "reader")
	s.SetServiceAccount("shop", "reader", nil)
	if recreated := lookup().Metadata; recreated.UID == first.UID {
		t.Error("recreated: the UID stayed")
	}
	noted := last(w.Requests(), azuretest.Lookup)
	if w.Count(azuretest.Lookup) != 3 || noted.Status != http.StatusOK || noted.Path != accountsPath+"reader" {
		t.Errorf("journal: %d, last %+v", w.Count(azuretest.Lookup), noted)
	}
	if w.Handshakes() != 0 {
		t.Errorf("%d handshakes with Azure", w.Handshakes())
	}
}

func TestServiceAccountRefusals(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	s, dir := w.apiServer(t)
	s.SetServiceAccount("shop", "reader", nil)
	refused := func(path string, want int, says string) {
		t.Helper()
		status, got := lookUp(t, s, dir, path)
		if status != want || got.Kind != "Status" || says != "" && got.Message != says {
			t.Errorf("%s: got %d %+v", path, status, got)
		}
	}
	refused(accountsPath+"writer", http.StatusNotFound, `serviceaccounts "writer" not found`)
	s.Forbid(true)
	refused(accountsPath+"reader", http.StatusForbidden, `serviceaccounts "reader" is forbidden: User "system:serviceaccount:kube-system:akv-csi-provider" cannot get resource "serviceaccounts" in API group "" in the namespace "shop"`)
	s.Forbid(false)
	refused("/api/v1/serviceaccounts/reader", http.StatusForbidden, "")
	pod, err := w.cluster.Token(w.pod, azuretest.TokenExchangeAudience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte(pod), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(accountsPath+"reader", http.StatusUnauthorized, "")
}

// clusterTransport trusts the cluster's CA and sends a server name in TLS, or none.
func clusterTransport(t testing.TB, dir, serverName string) *http.Transport {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("ca.crt is no PEM certificate")
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: serverName}, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func token(t testing.TB, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "token"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The bodies of errors, and what a client that accepts no metadata gets.
func TestAPIServerBodies(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	s, dir := w.apiServer(t)
	s.SetServiceAccount("shop", "reader", nil)
	address := "https://" + s.Addr() + "/api/v1/namespaces/shop/serviceaccounts/reader"
	rt := clusterTransport(t, dir, "")
	type status struct {
		Kind, APIVersion, Status, Message, Reason string
		Code                                      int
	}
	read := func(bearer string) (*http.Response, status) {
		response, body := send(t, rt, http.MethodGet, address, bearer, nil)
		var got status
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatalf("%v in %q", err, body)
		}
		return response, got
	}
	if _, got := read(""); got != (status{"Status", "v1", "Failure", "Unauthorized", "Unauthorized", 401}) {
		t.Errorf("no token: got %+v", got)
	}
	if _, got := read(token(t, dir)); got.Kind != "ServiceAccount" || got.APIVersion != "v1" {
		t.Errorf("plain: got %+v", got)
	}
	for code, reason := range map[int]string{401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout", 502: "BadGateway"} {
		w.SetFault(azuretest.Lookup, azuretest.Fault{Status: code, RetryAfter: "1"})
		response, got := read(token(t, dir))
		if got.Code != code || response.StatusCode != code || got.Reason != reason || got.Kind != "Status" || response.Header.Get("Retry-After") != "1" {
			t.Errorf("%d: got %+v", code, got)
		}
	}
	w.SetFault(azuretest.Lookup, azuretest.Fault{Status: http.StatusTooManyRequests})
	response, body := send(t, rt, http.MethodGet, address, token(t, dir), nil)
	if response.StatusCode != http.StatusTooManyRequests || !strings.HasPrefix(string(body), "Too many requests") {
		t.Errorf("429: got %s %q", response.Status, body)
	}
	w.SetFault(azuretest.Lookup, azuretest.Fault{Reset: true})
	if response, err := rt.RoundTrip(get(t, address)); err == nil {
		_ = response.Body.Close()
		t.Errorf("reset: got %s", response.Status)
	}
	w.ClearFaults()
	w.SetOutage(true)
	if _, got := read(token(t, dir)); got.Kind != "ServiceAccount" {
		t.Errorf("outage of Azure: got %+v", got)
	}
}

// The plugin's credentials are good for the cluster only.
func TestClusterCredentials(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	s, dir := w.apiServer(t)
	namespace, err := os.ReadFile(filepath.Join(dir, "namespace"))
	if err != nil || string(namespace) != "kube-system" {
		t.Errorf("namespace: got %q, %v", namespace, err)
	}
	if response, err := transport(t, w.Box).RoundTrip(get(t, "https://"+s.Addr()+"/version")); err == nil {
		_ = response.Body.Close()
		t.Error("the fake's CA signed for the API server")
	}
	if err := s.WriteCredentials(filepath.Join(dir, "missing")); err == nil {
		t.Error("credentials written to nowhere")
	}
	other, err := w.Cluster("https://other.example/")
	if err != nil {
		t.Fatal(err)
	}
	if second, err := other.APIServer(); err != nil || second.Addr() == s.Addr() {
		t.Errorf("a second cluster: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	last, err := w.Cluster("https://late.example/")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := last.APIServer(); err == nil {
		t.Error("an API server in a closed fake")
	}
	defer func() {
		if m, ok := recover().(string); !ok || !strings.HasPrefix(m, "azuretest: ") {
			t.Errorf("IMDS in a closed box: got %q, want a panic", m)
		}
	}()
	w.IMDS()
}
