package metrics_test

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/metrics"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	tenantID = "11111111-2222-3333-4444-555555555555"
	clientID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	version  = "0123456789abcdef0123456789abcdef"
)

// scrape reads the metrics as Prometheus does: values by series, as text.
func scrape(t testing.TB, m *metrics.Metrics) map[string]string {
	t.Helper()
	recorder := httptest.NewRecorder()
	m.Handler().ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if recorder.Code != http.StatusOK {
		t.Fatalf("got %d %s", recorder.Code, recorder.Body)
	}
	series := map[string]string{}
	for line := range strings.Lines(recorder.Body.String()) {
		if at := strings.LastIndexByte(line, ' '); !strings.HasPrefix(line, "#") {
			series[line[:at]] = strings.TrimSpace(line[at:])
		}
	}
	return series
}

// counts are the series of one metric.
func counts(series map[string]string, name string) map[string]string {
	got := map[string]string{}
	for s, value := range series {
		if labels, ok := strings.CutPrefix(s, name+"{"); ok {
			got[strings.TrimSuffix(labels, "}")] = value
		}
	}
	return got
}

const requestCount = "akv_csi_azure_request_duration_seconds_count"

// sdk is an Azure with one secret, and the real SDK that reads it through the
// instruments.
type sdk struct {
	*azuretest.Box
	metrics    *metrics.Metrics
	options    azcore.ClientOptions
	credential azcore.TokenCredential
}

