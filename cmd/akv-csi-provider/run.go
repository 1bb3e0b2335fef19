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
	// How far garbage may grow is a share of what is in use, and that is little here: the
	// collector would run dozens of times in a second in which a hundred pods start. Ballast
	// counts as in use, but is never written to and so is not resident: it is made before
	// anything is freed, as Go would have to clear what was used before. The share is less
	// than Go's own, as the plugin shares its node's memory with those that it serves.
	runtime.KeepAlive(ballast)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(40)
	}
	debug.FreeOSMemory() // what reading the CAs and the rest took
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return srv.Run(ctx) })
	group.Go(func() error { return adminListener.Run(ctx) })
	if err := group.Wait(); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

// ballast keeps the garbage collector calm; see run.
var ballast = make([]byte, 12<<20)

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
