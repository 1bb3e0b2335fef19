package azuretest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"akv-csi-provider/provider/azuretest"
)

// The whole way, with the SDK as it is: by the transport and by the proxy, in both versions of HTTP,
// with instance discovery and without.
func TestTheSDKReadsASecret(t *testing.T) {
	for _, http2 := range []bool{true, false} {
		for _, proxy := range []bool{false, true} {
			for _, discovery := range []bool{true, false} {
				t.Run(fmt.Sprintf("http2=%t/proxy=%t/discovery=%t", http2, proxy, discovery), func(t *testing.T) {
					w := newWorld(t, azuretest.Options{DisableHTTP2: !http2})
					rt := transport(t, w.Box)
					if proxy {
						rt = proxied(t, w.Box, http2)
					}
					readSecret(t, w, rt, discovery)
					want := map[azuretest.Kind]int{
						azuretest.Metadata: 1, azuretest.Token: 1, azuretest.Issuer: 2,
						azuretest.Challenge: 1, azuretest.GetSecret: 1,
					}
					if discovery {
						want[azuretest.Instance] = 1
					}
					if got := w.Counts(); fmt.Sprint(got) != fmt.Sprint(want) {
						t.Errorf("counts: got %v, want %v", got, want)
					}
					if got := w.Handshakes(); got != 2 {
						t.Errorf("handshakes: got %d, want one with Entra and one with the vault", got)
					}
					proto := map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"}[http2]
					for _, r := range w.Requests() {
						if r.Kind != azuretest.Issuer && r.Proto != proto {
							t.Errorf("%s came in %s, want %s", r.Kind, r.Proto, proto)
						}
					}
				})
			}
		}
	}
}

func readSecret(t *testing.T, w *world, rt http.RoundTripper, discovery bool) {
	t.Helper()
	o := through(rt)
	c, err := azidentity.NewClientAssertionCredential(tenantID, clientID, func(context.Context) (string, error) {
		return w.cluster.Token(w.pod, azuretest.TokenExchangeAudience, time.Hour)
	}, &azidentity.ClientAssertionCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: !discovery})
	if err != nil {
		t.Fatal(err)
	}
	got, err := secretsClient(t, w.vault.URL(), c, o).GetSecret(t.Context(), "my-secret", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if *got.Value != "Hello!" {
		t.Errorf("value: got %q", *got.Value)
	}
}

// A process without any options reaches the fake by its environment. The process is this test.
func TestAnUnchangedProcessReadsASecret(t *testing.T) {
	const token, vault = "AZURETEST_ASSERTION", "AZURETEST_VAULT"
	if assertion := os.Getenv(token); assertion != "" {
		c, err := azidentity.NewClientAssertionCredential(tenantID, clientID,
			func(context.Context) (string, error) { return assertion, nil }, nil)
		if err != nil {
			t.Fatal(err)
		}
		client, err := azsecrets.NewClient(os.Getenv(vault), c, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := client.GetSecret(t.Context(), "my-secret", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("value:", *got.Value)
		return
	}
	w := newWorld(t, azuretest.Options{})
	environ, err := w.Environ(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	assertion, err := w.cluster.Token(w.pod, azuretest.TokenExchangeAudience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAnUnchangedProcessReadsASecret$", "-test.v")
	child.Env = append(environ, token+"="+assertion, vault+"="+w.vault.URL())
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "value: Hello!") {
		t.Fatalf("child: %v\n%s", err, out)
	}
}

func TestUnservedNames(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	_, err := transport(t, w.Box).RoundTrip(get(t, "https://nobody.vault.azure.net/"))
	var dns *net.DNSError
	if !errors.As(err, &dns) || !dns.IsNotFound || dns.Name != "nobody.vault.azure.net" {
		t.Errorf("transport: got %v, want a name that does not exist", err)
	}
	for _, address := range []string{"https://nobody.vault.azure.net/", "https://contoso.vault.azure.net:8443/"} {
		if _, err = proxied(t, w.Box, true).RoundTrip(get(t, address)); err == nil || !strings.Contains(err.Error(), "Bad Gateway") {
			t.Errorf("proxy: got %v for %s, want 502 Bad Gateway", err, address)
		}
	}
	w.RefuseProxy(http.StatusProxyAuthRequired)
	if _, err = proxied(t, w.Box, true).RoundTrip(get(t, w.vault.URL())); err == nil || !strings.Contains(err.Error(), "Proxy Authentication Required") {
		t.Errorf("proxy: got %v, want 407", err)
	}
	w.RefuseProxy(0)
	response, _ := send(t, proxied(t, w.Box, true), http.MethodGet, w.vault.URL()+"/secrets/x", "", nil)
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("the proxy connects again: got %s", response.Status)
	}
	if plain, _ := send(t, http.DefaultTransport, http.MethodGet, w.ProxyURL(), "", nil); plain.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("no CONNECT: got %s", plain.Status)
	}
}

func get(t *testing.T, address string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The sovereign clouds and one of Azure Stack's kind: each has its own Entra, suffix and resource.
func TestClouds(t *testing.T) {
	for _, c := range []struct{ authority, suffix string }{
		{"login.microsoftonline.com", "vault.azure.net"},
		{"login.microsoftonline.us", "vault.usgovcloudapi.net"},
		{"login.partner.microsoftonline.cn", "vault.azure.cn"},
		{"login.chinacloudapi.cn", "vault.azure.cn"},
		{"login.stack.example", "vault.stack.example"},
	} {
		t.Run(c.authority, func(t *testing.T) {
			w := newWorld(t, azuretest.Options{})
			if c.authority == "login.stack.example" {
				w.AddCloud(azuretest.Cloud{AuthorityHost: c.authority, VaultSuffix: c.suffix, Resource: "https://" + c.suffix})
			}
			w.vault = w.VaultIn(c.suffix, "contoso", w.tenant)
			w.vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello!"})
			w.vault.Grant(clientID, azuretest.SecretsGet)
			o := through(transport(t, w.Box))
			o.Cloud.ActiveDirectoryAuthorityHost = "https://" + c.authority
			got, err := w.reader(t, o).GetSecret(t.Context(), "my-secret", "", nil)
			if err != nil {
				t.Fatal(err)
			}
			if id := string(*got.ID); !strings.HasPrefix(id, "https://contoso."+c.suffix+"/secrets/my-secret/") {
				t.Errorf("id: got %s", id)
			}
		})
	}
}

// A cloud that Microsoft does not run is unknown to instance discovery, which MSAL sends to the public
// cloud.
func TestInstanceDiscoveryKnowsMicrosoftsClouds(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	w.AddCloud(azuretest.Cloud{AuthorityHost: "login.stack.example", VaultSuffix: "vault.stack.example", Resource: "https://vault.stack.example"})
	response, body := send(t, transport(t, w.Box), http.MethodGet, public+
		"/common/discovery/instance?api-version=1.1&authorization_endpoint=https%3A%2F%2Flogin.stack.example%2Fadfs%2Foauth2%2Fauthorize", "", nil)
	var e entraBody
	decode(t, strings.NewReader(string(body)), &e)
	if response.StatusCode != 400 || e.Error != "invalid_instance" || !slices.Equal(e.Codes, []int{50049}) {
		t.Errorf("got %s %s", response.Status, body)
	}
}
