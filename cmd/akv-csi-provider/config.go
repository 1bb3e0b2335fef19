package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"akv-csi-provider/provider/admin"
	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/kube"
)

// config is the command line, checked.
type config struct {
	endpoint string // flag; see socket
	socket   string // path of the unix socket

	bindAddress    string
	healthzPort    int
	healthzPath    string
	healthzTimeout time.Duration
	metricsPort    int
	metricsBackend string
	enablePprof    bool
	pprofPort      int

	logJSON   bool
	auditLog  string
	verbosity int

	cloudName       string
	cloudEnvDirs    list
	cloudFiles      cloudFiles
	tokenAudience   string
	tenantID        string
	strictObjects   bool
	customUserAgent string

	identityModes     list // of entra.Mode
	nodeNamespaces    list
	tokenProxyURL     string
	sniName           string
	serviceAccountDir string

	pemChain      bool
	separateFiles bool

	mountTimeout        time.Duration
	retryMax            int
	maxVaultConcurrency int
	maxResponseBytes    int

	shareReads   bool
	rotationTTL  time.Duration
	staleIfError time.Duration
	cacheBytes   int

	showVersion bool
	settings    []any    // of package slog; the flags in force
	ignored     []string // flags without effect that were given
}

// flags binds the command line to c. The names are those of the provider this
// one replaces, as far as it has them.
func (c *config) flags() *flag.FlagSet {
	f := flag.NewFlagSet("akv-csi-provider", flag.ContinueOnError)
	f.SetOutput(io.Discard) // errors are returned and reported once
	f.StringVar(&c.endpoint, "endpoint", "unix:///tmp/azure.sock", "`URL` of the unix socket to serve the CSI driver on")
	f.StringVar(&c.bindAddress, "bind-address", "", "IP `address` that health check and metrics listen on (default: all addresses)")
	f.IntVar(&c.healthzPort, "healthz-port", 8989, "`port` of the health check; 0 disables it")
	f.StringVar(&c.healthzPath, "healthz-path", "/healthz", "`path` of the health check")
	f.DurationVar(&c.healthzTimeout, "healthz-timeout", 5*time.Second, "timeout of a health check")
	f.IntVar(&c.metricsPort, "prometheus-port", 8898, "`port` of /metrics; 0 disables it")
	f.StringVar(&c.metricsBackend, "metrics-backend", "prometheus", "metrics backend; only prometheus is supported")
	f.BoolVar(&c.enablePprof, "enable-pprof", false, "serve pprof profiles on the loopback address")
	f.IntVar(&c.pprofPort, "pprof-port", 6060, "`port` of pprof")
	f.BoolVar(&c.logJSON, "log-format-json", false, "log as JSON")
	f.IntVar(&c.verbosity, "v", 0, "log `level`; 4 or more adds debug messages")
	f.StringVar(&c.auditLog, "audit-log", auditOff, "where to write a JSON line for each pod start, change and failed mount: off, stdout or the path of a `FILE`")
	f.StringVar(&c.cloudName, "cloud-name", "AzurePublicCloud", "cloud of SecretProviderClasses without cloudName: "+strings.Join(cloud.Names(), ", "))
	c.cloudEnvDirs = slices.Clone(cloud.DefaultEnvDirs)
	f.Var(&c.cloudEnvDirs, "cloud-env-dirs", "comma-separated `directories` that may contain the file of cloudEnvFileName")
	f.Var(&c.cloudFiles, "cloud-file", "comma-separated `NAME=PATH` pairs of custom clouds: the cloudName and its environment file, which is read at startup")
	f.StringVar(&c.tokenAudience, "token-audience", "", "`audience` of the pods' service account tokens for Entra (default: the cloud's)")
	f.StringVar(&c.tenantID, "tenant-id", "", "Entra `tenant` of SecretProviderClasses without tenantID")
	f.BoolVar(&c.strictObjects, "strict-objects", false, "reject SecretProviderClasses with mistakes that otherwise only cause a warning")
	f.StringVar(&c.customUserAgent, "custom-user-agent", "", "`text` to append to the User-Agent of requests to Azure")
	f.DurationVar(&c.mountTimeout, "mount-timeout", 50*time.Second, "timeout of one mount; kubelet retries")
	f.IntVar(&c.retryMax, "retry-max", 3, "maximum number of retries of a request to Azure; 0 disables retries")
	f.IntVar(&c.maxVaultConcurrency, "max-vault-concurrency", 80, "maximum number of concurrent requests to one vault")
	f.IntVar(&c.maxResponseBytes, "max-response-bytes", 4<<20, "maximum size of a volume in `bytes`; the CSI driver has its own limit (--max-call-recv-msg-size)")
	f.Var(&c.identityModes, "identity-modes", "comma-separated identity modes that SecretProviderClasses may use: "+strings.Join(modes(), ", ")+" (default: all)")
	f.Var(&c.nodeNamespaces, "managed-identity-namespaces", "comma-separated `namespaces` whose pods may use the node's managed identities (default: all)")
	f.StringVar(&c.tokenProxyURL, "token-proxy-url", "", "`URL` of the cluster's token proxy, for AKS identity binding (default: the API server)")
	f.StringVar(&c.sniName, "sni-name", "", "TLS server `name` (SNI) of the token proxy (default: derived from the API server's certificate)")
	f.StringVar(&c.serviceAccountDir, "service-account-dir", "/var/run/secrets/kubernetes.io/serviceaccount", "`directory` with token and ca.crt of the provider's service account, for the API server")
	f.BoolVar(&c.shareReads, "share-reads", true, "let pods that use the same identity share one Key Vault read when it is recent enough; each pod authenticates itself")
	f.DurationVar(&c.rotationTTL, "rotation-cache-ttl", 30*time.Second, "maximum age of a cached value that may be returned for a rotation; pod starts always read again. 0 disables the cache")
	f.DurationVar(&c.staleIfError, "stale-if-error", 0, "maximum age of a cached value that a starting pod may get, with a warning, while the vault is unavailable or throttles; 0 disables this")
	f.IntVar(&c.cacheBytes, "cache-max-bytes", 16<<20, "maximum size in `bytes` of the in-memory cache for these two")
	f.BoolVar(&c.pemChain, "construct-pem-chain", true, "write certificates from PKCS#12 leaf first, then each issuer; false keeps the stored order")
	f.BoolVar(&c.separateFiles, "write-cert-and-key-in-separate-files", false, "also write <alias>.crt and <alias>.key for secrets that belong to certificates")
	f.BoolVar(&c.showVersion, "version", false, "print the version and exit")
	for name, boolean := range ignoredFlags {
		add := f.Func
		if boolean {
			add = f.BoolFunc
		}
		add(name, "no effect", func(string) error {
			if !slices.Contains(c.ignored, name) {
				c.ignored = append(c.ignored, name)
			}
			return nil
		})
	}
	return f
}

