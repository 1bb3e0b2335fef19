package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The flags of the replaced provider mean what they meant, and ours what the
// contract says.
func TestFlags(t *testing.T) {
	for _, c := range []struct {
		name, value string
		taken       func(*config) bool
	}{
		{"endpoint", "unix:///provider/azure.sock", func(c *config) bool { return c.socket == "/provider/azure.sock" }},
		{"endpoint", "unix://provider/azure.sock", func(c *config) bool { return c.socket == "/provider/azure.sock" }},
		{"endpoint", "UNIX:////provider/azure.sock", func(c *config) bool { return c.socket == "/provider/azure.sock" }},
		{"bind-address", "", func(c *config) bool { return c.bindAddress == "" }},
		{"bind-address", "127.0.0.1", func(c *config) bool { return c.bindAddress == "127.0.0.1" }},
		{"bind-address", "::1", func(c *config) bool { return c.bindAddress == "::1" }},
		{"healthz-port", "8080", func(c *config) bool { return c.healthzPort == 8080 }},
		{"healthz-port", "0", func(c *config) bool { return c.healthzPort == 0 }},
		{"healthz-path", "/live", func(c *config) bool { return c.healthzPath == "/live" }},
		{"healthz-timeout", "7s", func(c *config) bool { return c.healthzTimeout == 7*time.Second }},
		{"prometheus-port", "65535", func(c *config) bool { return c.metricsPort == 65535 }},
		{"metrics-backend", "prometheus", func(*config) bool { return true }},
		{"metrics-backend", "Prometheus", func(*config) bool { return true }},
		{"metrics-backend", "PROMETHEUS", func(*config) bool { return true }},
		{"enable-pprof", "true", func(c *config) bool { return c.enablePprof }},
		{"pprof-port", "6061", func(c *config) bool { return c.pprofPort == 6061 }},
		{"log-format-json", "true", func(c *config) bool { return c.logJSON }},
		{"v", "5", func(c *config) bool { return c.verbosity == 5 }},
		{"cloud-name", "AzureUSGovernmentCloud", func(c *config) bool { return c.cloudName == "AzureUSGovernmentCloud" }},
		{"cloud-name", "azurechinacloud", func(c *config) bool { return c.cloudName == "azurechinacloud" }},
		{"cloud-name", "AzureCloud", func(c *config) bool { return c.cloudName == "AzureCloud" }},
		{"cloud-name", "AzureDelosCloud", func(c *config) bool { return c.cloudName == "AzureDelosCloud" }},
		{"cloud-file", "Sky=/etc/akv/sky.json, Sea=/a=b", func(c *config) bool {
			return len(c.cloudFiles) == 2 && c.cloudFiles["Sky"] == "/etc/akv/sky.json" && c.cloudFiles["Sea"] == "/a=b"
		}},
		{"token-audience", "api://AzureADTokenExchangeUSNat", func(c *config) bool { return c.tokenAudience == "api://AzureADTokenExchangeUSNat" }},
		{"custom-user-agent", "'kubernetes.azure.com/managedby: aks'", func(c *config) bool { return c.customUserAgent == "'kubernetes.azure.com/managedby: aks'" }},
		{"version", "true", func(c *config) bool { return c.showVersion }},
		{"tenant-id", "contoso.onmicrosoft.com", func(c *config) bool { return c.tenantID == "contoso.onmicrosoft.com" }},
		{"strict-objects", "true", func(c *config) bool { return c.strictObjects }},
		{"max-response-bytes", "1048576", func(c *config) bool { return c.maxResponseBytes == 1<<20 }},
		{"mount-timeout", "20s", func(c *config) bool { return c.mountTimeout == 20*time.Second }},
		{"retry-max", "0", func(c *config) bool { return c.retryMax == 0 }},
		{"max-vault-concurrency", "1", func(c *config) bool { return c.maxVaultConcurrency == 1 }},
	} {
		forms := [][]string{{"-" + c.name + "=" + c.value}, {"--" + c.name + "=" + c.value}}
		if boolean(c.name) {
			forms = append(forms, []string{"-" + c.name}, []string{"--" + c.name})
		} else {
			forms = append(forms, []string{"-" + c.name, c.value}, []string{"--" + c.name, c.value})
		}
		for _, args := range forms {
			got, err := parseFlags(args)
			if err != nil {
				t.Errorf("%q: %v", args, err)
				continue
			}
			if !c.taken(got) {
				t.Errorf("%q: got %+v", args, got)
			}
			if len(got.ignored) > 0 {
				t.Errorf("%q: ignored %q", args, got.ignored)
			}
		}
	}
}

