package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// keep are the attributes of spans that leave the process. Object names are in http.url:
// like those of vaults they are no secrets, as a SecretProviderClass holds them in clear
// text. Key Vault takes no secret in a URL, and the SDK strikes out all of its query but
// the API version.
var keep = []string{
	"rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code",
	"k8s.namespace.name", "k8s.pod.name", "akv.vault", "akv.reason", "akv.rotation", "akv.requests",
	"http.method", "http.url", "http.status_code", "net.peer.name",
	"az.namespace", "az.client_request_id", "az.service_request_id",
}

// collector sends spans by OTLP over HTTP. It takes the place of otlptracehttp, which
// links the gRPC gateway: half a megabyte in each node's memory, for one POST.
type collector struct {
	url     *url.URL
	headers http.Header
	client  *http.Client
	log     *slog.Logger

	mu      sync.Mutex // guards failing
	failing bool
}

const (
	uploadTime = 10 * time.Second // what OpenTelemetry specifies
	maxReply   = 64 << 10
)

func newCollector(getenv func(string) string, log *slog.Logger) (*collector, error) {
	u, err := url.Parse(getenv(EndpointVariable))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		// The value is not told: it may hold a password.
		return nil, errors.New(EndpointVariable + ": not the http or https URL of a collector")
	}
	if p := getenv(protocolVariable); p != "" && p != "http/protobuf" {
		return nil, fmt.Errorf("%s: %q is not supported; http/protobuf is, usually at port 4318", protocolVariable, p)
	}
	headers, err := parseHeaders(getenv(headersVariable))
	if err != nil {
		return nil, err
	}
	return &collector{
		url: u.JoinPath("v1", "traces"), headers: headers, log: log,
		client: &http.Client{
			Timeout:   uploadTime,
			Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxReply},
			// The headers may hold a credential.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// parseHeaders reads key=value pairs, separated by commas, the values in URL encoding.
func parseHeaders(text string) (http.Header, error) {
	headers := http.Header{}
	for pair := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !ok || name == "" || err != nil {
			return nil, errors.New(headersVariable + ": not a list of name=value") // which may be credentials
		}
		headers.Set(name, value)
	}
	return headers, nil
}

// Start implements otlptrace.Client.
func (c *collector) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (c *collector) Stop(context.Context) error {
	c.client.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client. What cannot be sent is lost: traces are not
// worth the memory in which they would wait.
func (c *collector) UploadTraces(ctx context.Context, traces []*spans.ResourceSpans) error {
	for _, t := range traces {
		for _, scope := range t.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				redact(s)
			}
		}
	}
	err := c.send(ctx, traces)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil && !c.failing:
		c.log.Warn("traces are lost", "host", c.url.Host, "error", err)
	case err == nil && c.failing:
		c.log.Info("traces arrive again", "host", c.url.Host)
	}
	c.failing = err != nil
	return err
}

// redact leaves of a span what may leave the process. The SDK puts texts of errors into
// statuses, and with them what a service or a proxy has answered.
func redact(s *spans.Span) {
	s.Attributes = slices.DeleteFunc(s.GetAttributes(), func(a *common.KeyValue) bool { return !slices.Contains(keep, a.GetKey()) })
	s.Events, s.Links, s.TraceState = nil, nil, ""
	if s.Status != nil {
		s.Status.Message = ""
	}
}

// send posts the spans. TracesData has the wire format of the request that a collector
// expects, whose own type is in the package of the gRPC service.
func (c *collector) send(ctx context.Context, traces []*spans.ResourceSpans) error {
	body, err := proto.Marshal(&spans.TracesData{ResourceSpans: traces})
	if err != nil {
		return errors.New("spans cannot be encoded")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = c.headers.Clone()
	req.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxReply)) // so that the connection is used again
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("the collector answers %d", resp.StatusCode)
	}
	return nil
}
