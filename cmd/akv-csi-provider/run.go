package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/admin"
	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/gate"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/metrics"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/server"
	"akv-csi-provider/provider/tracing"
	"akv-csi-provider/provider/transport"

	azlog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"golang.org/x/sync/errgroup"
)

const (
	// shutdownGrace is how long running mounts may take after SIGTERM; kubelet
	// kills a pod after 30 s by default.
	shutdownGrace = 20 * time.Second
	// socketCheck is how soon a socket that was taken from its path is made anew.
	socketCheck = time.Second
	// tryTimeout bounds a single request to Azure, so that one that got lost does not
	// take the whole time of a mount.
	tryTimeout = 15 * time.Second
)

// run wires the plugin and serves until ctx ends.
func run(ctx context.Context, cfg *config, out io.Writer) error {
	// The SDK would print requests and whole error bodies to stderr where
	// AZURE_SDK_GO_LOGGING is set.
	azlog.SetListener(nil)
	// Reading a directory of CAs takes longer than a mount: not at the first mount's cost.
	if _, err := x509.SystemCertPool(); err != nil {
		return fmt.Errorf("read the CAs to trust: %w", err)
	}
	log := newLogger(cfg, out)
	if len(cfg.ignored) > 0 {
		log.Warn("these flags have no effect", "flags", cfg.ignored)
	}
	instruments := metrics.New(version())
	traces, err := tracing.Start(os.Getenv, version(), log)
	if err != nil {
		return err
	}
	defer traces.Stop()
	mounter, err := newMounter(cfg, log, instruments, traces)
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
		Interceptors:     append(traces.Interceptors(), instruments.Interceptor()),
	})
	if err != nil {
		return err
	}
	ports := admin.Config{
		HealthPort:    cfg.healthzPort,
		HealthPath:    cfg.healthzPath,
		HealthTimeout: cfg.healthzTimeout,
		Healthy:       srv.Healthy,
		Ready:         srv.Ready,
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
	tuneGC()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return srv.Run(ctx) })
	group.Go(func() error { return adminListener.Run(ctx) })
	if err := group.Wait(); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

// ballast counts as live heap for the garbage collector. It is never written to, so it takes
// no memory.
var ballast = make([]byte, 12<<20)

// tuneGC keeps the garbage collector from running too often during a burst of mounts. The
// live heap is so small that Go's default runs it 8 times while 100 pods start; with the
// ballast it runs 4 times. A lower GOGC limits the peak of large bursts in return.
//
// Settings of the environment alone were measured with e2e/bench. GOGC=100 needs a tenth
// more CPU per mount with 100 pods, a sixth more with 1000, and 5 MiB more with 1000
// identities. From GOGC=125 on, 500 pods need 3 MiB more. A GOMEMLIMIT derived from the
// container's limit of 256 MiB changes nothing. One of 28 MiB keeps the peak of 500 pods
// low, but where more is in use the collector does not stop: 1000 identities take more than
// twice the CPU.
func tuneGC() {
	runtime.KeepAlive(ballast) // allocated before the start, as Go would have to clear reused memory
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(40)
	}
	debug.FreeOSMemory() // returns 1.3 MiB of garbage that the start leaves
}

