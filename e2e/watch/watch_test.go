// Package watch checks what operators watch the plugin by: the alert rules and the
// dashboard, with Prometheus' own parsers, against the metrics that the process really
// serves. It is a separate module since those parsers come with all of Prometheus.
package watch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

const (
	root     = "../.."
	tenantID = "72f988bf-0000-4000-8000-00000000cafe"
	clientID = "5b1e7a90-0000-4000-8000-0000000000d1"
	class    = `
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: quick-start
spec:
  provider: azure
  parameters:
    keyvaultName: kv-quick-start
    tenantID: ` + tenantID + `
    objects: |
      - {objectName: my-secret, objectType: secret, objectFromat: none}
`
)

// served are the metrics of a process after the mounts of the demo: a pod that starts, a
// rotation that brings something, one that does not, and a pod that is refused.
var served map[string]*dto.MetricFamily

func TestMain(m *testing.M) {
	var err error
	if served, err = scrapeAfterMounts(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func scrapeAfterMounts() (_ map[string]*dto.MetricFamily, err error) {
	dir, err := os.MkdirTemp("", "akv")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary := filepath.Join(dir, "akv-csi-provider")
	build := exec.Command("go", "build", "-o", binary, "./cmd/akv-csi-provider")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w\n%s", err, out)
	}
	box, err := azuretest.New(azuretest.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = box.Close() }()
	cluster, err := box.Cluster("https://oidc.example/quick-start/")
	if err != nil {
		return nil, err
	}
	api, err := cluster.APIServer()
	if err != nil {
		return nil, err
	}
	env, err := box.Environ(dir)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(api.Addr())
	if err != nil {
		return nil, err
	}
	if err := api.WriteCredentials(dir); err != nil {
		return nil, err
	}
	free, err := freePort()
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "azure.sock")
	var log bytes.Buffer
	plugin := exec.Command(binary, "--endpoint=unix://"+socket, "--healthz-port=0", fmt.Sprintf("--prometheus-port=%d", free), "--service-account-dir="+dir)
	plugin.Env = append(env, "KUBERNETES_SERVICE_HOST="+host, "KUBERNETES_SERVICE_PORT="+port)
	plugin.Stderr = &log
	if err := plugin.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = plugin.Process.Signal(syscall.SIGTERM)
		if ended := plugin.Wait(); ended != nil || err != nil {
			err = fmt.Errorf("%w; the plugin: %v\n%s", err, ended, log.String())
		}
	}()
	if err := mounts(box, cluster, api, socket); err != nil {
		return nil, err
	}
	return scrape(free)
}

// mounts plays the demo's story.
func mounts(box *azuretest.Box, cluster *azuretest.Cluster, api *azuretest.APIServer, socket string) error {
	pod := azuretest.Pod{Namespace: "default", Name: "quick-start", ServiceAccount: "quick-start"}
	stranger := azuretest.Pod{Namespace: "default", Name: "stranger", ServiceAccount: "stranger"}
	for _, p := range []azuretest.Pod{pod, stranger} {
		api.SetServiceAccount(p.Namespace, p.ServiceAccount, map[string]string{"azure.workload.identity/client-id": clientID})
	}
	box.Tenant(tenantID).Application(clientID).Federate(cluster.Issuer(), pod.Subject(), azuretest.TokenExchangeAudience)
	vault := box.Vault("kv-quick-start", box.Tenant(tenantID))
	vault.Grant(clientID, azuretest.SecretsGet)
	vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello!"})
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	driver := v1alpha1.NewCSIDriverProviderClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	mount := func(p azuretest.Pod) error {
		req, err := cluster.MountRequest([]byte(class), p, nil, "/pods/"+p.Name)
		if err != nil {
			return err
		}
		_, err = driver.Mount(ctx, req, grpc.WaitForReady(true))
		return err
	}
	if err := mount(pod); err != nil {
		return err
	}
	vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello again!", Created: time.Now().Add(time.Second)})
	for range 2 {
		if err := mount(pod); err != nil {
			return err
		}
	}
	if err := mount(stranger); err == nil {
		return fmt.Errorf("the stranger mounted")
	}
	return nil
}