func newSDK(t *testing.T) *sdk {
	t.Helper()
	box, err := azuretest.New(azuretest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Close() })
	cluster, err := box.Cluster("https://oidc.contoso.example/")
	if err != nil {
		t.Fatal(err)
	}
	pod := azuretest.Pod{Namespace: "shop", Name: "till", ServiceAccount: "reader"}
	box.Tenant(tenantID).Application(clientID).Federate(cluster.Issuer(), pod.Subject(), azuretest.TokenExchangeAudience)
	vault := box.Vault("contoso", box.Tenant(tenantID))
	vault.Grant(clientID, azuretest.SecretsGet, azuretest.SecretsList)
	vault.SetSecret("db-password", azuretest.Secret{Value: "Hello!", Version: version})
	pool := box.Transport()
	t.Cleanup(pool.CloseIdleConnections)
	s := &sdk{Box: box, metrics: metrics.New("1.2.3")}
	s.options = azcore.ClientOptions{
		Transport: &http.Client{Transport: s.metrics.Transport(pool)},
		Retry:     policy.RetryOptions{MaxRetries: -1},
	}
	s.credential, err = azidentity.NewClientAssertionCredential(tenantID, clientID,
		func(context.Context) (string, error) {
			return cluster.Token(pod, azuretest.TokenExchangeAudience, time.Hour)
		},
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: s.options, DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sdk) secrets(t *testing.T, vault string) *azsecrets.Client {
	t.Helper()
	c, err := azsecrets.NewClient(vault, s.credential, &azsecrets.ClientOptions{ClientOptions: s.options})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Requests are counted by service, operation and status, and by nothing else.
func TestRequests(t *testing.T) {
	s := newSDK(t)
	reader := s.secrets(t, "https://contoso.vault.azure.net")
	for range 2 {
		if _, err := reader.GetSecret(t.Context(), "db-password", "", nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := reader.GetSecret(t.Context(), "db-password", version, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.GetSecret(t.Context(), "no-such-secret", "", nil); err == nil {
		t.Fatal("a secret that does not exist was read")
	}
	if _, err := s.secrets(t, "https://nobody.vault.azure.net").GetSecret(t.Context(), "db-password", "", nil); err == nil {
		t.Fatal("a vault that does not exist was read")
	}
	s.SetFault(azuretest.Token, azuretest.Fault{Status: 503})
	stranger, err := azidentity.NewClientAssertionCredential(tenantID, clientID, func(context.Context) (string, error) { return "x", nil },
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: s.options, DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}}); err == nil {
		t.Fatal("Entra answered in spite of its fault")
	}
	got := counts(scrape(t, s.metrics), requestCount)
	want := map[string]string{
		`code="200",operation="metadata",service="entra"`:        "2",
		`code="200",operation="token",service="entra"`:           "1",
		`code="503",operation="token",service="entra"`:           "1",
		`code="401",operation="get_secret",service="keyvault"`:   "1", // the challenge
		`code="200",operation="get_secret",service="keyvault"`:   "3",
		`code="404",operation="get_secret",service="keyvault"`:   "1",
		`code="error",operation="get_secret",service="keyvault"`: "1",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

var labelText = regexp.MustCompile(`(\w+)="([^"]*)"`)

// A list of objects has a token; a request without one is for the challenge.
func TestLists(t *testing.T) {
	m := metrics.New("1.2.3")
	transport := m.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
	}))
	for _, path := range []string{"secrets", "keys", "certificates"} {
		for _, token := range []string{"", "Bearer x"} {
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://contoso.vault.azure.net/"+path+"?api-version=7.6", nil)
			if token != "" {
				req.Header.Set("Authorization", token)
			}
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		}
	}
	want := map[string]string{`code="200",operation="challenge",service="keyvault"`: "3"}
	for _, kind := range []string{"secrets", "keys", "certificates"} {
		want[`code="200",operation="list_`+kind+`",service="keyvault"`] = "1"
	}
	if got := counts(scrape(t, m), requestCount); !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// Whatever is requested, no label contains it.
func TestLabelsAreClosed(t *testing.T) {
	s := newSDK(t)
	vault := "https://contoso.vault.azure.net"
	secrets := s.secrets(t, vault)
	keys, err := azkeys.NewClient(vault, s.credential, &azkeys.ClientOptions{ClientOptions: s.options})
	if err != nil {
		t.Fatal(err)
	}
	certificates, err := azcertificates.NewClient(vault, s.credential, &azcertificates.ClientOptions{ClientOptions: s.options})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"db-password", "no-such-name", "token", "versions"} {
		_, _ = secrets.GetSecret(t.Context(), name, "", nil) // some exist, some do not, some are not allowed
		_, _ = secrets.GetSecret(t.Context(), name, "some-version", nil)
		_, _ = keys.GetKey(t.Context(), name, "", nil)
		_, _ = certificates.GetCertificate(t.Context(), name, "", nil)
		_, _ = secrets.NewListSecretPropertiesVersionsPager(name, nil).NextPage(t.Context())
	}
	// What a proxy or a class of bad will might lead to.
	odd := s.metrics.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 299, Body: http.NoBody, Request: r}, nil
	}))
	for _, address := range []string{
		"https://odd.example/", "https://odd.example", "https://odd.example/secrets", "https://odd.example/secrets/", "https://odd.example//secrets/x",
		"https://odd.example/secrets/a/oauth2/v2.0/token", "https://odd.example/%2e%2e/secrets/x%00y", "http://169.254.169.254/metadata/identity/oauth2/token?resource=odd",
		"https://login.microsoftonline.com/odd/discovery/instance", "https://odd.example/?odd=odd#odd",
	} {
		req, err := http.NewRequestWithContext(t.Context(), "ODD", address, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := odd.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	services := []string{"entra", "keyvault", "imds", "other"}
	operation, code := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`), regexp.MustCompile(`^([1-9]\d\d|error)$`)
	operations := map[string]bool{}
	for labels := range counts(scrape(t, s.metrics), requestCount) {
		for _, l := range labelText.FindAllStringSubmatch(labels, -1) {
			switch name, value := l[1], l[2]; name {
			case "service":
				if !slices.Contains(services, value) {
					t.Errorf("service %q", value)
				}
			case "operation":
				operations[value] = true
				if !operation.MatchString(value) {
					t.Errorf("operation %q", value)
				}
			case "code":
				if !code.MatchString(value) {
					t.Errorf("code %q", value)
				}
			default:
				t.Errorf("label %q", name)
			}
		}
	}
	if len(operations) > 12 {
		t.Errorf("%d operations: %v", len(operations), operations)
	}
	for series := range scrape(t, s.metrics) {
		for _, never := range []string{"db-password", "no-such-name", "some-version", version, "contoso", "odd", tenantID, clientID,
			"vault.azure.net", "login.microsoftonline.com", "169.254", "127.0.0.1", "/secrets", "shop", "till"} {
			if strings.Contains(series, never) {
				t.Errorf("%s contains %q", series, never)
			}
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The wrapped transport's answers and errors are returned unchanged: package
// transport checks the errors' types.
func TestTransportPassesOn(t *testing.T) {
	failed := &net.DNSError{IsNotFound: true}
	answer := &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("body"))}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://x/secrets/y", nil)
	m := metrics.New("1.2.3")
	if resp, err := m.Transport(roundTripper(func(*http.Request) (*http.Response, error) { return nil, failed })).RoundTrip(req); resp != nil || err != error(failed) {
		t.Errorf("got %v, %v", resp, err)
	}
	if resp, err := m.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		if r != req {
			t.Error("the request was changed")
		}
		return answer, nil
	})).RoundTrip(req); resp != answer || err != nil {
		t.Errorf("got %v, %v", resp, err)
	}
}

// Mounts are counted by reason and mistakes by kind, from any goroutine.
func TestMountsAndClassWarnings(t *testing.T) {
	m := metrics.New("1.2.3")
	if got := counts(scrape(t, m), "akv_csi_mount_duration_seconds_count"); len(got) != 0 {
		t.Errorf("before the first mount: %v", got)
	}
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			m.Mounted("start", "", 30*time.Millisecond)
			m.Mounted("rotate", "AccessDenied", 2*time.Second)
			m.ClassWarning("unknown-field")
		})
	}
	group.Wait()
	m.ClassWarning("duplicate-path")
	series := scrape(t, m)
	if got := counts(series, "akv_csi_mount_duration_seconds_count"); !maps.Equal(got, map[string]string{`operation="start",reason="ok"`: "50", `operation="rotate",reason="AccessDenied"`: "50"}) {
		t.Errorf("mounts: got %v", got)
	}
	for bucket, want := range map[string]string{
		`operation="start",reason="ok",le="0.025"`: "0", `operation="start",reason="ok",le="0.05"`: "50", `operation="rotate",reason="AccessDenied",le="1"`: "0", `operation="rotate",reason="AccessDenied",le="2.5"`: "50",
	} {
		if got := series["akv_csi_mount_duration_seconds_bucket{"+bucket+"}"]; got != want {
			t.Errorf("%s: got %s, want %s", bucket, got, want)
		}
	}
	if got := counts(series, "akv_csi_class_warnings_total"); !maps.Equal(got, map[string]string{`kind="unknown-field"`: "50", `kind="duplicate-path"`: "1"}) {
		t.Errorf("warnings: got %v", got)
	}
}

// Rotations are counted by result, each present from the start.
func TestRotations(t *testing.T) {
	m := metrics.New("1.2.3")
	if got := counts(scrape(t, m), "akv_csi_rotations_total"); !maps.Equal(got, map[string]string{`result="changed"`: "0", `result="unchanged"`: "0", `result="failed"`: "0"}) {
		t.Errorf("before the first: got %v", got)
	}
	m.Rotated("changed")
	m.Rotated("failed")
	m.Rotated("failed")
	if got := counts(scrape(t, m), "akv_csi_rotations_total"); !maps.Equal(got, map[string]string{`result="changed"`: "1", `result="unchanged"`: "0", `result="failed"`: "2"}) {
		t.Errorf("got %v", got)
	}
}

// Requests to the cluster are distinguished from those to Azure, and labels say no more.
func TestClusterRequests(t *testing.T) {
	m := metrics.New("1.2.3")
	answer := roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	})
	for _, c := range []struct {
		next http.RoundTripper
		path string
	}{
		{m.APIServer(answer), "/api/v1/namespaces/shop/serviceaccounts/reader"},
		{m.TokenProxy(answer), "/" + tenantID + "/v2.0/.well-known/openid-configuration"},
		{m.TokenProxy(answer), "/" + tenantID + "/oauth2/v2.0/token"},
		{m.TokenProxy(answer), "/secrets/db-password"},
	} {
		if _, err := c.next.RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://10.0.0.1"+c.path, nil)); err != nil {
			t.Fatal(err)
		}
	}
	got := counts(scrape(t, m), requestCount)
	want := map[string]string{
		`code="200",operation="get_serviceaccount",service="apiserver"`: "1",
		`code="200",operation="metadata",service="token_proxy"`:         "1",
		`code="200",operation="token",service="token_proxy"`:            "1",
		`code="200",operation="other",service="token_proxy"`:            "1",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// Two plugins in one process, as in tests, do not share instruments.
func TestInstrumentsAreOwn(t *testing.T) {
	a, b := metrics.New("1.2.3"), metrics.New("4.5.6")
	a.ClassWarning("x")
	if got := counts(scrape(t, b), "akv_csi_class_warnings_total"); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	if got := counts(scrape(t, a), "akv_csi_build_info"); !maps.Equal(got, map[string]string{`version="1.2.3"`: "1"}) {
		t.Errorf("build info: got %v", got)
	}
	if scrape(t, a)["go_goroutines"] == "" {
		t.Error("no metrics of the Go runtime")
	}
}

// gRPC calls are counted by method and code; the error's text is no label.
func TestInterceptor(t *testing.T) {
	m := metrics.New("1.2.3")
	info := &grpc.UnaryServerInfo{FullMethod: "/v1alpha1.CSIDriverProvider/Mount"}
	want := status.Error(codes.NotFound, "contoso has no db-password")
	resp, err := m.Interceptor()(t.Context(), "request", info, func(context.Context, any) (any, error) { return "answer", want })
	if resp != "answer" || status.Convert(err).Message() != "contoso has no db-password" {
		t.Errorf("got %v, %v", resp, err)
	}
	var handled []string
	for labels, value := range counts(scrape(t, m), "grpc_server_handled_total") {
		handled = append(handled, labels+" "+value)
	}
	if len(handled) != 1 || !strings.Contains(handled[0], `grpc_code="NotFound",grpc_method="Mount",grpc_service="v1alpha1.CSIDriverProvider",grpc_type="unary"`) || !strings.HasSuffix(handled[0], " 1") {
		t.Errorf("got %q", handled)
	}
}

// Go's HTTP/2 client accepts any number as a status; as a label each would be a
// series forever.
func TestOddStatuses(t *testing.T) {
	m := metrics.New("1.2.3")
	for _, status := range []int{-5, 0, 99, 600, 1234, 99999, 200} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://contoso.vault.azure.net/secrets/x", nil)
		answering := roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Body: http.NoBody}, nil
		})
		if _, err := m.Transport(answering).RoundTrip(req); err != nil {
			t.Fatal(err)
		}
	}
	codes := map[string]bool{}
	for name := range scrape(t, m) {
		if rest, ok := strings.CutPrefix(name, `akv_csi_azure_request_duration_seconds_count{code="`); ok {
			code, _, _ := strings.Cut(rest, `"`)
			codes[code] = true
		}
	}
	if len(codes) != 2 || !codes["other"] || !codes["200"] {
		t.Errorf("codes %v", codes)
	}
}

// Anybody who reaches the port may ask, and each request at the same time takes memory.
func TestRequestsAtATime(t *testing.T) {
	m := metrics.New("1.2.3")
	asked, release := make(chan struct{}), make(chan struct{})
	m.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "slow"}, func() float64 {
		asked <- struct{}{}
		<-release
		return 1
	}))
	handler := m.Handler()
	request := func() int {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		return recorder.Code
	}
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			if code := request(); code != http.StatusOK {
				t.Errorf("got %d", code)
			}
		})
		<-asked
	}
	third := make(chan int, 1)
	group.Go(func() { third <- request() })
	select {
	case code := <-third:
		if code != http.StatusServiceUnavailable {
			t.Errorf("the third: got %d", code)
		}
	case <-asked:
		t.Error("the third is collected too")
	}
	close(release)
	group.Wait()
}
