// Package plugin wires the provider: from its configuration to the parts that sign in, read,
// mount and serve. The plugin's main and the end-to-end tests of a mount use it.
package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/admin"
	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/kube"
	"akv-csi-provider/provider/metrics"
	"akv-csi-provider/provider/server"
	"akv-csi-provider/provider/stats"
	"akv-csi-provider/provider/throttle"
	"akv-csi-provider/provider/tracing"
	"akv-csi-provider/provider/transport"

	"golang.org/x/sync/errgroup"
)

// Config is what a Plugin is made of. Of the configurations of its parts, leave empty what the
// wiring sets: transports, observers, interceptors, and the parts that they use.
type Config struct {
	Version         string // of the plugin, as semantic version without "v"
	CustomUserAgent string // added to the plugin's own
	Log             *slog.Logger
	LogLinesDropped func() uint64 // since the start; nil if none are ever
	// AuditLinesDropped is likewise for Server.Audit.
	AuditLinesDropped func() uint64
	Tracing           *tracing.Tracing // nil traces nothing

	Server server.Config
	Admin  admin.Config
	// Mounter may have a SignIn and Accounts, in place of those that the wiring makes.
	Mounter provider.Mounter
	Reads   keyvault.Config
	// Throttle is that of each vault, of each tenant of an authority, and of the node's
	// instance metadata service.
	Throttle throttle.Config
	Cluster  Cluster
	// IMDSEndpoint replaces http://169.254.169.254; see entra.WithIMDSEndpoint.
	IMDSEndpoint string

	// Azure and IMDS are the connections; nil for those of package transport.
	Azure, IMDS http.RoundTripper
}

// Cluster is how to reach the cluster that the plugin runs in.
type Cluster struct {
	APIServer string // https URL; "" outside a cluster
	TokenFile string // with the token of the provider's ServiceAccount
	// Token returns a token that the cluster issued, "" for none: its issuer is the one that
	// messages may name. Nil reads TokenFile.
	Token         func() string
	CAFile        string // with the cluster's CA certificates as PEM
	TokenProxyURL string // of AKS identity binding; "" for the API server's
	SNIName       string // of the token proxy; "" to derive it
}

// Plugin is a wired plugin; Run serves.
type Plugin struct {
	log    *slog.Logger
	server *server.Server
	admin  *admin.Listener
}

// New wires a plugin and binds the ports of its health check, metrics and profiles.
func New(cfg Config) (*Plugin, error) {
	m := metrics.New(cfg.Version)
	m.CountDroppedLogLines("provider", cfg.LogLinesDropped)
	m.CountDroppedLogLines("audit", cfg.AuditLinesDropped)
	mounter, err := NewMounter(cfg, m)
	if err != nil {
		return nil, err
	}
	cfg.Server.Version, cfg.Server.Log, cfg.Server.Mounter, cfg.Server.Observe = cfg.Version, cfg.Log, mounter, m
	cfg.Server.Interceptors = append(cfg.Tracing.Interceptors(), m.Interceptor())
	s, err := server.New(cfg.Server)
	if err != nil {
		return nil, err
	}
	m.Watch(func() metrics.State { return state(s, mounter) })
	cfg.Admin.Healthy, cfg.Admin.Ready, cfg.Admin.Metrics = s.Healthy, s.Ready, m.Handler()
	l, err := admin.Listen(cfg.Admin)
	if err != nil {
		return nil, err
	}
	return &Plugin{log: cfg.Log, server: s, admin: l}, nil
}

// Run serves until ctx ends, and then lets running mounts finish. It returns nil after an
// orderly stop. Call it once.
func (p *Plugin) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.server.Run(ctx) })
	group.Go(func() error { return p.admin.Run(ctx) })
	if err := group.Wait(); err != nil {
		return err
	}
	p.log.Info("stopped")
	return nil
}