func scrape(port int) (map[string]*dto.MetricFamily, error) {
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	read := expfmt.NewTextParser(model.UTF8Validation)
	return read.TextToMetricFamilies(bytes.NewReader(text))
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// family finds the metric whose series has the name.
func family(series string) *dto.MetricFamily {
	if f := served[series]; f != nil {
		return f
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		base, ok := strings.CutSuffix(series, suffix)
		if f := served[base]; ok && f != nil && f.GetType() == dto.MetricType_HISTOGRAM {
			return f
		}
	}
	return nil
}

// labelNames are the labels that the metric's series have, and those that Prometheus adds.
func labelNames(f *dto.MetricFamily) []string {
	names := []string{"__name__", "instance", "job", "node", "namespace", "cluster"}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			names = append(names, l.GetName())
		}
	}
	if f.GetType() == dto.MetricType_HISTOGRAM {
		names = append(names, "le")
	}
	return names
}

// foreign are metrics of others with the labels that a query may use.
var foreign = map[string][]string{
	"up": {"job", "instance", "node", "namespace", "cluster"}, // of Prometheus
	"kube_daemonset_status_desired_number_scheduled": {"namespace", "daemonset", "cluster"}, // of kube-state-metrics
	"kube_daemonset_status_number_ready":             {"namespace", "daemonset", "cluster"},
	"kube_daemonset_status_updated_number_scheduled": {"namespace", "daemonset", "cluster"},
}

// check parses a query and reports what in it the plugin does not serve.
func check(t *testing.T, where, query string) {
	t.Helper()
	query = strings.NewReplacer("$__rate_interval", "5m", "$cluster", ".*", "$namespace", ".*", "$node", ".*").Replace(query)
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	known := map[string]bool{} // labels of any metric of the query
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		if others, ok := foreign[selector.Name]; ok {
			for _, name := range others {
				known[name] = true
			}
			for _, m := range selector.LabelMatchers {
				if m.Name != "__name__" && !slices.Contains(others, m.Name) {
					t.Errorf("%s: %s has no label %s", where, selector.Name, m.Name)
				}
			}
			return nil
		}
		f := family(selector.Name)
		if f == nil {
			t.Errorf("%s: the plugin serves no %s", where, selector.Name)
			return nil
		}
		names := labelNames(f)
		for _, name := range names {
			known[name] = true
		}
		for _, m := range selector.LabelMatchers {
			if !slices.Contains(names, m.Name) {
				t.Errorf("%s: %s has no label %s", where, selector.Name, m.Name)
			}
			checkValue(t, where, f, m)
		}
		return nil
	})
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if a, ok := node.(*parser.AggregateExpr); ok {
			for _, name := range a.Grouping {
				if !known[name] {
					t.Errorf("%s: sums by %s, a label of none of its metrics", where, name)
				}
			}
		}
		return nil
	})
}

// checkValue checks labels whose values all exist from the start.
func checkValue(t *testing.T, where string, f *dto.MetricFamily, m *labels.Matcher) {
	t.Helper()
	if m.Type != labels.MatchEqual || !slices.Contains([]string{"result", "source", "within", "cache", "log", "operation", "grpc_service"}, m.Name) {
		return
	}
	for _, series := range f.GetMetric() {
		for _, l := range series.GetLabel() {
			if l.GetName() == m.Name && l.GetValue() == m.Value {
				return
			}
		}
	}
	t.Errorf("%s: no %s has %s=%q", where, f.GetName(), m.Name, m.Value)
}

// Prometheus accepts the alert rules, and each queries what exists.
func TestAlerts(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "deploy/chart/files/alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	groups, errs := rulefmt.Parse(text, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	rules := 0
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			rules++
			check(t, r.Alert, r.Expr)
			if r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s lacks a severity, a summary or a description", r.Alert)
			}
		}
	}
	if rules == 0 {
		t.Error("no rules")
	}
}

