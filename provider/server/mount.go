package server

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/stats"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// Version implements v1alpha1.CSIDriverProviderServer.
func (s *Server) Version(context.Context, *v1alpha1.VersionRequest) (*v1alpha1.VersionResponse, error) {
	return &v1alpha1.VersionResponse{Version: "v1alpha1", RuntimeName: "akv-csi-provider", RuntimeVersion: s.cfg.Version}, nil
}

// Mount implements v1alpha1.CSIDriverProviderServer. It returns all files of the volume, or
// an error whose status says what to fix.
func (s *Server) Mount(ctx context.Context, in *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
	start := time.Now()
	s.running.Add(1)
	defer s.running.Add(-1)
	ctx, stats := stats.Begin(ctx)
	ctx, leave, err := s.admission.enter(ctx, in)
	defer leave()
	var req *request.Mount
	if err == nil {
		req, err = s.parse(ctx, in)
	}
	if req == nil { // it was not parsed
		req = &request.Mount{Pod: podOf(in.GetAttributes())}
	}
	id := volumeOf(in, req)
	in.Attributes, in.Secrets = "", "" // what they contain is in req, and they may be large
	previous := s.previous(id, in)
	var resp response
	if err == nil {
		resp, err = s.mount(ctx, id, req, previous.ended)
	}
	if err != nil && ctx.Err() != nil {
		err = s.admission.explain(ctx, err)
	}
	rep := report{id: id, rotation: previous.exists, stats: stats, took: time.Since(start)}
	if err == nil {
		now := s.remember(req, resp, rep)
		s.logMounted(ctx, req, resp, rep, previous, now)
		return resp.MountResponse, nil
	}
	s.failedToRotate(id, previous)
	failed := statusOf(err)
	s.logFailed(ctx, req, failed, rep)
	return nil, failed.Err()
}

// parse checks a request. Of a request that is not valid, what it returns has only the pod and the
// class; it is nil if there was no turn for parsing, or parsing panicked.
func (s *Server) parse(ctx context.Context, in *v1alpha1.MountRequest) (req *request.Mount, err error) {
	defer fault.Recover(&err)
	leave, err := s.admission.enterParsing(ctx, in)
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.parser.Parse(in.GetAttributes(), in.GetSecrets(), in.GetPermission())
}

// mount is the steps of one mount. A panic in them is the error of this mount.
func (s *Server) mount(ctx context.Context, id volumeID, req *request.Mount, lastEnd time.Time) (resp response, err error) {
	defer fault.Recover(&err)
	s.logWarnings(id, req, req.Warnings, true)
	volume, err := s.cfg.Mounter.Mount(ctx, req, lastEnd)
	if err != nil {
		return response{}, err
	}
	if volume.Release != nil {
		callOf(ctx).after(volume.Release)
	}
	s.logWarnings(id, req, volume.ClassWarnings, false)
	return newResponse(volume, req.Objects, s.cfg.MaxResponseBytes)
}

// recovered turns a panic of another call than Mount into its error.
func (s *Server) recovered(ctx context.Context, value any) error {
	failed := statusOf(&fault.Panic{Value: value, Stack: debug.Stack()})
	s.cfg.Log.LogAttrs(ctx, slog.LevelError, "panic", failed.fields...)
	return failed.Err()
}

// panicText is what the log may contain of a panic: the runtime's own text, or only the type
// of the value, which could contain anything.
func panicText(value any) string {
	if e, ok := value.(runtime.Error); ok {
		return e.Error()
	}
	return fmt.Sprintf("%T", value)
}
