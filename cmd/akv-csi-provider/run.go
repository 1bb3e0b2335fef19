package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/admin"
	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/plugin"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/server"
	"akv-csi-provider/provider/throttle"
	"akv-csi-provider/provider/tracing"
	"akv-csi-provider/provider/transport"

	azlog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
)

// run wires the plugin and serves until ctx ends.
func run(ctx context.Context, cfg *config, out io.Writer) error {
	// The SDK would print requests and whole error bodies to stderr where
	// AZURE_SDK_GO_LOGGING is set.
	azlog.SetListener(nil)
	if err := transport.CheckProxy(os.Getenv); err != nil {
		return err
	}
	// Reading a directory of CAs takes longer than a mount: not at the first mount's cost.
	if _, err := x509.SystemCertPool(); err != nil {
		return fmt.Errorf("read the CAs to trust: %w", err)
	}
	log, queue := newLog(cfg, out)
	defer queue.stop()
	audit, audited, err := newAudit(cfg.auditLog, log)
	if err != nil {
		return err
	}
	defer audited.stop()
	if len(cfg.ignored) > 0 {
		log.Warn("these flags have no effect", "flags", cfg.ignored)
	}
	clouds, err := newClouds(cfg, log)
	if err != nil {
		return err
	}
	traces, err := tracing.Start(os.Getenv, version(), log)
	if err != nil {
		return err
	}
	defer traces.Stop()
	parts := pluginConfig(cfg, log, traces)
	parts.Mounter.Clouds = clouds
	parts.Server.Audit, parts.Server.Node = audit, nodeName()
	parts.Server.Settings = inForce(cfg, parts.Server.Node)
	parts.LogLinesDropped = queue.dropped.Load
	if audited != nil {
		parts.AuditLinesDropped = audited.dropped.Load
	}
	p, err := plugin.New(parts)
	if err != nil {
		return err
	}
	tuneGC()
	return p.Run(ctx)
}

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

// ballast counts as live heap for the garbage collector. It is never written to, so it takes
// no memory.
var ballast = make([]byte, 12<<20)

// inForce are the settings for the log. Of the proxy's URL, which may contain a password, there is
// the host.
func inForce(cfg *config, node string) []any {
	all := []any{"node", node}
	if proxy := proxyHost(); proxy != "" {
		all = append(all, "proxy", proxy)
	}
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		all = append(all, "memoryLimitBytes", limit)
	}
	return append(all, slog.Group("flags", cfg.settings...))
}

// nodeName is the name of the node: that of the downward API or, in the node's network, its host name.
func nodeName() string {
	if name := os.Getenv("NODE_NAME"); name != "" {
		return name
	}
	name, _ := os.Hostname()
	return name
}

// proxyHost is the host of HTTPS_PROXY.
func proxyHost() string {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		if u, err := url.Parse(os.Getenv(name)); err == nil && u.Host != "" {
			return u.Host
		}
	}
	return ""
}

// pluginConfig is the plugin that the command line and the environment describe.
func pluginConfig(cfg *config, log *slog.Logger, traces *tracing.Tracing) plugin.Config {
	p := plugin.Config{
		Version: version(), CustomUserAgent: cfg.customUserAgent, Log: log, Tracing: traces,
		Server: server.Config{
			Socket: cfg.socket, MountTimeout: cfg.mountTimeout, MaxResponseBytes: cfg.maxResponseBytes,
			ShutdownGrace: plugin.ShutdownGrace, SocketCheck: plugin.SocketCheck,
		},
		Admin: admin.Config{
			BindAddress: cfg.bindAddress,
			HealthPort:  cfg.healthzPort, HealthPath: cfg.healthzPath, HealthTimeout: cfg.healthzTimeout,
			MetricsPort: cfg.metricsPort,
		},
		Mounter: provider.Mounter{
			DefaultTenant:  cfg.tenantID,
			TokenAudience:  cfg.tokenAudience,
			NodeNamespaces: cfg.nodeNamespaces,
			RotationTTL:    cfg.rotationTTL,
			Render:         render.Options{StoredOrder: !cfg.pemChain, SeparateFiles: cfg.separateFiles},
			MaxConcurrency: cfg.maxVaultConcurrency,
			MaxBytes:       cfg.maxResponseBytes,
			StrictObjects:  cfg.strictObjects,
		},
		Reads: keyvault.Config{
			Timeout: cfg.mountTimeout, Unshared: !cfg.shareReads,
			CacheTTL: cfg.rotationTTL, CacheBytes: cfg.cacheBytes, StaleIfError: cfg.staleIfError,
		},
		Throttle: throttle.Config{Max: cfg.maxVaultConcurrency, Retries: cfg.retryMax},
		Cluster:  newCluster(cfg),
		// The variable is the one of AAD Pod Identity, which Azure's tools honor.
		IMDSEndpoint: os.Getenv("AZURE_POD_IDENTITY_AUTHORITY_HOST"),
	}
	for _, mode := range cfg.identityModes {
		p.Mounter.Modes = append(p.Mounter.Modes, entra.Mode(mode))
	}
	if cfg.enablePprof {
		p.Admin.PprofPort = cfg.pprofPort
	}
	return p
}

// newClouds reads the operator's own environment files once, as no mount may change
// what the next one sees.
func newClouds(cfg *config, log *slog.Logger) (*cloud.Resolver, error) {
	clouds := &cloud.Resolver{Default: cfg.cloudName, EnvDirs: cfg.cloudEnvDirs, Own: make(map[string]cloud.Cloud)}
	for name, path := range cfg.cloudFiles {
		own, err := cloud.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("--cloud-file: cloud %s: %w", name, err)
		}
		own.Name = name
		clouds.Own[name] = own
	}
	if path := os.Getenv("AZURE_ENVIRONMENT_FILEPATH"); path != "" {
		own, err := cloud.ReadFile(path)
		if err != nil {
			log.Warn("AZURE_ENVIRONMENT_FILEPATH is not valid; SecretProviderClasses of AzureStackCloud must set cloudEnvFileName", "error", err)
			return clouds, nil
		}
		clouds.Environment = &own
	}
	return clouds, nil
}

// newCluster is the cluster of which kubelet's variables name the API server.
func newCluster(cfg *config) plugin.Cluster {
	c := plugin.Cluster{
		TokenFile: filepath.Join(cfg.serviceAccountDir, "token"), CAFile: filepath.Join(cfg.serviceAccountDir, "ca.crt"),
		TokenProxyURL: cfg.tokenProxyURL, SNIName: cfg.sniName,
	}
	if host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"); host != "" && port != "" {
		c.APIServer = "https://" + net.JoinHostPort(host, port)
	}
	return c
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