// Each panel of the dashboard queries what exists, and has its own place.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "deploy/chart/files/dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		UID, Title string
		Links      []struct{ URL string }
		Templating struct{ List []struct{ Name string } }
		Panels     []struct {
			ID          int
			Title       string
			Description string
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	var variables []string
	for _, v := range dashboard.Templating.List {
		variables = append(variables, v.Name)
	}
	if !slices.Equal(variables, []string{"datasource", "cluster", "namespace", "node"}) || len(dashboard.Links) == 0 {
		t.Errorf("variables %q, %d links", variables, len(dashboard.Links))
	}
	if dashboard.UID == "" || dashboard.Title == "" || len(dashboard.Panels) == 0 {
		t.Fatal("no dashboard")
	}
	cells, ids := map[[2]int]string{}, map[int]bool{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.Description == "" || len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s: its ID is taken, or it lacks a description or a query, or is too wide", p.Title)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				cell := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := cells[cell]; other != "" {
					t.Fatalf("%s lies over %s", p.Title, other)
				}
				cells[cell] = p.Title
			}
		}
		for _, target := range p.Targets {
			check(t, p.Title, target.Expr)
		}
	}
}

var (
	metricRow = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([^|]+) \\| ([^|]+) \\|")
	queries   = regexp.MustCompile("(?s)```promql\n(.*?)```")
	code      = regexp.MustCompile("`([^`]+)`")
)

// The document names all metrics of the plugin and of gRPC, no other, and their labels.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "deploy/METRICS.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, row := range metricRow.FindAllStringSubmatch(section(t, string(text), "Metrics"), -1) {
		name, kind := row[1], strings.TrimSpace(row[2])
		named[name] = true
		f := served[name]
		if f == nil && name == "akv_csi_certificate_next_expiry_timestamp_seconds" {
			continue // the demo mounts no certificate
		}
		if f == nil {
			t.Errorf("%s is in the document, but not served", name)
			continue
		}
		if !strings.EqualFold(f.GetType().String(), kind) {
			t.Errorf("%s is a %s, not a %s", name, f.GetType(), kind)
		}
		var documented []string
		for _, l := range code.FindAllStringSubmatch(row[3], -1) {
			documented = append(documented, l[1])
		}
		for _, l := range labelNames(f)[6:] {
			if l != "le" && !slices.Contains(documented, l) {
				t.Errorf("%s has the label %s, which the document does not name", name, l)
			}
		}
		for _, l := range documented {
			if !slices.Contains(labelNames(f), l) {
				t.Errorf("%s has no label %s", name, l)
			}
		}
	}
	for name := range served {
		own := strings.HasPrefix(name, "akv_csi_") || strings.HasPrefix(name, "grpc_server_")
		if own && !named[name] {
			t.Errorf("%s is served, but not in the document", name)
		}
	}
}

// The queries of the documents are for what exists.
func TestQueries(t *testing.T) {
	for _, name := range []string{"METRICS.md", "TROUBLESHOOTING.md"} {
		text, err := os.ReadFile(filepath.Join(root, "deploy", name))
		if err != nil {
			t.Fatal(err)
		}
		blocks := queries.FindAllStringSubmatch(string(text), -1)
		if len(blocks) == 0 {
			t.Errorf("%s has no queries", name)
		}
		for i, block := range blocks {
			check(t, fmt.Sprintf("query %d of %s", i+1, name), block[1])
		}
	}
}

// What the demo does is what the counters say.
func TestValues(t *testing.T) {
	for name, want := range map[string]map[string]float64{
		"akv_csi_retries_total":        {"keyvault": 0, "entra": 0},
		"akv_csi_rotations_total":      {"changed": 1, "unchanged": 1, "failed": 0},
		"akv_csi_object_reads_total":   {"read": 3, "shared": 0, "cached": 0, "stale": 0, "failover": 0, "absent": 0},
		"akv_csi_class_warnings_total": {"unknown_field": 4},
	} {
		for _, m := range served[name].GetMetric() {
			value := m.GetLabel()[0].GetValue()
			if got, ok := want[value]; !ok || got != m.GetCounter().GetValue() {
				t.Errorf("%s of %s: got %v, want %v", name, value, m.GetCounter().GetValue(), got)
			}
		}
	}
	reasons := map[string]uint64{}
	for _, m := range served["akv_csi_mount_duration_seconds"].GetMetric() {
		text := ""
		for _, l := range m.GetLabel() {
			text += l.GetValue() + " "
		}
		reasons[strings.TrimSpace(text)] = m.GetHistogram().GetSampleCount()
	}
	if len(reasons) != 3 || reasons["start ok"] != 1 || reasons["rotate ok"] != 2 || reasons["start FederatedCredentialMissing"] != 1 {
		t.Errorf("mounts by reason: %v", reasons)
	}
}
