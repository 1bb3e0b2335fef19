// Package server answers the Secrets Store CSI driver over gRPC on a unix socket. It is the
// edge: it parses requests, maps each error to one gRPC status, and logs each mount once.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
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
	// Mount returns the whole content or an error. lastEnd is when the last successful mount
	// of the same volume ended; zero for the first.
	Mount(ctx context.Context, req *request.Mount, lastEnd time.Time) (*provider.Volume, error)
}

// Observer is called with what only the edge knows. All sets of labels are closed.
type Observer interface {
	// Mounted is called once per mount with its operation, "start" or "rotate", and its reason,
	// "" for success.
	Mounted(operation, reason string, took time.Duration)
	// Rotated is called after Mounted for a volume that was mounted before, with
	// "changed", "unchanged" or "failed".
	Rotated(result string)
	// ClassWarning is called for each mistake in a class that is accepted.
	ClassWarning(kind string)
}

// Config configures a Server; all fields are required but Audit, Node, Settings and Interceptors.
type Config struct {
	Socket  string // path of the unix socket
	Version string // of the plugin, as semantic version without "v"
	Mounter Mounter
	Log     *slog.Logger
	// Audit gets a line for each start of a pod, each change and each failure; nil for none.
	Audit *slog.Logger
	Node  string // name of the node, for the log
	// Settings are in the line of the log that says that the socket is served.
	Settings []any
	Observe  Observer
	// MountTimeout bounds one mount. An earlier deadline of the caller takes precedence, and
	// so does that of 5 s for each mount beyond 48 at a time, or 24 of one namespace.
	MountTimeout time.Duration
	// ShutdownGrace is how long running mounts may take once Run's context ends.
	ShutdownGrace time.Duration
	// MaxResponseBytes bounds a response, encoded as gRPC message.
	MaxResponseBytes int
	// SocketCheck is how often the socket's path is checked.
	SocketCheck time.Duration
	// Interceptors run around every call, outermost first.
	Interceptors []grpc.UnaryServerInterceptor
}

// Server serves the driver. Make it with New.
type Server struct {
	cfg       Config
	grpc      *grpc.Server
	health    *healthServer
	failed    chan error // a listener that stopped unexpectedly
	started   time.Time
	volumes   *lru.Cache[volumeID, mounted]   // the last successful mounts, and none for volumes that only fail
	warned    *lru.Cache[warnedKey, struct{}] // whose warnings are in the log
	refused   *lru.Cache[volumeID, uint64]    // digests of the failures that the audit log has
	parser    *request.Parser
	admission admission
	running   atomic.Int32       // mounts
	endMounts context.CancelFunc // ends the running mounts

	mu       sync.Mutex // guards what follows
	socket   *socket    // that we listen on; nil before the first
	stopping bool
}

// maxVolumes bounds the volumes in memory; kubelet runs at most a few hundred pods on a
// node. An evicted one is mounted as if for the first time.
const maxVolumes = 8192

// maxReported bounds the volumes of which what was logged is known. Of one that is evicted, a
// line is repeated.
const maxReported = 1024

// New makes a Server; Run starts it.
func New(cfg Config) (*Server, error) {
	if cfg.Socket == "" || cfg.Version == "" || cfg.Mounter == nil || cfg.Log == nil || cfg.Observe == nil ||
		cfg.MountTimeout <= 0 || cfg.ShutdownGrace <= 0 || cfg.MaxResponseBytes <= 0 || cfg.SocketCheck <= 0 {
		return nil, errors.New("server: a required field of its configuration is empty")
	}
	volumes, _ := lru.New[volumeID, mounted](maxVolumes) // rejects only a size below 1
	warned, _ := lru.New[warnedKey, struct{}](maxReported)
	refused, _ := lru.New[volumeID, uint64](maxReported)
	stopping, endMounts := context.WithCancel(context.Background())
	s := &Server{
		cfg: cfg, health: newHealthServer(), failed: make(chan error, 1), started: time.Now(),
		volumes: volumes, warned: warned, refused: refused, parser: request.NewParser(), admission: newAdmission(cfg.MountTimeout, stopping), endMounts: endMounts,
	}
	interceptors := append(cfg.Interceptors, recovery.UnaryServerInterceptor(recovery.WithRecoveryHandlerContext(s.recovered)))
	s.grpc = grpc.NewServer(
		grpc.ChainUnaryInterceptor(interceptors...),
		grpc.WaitForHandlers(true),
		grpc.MaxConcurrentStreams(maxCalls),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.StatsHandler(ends{}),
	)
	v1alpha1.RegisterCSIDriverProviderServer(s.grpc, s)
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
	return s, nil
}

// Run serves until ctx ends, and then lets running mounts finish within the grace period. It
// returns nil after an orderly stop. Call it once.
func (s *Server) Run(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.SocketCheck)
	defer tick.Stop()
	warned := false // of a socket that cannot be served
	for {
		err := s.ensureSocket()
		switch {
		case err != nil && !errors.Is(err, errServed) && !s.hasServed():
			s.stop(0)
			return err
		case err != nil && !warned:
			s.cfg.Log.Warn("cannot serve on the socket; retrying", "socket", s.cfg.Socket, "error", err)
		}
		warned = err != nil
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

// ensureSocket makes the socket's path lead to this process, if it does not. In a rolling
// update, the old process unlinks at its end whatever is at its path (Go's UnixListener
// does), which may be our socket by then.
func (s *Server) ensureSocket() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return errStopping
	}
	if s.socket.inPlace() {
		return nil
	}
	fresh, err := listen(s.cfg.Socket)
	if err != nil {
		return err
	}
	if s.socket != nil {
		s.cfg.Log.Warn("the socket disappeared; listening again", "socket", s.cfg.Socket)
		_ = s.socket.listener.Close() // no client can reach it any more
	} else {
		s.cfg.Log.Info("serving", append([]any{"socket", s.cfg.Socket, "version", s.cfg.Version}, s.cfg.Settings...)...)
	}
	s.socket = fresh
	go s.serve(fresh.listener)
	return nil
}

// serve runs until the listener is closed, by stop or because it is replaced.
func (s *Server) serve(l net.Listener) {
	err := s.grpc.Serve(l)
	if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, grpc.ErrServerStopped) {
		select {
		case s.failed <- fmt.Errorf("serve %s: %w", s.cfg.Socket, err):
		default:
		}
	}
}

// stop removes the socket and waits at most the grace period for running calls. Before it
// ends them, it ends their mounts, so that each returns its own error: gRPC would send
// Unavailable, one of the codes that must not be sent; see final.
func (s *Server) stop(grace time.Duration) {
	s.mu.Lock()
	s.stopping = true
	s.socket.remove()
	s.mu.Unlock()
	s.health.Shutdown()
	mounts := time.AfterFunc(grace-min(grace/2, time.Second), s.endMounts)
	defer mounts.Stop()
	calls := time.AfterFunc(grace, s.grpc.Stop)
	defer calls.Stop()
	s.grpc.GracefulStop()
}

func (s *Server) hasServed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.socket != nil
}
