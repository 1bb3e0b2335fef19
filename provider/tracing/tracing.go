// Package tracing sends the spans of mounts to an OpenTelemetry collector, if the
// environment names one. What leaves the process is chosen by name: see keep.
package tracing

import (
	"context"
	"errors"
	"fmt"
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

// The variables that are heeded beside those of the OpenTelemetry SDK for sampling
// (OTEL_TRACES_SAMPLER), batches (OTEL_BSP_*) and the resource (OTEL_RESOURCE_ATTRIBUTES,
// OTEL_SERVICE_NAME).
const (
	EndpointVariable = "OTEL_EXPORTER_OTLP_ENDPOINT" // without it nothing is traced
	headersVariable  = "OTEL_EXPORTER_OTLP_HEADERS"
	protocolVariable = "OTEL_EXPORTER_OTLP_PROTOCOL"
	disabledVariable = "OTEL_SDK_DISABLED"
)

// stopTime bounds how long the last spans may take to be sent.
const stopTime = 3 * time.Second

// Tracing makes and sends spans. A nil Tracing makes none. It is safe for concurrent use.
type Tracing struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// Start reads the environment and returns nil if it names no collector; then nothing
// runs. Otherwise Stop must be called.
func Start(getenv func(string) string, version string, log *slog.Logger) (*Tracing, error) {
	if getenv(EndpointVariable) == "" || strings.EqualFold(getenv(disabledVariable), "true") {
		return nil, nil
	}
	to, err := newCollector(getenv, log)
	if err != nil {
		return nil, err
	}
	about, err := resource.New(context.Background(),
		resource.WithAttributes(attribute.String("service.name", "akv-csi-provider"), attribute.String("service.version", version)),
		resource.WithFromEnv()) // which may name the node, and the service otherwise
	if err != nil {
		return nil, errors.New("OTEL_RESOURCE_ATTRIBUTES: not a list of key=value") // its own words quote the text
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {})) // the collector tells
	provider := sdk.NewTracerProvider(sdk.WithResource(about), sdk.WithBatcher(otlptrace.NewUnstarted(to)))
	log.Info("sending traces", "host", to.url.Host)
	return &Tracing{provider: provider, tracer: provider.Tracer("akv-csi-provider", trace.WithInstrumentationVersion(version))}, nil
}

// Stop sends what is left, for a few seconds at the most.
func (t *Tracing) Stop() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // the collector has told
}

// SDK is for the clients of Azure's SDK.
func (t *Tracing) SDK() tracing.Provider {
	if t == nil {
		return tracing.Provider{}
	}
	return azotel.NewTracingProvider(t.provider, nil)
}

// Interceptors make a span of each mount; none without tracing. That of otelgrpc would
// make one of each health check too, and links the metrics of OpenTelemetry beside
// those of Prometheus.
func (t *Tracing) Interceptors() []grpc.UnaryServerInterceptor {
	if t == nil {
		return nil
	}
	return []grpc.UnaryServerInterceptor{t.intercept}
}

func (t *Tracing) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	service, method, _ := strings.Cut(strings.TrimPrefix(info.FullMethod, "/"), "/")
	if method != "Mount" {
		return next(ctx, req)
	}
	ctx, span := t.tracer.Start(ctx, fmt.Sprintf("%s/%s", service, method), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("rpc.system", "grpc"), attribute.String("rpc.service", service), attribute.String("rpc.method", method)))
	defer span.End()
	resp, err := next(ctx, req)
	span.SetAttributes(attribute.Int("rpc.grpc.status_code", int(status.Code(err))))
	if err != nil {
		span.SetStatus(codes.Error, "")
	}
	return resp, err
}
