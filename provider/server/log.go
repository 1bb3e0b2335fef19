package server

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/stats"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// report is what log and metrics say of a mount, whether it succeeded or not.
type report struct {
	rotation bool // the volume was mounted before
	stats    *stats.Mount
	took     time.Duration
}

// maxLogged bounds the warnings in a log line; a class may contain thousands of objects.
const maxLogged = 8

// logMounted reports a success, as a warning if the log warns of values.
func (s *Server) logMounted(ctx context.Context, req *request.Mount, resp response, r report, differs bool) {
	s.cfg.Observe.Mounted("", r.took)
	level, fields := slog.LevelInfo, mountFields(req)
	fields = append(fields, slog.Bool("rotation", r.rotation))
	if r.rotation {
		result := "unchanged"
		if differs {
			result = "changed"
		}
		s.cfg.Observe.Rotated(result)
		fields = append(fields, slog.Bool("changed", differs))
	}
	if n := len(resp.warnings); n > 0 {
		level = slog.LevelWarn
		fields = append(fields, slog.Int("warnings", n), slog.Any("firstWarnings", resp.warnings[:min(n, maxLogged)]))
	}
	if n := len(resp.absent); n > 0 {
		fields = append(fields, slog.Int("absent", n), slog.Any("firstAbsent", resp.absent[:min(n, maxLogged)]))
	}
	fields = append(fields, slog.Int("bytes", resp.size), slog.String("reason", "ok"))
	r.trace(ctx, req, "ok")
	s.cfg.Log.LogAttrs(ctx, level, "mounted", r.cost(fields)...)
}

// logFailed reports a failure, as a warning if the volume was mounted before: the pod keeps
// its files. Nothing else reports it then, since the driver hides it from the pod.
func (s *Server) logFailed(ctx context.Context, req *request.Mount, f failure, r report) {
	s.cfg.Observe.Mounted(string(f.reason), r.took)
	level, fields := slog.LevelError, mountFields(req)
	if r.rotation {
		s.cfg.Observe.Rotated("failed")
		level = slog.LevelWarn
	}
	fields = append(fields, slog.Bool("rotation", r.rotation))
	fields = append(fields, f.fields...)
	fields = append(fields, slog.String("code", f.Code().String()), slog.String("reason", string(f.reason)), slog.String("error", f.Message()))
	r.trace(ctx, req, string(f.reason))
	s.cfg.Log.LogAttrs(ctx, level, "mount failed", r.cost(fields)...)
}

// cost adds what the mount took.
func (r report) cost(fields []slog.Attr) []slog.Attr {
	count := func(name string, n *atomic.Int32) slog.Attr { return slog.Int(name, int(n.Load())) }
	if r.stats.Failover.Load() > 0 {
		fields = append(fields, count("failover", &r.stats.Failover))
	}
	return append(fields, count("read", &r.stats.Read), count("shared", &r.stats.Shared), count("cached", &r.stats.Cached),
		count("stale", &r.stats.Stale), count("requests", &r.stats.Requests), slog.Float64("durationSeconds", seconds(r.took)))
}

// trace identifies the mount in its span, if there is one.
func (r report) trace(ctx context.Context, req *request.Mount, reason string) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(attribute.String("akv.reason", reason), attribute.Bool("akv.rotation", r.rotation),
		attribute.Int("akv.requests", int(r.stats.Requests.Load())))
	if req != nil {
		span.SetAttributes(attribute.String("k8s.pod.name", req.Pod.Name), attribute.String("k8s.namespace.name", req.Pod.Namespace),
			attribute.String("akv.vault", req.Vault))
	}
}

// logWarnings reports the mistakes in a class that are accepted, in one line.
func (s *Server) logWarnings(req *request.Mount, warnings []request.Warning) {
	var messages []string
	for _, w := range warnings {
		s.cfg.Observe.ClassWarning(string(w.Kind))
		if len(messages) < maxLogged {
			messages = append(messages, w.Field+" "+w.Cause)
		}
	}
	if len(messages) > 0 {
		s.cfg.Log.LogAttrs(context.Background(), slog.LevelWarn, "class accepted with warnings",
			append(mountFields(req), slog.Int("warnings", len(warnings)), slog.Any("firstWarnings", messages))...)
	}
}

// mountFields are the attributes of a request in the log. Of one that cannot be parsed, these
// are the pod's, as far as it is known.
func mountFields(req *request.Mount) []slog.Attr {
	fields := make([]slog.Attr, 0, 20)
	if req == nil {
		return fields
	}
	for _, f := range []struct{ name, value string }{
		{"pod", req.Pod.Name}, {"namespace", req.Pod.Namespace}, {"serviceAccount", req.Pod.ServiceAccount},
		{"class", req.Class}, {"vault", req.Vault},
	} {
		if f.value != "" {
			fields = append(fields, slog.String(f.name, f.value))
		}
	}
	if len(req.Objects) > 0 {
		fields = append(fields, slog.Int("objects", len(req.Objects)))
	}
	return fields
}

// seconds is a duration for the log, to the microsecond.
func seconds(d time.Duration) float64 { return d.Round(time.Microsecond).Seconds() }