func newMounter(cfg *config, log *slog.Logger, instruments *metrics.Metrics, traces *tracing.Tracing) (*provider.Mounter, error) {
	agent := userAgent(cfg.customUserAgent)
	client := transport.New(instruments.Transport(transport.FewFirst(transport.Base(cfg.maxVaultConcurrency))), agent)
	tries := gate.Config{
		Max:        cfg.maxVaultConcurrency,
		Retries:    cfg.retryMax,
		TryTimeout: tryTimeout,
	}
	vaultTries, entraTries := tries, tries
	vaultTries.Closed, entraTries.Closed = instruments.GateClosed("keyvault"), instruments.GateClosed("entra")
	vaults, err := keyvault.NewReader(keyvault.Config{
		Transport:    client.For(transport.PhaseRead),
		Gate:         vaultTries,
		Timeout:      cfg.mountTimeout,
		Unshared:     !cfg.shareReads,
		Keep:         cfg.rotationTTL,
		KeepBytes:    cfg.cacheBytes,
		StaleIfError: cfg.staleIfError,
		Seen:         instruments.Answered,
		Tracing:      traces.SDK(),
	})
	if err != nil {
		return nil, err
	}
	mounter := &provider.Mounter{
		Vaults:         vaults,
		Clouds:         newClouds(cfg, log),
		DefaultTenant:  cfg.tenantID,
		NodeNamespaces: cfg.nodeNamespaces,
		RotationTTL:    cfg.rotationTTL,
		Render:         render.Options{StoredOrder: !cfg.pemChain, SeparateFiles: cfg.separateFiles},
		MaxConcurrency: cfg.maxVaultConcurrency,
		MaxBytes:       cfg.maxResponseBytes,
		StrictObjects:  cfg.strictObjects,
	}
	for _, mode := range cfg.identityModes {
		mounter.Modes = append(mounter.Modes, entra.Mode(mode))
	}
	// The variable is the one of AAD Pod Identity, which Azure's tools heed.
	node, err := entra.NodeAt(os.Getenv("AZURE_POD_IDENTITY_AUTHORITY_HOST"),
		transport.New(instruments.Transport(transport.Direct()), agent).For(transport.PhaseSignIn))
	if err != nil {
		return nil, fmt.Errorf("AZURE_POD_IDENTITY_AUTHORITY_HOST: %w", err)
	}
	exchange := &entra.Exchange{Transport: client.For(transport.PhaseSignIn), Node: node, Published: cloud.IsPublished, Gate: entraTries, Tracing: traces.SDK()}
	mounter.SignIn, err = entra.NewCache(exchange, entra.CacheConfig{Timeout: cfg.mountTimeout, Asked: instruments.SignInAsked})
	if err != nil {
		return nil, err
	}
	return mounter, joinCluster(cfg, agent, mounter, exchange, instruments)
}

// newClouds reads the operator's own environment file once, as no mount may change
// what the next one sees.
func newClouds(cfg *config, log *slog.Logger) *cloud.Resolver {
	clouds := &cloud.Resolver{Default: cfg.cloudName, EnvDirs: cfg.cloudEnvDirs}
	if path := os.Getenv("AZURE_ENVIRONMENT_FILEPATH"); path != "" {
		own, err := cloud.ReadFile(path)
		if err != nil {
			log.Warn("AZURE_ENVIRONMENT_FILEPATH cannot be used; classes of AzureStackCloud must name a file", "error", err)
			return clouds
		}
		clouds.Environment = &own
	}
	return clouds
}

// joinCluster adds what goes through the cluster's API server, if kubelet told where
// that is.
func joinCluster(cfg *config, agent string, mounter *provider.Mounter, exchange *entra.Exchange, instruments *metrics.Metrics) error {
	apiServer := ""
	if host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"); host != "" && port != "" {
		apiServer = "https://" + net.JoinHostPort(host, port)
		accounts, err := entra.NewAccounts(entra.AccountsConfig{
			Host:      apiServer,
			TokenFile: filepath.Join(cfg.serviceAccountDir, "token"),
			CAFile:    filepath.Join(cfg.serviceAccountDir, "ca.crt"),
			UserAgent: agent,
			Measure:   instruments.APIServer,
		})
		if err != nil {
			return err
		}
		mounter.Accounts = accounts
	}
	proxy, err := entra.NewTokenProxy(entra.TokenProxyConfig{
		URL:       cmp.Or(cfg.tokenProxyURL, apiServer),
		SNIName:   cfg.sniName,
		CAFile:    filepath.Join(cfg.serviceAccountDir, "ca.crt"),
		UserAgent: agent,
		Measure:   instruments.TokenProxy,
	})
	if err != nil {
		return err
	}
	exchange.Proxy = proxy
	return nil
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
