package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/admin"
	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/metrics"
	"akv-csi-provider/provider/server"
	"akv-csi-provider/provider/transport"

	azlog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
)

const (
	// shutdownGrace is how long running mounts may take after SIGTERM; kubelet
	// kills a pod after 30 s by default.
	shutdownGrace = 20 * time.Second
	// socketCheck is how soon a socket that was taken from its path is made anew.
	socketCheck = time.Second
)

// run wires the plugin and serves until ctx ends.
func run(ctx context.Context, cfg *config, out io.Writer) error {
	// The SDK would print requests and whole error bodies to stderr where
	// AZURE_SDK_GO_LOGGING is set.
	azlog.SetListener(nil)
	log := newLogger(cfg, out)
	if len(cfg.ignored) > 0 {
		log.Warn("these flags have no effect", "flags", cfg.ignored)
	}
	instruments := metrics.New(version())
	mounter, err := newMounter(cfg, instruments)
	if err != nil {
		return err
	}
	srv, err := server.New(server.Config{
		Socket:           cfg.socket,
		Version:          version(),
		Mounter:          mounter,
		Log:              log,
		Observe:          instruments,
		MountTimeout:     cfg.mountTimeout,
		ShutdownGrace:    shutdownGrace,
		MaxResponseBytes: cfg.maxResponseBytes,
		SocketCheck:      socketCheck,
		Interceptors:     []grpc.UnaryServerInterceptor{instruments.Interceptor()},
	})
	if err != nil {
		return err
	}
	ports := admin.Config{
		HealthPort:    cfg.healthzPort,
		HealthPath:    cfg.healthzPath,
		HealthTimeout: cfg.healthzTimeout,
		Healthy:       srv.Healthy,
		MetricsPort:   cfg.metricsPort,
		Metrics:       instruments.Handler(),
	}
	if cfg.enablePprof {
		ports.PprofPort = cfg.pprofPort
	}
	adminListener, err := admin.Listen(ports)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return srv.Run(ctx) })
	group.Go(func() error { return adminListener.Run(ctx) })
	if err := group.Wait(); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

func newMounter(cfg *config, instruments *metrics.Metrics) (*provider.Mounter, error) {
	client := transport.New(instruments.Transport(transport.Base(cfg.maxVaultConcurrency)), userAgent(cfg.customUserAgent))
	retry := policy.RetryOptions{
		MaxRetries:    int32(cfg.retryMax),
		RetryDelay:    100 * time.Millisecond, // a lone reset or 5xx is over by then
		MaxRetryDelay: 10 * time.Second,
		TryTimeout:    15 * time.Second,
	}
	if cfg.retryMax == 0 {
		retry.MaxRetries = -1 // azcore takes 0 for its default
	}
	vaults, err := keyvault.NewReader(keyvault.Config{
		Transport:      client.For(transport.PhaseRead),
		Retry:          retry,
		MaxConcurrency: cfg.maxVaultConcurrency,
	})
	if err != nil {
		return nil, err
	}
	return &provider.Mounter{
		SignIn:         &entra.Exchange{Transport: client.For(transport.PhaseSignIn), Retry: retry},
		Vaults:         vaults,
		Clouds:         &cloud.Resolver{Default: cfg.cloudName},
		DefaultTenant:  cfg.tenantID,
		MaxConcurrency: cfg.maxVaultConcurrency,
		MaxBytes:       cfg.maxResponseBytes,
		StrictObjects:  cfg.strictObjects,
	}, nil
}

func newLogger(cfg *config, out io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if cfg.verbosity >= 4 {
		options.Level = slog.LevelDebug
	}
	if cfg.logJSON {
		return slog.New(slog.NewJSONHandler(out, options))
	}
	return slog.New(slog.NewTextHandler(out, options))
}

// userAgent names the plugin to Azure. The custom text may be anything; what an
// HTTP header cannot hold is left out.
func userAgent(custom string) string {
	custom = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, custom)
	return strings.TrimSpace(fmt.Sprintf("akv-csi-provider/%s (%s/%s) %s", version(), runtime.GOOS, runtime.GOARCH, custom))
}
