package server

import (
	"context"
	"log/slog"
	"time"

	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/tally"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// report is what log and metrics tell of a mount, however it ended.
type report struct {
	last mounted // the mount before
	bill *tally.Mount
	took time.Duration
}

// maxLogged bounds what the log tells of one mount; a class may hold thousands of
// objects.
const maxLogged = 8

// tellMounted tells of a success, as a warning if what is served should not be relied on.
func (s *Server) tellMounted(ctx context.Context, req *request.Mount, resp response, r report, differs bool) {
	s.cfg.Observe.Mounted("", r.took)
	level, fields := slog.LevelInfo, mountFields(req)
	switch {
	case r.last.again && differs:
		s.cfg.Observe.Rotated("changed")
	case r.last.again:
		s.cfg.Observe.Rotated("unchanged")
	}
	fields = append(fields, slog.Bool("rotation", r.last.again))
	if r.last.again {
		fields = append(fields, slog.Bool("changed", differs))
	}
	if n := len(resp.warnings); n > 0 {
		level = slog.LevelWarn
		fields = append(fields, slog.Int("warnings", n), slog.Any("first", resp.warnings[:min(n, maxLogged)]))
	}
	fields = append(fields, slog.Int("bytes", resp.size), slog.String("reason", "ok"))
	r.trace(ctx, req, "ok")
	s.cfg.Log.LogAttrs(ctx, level, "mounted", r.cost(fields)...)
}

// tellFailed tells of a failure: as a warning if there are files that the pod keeps. It
// is the only one who does then, since the driver hides it from the pod.
func (s *Server) tellFailed(ctx context.Context, req *request.Mount, out outcome, r report) {
	s.cfg.Observe.Mounted(out.reason, r.took)
	level, fields := slog.LevelError, mountFields(req)
	if r.last.again {
		s.cfg.Observe.Rotated("failed")
		level = slog.LevelWarn
	}
	fields = append(fields, slog.Bool("rotation", r.last.again))
	fields = append(fields, out.fields...)
	fields = append(fields, slog.String("code", out.Code().String()), slog.String("reason", out.reason), slog.String("error", out.Message()))
	r.trace(ctx, req, out.reason)
	s.cfg.Log.LogAttrs(ctx, level, "mount failed", r.cost(fields)...)
}

// cost adds what the mount took.
func (r report) cost(fields []slog.Attr) []slog.Attr {
	c := r.bill.Cost()
	return append(fields, slog.Int("read", c.Read), slog.Int("shared", c.Shared), slog.Int("kept", c.Kept), slog.Int("stale", c.Stale),
		slog.Int("requests", c.Requests), slog.Duration("duration", r.took))
}

// trace says in the mount's span, if there is one, which mount it is.
func (r report) trace(ctx context.Context, req *request.Mount, reason string) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(attribute.String("akv.reason", reason), attribute.Bool("akv.rotation", r.last.again),
		attribute.Int("akv.requests", r.bill.Cost().Requests))
	if req != nil {
		span.SetAttributes(attribute.String("k8s.pod.name", req.Pod.Name), attribute.String("k8s.namespace.name", req.Pod.Namespace),
			attribute.String("akv.vault", req.Vault))
	}
}

// tellLax warns once of all that a class has wrong and is served all the same.
func (s *Server) tellLax(req *request.Mount, mistakes []request.Lax) {
	var told []string
	for _, l := range mistakes {
		s.cfg.Observe.Lax(string(l.Kind))
		if len(told) < maxLogged {
			told = append(told, l.Field+" "+l.Cause)
		}
	}
	if len(told) > 0 {
		s.cfg.Log.LogAttrs(context.Background(), slog.LevelWarn, "class let pass",
			append(mountFields(req), slog.Int("mistakes", len(mistakes)), slog.Any("first", told))...)
	}
}

// mountFields are what the log tells of a request; of one that cannot be parsed, its pod
// as far as it is known.
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
