// Package tracing sends the spans of mounts to an OpenTelemetry collector, if the
// environment names one. Only an allow-list of attributes leaves the process: see allowed.
package tracing

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/tracing"
	"github.com/Azure/azure-sdk-for-go/sdk/tracing/azotel"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// The environment variables of this package. The OpenTelemetry SDK reads those for sampling
// (OTEL_TRACES_SAMPLER), batches (OTEL_BSP_*) and the resource (OTEL_RESOURCE_ATTRIBUTES,
// OTEL_SERVICE_NAME).
const (
	EndpointVariable = "OTEL_EXPORTER_OTLP_ENDPOINT" // without it, nothing is traced
	headersVariable  = "OTEL_EXPORTER_OTLP_HEADERS"
	protocolVariable = "OTEL_EXPORTER_OTLP_PROTOCOL"
	disabledVariable = "OTEL_SDK_DISABLED"
)

// stopTimeout limits how long sending the last spans may take.
const stopTimeout = 3 * time.Second

// Tracing creates and sends spans. A nil Tracing creates none. It is safe for concurrent use.
type Tracing struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// Start reads the environment. It returns nil, and starts nothing, if no collector is
// configured. Otherwise the caller must call Stop.
func Start(getenv func(string) string, version string, log *slog.Logger) (*Tracing, error) {
	if getenv(EndpointVariable) == "" || strings.EqualFold(getenv(disabledVariable), "true") {
		return nil, nil
	}
	to, err := newCollector(getenv, log)
	if err != nil {
		return nil, err
	}
	res, err := resource.New(context.Background(),
		resource.WithAttributes(attribute.String("service.name", "akv-csi-provider"), attribute.String("service.version", version)),
		resource.WithFromEnv()) // may add the node's name or replace that of the service
	if err != nil {
		return nil, errors.New("OTEL_RESOURCE_ATTRIBUTES: not a list of key=value") // the SDK's error quotes the value
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {})) // the collector logs failures
	provider := sdk.NewTracerProvider(sdk.WithResource(res), sdk.WithBatcher(otlptrace.NewUnstarted(to)))
	log.Info("sending traces", "host", to.url.Host)
	return &Tracing{provider: provider, tracer: provider.Tracer("akv-csi-provider", trace.WithInstrumentationVersion(version))}, nil
}

// Stop sends the remaining spans. It takes at most a few seconds.
func (t *Tracing) Stop() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // the collector has logged it
}

// SDK returns the tracing provider for the clients of Azure's SDK.
func (t *Tracing) SDK() tracing.Provider {
	if t == nil {
		return tracing.Provider{}
	}
	return azotel.NewTracingProvider(t.provider, nil)
}

// Interceptors create a span for each mount. Without tracing there are none. The one of
// otelgrpc would also create spans for health checks, and it links OpenTelemetry's metrics
// in addition to those of Prometheus.
func (t *Tracing) Interceptors() []grpc.UnaryServerInterceptor {
	if t == nil {
		return nil
	}
	return []grpc.UnaryServerInterceptor{t.intercept}
}

func (t *Tracing) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	name := strings.TrimPrefix(info.FullMethod, "/")
	service, method, _ := strings.Cut(name, "/")
	if method != "Mount" {
		return next(ctx, req)
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("rpc.system", "grpc"), attribute.String("rpc.service", service), attribute.String("rpc.method", method)))
	defer span.End()
	resp, err := next(ctx, req)
	span.SetAttributes(attribute.Int("rpc.grpc.status_code", int(status.Code(err))))
	if err != nil {
		span.SetStatus(codes.Error, "")
	}
	return resp, err
}
