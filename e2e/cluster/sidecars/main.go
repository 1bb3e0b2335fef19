// Command sidecars does what the driver's DaemonSet needs of two containers of the
// Kubernetes CSI project, whose images a node without a registry cannot have: registrar
// makes the driver known to kubelet, livenessprobe answers for its health.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: sidecars registrar|livenessprobe [flags]")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	socket := flags.String("csi-address", "/csi/csi.sock", "`socket` of the driver")
	seen := flags.String("kubelet-registration-path", "", "`path` under which kubelet has that socket")
	endpoint := flags.String("http-endpoint", ":9808", "`address` of /healthz")
	timeout := flags.Duration("probe-timeout", time.Second, "how long the driver may take to answer")
	flags.Int("v", 0, "no effect")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	conn, err := grpc.NewClient("unix:"+*socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	driver := csi.NewIdentityClient(conn)
	switch args[0] {
	case "registrar":
		return register(ctx, driver, *seen)
	case "livenessprobe":
		return probe(ctx, driver, *endpoint, *timeout)
	}
	return fmt.Errorf("no sidecar %q", args[0])
}

// registrar answers kubelet's plugin watcher (k8s.io/kubelet, pluginregistration/v1).
type registrar struct {
	registration.UnimplementedRegistrationServer
	name, endpoint string
	refused        chan error
}

func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: r.name, Endpoint: r.endpoint, SupportedVersions: []string{"1.0.0"}}, nil
}

func (r *registrar) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !s.GetPluginRegistered() {
		select {
		case r.refused <- fmt.Errorf("kubelet refused the driver: %s", s.GetError()):
		default:
		}
	}
	return &registration.RegistrationStatusResponse{}, nil
}

func register(ctx context.Context, driver csi.IdentityClient, endpoint string) error {
	info, err := driver.GetPluginInfo(ctx, &csi.GetPluginInfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	socket := filepath.Join("/registration", info.GetName()+"-reg.sock")
	if err := os.RemoveAll(socket); err != nil {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	r := &registrar{name: info.GetName(), endpoint: endpoint, refused: make(chan error, 1)}
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, r)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	defer server.Stop()
	select {
	case <-ctx.Done():
		return nil
	case err := <-r.refused:
		return err
	case err := <-ended:
		return err
	}
}

// probe answers /healthz with what the driver answers to Probe.
func probe(ctx context.Context, driver csi.IdentityClient, endpoint string, timeout time.Duration) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		if _, err := driver.Probe(ctx, &csi.ProbeRequest{}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	server := &http.Server{Addr: endpoint, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return nil
}
