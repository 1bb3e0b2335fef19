// Package server answers the Secrets Store CSI driver over gRPC on a unix socket.
// It is the edge: requests are parsed here, every error gets its one gRPC status
// here, and each mount is logged here once.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/request"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	lru "github.com/hashicorp/golang-lru/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// Mounter makes the content of a volume; *provider.Mounter does.
type Mounter interface {
	// Mount is told when the last successful mount of the same volume ended, zero for
	// the first.
	Mount(ctx context.Context, req *request.Mount, last time.Time) (*provider.Volume, error)
}

// Observer hears of what only the edge knows. Both label sets are closed.
type Observer interface {
	// Mounted is called once a mount with its reason, "" for success.
	Mounted(reason string, took time.Duration)
	// Rotated is called after Mounted for a volume that was mounted before, with
	// "changed", "unchanged" or "failed".
	Rotated(result string)
	// Lax is called for each mistake in a class that was let pass.
	Lax(kind string)
}

// Config is what a Server is made of; all fields are required but Interceptors.
type Config struct {
	Socket  string // path of the unix socket
	Version string // of the plugin, as semantic version without "v"
	Mounter Mounter
	Log     *slog.Logger
	Observe Observer
	// MountTimeout bounds one mount; a shorter deadline of the caller goes first, and so
	// does that of 5 s for the mounts beyond 48 at a time.
	MountTimeout time.Duration
	// ShutdownGrace is how long running mounts may take once Run's context ends.
	ShutdownGrace time.Duration
	// MaxResponseBytes bounds a response, encoded as gRPC message.
	MaxResponseBytes int
	// SocketCheck is how often the socket's path is looked at.
	SocketCheck time.Duration
	// Interceptors run around every call, outermost first.
	Interceptors []grpc.UnaryServerInterceptor
}

// Server serves the driver. Make it with New.
type Server struct {
	cfg    Config
	grpc   *grpc.Server
	health *healthServer
	failed chan error // a listener that stopped by itself
	// volumes holds the last successful mount of each, by target path, which is one for
	// each pod and volume.
	volumes *lru.Cache[string, mounted]
	parser  *request.Parser
	patient chan struct{} // a place for each mount under way that has all of a mount's time

	mu       sync.Mutex // guards what follows
	socket   *socket    // the one we listen on; nil before the first
	stopping bool
}

// maxVolumes bounds the volumes that are remembered; kubelet runs some hundred pods on
// a node at most. One that drops out is mounted as if for the first time.
const maxVolumes = 8192

// Bounds of the calls under way. What is beyond maxCalls on one connection, the driver's,
// waits at the driver, where it costs this process no memory. So that volumes whose vault
// does not answer cannot keep out all others for as long as a mount may take, only so many
// at a time have all of that time; the places of the others are soon free again.
const (
	maxCalls     = 96
	patientCalls = 48
	crowdTimeout = 5 * time.Second
)

// New makes a Server; Run starts it.
func New(cfg Config) (*Server, error) {
	if cfg.Socket == "" || cfg.Version == "" || cfg.Mounter == nil || cfg.Log == nil || cfg.Observe == nil ||
		cfg.MountTimeout <= 0 || cfg.ShutdownGrace <= 0 || cfg.MaxResponseBytes <= 0 || cfg.SocketCheck <= 0 {
		return nil, errors.New("server: a required field of its configuration is empty")
	}
	volumes, err := lru.New[string, mounted](maxVolumes)
	if err != nil {
		return nil, fmt.Errorf("remember volumes: %w", err)
	}
	parser, err := request.NewParser()
	if err != nil {
		return nil, fmt.Errorf("remember lists of objects: %w", err)
	}
	s := &Server{cfg: cfg, health: newHealthServer(), failed: make(chan error, 1), volumes: volumes, parser: parser, patient: make(chan struct{}, patientCalls)}
	interceptors := append(cfg.Interceptors, recovery.UnaryServerInterceptor(recovery.WithRecoveryHandlerContext(s.recovered)))
	s.grpc = grpc.NewServer(
		grpc.ChainUnaryInterceptor(interceptors...),
		grpc.WaitForHandlers(true),
		grpc.MaxConcurrentStreams(maxCalls),
	)
	v1alpha1.RegisterCSIDriverProviderServer(s.grpc, s)
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
	return s, nil
}

// Run serves until ctx ends, and then lets running mounts finish for a while. It
// returns nil after an orderly stop. Call it once.
func (s *Server) Run(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.SocketCheck)
	defer tick.Stop()
	told := false // of a socket that is not ours
	for {
		err := s.ensureSocket()
		switch {
		case err != nil && !errors.Is(err, errServed) && !s.hasServed():
			s.stop(0)
			return err
		case err != nil && !told:
			s.cfg.Log.Warn("the socket cannot be served now; trying again", "socket", s.cfg.Socket, "error", err)
		}
		told = err != nil
		select {
		case <-tick.C:
		case err := <-s.failed:
			s.stop(0)
			return err
		case <-ctx.Done():
			s.stop(s.cfg.ShutdownGrace)
			return nil
		}
	}
}

// ensureSocket sees to it that the socket's path leads to this process. It may
// not: at a rolling switch-over the old process unlinks, when it ends, whatever
// lies at its path (Go's UnixListener does), and that may be ours by then.
func (s *Server) ensureSocket() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping || s.socket.inPlace() {
		return nil
	}
	fresh, err := listen(s.cfg.Socket)
	if err != nil {
		return err
	}
	if s.socket != nil {
		s.cfg.Log.Warn("the socket was gone from its path; listening anew", "socket", s.cfg.Socket)
		_ = s.socket.listener.Close() // nobody can reach it any more
	} else {
		s.cfg.Log.Info("serving", "socket", s.cfg.Socket, "version", s.cfg.Version)
	}
	s.socket = fresh
	go s.serve(fresh.listener)
	return nil
}

// serve runs until the listener is closed, by stop or for a new one.
func (s *Server) serve(l net.Listener) {
	err := s.grpc.Serve(l)
	if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, grpc.ErrServerStopped) {
		select {
		case s.failed <- fmt.Errorf("serve %s: %w", s.cfg.Socket, err):
		default:
		}
	}
}

// stop takes the socket away, waits for running calls for the grace, and then
// ends them.
func (s *Server) stop(grace time.Duration) {
	s.mu.Lock()
	s.stopping = true
	s.socket.remove()
	s.mu.Unlock()
	s.health.Shutdown()
	timer := time.AfterFunc(grace, s.grpc.Stop)
	defer timer.Stop()
	s.grpc.GracefulStop()
}

func (s *Server) hasServed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.socket != nil
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}
