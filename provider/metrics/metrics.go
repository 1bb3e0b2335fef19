// Package metrics counts what the plugin does, for Prometheus. All labels come
// from closed sets: no name, address or error text ever becomes one.
package metrics

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
)

// Metrics are the instruments of one process. It is safe for concurrent use.
type Metrics struct {
	registry      *prometheus.Registry
	grpc          *grpcprom.ServerMetrics
	mounts        *prometheus.HistogramVec
	classWarnings *prometheus.CounterVec
	requests      *prometheus.HistogramVec
	answers       *prometheus.CounterVec
	signIns       *prometheus.CounterVec
	circuitOpen   *prometheus.CounterVec
	retries       *prometheus.CounterVec
	oldest        oldest
	rotated       *prometheus.CounterVec
}

// New makes the instruments; version is shown as a label of the build info.
func New(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), grpc: grpcprom.NewServerMetrics()}
	m.registry.MustRegister(m.grpc, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.mounts = m.histogram("akv_csi_mount_duration_seconds",
		"Duration of mounts by operation, start or rotate, and by the reason of their failure; \"ok\" for success.", "operation", "reason")
	m.classWarnings = m.counter("akv_csi_class_warnings_total",
		"Mistakes in classes that are accepted with a warning, by kind; --strict-objects rejects them.", "kind")
	m.requests = m.histogram("akv_csi_azure_request_duration_seconds",
		"Duration of single HTTP requests to Azure, the cluster's token proxy and its API server by service, operation and status code;"+
			" code \"error\" without an answer.", "service", "operation", "code")
	m.answers = m.counter("akv_csi_object_reads_total",
		"Objects that mounts requested, by source: read by the mount's own request, shared with one under way,"+
			" cached from before, stale while the vault was unavailable, from its failover vault, or absent where they are optional.",
		"source", "read", "shared", "cached", "stale", "failover", "absent")
	m.signIns = m.counter("akv_csi_sign_ins_total",
		"Access tokens that mounts requested, by result: cached, or exchanged for the pod's own token.", "result", "cached", "exchanged")
	m.circuitOpen = m.counter("akv_csi_circuit_open_seconds_total",
		"Total time during which the circuit breaker for a service was open, since it was unavailable or throttled.",
		"service", "keyvault", "entra")
	m.retries = m.counter("akv_csi_retries_total",
		"Requests that were sent again after a failure, by service.", "service", "keyvault", "entra")
	m.rotated = m.counter("akv_csi_rotations_total",
		"Mounts of volumes that were mounted before, by what they brought: changed, unchanged, or failed, where the pod keeps its files.",
		"result", "changed", "unchanged", "failed")
	promauto.With(m.registry).NewGauge(prometheus.GaugeOpts{
		Name: "akv_csi_build_info", Help: "Always 1; the label has the version.",
		ConstLabels: prometheus.Labels{"version": version},
	}).Set(1)
	return m
}

func (m *Metrics) histogram(name, help string, labels ...string) *prometheus.HistogramVec {
	buckets := []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	return promauto.With(m.registry).NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

// counter makes a counter with one label. Its values, if they are known, are present from
// the start, so that a rate has a beginning.
func (m *Metrics) counter(name, help, label string, values ...string) *prometheus.CounterVec {
	c := promauto.With(m.registry).NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	for _, value := range values {
		c.WithLabelValues(value)
	}
	return c
}

// Handler serves the metrics in Prometheus' formats. It answers 503 to more than two requests
// at a time: each of them takes some hundred kilobytes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2, Timeout: 5 * time.Second})
}

// CountDroppedLogLines adds a counter of a log, provider or audit. read returns its value; nil is
// always 0. Call it once for each.
func (m *Metrics) CountDroppedLogLines(log string, read func() uint64) {
	promauto.With(m.registry).NewCounterFunc(prometheus.CounterOpts{
		Name: "akv_csi_log_lines_dropped_total", Help: "Lines of a log, provider or audit, that were dropped because they could not be written in time, or at all.",
		ConstLabels: prometheus.Labels{"log": log},
	}, func() float64 {
		if read == nil {
			return 0
		}
		return float64(read())
	})
}

