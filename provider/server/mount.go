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
	"akv-csi-provider/provider/tally"

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
	ctx, bill := tally.Begin(ctx)
	last := s.last(in)
	req, resp, err := s.mount(ctx, in, last.ended)
	told := report{last: last, bill: bill, took: time.Since(start)}
	if err == nil {
		now := s.remember(in, resp)
		s.tellMounted(ctx, req, resp, told, last.differs(now))
		return resp.MountResponse, nil
	}
	out := statusOf(err)
	s.tellFailed(ctx, req, out, told)
	return nil, out.Err()
}

// mount is the way of one mount. A panic on it is its error.
func (s *Server) mount(ctx context.Context, in *v1alpha1.MountRequest, last time.Time) (req *request.Mount, resp response, err error) {
	defer provider.Recover(&err)
	req, err = s.parser.Parse(in.GetAttributes(), in.GetSecrets(), in.GetPermission())
	var bad *request.Error
	if errors.As(err, &bad) {
		return &request.Mount{Pod: bad.Pod}, response{}, err
	}
	s.tellLax(req, req.Lax)
	volume, err := s.cfg.Mounter.Mount(ctx, req, last)
	if err != nil {
		return req, response{}, err
	}
	s.tellLax(req, volume.Lax)
	resp, err = newResponse(volume, s.cfg.MaxResponseBytes)
	return req, resp, err
}

// budget bounds a mount by the plugin's own limit and, if the caller waits less long, by
// a little less than that: kubelet tells of its own deadline with a bare
// DeadlineExceeded, so our answer must come before it. What the function returned does
// must be done when the mount is over.
func (s *Server) budget(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout, leave := s.cfg.MountTimeout, func() { <-s.patient }
	select {
	case s.patient <- struct{}{}:
	default:
		timeout, leave = min(timeout, crowdTimeout), func() {}
	}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		timeout = min(timeout, left-min(left/10, time.Second))
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	return ctx, func() { cancel(); leave() }
}

// recovered turns a panic of another call than Mount into its error.
func (s *Server) recovered(ctx context.Context, value any) error {
	out := statusOf(&provider.PanicError{Value: value, Stack: debug.Stack()})
	s.cfg.Log.LogAttrs(ctx, slog.LevelError, "panic", out.fields...)
	return out.Err()
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
