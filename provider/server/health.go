package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

// instanceHeader identifies the process behind the socket.
const instanceHeader = "akv-csi-provider-instance"

// healthServer is gRPC's health service, with the ID of this process in every answer.
type healthServer struct {
	*health.Server
	instance string
}

func newHealthServer() *healthServer {
	return &healthServer{Server: health.NewServer(), instance: rand.Text()}
}

// Check implements grpc.health.v1.Health.
func (h *healthServer) Check(ctx context.Context, req *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	if err := grpc.SetHeader(ctx, metadata.Pairs(instanceHeader, h.instance)); err != nil {
		return nil, err
	}
	return h.Server.Check(ctx, req)
}

var errStopping = errors.New("shutting down")

// Ready returns nil if the driver can call: the socket leads here, and the server is not
// stopping. It makes no calls.
func (s *Server) Ready(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopping:
		return errStopping
	case !s.socket.inPlace():
		return errors.New("the socket is not served yet")
	}
	return nil
}

// Healthy returns nil if a call to the socket's path, such as the driver's, reaches this
// process. If the path does not lead here, it is repaired first.
func (s *Server) Healthy(ctx context.Context) error {
	if err := s.ensureSocket(); err != nil {
		return err
	}
	conn, err := grpc.NewClient("unix:"+s.cfg.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return fmt.Errorf("dial %s: %w", s.cfg.Socket, err)
	}
	defer func() { _ = conn.Close() }()
	var header metadata.MD
	resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.Header(&header))
	switch {
	case err != nil:
		return fmt.Errorf("call %s: %w", s.cfg.Socket, err)
	case len(header.Get(instanceHeader)) != 1 || header.Get(instanceHeader)[0] != s.health.instance:
		return fmt.Errorf("call %s: %w", s.cfg.Socket, errServed)
	case resp.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING:
		return fmt.Errorf("call %s: status %s", s.cfg.Socket, resp.GetStatus())
	}
	return nil
}
