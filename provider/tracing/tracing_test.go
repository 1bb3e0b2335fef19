package tracing

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Without the variable, or with tracing disabled, nothing is started: no goroutine, no
// interceptor, and the SDK creates no spans.
func TestOff(t *testing.T) {
	for _, env := range []map[string]string{{}, {EndpointVariable: ""}, {EndpointVariable: "http://127.0.0.1:1", disabledVariable: "true"}} {
		before := runtime.NumGoroutine()
		traces, err := Start(func(name string) string { return env[name] }, "1.2.3", slog.New(slog.DiscardHandler))
		if traces != nil || err != nil || traces.Interceptors() != nil || traces.SDK().NewTracer("x", "1").Enabled() {
			t.Errorf("%v: got %v, %v", env, traces, err)
		}
		traces.Stop()
		if after := runtime.NumGoroutine(); after > before {
			t.Errorf("%v: %d goroutines more", env, after-before)
		}
	}
}

// Only the allowed attributes of a span are sent, wherever else it may contain text.
func TestOnlyChosenAttributesAreSent(t *testing.T) {
	const requestID = "01234567-89ab-cdef-0123-456789ABCDEF"
	var sent strings.Builder
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(&sent, r.Body)
	}))
	defer server.Close()
	traces, err := Start(func(name string) string { return map[string]string{EndpointVariable: server.URL}[name] }, "1.2.3", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	other := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	_, span := traces.tracer.Start(context.Background(), "a span", trace.WithAttributes(
		attribute.String("http.request.header.authorization", canary), attribute.String("akv.reason", "chosen"),
		attribute.String(responseID, canary)),
		trace.WithLinks(trace.Link{SpanContext: other, Attributes: []attribute.KeyValue{attribute.String("akv.reason", canary)}}))
	span.AddEvent(canary)
	span.SetStatus(codes.Error, canary)
	span.End()
	_, span = traces.tracer.Start(context.Background(), "of Azure", trace.WithAttributes(attribute.String(responseID, requestID)))
	span.End()
	traces.Stop()
	if text := sent.String(); strings.Contains(text, canary) || !strings.Contains(text, "chosen") || !strings.Contains(text, "a span") || !strings.Contains(text, requestID) {
		t.Errorf("sent %q", text)
	}
}