func boolean(name string) bool {
	b, ok := new(config).flags().Lookup(name).Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

func TestDefaults(t *testing.T) {
	got, err := parseFlags(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.socket != "/tmp/azure.sock" || got.bindAddress != "" || got.healthzPort != 8989 || got.healthzPath != "/healthz" || got.healthzTimeout != 5*time.Second ||
		got.metricsPort != 8898 || !strings.EqualFold(got.metricsBackend, "prometheus") || got.enablePprof || got.pprofPort != 6060 ||
		got.logJSON || got.verbosity != 0 || got.cloudName != "AzurePublicCloud" || got.customUserAgent != "" || got.showVersion {
		t.Errorf("not those of the replaced provider: %+v", got)
	}
	if !got.pemChain || got.separateFiles || got.sniName != "" || got.tokenProxyURL != "" {
		t.Errorf("not those of the replaced provider: %+v", got)
	}
	if got.identityModes != nil || got.nodeNamespaces != nil || got.cloudEnvDirs.String() != "/cloudEnv,/etc/kubernetes,/etc/akv" {
		t.Errorf("not those of the contract: %+v", got)
	}
	if !got.shareReads || got.rotationTTL != 30*time.Second || got.staleIfError != 0 || got.cacheBytes != 16<<20 {
		t.Errorf("not those of the contract: %+v", got)
	}
	if got.tenantID != "" || got.strictObjects || got.maxResponseBytes != 4<<20 || got.mountTimeout != 50*time.Second || got.maxVaultConcurrency != 80 {
		t.Errorf("not those of the contract: %+v", got)
	}
}

// Argument lists that are known to be in use.
func TestArgumentsInUse(t *testing.T) {
	for _, args := range [][]string{
		{"--endpoint=unix:///provider/azure.sock", "--construct-pem-chain=true", "--healthz-port=8989", "--healthz-path=/healthz", "--healthz-timeout=5s"},
		{"--endpoint=unix:///provider/azure.sock", "--log-format-json=false", "-v=2", "--custom-user-agent='kubernetes.azure.com/managedby: aks'"},
		{"--construct-pem-chain=false", "--write-cert-and-key-in-separate-files", "--token-proxy-url=https://10.0.0.1:443/", "--sni-name=a.ests.aks"},
		{"--endpoint=unix:///provider/azure.sock", "-v", "5", "--logtostderr", "--prometheus-port=8898", "--metrics-backend=Prometheus"},
	} {
		if _, err := parseFlags(args); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// klog's flags are taken with any value and remembered once each.
func TestKlogFlags(t *testing.T) {
	booleans := []string{"logtostderr", "alsologtostderr", "add_dir_header", "skip_headers", "skip_log_headers", "one_output", "legacy_stderr_threshold_behavior"}
	valued := []string{"vmodule", "log_dir", "log_file", "log_file_max_size", "stderrthreshold", "log_backtrace_at", "alsologtostderrthreshold"}
	var args []string
	for _, name := range booleans {
		args = append(args, "--"+name, "-"+name+"=true", "--"+name+"=false")
	}
	for _, name := range valued {
		args = append(args, "--"+name+"=2", "-"+name, "/var/log", "--"+name+"=")
	}
	got, err := parseFlags(append(args, "-v=3"))
	if err != nil {
		t.Fatal(err)
	}
	want := append(slices.Clone(booleans), valued...)
	slices.Sort(want)
	if slices.Sort(got.ignored); !slices.Equal(got.ignored, want) || got.verbosity != 3 {
		t.Errorf("ignored %q with -v=%d, want %q", got.ignored, got.verbosity, want)
	}
	for _, name := range valued {
		if _, err := parseFlags([]string{"--" + name}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("--%s without its value: got %v", name, err)
		}
	}
}

func TestLists(t *testing.T) {
	got, err := parseFlags([]string{"--identity-modes= workload-identity , managed-identity,", "--managed-identity-namespaces=a,b", "--cloud-env-dirs="})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.identityModes, []string{"workload-identity", "managed-identity"}) || !slices.Equal(got.nodeNamespaces, []string{"a", "b"}) || len(got.cloudEnvDirs) > 0 {
		t.Errorf("got %q, %q, %q", got.identityModes, got.nodeNamespaces, got.cloudEnvDirs)
	}
}

// bad are command lines that exit with 2, and what the message must name.
var bad = []struct {
	args []string
	says []string
}{
	{[]string{"--audit-log=audit.log"}, []string{"--audit-log", "absolute"}},
	{[]string{"--audit-log="}, []string{"--audit-log", "off"}},
	{[]string{"--no-such-flag"}, []string{"no-such-flag"}},
	{[]string{"-no-such-flag=1"}, []string{"no-such-flag"}},
	{[]string{"--no-such-flag\n"}, []string{"no-such-flag"}},
	{[]string{"--driver-write-secrets=true"}, []string{"driver-write-secrets"}},
	{[]string{"---endpoint"}, []string{"---endpoint"}},
	{[]string{"--=x"}, []string{"--=x"}},
	{[]string{"--endpoint"}, []string{"endpoint"}},
	{[]string{"stray"}, []string{`"stray"`}},
	{[]string{"-v=2", "stray\nargument", "--version"}, []string{"stray"}},
	{[]string{"--log-format-json", "false"}, []string{`"false"`}},
	{[]string{""}, []string{`""`}},
	{[]string{"--v=high"}, []string{"-v", `"high"`}},
	{[]string{"--log-format-json=maybe"}, []string{"log-format-json", `"maybe"`}},
	{[]string{"--strict-objects=2"}, []string{"strict-objects", `"2"`}},
	{[]string{"--version=perhaps"}, []string{"version", `"perhaps"`}},
	{[]string{"--endpoint=tcp://127.0.0.1:1"}, []string{"--endpoint", "tcp://127.0.0.1:1", "unix:///"}},
	{[]string{"--endpoint="}, []string{"--endpoint", `""`}},
	{[]string{"--endpoint=unix://"}, []string{"--endpoint", "unix://"}},
	{[]string{"--endpoint=/provider/azure.sock"}, []string{"--endpoint", "unix:///provider/azure.sock"}},
	{[]string{"--bind-address=localhost"}, []string{"--bind-address", `"localhost"`, "IP address"}},
	{[]string{"--bind-address=127.0.0.1:80"}, []string{"--bind-address", "127.0.0.1:80"}},
	{[]string{"--healthz-port=65536"}, []string{"--healthz-port", "65536"}},
	{[]string{"--healthz-port=-1"}, []string{"--healthz-port", "-1"}},
	{[]string{"--healthz-port=http"}, []string{"healthz-port", `"http"`}},
	{[]string{"--prometheus-port=70000"}, []string{"--prometheus-port", "70000"}},
	{[]string{"--pprof-port=-6060"}, []string{"--pprof-port", "-6060"}},
	{[]string{"--healthz-timeout=5"}, []string{"healthz-timeout", `"5"`}},
	{[]string{"--healthz-timeout=0s"}, []string{"--healthz-timeout", "0s"}},
	{[]string{"--healthz-timeout=-3s"}, []string{"--healthz-timeout", "-3s"}},
	{[]string{"--healthz-path=healthz"}, []string{"--healthz-path", `"healthz"`}},
	{[]string{"--healthz-path="}, []string{"--healthz-path", `""`}},
	{[]string{"--healthz-path=//healthz"}, []string{"--healthz-path", "//healthz"}},
	{[]string{"--healthz-path=/a/../b"}, []string{"--healthz-path", "/a/../b"}},
	{[]string{"--healthz-path=/{$}"}, []string{"--healthz-path", "/{$}"}},
	{[]string{"--healthz-path=/a\tb"}, []string{"--healthz-path"}},
	{[]string{"--metrics-backend=otlp"}, []string{"--metrics-backend", "otlp", "prometheus"}},
	{[]string{"--cloud-name=AzureMoonCloud"}, []string{"--cloud-name", "AzureMoonCloud", "AzurePublicCloud"}},
	{[]string{"--cloud-name=AzureGermanCloud"}, []string{"--cloud-name", "AzureGermanCloud", "2021"}},
	{[]string{"--cloud-name=Sky", "--cloud-file=Sea=/a"}, []string{"--cloud-name", "Sky", "Sea"}},
	{[]string{"--cloud-file=Sky"}, []string{"cloud-file", "NAME=PATH"}},
	{[]string{"--cloud-file=Sky="}, []string{"cloud-file", "NAME=PATH"}},
	{[]string{"--cloud-file=Sky.1=/a"}, []string{"cloud-file", "letters"}},
	{[]string{"--cloud-file=Sky=/a", "--cloud-file=sky=/b"}, []string{"cloud-file", "twice"}},
	{[]string{"--cloud-file=AzureStackCloud=/a"}, []string{"--cloud-file", "AZURE_ENVIRONMENT_FILEPATH"}},
	{[]string{"--mount-timeout=0s"}, []string{"--mount-timeout", "0s"}},
	{[]string{"--retry-max=-1"}, []string{"--retry-max", "-1"}},
	{[]string{"--retry-max=101"}, []string{"--retry-max", "101"}},
	{[]string{"--max-vault-concurrency=0"}, []string{"--max-vault-concurrency", "0"}},
	{[]string{"--max-response-bytes=0"}, []string{"--max-response-bytes", "0"}},
	{[]string{"--max-response-bytes=4MiB"}, []string{"max-response-bytes", `"4MiB"`}},
	{[]string{"--rotation-cache-ttl=-1s"}, []string{"--rotation-cache-ttl", "-1s"}},
	{[]string{"--stale-if-error=1"}, []string{"stale-if-error"}},
	{[]string{"--cache-max-bytes=-1"}, []string{"--cache-max-bytes", "-1"}},
	{[]string{"--identity-modes=workload-identity,pod-identity"}, []string{"--identity-modes", `"pod-identity"`, "managed-identity"}},
	{[]string{"--identity-modes= ,"}, []string{"--identity-modes", "at least one"}},
	{[]string{"--managed-identity-namespaces="}, []string{"--managed-identity-namespaces", "at least one"}},
	{[]string{"--managed-identity-namespaces=a", "--managed-identity-namespaces="}, []string{"--managed-identity-namespaces"}},
	{[]string{"--cloud-env-dirs=/etc/akv,akv"}, []string{"--cloud-env-dirs", `"akv"`, "absolute"}},
	{[]string{"--token-proxy-url=http://10.0.0.1"}, []string{"--token-proxy-url", "https"}},
	{[]string{"--token-proxy-url=https://user:password@10.0.0.1"}, []string{"--token-proxy-url"}},
}

// A cloud of the operator's can be the one of classes that name none.
func TestOwnCloud(t *testing.T) {
	if _, err := parseFlags([]string{"--cloud-name=sky", "--cloud-file=Sky=/etc/akv/sky.json"}); err != nil {
		t.Error(err)
	}
}

// A value that is almost right gets a hint that is right.
func TestHints(t *testing.T) {
	for arg, hint := range map[string]string{
		"--mount-timeout=90": "--mount-timeout=90s", "--stale-if-error=10 min": "--stale-if-error=10m", "--healthz-timeout=5S": "--healthz-timeout=5s", "--rotation-cache-ttl=1hour": "--rotation-cache-ttl=1h",
		"--max-response-bytes=4MiB": "--max-response-bytes=4194304", "--cache-max-bytes=16Mi": "--cache-max-bytes=16777216", "--cache-max-bytes=1,000": "--cache-max-bytes=1000", "--max-response-bytes=1 MB": "--max-response-bytes=1000000",
		"--strict-objects=yes": "--strict-objects=true", "--share-reads=Off": "--share-reads=false",
		"--endpoint=/provider/azure.sock": "unix:///provider/azure.sock",
		"--mount-timeout=soon":            "", "--mount-timeout=1.5d": "", "--retry-max=many": "", "--retry-max=3x": "", "--cache-max-bytes=99999999999999999999": "", "--strict-objects=maybe": "", "--endpoint=tcp://x": "", "--v=": "",
	} {
		_, err := parseFlags([]string{arg})
		if err == nil {
			t.Errorf("%s was accepted", arg)
			continue
		}
		_, meant, found := strings.Cut(err.Error(), "; did you mean ")
		meant = strings.TrimSuffix(meant, "?")
		if found != (hint != "") || meant != hint {
			t.Errorf("%s: %v, want the hint %q", arg, err, hint)
		}
		if strings.HasPrefix(hint, "--") {
			if _, err := parseFlags([]string{hint}); err != nil {
				t.Errorf("the hint is wrong: %v", err)
			}
		}
	}
}

// Help shows every flag with its default in one group, but none of klog's.
func TestHelp(t *testing.T) {
	help, groups := usage(), make(map[string]string)
	for _, g := range flagGroups {
		if !strings.Contains(help, "\n\n"+g.title+":\n  --") {
			t.Errorf("%s is not a section", g.title)
		}
		for _, name := range g.flags {
			if other, twice := groups[name]; twice {
				t.Errorf("--%s is in %s and %s", name, other, g.title)
			}
			groups[name] = g.title
		}
	}
	known := 0
	new(config).flags().VisitAll(func(f *flag.Flag) {
		_, klog := ignoredFlags[f.Name]
		if _, grouped := groups[f.Name]; grouped == klog {
			t.Errorf("--%s: in a group: %t, klog's: %t", f.Name, grouped, klog)
		}
		at := strings.Index(help, "\n  --"+f.Name+" ")
		if at < 0 {
			at = strings.Index(help, "\n  --"+f.Name+"\n")
		}
		if klog {
			if at >= 0 {
				t.Errorf("--%s is shown", f.Name)
			}
			return
		}
		if known++; at < 0 {
			t.Errorf("--%s is not shown", f.Name)
			return
		}
		text, _, _ := strings.Cut(help[at+3:], "\n  --")
		if f.DefValue != "" && f.DefValue != "false" && !strings.Contains(text, f.DefValue) {
			t.Errorf("--%s: its default %s is not shown in %q", f.Name, f.DefValue, text)
		}
	})
	if known != len(groups) {
		t.Errorf("%d flags, and %d in groups", known, len(groups))
	}
	if !strings.Contains(help, "klog") || strings.Contains(help, "`") {
		t.Errorf("got %s", help)
	}
}

// Help has every environment variable that the program reads by name, and the example runs.
func TestHelpOfEnvironment(t *testing.T) {
	help, found := usage(), 0
	for _, pattern := range []string{"*.go", "../../provider/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") || strings.Contains(file, "azuretest") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`[gG]etenv\("(\w+)"\)`).FindAllStringSubmatch(string(text), -1) {
				if found++; !strings.Contains(help, m[1]) && !strings.HasPrefix(m[1], "OTEL_") {
					t.Errorf("%s reads %s, which the help does not have", file, m[1])
				}
			}
		}
	}
	if found < 6 {
		t.Errorf("%d reads of variables found", found)
	}
	_, example, _ := strings.Cut(help, "\n  akv-csi-provider ")
	example, _, _ = strings.Cut(example, "\n")
	if c, err := parseFlags(strings.Fields(example)); err != nil || c.rotationTTL != time.Minute {
		t.Errorf("the example %q: %v", example, err)
	}
}
