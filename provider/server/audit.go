package server

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"strings"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/stats"
)

// Bounds of the objects in a line: their number, and the bytes of each. A class may contain
// thousands; their names have at most 127 bytes, and their versions 64.
const (
	maxAudited     = stats.MaxFailed
	maxAuditedText = 256
)

// auditMount records who got what: on the start of a pod, and when a rotation changes
// something, or reads as another identity or from another vault.
func (s *Server) auditMount(ctx context.Context, req *request.Mount, got []provider.Version, r report) {
	if s.cfg.Audit == nil {
		return
	}
	event := "start"
	if r.rotation {
		event = "change"
	}
	s.audit(ctx, event, req, r, append(versionFields("objects", got), slog.String("reason", "ok")))
}

// auditFailure records who did not get what, and why: once for each volume, until a mount succeeds
// or something of that differs, since kubelet repeats a mount for as long as it fails. Who may edit
// a class could otherwise try out names in a pod that waits, and only the first would be recorded.
func (s *Server) auditFailure(ctx context.Context, req *request.Mount, f failure, r report) {
	if s.cfg.Audit == nil {
		return
	}
	wanted := wantedTexts(req.Objects)
	same := refusal(req, wanted, f, r)
	if last, ok := s.refused.Get(r.id); ok && last == same {
		return
	}
	s.refused.Add(r.id, same)
	objects := objectFields("objects", len(wanted), func(i int) string { return wanted[i] })
	objects = append(append(objects, failedFields(r)...), f.ids...)
	s.audit(ctx, "failure", req, r, append(objects, slog.String("reason", string(f.reason)), slog.Bool("rotation", r.rotation)))
}

// refusal digests what a failure is about: all objects, also those that its line omits, and what
// decides on them without a name.
func refusal(req *request.Mount, wanted []string, f failure, r report) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	add := func(texts ...string) {
		for _, text := range texts {
			maphash.WriteComparable(&h, text)
		}
	}
	add(string(f.reason))
	if id := r.stats.Identity.Load(); id != nil {
		add(id.Mode, id.ClientID, id.TenantID)
	}
	failed, _ := r.stats.Failures()
	add(failed...)
	add(req.Class, req.Vault)
	add(wanted...)
	for i := range req.Objects {
		o := &req.Objects[i]
		if add(o.Failover); o.Find != nil {
			add(fmt.Sprint(o.Find.Tags)) // sorted
		}
	}
	return h.Sum64()
}

func (s *Server) audit(ctx context.Context, event string, req *request.Mount, r report, what []slog.Attr) {
	fields := appendText(s.identityFields(req, r), "namespace", req.Pod.Namespace, "pod", req.Pod.Name,
		"serviceAccount", req.Pod.ServiceAccount, "class", req.Class, "vault", req.Vault)
	fields = append(append(fields, what...), r.answers()...)
	s.cfg.Audit.LogAttrs(ctx, slog.LevelInfo, event, append(fields, slog.Float64("durationSeconds", seconds(r.took)))...)
}

// versionFields are the versions of a volume, such as secret/db-password@0123456789abcdef.
func versionFields(name string, all []provider.Version) []slog.Attr {
	return objectFields(name, len(all), func(i int) string { return versionText(all[i].ID, all[i].Version) })
}

// failedFields are the objects without which a mount fails; none if it failed before it read any.
func failedFields(r report) []slog.Attr {
	first, n := r.stats.Failures()
	return objectFields("failedObjects", n, func(i int) string { return versionText(first[i], "") })
}

// objectFields are a list of at most maxAudited of n objects, and how many it omits.
func objectFields(name string, n int, text func(i int) string) []slog.Attr {
	if n == 0 {
		return nil
	}
	texts := make([]string, min(n, maxAudited))
	for i := range texts {
		texts[i] = text(i)
	}
	fields := []slog.Attr{slog.Any(name, texts)}
	if rest := n - len(texts); rest > 0 {
		fields = append(fields, slog.Int(name+"Omitted", rest))
	}
	return fields
}

// versionText is an object with its version, as lists of objects have them.
func versionText(id, version string) string {
	if version != "" {
		id += "@" + version
	}
	return strings.ToValidUTF8(id[:min(len(id), maxAuditedText)], "")
}

// wantedTexts are the entries of a class in a list of objects, each followed by the objects that it
// refers to.
func wantedTexts(objects []request.Object) (texts []string) {
	for i := range objects {
		texts = append(texts, versionText(objects[i].Label(), ""))
		for _, o := range objects[i].Refers() {
			texts = append(texts, versionText(o.Label(), ""))
		}
	}
	return texts
}