// Interceptor counts gRPC calls.
func (m *Metrics) Interceptor() grpc.UnaryServerInterceptor { return m.grpc.UnaryServerInterceptor() }

// Mounted counts a mount; operation is start or rotate, and reason is one of the plugin's
// reasons, "" for success.
func (m *Metrics) Mounted(operation, reason string, took time.Duration) {
	if reason == "" {
		reason = "ok"
	}
	m.mounts.WithLabelValues(operation, reason).Observe(took.Seconds())
}

// Rotated counts a mount of a volume that was mounted before: changed, unchanged or
// failed.
func (m *Metrics) Rotated(result string) { m.rotated.WithLabelValues(result).Inc() }

// ClassWarning counts a mistake in a class that is accepted, by one of the plugin's kinds.
func (m *Metrics) ClassWarning(kind string) { m.classWarnings.WithLabelValues(kind).Inc() }

// Answered counts an object of a mount by where its answer came from; age is the time since its
// request left.
func (m *Metrics) Answered(source string, age time.Duration) {
	m.answers.WithLabelValues(source).Inc()
	m.oldest.observe(time.Now(), age)
}

// SignIn counts an access token of a mount.
func (m *Metrics) SignIn(cached bool) {
	result := "exchanged"
	if cached {
		result = "cached"
	}
	m.signIns.WithLabelValues(result).Inc()
}

// CircuitOpened returns a function that counts for how long the circuit of a service is open.
func (m *Metrics) CircuitOpened(service string) func(time.Duration) {
	counter := m.circuitOpen.WithLabelValues(service)
	return func(d time.Duration) { counter.Add(d.Seconds()) }
}

// Retried returns a function that counts the requests to a service that are sent again.
func (m *Metrics) Retried(service string) func() { return m.retries.WithLabelValues(service).Inc }

// Transport counts the requests to Azure that go through next.
func (m *Metrics) Transport(next http.RoundTripper) http.RoundTripper {
	return m.around(next, classify)
}

// TokenProxy counts the requests to the cluster's token proxy that go through next.
func (m *Metrics) TokenProxy(next http.RoundTripper) http.RoundTripper {
	return m.around(next, func(req *http.Request) (service, operation string) {
		if service, operation = classify(req); service != "entra" {
			operation = "other"
		}
		return "token_proxy", operation
	})
}

// APIServer counts the requests to the cluster's API server that go through next.
func (m *Metrics) APIServer(next http.RoundTripper) http.RoundTripper {
	return m.around(next, func(*http.Request) (service, operation string) { return "apiserver", "get_serviceaccount" })
}

func (m *Metrics) around(next http.RoundTripper, classify func(*http.Request) (service, operation string)) http.RoundTripper {
	return promhttp.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
		start := time.Now()
		resp, err := next.RoundTrip(req)
		code := "error"
		if err == nil {
			code = "other" // Go's HTTP/2 client takes any number
			if resp.StatusCode >= 100 && resp.StatusCode <= 599 {
				code = strconv.Itoa(resp.StatusCode)
			}
		}
		service, operation := classify(req)
		m.requests.WithLabelValues(service, operation, code).Observe(time.Since(start).Seconds())
		return resp, err
	})
}

// classify names a request by its path, in words of a closed set.
func classify(req *http.Request) (service, operation string) {
	path := req.URL.Path
	switch {
	case strings.HasSuffix(path, "/.well-known/openid-configuration"):
		return "entra", "metadata"
	case strings.HasSuffix(path, "/oauth2/v2.0/token"), strings.HasSuffix(path, "/oauth2/token"):
		return "entra", "token"
	case path == "/metadata/identity/oauth2/token":
		return "imds", "token"
	}
	// /secrets/NAME/VERSION, where the version may be "" or "versions".
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	kind, ok := map[string]string{"secrets": "secret", "keys": "key", "certificates": "certificate"}[parts[0]]
	switch {
	case !ok:
		return "other", "other"
	case len(parts) == 1 && req.Header.Get("Authorization") == "": // for what tokens are to be made
		return "keyvault", "challenge"
	case len(parts) == 1:
		return "keyvault", "list_" + kind + "s"
	case len(parts) > 2 && parts[2] == "versions":
		return "keyvault", "list_" + kind + "_versions"
	}
	return "keyvault", "get_" + kind
}