func parseFlags(args []string) (*config, error) {
	c := new(config)
	f := c.flags()
	if err := f.Parse(args); err != nil {
		return nil, withHint(err, f)
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q; use --name=value", f.Arg(0))
	}
	c.settings = settings(f)
	return c, c.check()
}

// settings are the flags in force, for the log; those that are empty are left out.
func settings(f *flag.FlagSet) (all []any) {
	f.VisitAll(func(fl *flag.Flag) {
		_, ignored := ignoredFlags[fl.Name]
		if text := fl.Value.String(); !ignored && fl.Name != "version" && text != "" {
			all = append(all, slog.String(fl.Name, text))
		}
	})
	return all
}

func (c *config) check() error {
	socket := socketURL.FindStringSubmatch(c.endpoint)
	if socket == nil {
		return fmt.Errorf("--endpoint=%q: not the URL of a unix socket; %s", c.endpoint, endpointFix(c.endpoint))
	}
	c.socket = "/" + socket[1]
	if err := c.checkRanges(); err != nil {
		return err
	}
	for name, l := range map[string]list{"identity-modes": c.identityModes, "managed-identity-namespaces": c.nodeNamespaces} {
		if l != nil && len(l) == 0 { // which must not come to mean all
			return fmt.Errorf("--%s: set at least one, or omit the flag for all", name)
		}
	}
	for _, mode := range c.identityModes {
		if !slices.Contains(modes(), mode) {
			return fmt.Errorf("--identity-modes: %q is not one of %s", mode, strings.Join(modes(), ", "))
		}
	}
	if c.auditLog != auditOff && c.auditLog != auditStdout && !filepath.IsAbs(c.auditLog) {
		return fmt.Errorf("--audit-log=%q: use off, stdout or an absolute path", c.auditLog)
	}
	for _, dir := range c.cloudEnvDirs {
		if !filepath.IsAbs(dir) && !path.IsAbs(dir) { // on Windows /cloudEnv lacks the volume
			return fmt.Errorf("--cloud-env-dirs: %q is not an absolute path", dir)
		}
	}
	if c.tokenProxyURL != "" {
		if _, err := kube.ParseURL(c.tokenProxyURL); err != nil {
			return fmt.Errorf("--token-proxy-url: %w", err)
		}
	}
	if c.enablePprof && c.pprofPort == 0 {
		return errors.New("--pprof-port=0: set a port, or remove --enable-pprof")
	}
	if !admin.ValidAddress(c.bindAddress) {
		return fmt.Errorf("--bind-address=%q: not an IP address", c.bindAddress)
	}
	if !admin.ValidPath(c.healthzPath) {
		return fmt.Errorf("--healthz-path=%q: not a path", c.healthzPath)
	}
	if !strings.EqualFold(c.metricsBackend, "prometheus") {
		return fmt.Errorf("--metrics-backend=%q: only prometheus is supported", c.metricsBackend)
	}
	for name := range c.cloudFiles {
		if strings.EqualFold(name, "AzureStackCloud") {
			return errors.New("--cloud-file: set the file of AzureStackCloud with AZURE_ENVIRONMENT_FILEPATH")
		}
	}
	if err := cloud.CheckName(c.cloudName, slices.Sorted(maps.Keys(c.cloudFiles))...); err != nil {
		return fmt.Errorf("--cloud-name: %w", err)
	}
	return nil
}

