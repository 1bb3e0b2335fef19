//go:build !windows

package server_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"akv-csi-provider/provider/server"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// answers reports whether the server behind the socket answers a call of the driver.
func answers(t *testing.T, socket, wantVersion string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	got, err := dial(t, socket).Version(ctx, &v1alpha1.VersionRequest{})
	if err != nil || got.GetRuntimeVersion() != wantVersion {
		t.Fatalf("got %v, %v, want version %s", got, err, wantVersion)
	}
}

func TestSocketIsPrivate(t *testing.T) {
	cfg := config(t, failing{})
	_, stop := start(t, cfg)
	answers(t, cfg.Socket, "1.2.3")
	info, err := os.Lstat(cfg.Socket)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("got mode %v, %v", info.Mode(), err)
	}
	others, err := os.ReadDir(filepath.Dir(cfg.Socket))
	if err != nil || len(others) != 1 {
		t.Errorf("beside the socket: %v, %v", others, err)
	}
	stop()
	if _, err := os.Lstat(cfg.Socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket stays after the stop: %v", err)
	}
}

// leaveStale makes a socket without a server, as a killed process leaves it.
func leaveStale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	cfg := config(t, failing{})
	leaveStale(t, cfg.Socket)
	start(t, cfg)
	answers(t, cfg.Socket, "1.2.3")
}

