package tracing

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// allowed lists the attributes that a span may carry to the collector. Object names are in
// http.url. Like the names of vaults they are not secret: a SecretProviderClass contains
// them in clear text. No request to Key Vault has a secret in its URL, and the SDK redacts
// the query except for the API version.
var allowed = []string{
	"rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code",
	"k8s.namespace.name", "k8s.pod.name", "akv.vault", "akv.reason", "akv.rotation", "akv.requests",
	"http.method", "http.url", "http.status_code", "net.peer.name",
	"az.namespace", "az.client_request_id", responseID,
}

// responseID is the allowed attribute that a service or a proxy writes, in a response header. Azure
// sends a GUID there. Anything else could be a token that a proxy returns to us.
const responseID = "az.service_request_id"

var guid = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)

// collector sends spans by OTLP over HTTP. It replaces otlptracehttp, which was measured
// with a wrapper that redacts the spans, and was not simpler: 141 lines of code instead of
// 139, since the checks of the environment remain, and the URL, the headers and the replies
// must be kept out of the exporter's errors and logs. Four more modules, among them the gRPC
// gateway, added 0.6 MB to the binary and 0.5 MiB to each node's memory, with or without
// tracing.
type collector struct {
	url       *url.URL
	headers   http.Header
	transport *http.Transport
	log       *slog.Logger

	failing atomic.Bool
}

const (
	uploadTimeout = 10 * time.Second // the default of the OpenTelemetry specification
	maxReply      = 64 << 10         // bytes
)

func newCollector(getenv func(string) string, log *slog.Logger) (*collector, error) {
	u, err := url.Parse(getenv(EndpointVariable))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		// The value is not quoted: it may contain a password.
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
		transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxReply},
	}, nil
}

// parseHeaders parses name=value pairs that are separated by commas. The values are URL-encoded.
func parseHeaders(text string) (http.Header, error) {
	headers := http.Header{}
	for pair := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !ok || name == "" || err != nil {
			return nil, errors.New(headersVariable + ": not a list of name=value") // not quoted: it may contain a credential
		}
		headers.Set(name, value)
	}
	return headers, nil
}

// Start implements otlptrace.Client.
func (c *collector) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (c *collector) Stop(context.Context) error {
	c.transport.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client. Spans that cannot be sent are dropped, not
// retried: they are not worth the memory that a queue would take.
func (c *collector) UploadTraces(ctx context.Context, traces []*spans.ResourceSpans) error {
	for _, t := range traces {
		for _, scope := range t.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				redact(s)
			}
		}
	}
	err := c.send(ctx, traces)
	switch failed := c.failing.Swap(err != nil); {
	case err != nil && !failed:
		c.log.Warn("traces are lost", "host", c.url.Host, "error", err)
	case err == nil && failed:
		c.log.Info("traces are sent again", "host", c.url.Host)
	}
	return err
}

// redact removes from a span everything that is not allowed to leave the process. The SDK
// writes error texts into statuses, and these quote the response of a service or a proxy.
func redact(s *spans.Span) {
	s.Attributes = slices.DeleteFunc(s.GetAttributes(), func(a *common.KeyValue) bool {
		return !slices.Contains(allowed, a.GetKey()) || a.GetKey() == responseID && !guid.MatchString(a.GetValue().GetStringValue())
	})
	s.Events, s.Links, s.TraceState = nil, nil, ""
	if s.Status != nil {
		s.Status.Message = ""
	}
}

// send posts the spans. TracesData has the same wire format as the request that a collector
// expects, whose type is in the package of the gRPC service. RoundTrip follows no redirect,
// to which the headers with their credentials would be sent.
func (c *collector) send(ctx context.Context, traces []*spans.ResourceSpans) error {
	body, err := proto.Marshal(&spans.TracesData{ResourceSpans: traces})
	if err != nil {
		return errors.New("spans cannot be encoded")
	}
	ctx, cancel := context.WithTimeout(ctx, uploadTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url.String(), bytes.NewReader(body))
	if err != nil {
		return redactError(err)
	}
	req.Header = c.headers.Clone()
	req.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return redactError(err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxReply)) // so that the connection is reused
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("the collector answers %d", resp.StatusCode)
	}
	return nil
}

// redactError returns an error that is safe to log. Those of the network quote host names
// and addresses only. Others of net/http may quote the URL or the proxy's password, or echo
// what the collector sent.
func redactError(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	if network, ok := errors.AsType[*net.OpError](err); ok {
		return network
	}
	if certificate, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return certificate
	}
	return errors.New("the request failed; check the endpoint, the headers and the proxy")
}
