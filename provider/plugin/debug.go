package plugin

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/stats"
	"akv-csi-provider/provider/transport"
)

// What the log has from -v=4 on: each request, and where each object and token came from. Never
// content: no query, header or body, but the IDs by which Azure's support finds a request. Paths
// contain the names of objects, which each class has in clear text. The field "mount" is the one
// in the line of the mount.

// maxLoggedPath bounds a path. Key Vault's have less than 256 bytes.
const maxLoggedPath = 512

// requestLog logs the requests that go through next.
type requestLog struct {
	next http.RoundTripper
	log  *slog.Logger
}

// logged returns next itself where the log has no debug messages: its level does not change.
func logged(next http.RoundTripper, log *slog.Logger) http.RoundTripper {
	if !log.Enabled(context.Background(), slog.LevelDebug) {
		return next
	}
	return requestLog{next, log}
}

// measured adds the log to what measures requests.
func measured(measure func(http.RoundTripper) http.RoundTripper, log *slog.Logger) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper { return logged(measure(next), log) }
}

// RoundTrip implements http.RoundTripper.
func (l requestLog) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	start := time.Now()
	resp, err := l.next.RoundTrip(req)
	path := req.URL.EscapedPath()
	fields := append(mountOf(ctx), slog.String("method", req.Method), slog.String("host", req.URL.Host), slog.String("path", path[:min(len(path), maxLoggedPath)]))
	ids := transport.RequestIDs(req.Header)
	if err != nil { // its text may name a proxy; the mount's line says what it means
		fields = append(fields, slog.String("errorType", fmt.Sprintf("%T", err)))
	} else {
		fields = append(fields, slog.Int("status", resp.StatusCode))
		ids.Request = transport.RequestIDs(resp.Header).Request
	}
	for _, id := range []struct{ name, value string }{{"requestID", ids.Request}, {"correlationID", ids.Correlation}} {
		if fault.IsRequestID(id.value) {
			fields = append(fields, slog.String(id.name, id.value))
		}
	}
	l.log.LogAttrs(ctx, slog.LevelDebug, "request", append(fields, slog.Float64("durationSeconds", time.Since(start).Seconds()))...)
	return resp, err
}

// logAnswer logs where an object came from.
func logAnswer(ctx context.Context, log *slog.Logger, a keyvault.Answer) {
	if log.Enabled(ctx, slog.LevelDebug) {
		log.LogAttrs(ctx, slog.LevelDebug, "object", append(mountOf(ctx), slog.String("host", a.Object.Host), slog.String("object", a.Object.String()),
			slog.String("source", string(a.Source)), slog.Float64("ageSeconds", a.Age.Seconds()))...)
	}
}

// logToken logs where an access token came from.
func logToken(ctx context.Context, log *slog.Logger, cached bool) {
	if log.Enabled(ctx, slog.LevelDebug) {
		log.LogAttrs(ctx, slog.LevelDebug, "token", append(mountOf(ctx), slog.Bool("cached", cached))...)
	}
}

// mountOf says which mount causes what is logged.
func mountOf(ctx context.Context) []slog.Attr {
	return []slog.Attr{slog.Uint64("mount", stats.FromContext(ctx).ID), slog.String("namespace", fair.Tenant(ctx))}
}