func TestOtherFileIsLeftAlone(t *testing.T) {
	cfg := config(t, failing{})
	if err := os.WriteFile(cfg.Socket, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Run(t.Context()); err == nil || !strings.Contains(err.Error(), cfg.Socket) {
		t.Errorf("got %v, want an error that names the file", err)
	}
	if got, err := os.ReadFile(cfg.Socket); string(got) != "mine" {
		t.Errorf("the file was removed: %q, %v", got, err)
	}
}

// A socket that another process serves stays that process's until it ends; then
// it is taken over.
func TestLiveSocketIsWaitedFor(t *testing.T) {
	cfg := config(t, failing{})
	_, stopOld := start(t, cfg)
	answers(t, cfg.Socket, "1.2.3")
	cfg.Version, cfg.SocketCheck = "2.0.0", 10*time.Millisecond
	fresh, _ := run(t, cfg)
	if err := healthy(t, fresh); err == nil {
		t.Error("healthy although the socket is another's")
	}
	answers(t, cfg.Socket, "1.2.3")
	stopOld()
	answers(t, cfg.Socket, "2.0.0")
	if err := healthy(t, fresh); err != nil {
		t.Error(err)
	}
}

// Of plugins that start at once over a stale socket one serves and the others wait.
func TestStartsAtOnce(t *testing.T) {
	for range 20 {
		cfg := config(t, failing{})
		leaveStale(t, cfg.Socket)
		var group sync.WaitGroup
		var serving atomic.Int32
		for range 3 {
			srv, err := server.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			group.Go(func() {
				if healthy(t, srv) == nil {
					serving.Add(1)
				}
			})
			defer runUntilEnd(t, srv)()
		}
		group.Wait()
		if n := serving.Load(); n != 1 {
			t.Fatalf("%d of 3 serve the socket", n)
		}
	}
}

// Another user's process can open the folder, and so lock it, but not our lock.
func TestLockIsPrivate(t *testing.T) {
	cfg := config(t, failing{})
	folder, err := os.Open(filepath.Dir(cfg.Socket))
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(filepath.Dir(cfg.Socket), "."+filepath.Base(cfg.Socket)+".lock")
	if err := os.WriteFile(lock, nil, 0o600); err != nil { // as a killed process leaves it
		t.Fatal(err)
	}
	_, stop := start(t, cfg)
	answers(t, cfg.Socket, "1.2.3")
	stop()
	if left, err := os.ReadDir(filepath.Dir(cfg.Socket)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A file at the lock's path that others can open, or a link, is not used.
func TestForeignLock(t *testing.T) {
	for name, place := range map[string]func(lock string) error{
		"readable": func(lock string) error { return os.WriteFile(lock, nil, 0o644) },
		"folder":   func(lock string) error { return os.Mkdir(lock, 0o700) },
		"link":     func(lock string) error { return os.Symlink("/dev/null", lock) },
		"FIFO":     func(lock string) error { return syscall.Mkfifo(lock, 0o600) },
	} {
		cfg := config(t, failing{})
		lock := filepath.Join(filepath.Dir(cfg.Socket), "."+filepath.Base(cfg.Socket)+".lock")
		if err := place(lock); err != nil {
			t.Fatal(err)
		}
		srv, err := server.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := srv.Run(t.Context()); err == nil || !strings.Contains(err.Error(), lock) {
			t.Errorf("%s: got %v, want an error that names the lock", name, err)
		}
		if _, err := os.Lstat(lock); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// At a switch-over the old process may unlink our socket when it ends.
func TestRemovedSocketIsRecreated(t *testing.T) {
	t.Run("by the health check", func(t *testing.T) {
		cfg := config(t, failing{})
		srv, _ := start(t, cfg)
		if err := os.Remove(cfg.Socket); err != nil {
			t.Fatal(err)
		}
		if err := healthy(t, srv); err != nil {
			t.Error(err)
		}
		answers(t, cfg.Socket, "1.2.3")
	})
	t.Run("by the timer", func(t *testing.T) {
		cfg := config(t, failing{})
		cfg.SocketCheck = 10 * time.Millisecond
		start(t, cfg)
		if err := os.Remove(cfg.Socket); err != nil {
			t.Fatal(err)
		}
		answers(t, cfg.Socket, "1.2.3")
	})
}

// Another process's socket at our path is neither taken for ours nor removed,
// not even at the end.
func TestForeignSocketAtOurPath(t *testing.T) {
	cfg := config(t, failing{})
	srv, stop := start(t, cfg)
	other := config(t, failing{})
	other.Version = "9.9.9"
	start(t, other)
	if err := os.Rename(other.Socket, cfg.Socket); err != nil {
		t.Fatal(err)
	}
	if err := healthy(t, srv); err == nil {
		t.Error("healthy although calls reach another process")
	}
	stop()
	answers(t, cfg.Socket, "9.9.9")
}

func TestGRPCHealth(t *testing.T) {
	cfg := config(t, failing{})
	start(t, cfg)
	conn, err := grpc.NewClient("unix:"+cfg.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil || got.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("got %v, %v", got, err)
	}
}

// attributes are the least that parses.
const attributes = `{"keyvaultName":"contoso","objects":"[{objectName: x, objectType: secret}]",` +
	`"csi.storage.k8s.io/pod.name":"p","csi.storage.k8s.io/pod.namespace":"n"}`

var smallest = &v1alpha1.MountRequest{Attributes: attributes, Secrets: "null", Permission: "420", TargetPath: "/t"}

// mountHeld starts a mount that stays inside the mounter.
func mountHeld(t *testing.T, h held, socket string) (result chan error) {
	t.Helper()
	client := dial(t, socket)
	result = make(chan error, 1)
	go func() {
		_, err := client.Mount(context.Background(), smallest)
		result <- err
	}()
	<-h.entered
	return result
}

// awaitStop returns when the server has begun to stop.
func awaitStop(t *testing.T, srv *server.Server) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); healthy(t, srv) == nil; {
		if time.Now().After(deadline) {
			t.Fatal("the stop does not begin")
		}
	}
}

func TestShutdownWaitsForMounts(t *testing.T) {
	h := newHeld()
	cfg := config(t, h)
	srv, stop := start(t, cfg)
	result := mountHeld(t, h, cfg.Socket)
	var stopped sync.WaitGroup
	stopped.Go(stop)
	awaitStop(t, srv)
	close(h.release)
	if err := <-result; err != nil {
		t.Errorf("the running mount failed: %v", err)
	}
	stopped.Wait()
}

// A mount that takes longer than the grace period ends with its own error: kubelet would take
// gRPC's Unavailable for a mount that may still be under way.
func TestShutdownEndsWhatTakesTooLong(t *testing.T) {
	h := newHeld()
	cfg := config(t, h)
	cfg.ShutdownGrace = 200 * time.Millisecond
	_, stop := start(t, cfg)
	result := mountHeld(t, h, cfg.Socket)
	stop()
	if err := <-result; status.Code(err) != codes.FailedPrecondition || !strings.HasSuffix(status.Convert(err).Message(), "[Canceled]") {
		t.Errorf("got %v", err)
	}
}

// The driver waits at most as long as kubelet; our words must come before that.
func TestErrorComesBeforeTheCallersDeadline(t *testing.T) {
	h := newHeld()
	cfg := config(t, h)
	start(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := dial(t, cfg.Socket).Mount(ctx, smallest)
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "[Timeout]") {
		t.Errorf("got %v, want our words", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	if _, err := server.New(server.Config{}); err == nil {
		t.Error("an empty configuration passes")
	}
}