// NewMounter wires what makes mounts.
func NewMounter(cfg Config, m *metrics.Metrics) (*provider.Mounter, error) {
	if cfg.Mounter.RotationTTL < 0 || cfg.Throttle.Max < 1 {
		return nil, errors.New("plugin: a positive concurrency is required, and a rotation TTL that is not negative")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	mounter := cfg.Mounter
	mounter.Memory = fair.New(volumeMemory, fair.ThreeQuarters)
	mounter.Processors = fair.New(int64(max(runtime.GOMAXPROCS(0), 2)), fair.ThreeQuarters)
	mounter.Keystores = provider.NewKeystores(keystoreMemory)
	agent := userAgent(cfg.Version, cfg.CustomUserAgent)
	azure := cfg.Azure
	if azure == nil {
		azure = transport.NewPool(cfg.Throttle.Max)
	}
	client := transport.New(logged(m.Transport(azure), cfg.Log), agent).Bounded(transport.MaxRequests(cfg.Throttle.Max))
	circuits := newCircuitLog(cfg.Log)
	var err error
	if mounter.Vaults, err = newReader(cfg, client, m, circuits); err != nil {
		return nil, err
	}
	if mounter.SignIn == nil {
		if mounter.SignIn, err = newSignIn(cfg, client, agent, m, circuits, mounter.Processors); err != nil {
			return nil, err
		}
	}
	if mounter.Accounts == nil && cfg.Cluster.APIServer != "" {
		mounter.Accounts, err = kube.NewAccounts(kube.AccountsConfig{
			Host: cfg.Cluster.APIServer, TokenFile: cfg.Cluster.TokenFile, CAFile: cfg.Cluster.CAFile,
			UserAgent: agent, Measure: measured(m.APIServer, cfg.Log),
		})
	}
	return &mounter, err
}

func newReader(cfg Config, client *transport.Client, m *metrics.Metrics, circuits *circuitLog) (*keyvault.Reader, error) {
	reads := cfg.Reads
	reads.Transport, reads.Tracing = client.For(transport.PhaseRead), cfg.Tracing.SDK()
	reads.Throttle = cfg.Throttle
	reads.Throttle.OnRetry = m.Retried("keyvault")
	circuits.observe(&reads.Throttle, "keyvault", m.CircuitOpened("keyvault"))
	reads.OnRead = func(ctx context.Context, a keyvault.Answer) {
		m.Answered(string(a.Source), a.Age)
		count(stats.FromContext(ctx), a.Source)
		logAnswer(ctx, cfg.Log, a)
	}
	return keyvault.NewReader(reads)
}

// count counts a read for its mount.
func count(mount *stats.Mount, s keyvault.Source) {
	switch s {
	case keyvault.Read:
		mount.Read.Add(1)
	case keyvault.Shared:
		mount.Shared.Add(1)
	case keyvault.Cached:
		mount.Cached.Add(1)
	case keyvault.Stale:
		mount.Stale.Add(1)
	case keyvault.FromFailover:
		mount.Failover.Add(1)
	}
}

func newSignIn(cfg Config, client *transport.Client, agent string, m *metrics.Metrics, circuits *circuitLog, processors *fair.Semaphore) (*entra.Cache, error) {
	direct := cfg.IMDS
	if direct == nil {
		direct = transport.Direct()
	}
	imds, err := entra.WithIMDSEndpoint(cfg.IMDSEndpoint, transport.New(logged(m.Transport(direct), cfg.Log), agent).For(transport.PhaseSignIn))
	if err != nil {
		return nil, fmt.Errorf("AZURE_POD_IDENTITY_AUTHORITY_HOST: %w", err)
	}
	proxy, err := entra.NewTokenProxy(entra.TokenProxyConfig{
		URL: cmp.Or(cfg.Cluster.TokenProxyURL, cfg.Cluster.APIServer), SNIName: cfg.Cluster.SNIName,
		CAFile: cfg.Cluster.CAFile, UserAgent: agent, Measure: measured(m.TokenProxy, cfg.Log),
	})
	if err != nil {
		return nil, err
	}
	perTenant := cfg.Throttle
	perTenant.OnRetry = m.Retried("entra")
	circuits.observe(&perTenant, "entra", m.CircuitOpened("entra"))
	exchange, err := entra.NewExchange(entra.Config{
		Transport: client.For(transport.PhaseSignIn), IMDS: imds, Proxy: proxy, Tracing: cfg.Tracing.SDK(),
		KnownAuthority: cloud.IsPublished, ClusterToken: clusterToken(cfg.Cluster), Throttle: perTenant,
		Processors: processors,
	})
	if err != nil {
		return nil, err
	}
	return entra.NewCache(exchange, entra.CacheConfig{Timeout: cfg.Reads.Timeout, OnToken: func(ctx context.Context, hit bool) {
		m.SignIn(hit)
		logToken(ctx, cfg.Log, hit)
	}})
}

// clusterToken returns what reads a token that the cluster issued: the provider's own, unless
// the configuration has another.
func clusterToken(c Cluster) func() string {
	if c.Token != nil {
		return c.Token
	}
	return func() string {
		token, _ := kube.ReadToken(c.TokenFile) // without one, no issuer is known
		return token
	}
}

// volumeMemory bounds what mounts read at a time; with package server's bound of requests and
// the size of an idle process it is what the memory limit of the manifests is made of.
const volumeMemory = 64 << 20

// keystoreMemory bounds the cached keystores, each of some kilobytes.
const keystoreMemory = 2 << 20

// userAgent names the plugin to Azure. The custom text may be anything; what an
// HTTP header cannot contain is left out.
func userAgent(version, custom string) string {
	custom = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, custom)
	return strings.TrimSpace(fmt.Sprintf("akv-csi-provider/%s (%s/%s) %s", version, runtime.GOOS, runtime.GOARCH, custom))
}

// Defaults of what no flag sets.
const (
	// ShutdownGrace is how long running mounts may take after SIGTERM; kubelet
	// kills a pod after 30 s by default.
	ShutdownGrace = 20 * time.Second
	// SocketCheck is how soon a socket that was removed from its path is recreated.
	SocketCheck = time.Second
)
