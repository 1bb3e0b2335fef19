package plugin

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/metrics"
	"akv-csi-provider/provider/throttle"
)

// Client certificates and conversions of certificates share the processors: a namespace that has
// its part of them waits, and another does not.
func TestClientCertificatesTakeTurns(t *testing.T) {
	m, err := NewMounter(Config{Throttle: throttle.Config{Max: 1}, Reads: keyvault.Config{Timeout: time.Minute}, Mounter: provider.Mounter{MaxBytes: 1}}, metrics.New("1.2.3"))
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for range max(runtime.GOMAXPROCS(0), 2) {
		if release, ok := m.Processors.TryAcquire("greedy", 1); ok {
			defer release()
			taken++
		}
	}
	id := entra.Identity{Mode: entra.ServicePrincipal, Authority: "https://login.microsoftonline.com", TenantID: "t", ClientID: "c", ClientCertificate: "x"}
	for tenant, want := range map[string]fault.Reason{"greedy": fault.Timeout, "other": fault.InvalidParameter} {
		ctx, cancel := context.WithTimeout(fair.WithTenant(t.Context(), tenant), 100*time.Millisecond)
		_, err := m.SignIn.Token(ctx, id, "scope")
		cancel()
		if !fault.Is(err, want) {
			t.Errorf("%s, while greedy has %d places: got %v, want %s", tenant, taken, err, want)
		}
	}
}

// The user agent is what HTTP can carry, whatever was given.
func TestUserAgent(t *testing.T) {
	ours := userAgent("1.2.3", "")
	if strings.TrimSpace(ours) != ours || !strings.HasPrefix(ours, "akv-csi-provider/"+"1.2.3"+" (") {
		t.Errorf("got %q", ours)
	}
	for custom, want := range map[string]string{
		"'kubernetes.azure.com/managedby: aks'": " 'kubernetes.azure.com/managedby: aks'",
		`"quoted" \ (comment)`:                  ` "quoted" \ (comment)`,
		"two  blanks":                           " two  blanks",
		"  edges ":                              "   edges",
		"x\r\nEvil: header":                     " xEvil: header",
		"tab\tbell\a\x00\x7f":                   " tabbell",
		"über-agent \u200b日本":                   " ber-agent",
		"\xff\xfe":                              "",
		"\n":                                    "",
	} {
		if got := userAgent("1.2.3", custom); got != ours+want {
			t.Errorf("%q: got %q, want %q", custom, got, ours+want)
		}
	}
}

// The issuer that messages may name is that of a token from elsewhere, where one is given.
func TestClusterToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("of the provider\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]Cluster{
		"":                {},
		"of the provider": {TokenFile: file},
		"given":           {TokenFile: file, Token: func() string { return "given" }},
	} {
		if got := clusterToken(c)(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
