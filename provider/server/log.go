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
	id       volumeID
	rotation bool // the volume was mounted before
	stats    *stats.Mount
	took     time.Duration
}

// operation is the mount's, for metrics.
func (r report) operation() string {
	if r.rotation {
		return "rotate"
	}
	return "start"
}

// maxLogged bounds the warnings and IDs in a log line; a class may contain thousands of objects.
const maxLogged = 8

// logMounted reports a success: the start of a pod and a change as information, and what changes
// nothing for debugging. Another identity or vault is a change too, although the versions may be the
// same. A warning about values is a warning when it is new.
func (s *Server) logMounted(ctx context.Context, req *request.Mount, resp response, r report, before, now mounted) {
	s.cfg.Observe.Mounted(r.operation(), "", r.took)
	r.trace(ctx, req, "ok")
	s.refused.Remove(r.id)
	level, changed := slog.LevelInfo, before.versions != now.versions
	news := !r.rotation || changed || before.reader != 0 && before.reader != now.reader
	if r.rotation {
		result := "unchanged"
		if changed {
			result = "changed"
		}
		s.cfg.Observe.Rotated(result)
	}
	if news {
		s.auditMount(ctx, req, resp.versions, r)
	}
	switch {
	case len(resp.warnings) > 0 && (!r.rotation || before.warnings != now.warnings):
		level = slog.LevelWarn
	case !news:
		level = slog.LevelDebug
	}
	if !s.cfg.Log.Enabled(ctx, level) { // most mounts are rotations that change nothing
		return
	}
	fields := append(mountFields(req), slog.Bool("rotation", r.rotation))
	if r.rotation {
		fields = append(fields, slog.Bool("changed", changed))
	}
	if news {
		fields = append(fields, s.identityFields(req, r)...)
		fields = append(fields, versionFields("versions", resp.versions)...)
	}
	if n := len(resp.warnings); n > 0 {
		fields = append(fields, slog.Int("warnings", n), slog.Any("firstWarnings", resp.warnings[:min(n, maxLogged)]))
	}
	if n := len(resp.absent); n > 0 {
		fields = append(fields, slog.Int("absent", n), slog.Any("firstAbsent", resp.absent[:min(n, maxLogged)]))
	}
	fields = append(fields, slog.Int("bytes", resp.size), slog.String("reason", "ok"))
	s.cfg.Log.LogAttrs(ctx, level, "mounted", r.cost(fields)...)
}

// logFailed reports a failure, as a warning if the volume was mounted before: the pod keeps
// its files. Nothing else reports it then, since the driver hides it from the pod.
func (s *Server) logFailed(ctx context.Context, req *request.Mount, f failure, r report) {
	s.cfg.Observe.Mounted(r.operation(), string(f.reason), r.took)
	level, fields := slog.LevelError, mountFields(req)
	if r.rotation {
		s.cfg.Observe.Rotated("failed")
		level = slog.LevelWarn
	}
	s.auditFailure(ctx, req, f, r)
	fields = append(fields, slog.Bool("rotation", r.rotation))
	fields = append(fields, s.identityFields(req, r)...)
	fields = append(fields, failedFields(r)...)
	fields = append(append(fields, f.fields...), f.ids...)
	fields = append(fields, slog.String("code", f.Code().String()), slog.String("reason", string(f.reason)), slog.String("error", f.Message()))
	r.trace(ctx, req, string(f.reason))
	s.cfg.Log.LogAttrs(ctx, level, "mount failed", r.cost(fields)...)
}

// cost adds what the mount took.
func (r report) cost(fields []slog.Attr) []slog.Attr {
	fields = append(fields, r.answers()...)
	return append(fields, count("requests", &r.stats.Requests), slog.Float64("durationSeconds", seconds(r.took)), slog.Uint64("mount", r.stats.ID))
}

// answers are where the vaults' answers came from.
func (r report) answers() []slog.Attr {
	fields := []slog.Attr{count("read", &r.stats.Read), count("shared", &r.stats.Shared), count("cached", &r.stats.Cached), count("stale", &r.stats.Stale)}
	if r.stats.Failover.Load() > 0 {
		fields = append(fields, count("failover", &r.stats.Failover))
	}
	return fields
}

func count(name string, n *atomic.Int32) slog.Attr { return slog.Int(name, int(n.Load())) }

// seconds is a duration for the log, to the microsecond.
func seconds(d time.Duration) float64 { return d.Round(time.Microsecond).Seconds() }

// trace identifies the mount in its span, if there is one.
func (r report) trace(ctx context.Context, req *request.Mount, reason string) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(attribute.String("akv.reason", reason), attribute.Bool("akv.rotation", r.rotation),
		attribute.Int("akv.requests", int(r.stats.Requests.Load())))
	span.SetAttributes(attribute.String("k8s.pod.name", req.Pod.Name), attribute.String("k8s.namespace.name", req.Pod.Namespace),
		attribute.String("akv.vault", req.Vault))
}

// logWarnings reports the mistakes in a class that are accepted, in one line for each start of a
// pod. fromClass says that they show in the class alone: those that show in the vault come later.
func (s *Server) logWarnings(id volumeID, req *request.Mount, warnings []request.Warning, fromClass bool) {
	var messages []string
	for _, w := range warnings {
		s.cfg.Observe.ClassWarning(string(w.Kind))
		if len(messages) < maxLogged {
			messages = append(messages, w.Field+" "+w.Cause)
		}
	}
	if len(messages) == 0 {
		return
	}
	if logged, _ := s.warned.ContainsOrAdd(warnedKey{id, fromClass}, struct{}{}); !logged {
		s.cfg.Log.LogAttrs(context.Background(), slog.LevelWarn, "class accepted with warnings",
			append(mountFields(req), slog.Int("warnings", len(warnings)), slog.Any("firstWarnings", messages))...)
	}
}

type warnedKey struct {
	volume    volumeID
	fromClass bool
}

// mountFields are the attributes of a request in the log. Of one that cannot be parsed, these
// are the pod's, as far as it is known.
func mountFields(req *request.Mount) []slog.Attr {
	fields := appendText(make([]slog.Attr, 0, 28), "pod", req.Pod.Name, "namespace", req.Pod.Namespace, "serviceAccount", req.Pod.ServiceAccount,
		"class", req.Class, "vault", req.Vault)
	if len(req.Objects) > 0 {
		fields = append(fields, slog.Int("objects", len(req.Objects)))
	}
	return fields
}

// identityFields are where a pod runs and as whom its mount reads, as far as that is known.
func (s *Server) identityFields(req *request.Mount, r report) []slog.Attr {
	fields := appendText(nil, "node", s.cfg.Node, "podUID", req.Pod.UID)
	if id := r.stats.Identity.Load(); id != nil {
		fields = appendText(fields, "identity", id.Mode, "clientID", id.ClientID, "tenantID", id.TenantID)
	}
	return fields
}

// appendText appends the pairs of a name and a text that is not empty.
func appendText(fields []slog.Attr, pairs ...string) []slog.Attr {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			fields = append(fields, slog.String(pairs[i], pairs[i+1]))
		}
	}
	return fields
}
