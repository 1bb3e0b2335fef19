package main

import (
	"flag"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// flagGroups are the sections of the help text. Every flag but klog's is in one of them.
var flagGroups = []struct {
	title string
	flags []string
}{
	{"Serving", []string{"endpoint", "bind-address", "healthz-port", "healthz-path", "healthz-timeout", "prometheus-port", "metrics-backend", "enable-pprof", "pprof-port", "version"}},
	{"Identity", []string{"tenant-id", "identity-modes", "managed-identity-namespaces", "token-audience", "token-proxy-url", "sni-name", "service-account-dir"}},
	{"Clouds", []string{"cloud-name", "cloud-file", "cloud-env-dirs", "custom-user-agent"}},
	{"Limits", []string{"mount-timeout", "retry-max", "max-vault-concurrency", "max-response-bytes"}},
	{"Caching", []string{"share-reads", "rotation-cache-ttl", "stale-if-error", "cache-max-bytes"}},
	{"Logs", []string{"v", "log-format-json", "audit-log"}},
	{"Compatibility", []string{"strict-objects", "construct-pem-chain", "write-cert-and-key-in-separate-files"}},
}

// environment describes the variables that the program reads.
const environment = `  HTTPS_PROXY, HTTP_PROXY, NO_PROXY
        proxy for Azure, and the hosts to reach without it
  SSL_CERT_FILE, SSL_CERT_DIR
        CA certificates to trust instead of the image's
  AZURE_ENVIRONMENT_FILEPATH
        environment file of AzureStackCloud, for SecretProviderClasses without cloudEnvFileName
  AZURE_POD_IDENTITY_AUTHORITY_HOST
        URL of the instance metadata service, for tests
  KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT
        address of the API server, which kubelet sets
  NODE_NAME
        name of the node in the audit log (default: the host's name)
  OTEL_EXPORTER_OTLP_ENDPOINT and other OTEL_* variables
        where to send traces; disabled without an endpoint
  GOGC, GOMEMLIMIT, GODEBUG
        Go's garbage collector and settings
`

// usage is the help text.
func usage() string {
	var b strings.Builder
	b.WriteString("akv-csi-provider is a provider for the Secrets Store CSI driver that mounts secrets, keys and certificates from Azure Key Vault.\n\n" +
		"Example:\n  akv-csi-provider --endpoint=unix:///provider/azure.sock --tenant-id=contoso.onmicrosoft.com --rotation-cache-ttl=1m -v=4\n\n" +
		"Flags (with one dash or two):\n")
	f := new(config).flags()
	for _, group := range flagGroups {
		fmt.Fprintf(&b, "\n%s:\n", group.title)
		for _, name := range group.flags {
			describeFlag(&b, f.Lookup(name))
		}
	}
	b.WriteString("\nklog's other flags are accepted and have no effect.\n\nEnvironment variables:\n" + environment)
	return b.String()
}

func describeFlag(b *strings.Builder, f *flag.Flag) {
	name, text := flag.UnquoteUsage(f)
	if name != "" {
		name = " " + name
	}
	fmt.Fprintf(b, "  --%s%s\n        %s", f.Name, name, text)
	if f.DefValue != "" && f.DefValue != "false" {
		fmt.Fprintf(b, " (default %s)", f.DefValue)
	}
	b.WriteByte('\n')
}

// invalidFlag is package flag's error of a value, which has no type.
var invalidFlag = regexp.MustCompile(`^invalid (?:boolean )?value ("(?:[^"\\]|\\.)*") for (?:flag )?-(\S+): `)

// withHint adds what may be meant to the error of a value that is almost right.
func withHint(err error, f *flag.FlagSet) error {
	m := invalidFlag.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	value, quoteErr := strconv.Unquote(m[1])
	bound := f.Lookup(m[2])
	if quoteErr != nil || bound == nil {
		return err
	}
	getter, ok := bound.Value.(flag.Getter)
	if !ok { // a list
		return err
	}
	meant := ""
	switch getter.Get().(type) {
	case time.Duration:
		meant = nearDuration(value)
	case int:
		meant = nearNumber(value)
	case bool:
		meant = booleans[strings.ToLower(strings.TrimSpace(value))]
	}
	if meant == "" {
		return err
	}
	return fmt.Errorf("%w; did you mean --%s=%s?", err, bound.Name, meant)
}

// nearDuration returns a duration for a number without a unit, or with a space, a long or an
// upper-case unit.
func nearDuration(value string) string {
	m := regexp.MustCompile(`(?i)^(\d+) *(s|sec|secs|seconds?|m|min|mins|minutes?|h|hours?)?$`).FindStringSubmatch(strings.TrimSpace(value))
	if m == nil {
		return ""
	}
	unit := "s"
	if m[2] != "" {
		unit = strings.ToLower(m[2][:1])
	}
	return m[1] + unit
}

var numberUnits = map[string]int{"": 1, "k": 1000, "kb": 1000, "ki": 1 << 10, "kib": 1 << 10, "m": 1e6, "mb": 1e6, "mi": 1 << 20, "mib": 1 << 20, "g": 1e9, "gb": 1e9, "gi": 1 << 30, "gib": 1 << 30}

// nearNumber returns a number for one with a unit of bytes, or with separators.
func nearNumber(value string) string {
	m := regexp.MustCompile(`^([0-9_,]+) *([A-Za-z]*)$`).FindStringSubmatch(strings.TrimSpace(value))
	if m == nil {
		return ""
	}
	unit, known := numberUnits[strings.ToLower(m[2])]
	n, err := strconv.ParseInt(strings.NewReplacer("_", "", ",", "").Replace(m[1]), 10, 32)
	if !known || err != nil {
		return ""
	}
	return strconv.FormatInt(n*int64(unit), 10)
}

// booleans are those of YAML, which package flag rejects.
var booleans = map[string]string{"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}

func endpointFix(endpoint string) string {
	if strings.HasPrefix(endpoint, "/") {
		return "did you mean unix://" + endpoint + "?"
	}
	return "use for example unix:///provider/azure.sock"
}