// checkRanges checks the numbers and durations.
func (c *config) checkRanges() error {
	port := func(n int) bool { return n >= 0 && n <= 65535 }
	for _, n := range []struct {
		name  string
		value any
		ok    bool
		cause string
	}{
		{"healthz-port", c.healthzPort, port(c.healthzPort), "not a port"},
		{"prometheus-port", c.metricsPort, port(c.metricsPort), "not a port"},
		{"pprof-port", c.pprofPort, port(c.pprofPort), "not a port"},
		{"healthz-timeout", c.healthzTimeout, c.healthzTimeout > 0, "out of range, more than 0"},
		{"mount-timeout", c.mountTimeout, c.mountTimeout > 0, "out of range, more than 0"},
		{"retry-max", c.retryMax, c.retryMax >= 0 && c.retryMax <= 100, "out of range, 0 to 100"},
		{"max-vault-concurrency", c.maxVaultConcurrency, c.maxVaultConcurrency >= 1, "out of range, at least 1"},
		{"rotation-cache-ttl", c.rotationTTL, c.rotationTTL >= 0, "out of range, 0 or more"},
		{"stale-if-error", c.staleIfError, c.staleIfError >= 0, "out of range, 0 or more"},
		{"cache-max-bytes", c.cacheBytes, c.cacheBytes >= 0, "out of range, 0 or more"},
		{"max-response-bytes", c.maxResponseBytes, c.maxResponseBytes >= 1, "out of range, at least 1"},
	} {
		if !n.ok {
			return fmt.Errorf("--%s=%v: %s", n.name, n.value, n.cause)
		}
	}
	return nil
}

// socketURL is the URL of a unix socket. A missing third slash is forgiven, as by the
// replaced provider.
var socketURL = regexp.MustCompile(`(?is)^unix:///*([^/].*)$`)

// modes are the values of --identity-modes.
func modes() []string {
	names := make([]string, len(entra.Modes))
	for i, mode := range entra.Modes {
		names[i] = string(mode)
	}
	return names
}

// list is a flag of texts separated by commas.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

// Set replaces what was there.
func (l *list) Set(text string) error {
	*l = list{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			*l = append(*l, part)
		}
	}
	return nil
}

// cloudFiles are the paths of environment files by the names of their clouds.
type cloudFiles map[string]string

func (f *cloudFiles) String() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(*f)) {
		all = append(all, name+"="+(*f)[name])
	}
	return strings.Join(all, ",")
}

// cloudFileName is a name that a class can contain and a message can quote.
var cloudFileName = regexp.MustCompile(`^[A-Za-z][-A-Za-z0-9]{0,62}$`)

// Set adds clouds, separated by commas.
func (f *cloudFiles) Set(text string) error {
	for cloud := range strings.SplitSeq(text, ",") {
		if err := f.add(strings.TrimSpace(cloud)); err != nil {
			return err
		}
	}
	return nil
}

func (f *cloudFiles) add(text string) error {
	name, path, _ := strings.Cut(text, "=")
	if !cloudFileName.MatchString(name) || path == "" {
		return errors.New("use NAME=PATH; the name has letters, digits and hyphens")
	}
	for other := range *f {
		if strings.EqualFold(name, other) {
			return fmt.Errorf("cloud %s is set twice", name)
		}
	}
	if *f == nil {
		*f = make(cloudFiles)
	}
	(*f)[name] = path
	return nil
}

// ignoredFlags are those that argument lists of the replaced provider may contain and that
// have no effect here: the flags of k8s.io/klog/v2 (v2.140), with which this plugin does not
// log. Those that are true may stand without a value.
var ignoredFlags = map[string]bool{
	"add_dir_header": true, "alsologtostderr": true, "legacy_stderr_threshold_behavior": true,
	"logtostderr": true, "one_output": true, "skip_headers": true, "skip_log_headers": true,
	"alsologtostderrthreshold": false, "log_backtrace_at": false, "log_dir": false, "log_file": false,
	"log_file_max_size": false, "stderrthreshold": false, "vmodule": false,
}
