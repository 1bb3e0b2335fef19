package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/request"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// RuntimeName is what the plugin calls itself towards the driver.
const RuntimeName = "akv-csi-provider"

// Version implements v1alpha1.CSIDriverProviderServer.
func (s *Server) Version(context.Context, *v1alpha1.VersionRequest) (*v1alpha1.VersionResponse, error) {
	return &v1alpha1.VersionResponse{Version: "v1alpha1", RuntimeName: RuntimeName, RuntimeVersion: s.cfg.Version}, nil
}

// Mount implements v1alpha1.CSIDriverProviderServer. It returns all files of the
// volume or an error with a status that says what to mend.
func (s *Server) Mount(ctx context.Context, in *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
	start := time.Now()
	ctx, cancel := s.budget(ctx)
	defer cancel()
	req, resp, err := s.mount(ctx, in)
	took := time.Since(start)
	log := s.cfg.Log.With(mountFields(req)...)
	if err == nil {
		s.cfg.Observe.Mounted("", took)
		if n := len(resp.warnings); n > 0 {
			log.Warn("mounted all the same", "warnings", n, "first", resp.warnings[:min(n, maxLogged)])
		}
		log.Info("mounted", "bytes", resp.size, "duration", took)
		return resp.MountResponse, nil
	}
	out := statusOf(err)
	s.cfg.Observe.Mounted(out.reason, took)
	log.Error("mount failed", append(out.fields, "code", out.Code().String(), "reason", out.reason, "duration", took, "error", out.Message())...)
	s.dontRetry(ctx)
	return nil, out.Err()
}

// mount is the way of one mount. A panic on it is its error.
func (s *Server) mount(ctx context.Context, in *v1alpha1.MountRequest) (req *request.Mount, resp response, err error) {
	defer provider.Recover(&err)
	req, err = s.parser.Parse(in.GetAttributes(), in.GetSecrets(), in.GetPermission())
	var bad *request.Error
	if errors.As(err, &bad) {
		return &request.Mount{Pod: bad.Pod}, response{}, err
	}
	s.tellLax(req, req.Lax)
	last, _ := s.volumes.Get(in.GetTargetPath())
	volume, err := s.cfg.Mounter.Mount(ctx, req, last)
	if err != nil {
		return req, response{}, err
	}
	s.tellLax(req, volume.Lax)
	resp, err = newResponse(volume, s.cfg.MaxResponseBytes)
	if err == nil && in.GetTargetPath() != "" {
		s.volumes.Add(in.GetTargetPath(), time.Now())
	}
	return req, resp, err
}

// maxLogged bounds what the log tells of one mount; a class may hold thousands of
// objects.
const maxLogged = 8

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
		s.cfg.Log.Warn("class let pass", append(mountFields(req), "mistakes", len(mistakes), "first", told)...)
	}
}

// budget bounds a mount by the plugin's own limit and, if the caller waits less
// long, by a little less than that: kubelet tells of its own deadline with a bare
// DeadlineExceeded, so our answer must come before it.
func (s *Server) budget(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := s.cfg.MountTimeout
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		timeout = min(timeout, left-min(left/10, time.Second))
	}
	return context.WithTimeout(ctx, timeout)
}

// dontRetry tells the driver's gRPC client not to send the call again by itself:
// it would do so twice for UNAVAILABLE, and kubelet retries anyway (gRFC A6,
// server pushback). While shutting down a retry is right, it reaches the next
// process.
func (s *Server) dontRetry(ctx context.Context) {
	if s.isStopping() {
		return
	}
	if err := grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", "-1")); err != nil {
		s.cfg.Log.Debug("no trailer set", "error", err)
	}
}

// recovered turns a panic of another call than Mount into its error.
func (s *Server) recovered(_ context.Context, value any) error {
	out := statusOf(&provider.PanicError{Value: value, Stack: debug.Stack()})
	s.cfg.Log.Error("panic", out.fields...)
	return out.Err()
}

func mountFields(req *request.Mount) []any {
	if req == nil {
		return nil
	}
	return []any{
		slog.String("pod", req.Pod.Name), slog.String("namespace", req.Pod.Namespace),
		slog.String("serviceAccount", req.Pod.ServiceAccount), slog.String("class", req.Class),
		slog.String("vault", req.Vault), slog.Int("objects", len(req.Objects)),
	}
}

// panicText is what may be told of a panic in the log: the runtime's own words,
// else only its type, since a value could hold anything.
func panicText(value any) string {
	if e, ok := value.(interface {
		error
		RuntimeError()
	}); ok {
		return e.Error()
	}
	return fmt.Sprintf("%T", value)
}
