package azuretest_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"akv-csi-provider/provider/azuretest"
)

// Close ends all that the fake started: idle connections, tunnels, requests that were never answered.
func TestCloseLeavesNothingBehind(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	direct, proxy := transport(t, w.Box), proxied(t, w.Box, true)
	for _, rt := range []http.RoundTripper{direct, proxy} {
		send(t, rt, http.MethodGet, w.vault.URL(), "", nil)
	}
	w.SetFault(azuretest.Challenge, azuretest.Fault{Stall: true})
	var all sync.WaitGroup
	for i, rt := range []http.RoundTripper{direct, proxy} {
		all.Go(func() {
			response, err := rt.RoundTrip(get(t, w.vault.URL()))
			if err == nil {
				t.Errorf("answered with %s", response.Status)
				_ = response.Body.Close()
			}
		})
		w.arrived(t, azuretest.Challenge, 3+i)
	}
	for range 2 {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
	// A handler that panics to end its request is done before net/http has unwound its stack.
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if !slices.ContainsFunc([]string{"azuretest.(*", "net/http.(*Server)", "net/http.(*conn).serve"},
			func(frame string) bool { return bytes.Contains(stacks, []byte(frame)) }) {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("something still runs:\n%s", stacks)
			break
		}
	}
	if _, err := w.Transport().RoundTrip(get(t, w.vault.URL())); err == nil {
		t.Error("a closed fake answered")
	}
}

// eager sends the CONNECT request together with the first bytes of TLS, and hides the proxy's answer.
type eager struct {
	net.Conn
	from    *bufio.Reader
	request string
}

func (e *eager) Write(p []byte) (int, error) {
	if e.request == "" {
		return e.Conn.Write(p)
	}
	_, err := e.Conn.Write(append([]byte(e.request), p...))
	e.request = ""
	return len(p), err
}

func (e *eager) Read(p []byte) (int, error) {
	for e.from == nil {
		from := bufio.NewReader(e.Conn)
		response, err := http.ReadResponse(from, &http.Request{Method: http.MethodConnect})
		if err != nil || response.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("proxy: %w", err)
		}
		e.from = from
	}
	return e.from.Read(p)
}

func TestAClientThatDoesNotWaitForTheProxy(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(w.ProxyURL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	const host = "contoso.vault.azure.net"
	config := transport(t, w.Box).TLSClientConfig.Clone()
	config.ServerName = host
	tunnel := tls.Client(&eager{Conn: c, request: "CONNECT " + host + ":443 HTTP/1.1\r\nHost: " + host + ":443\r\n\r\n"}, config)
	if err := tunnel.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := tunnel.ConnectionState().PeerCertificates[0].DNSNames; len(got) != 1 || got[0] != host {
		t.Errorf("certificate for %q", got)
	}
}

// The journal never contains a token, a secret or a query.
func TestJournalContainsNoSecrets(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	assertion, err := w.cluster.Token(w.pod, azuretest.TokenExchangeAudience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	token, err := w.signIn(t, func() (string, error) { return assertion, nil })
	if err != nil {
		t.Fatal(err)
	}
	send(t, transport(t, w.Box), http.MethodGet, w.vault.URL()+"/secrets/my-secret?api-version=7.5&canary=1", token.Token, nil)
	journal, err := json.Marshal(w.Requests())
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{assertion, token.Token, "Hello!", "canary"} {
		if strings.Contains(string(journal), secret) {
			t.Errorf("the journal contains %.10s…", secret)
		}
	}
	if w.ResetCounts(); len(w.Requests()) != 0 || len(w.Counts()) != 0 || w.Handshakes() != 0 {
		t.Error("something was counted after ResetCounts")
	}
}

// Azure Stack Hub signs in at AD FS, whose one tenant is called adfs.
func TestADFS(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	w.AddCloud(azuretest.Cloud{AuthorityHost: "login.stack.example", VaultSuffix: "vault.stack.example", Resource: "https://vault.stack.example"})
	w.tenant = w.Tenant("adfs")
	w.tenant.Application(clientID).AddSecret("good", time.Time{})
	w.vault = w.VaultIn("vault.stack.example", "contoso", w.tenant)
	w.vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello!"})
	w.vault.Grant(clientID, azuretest.SecretsGet)
	o := through(transport(t, w.Box))
	o.Cloud.ActiveDirectoryAuthorityHost = "https://login.stack.example"
	c, err := azidentity.NewClientSecretCredential("adfs", clientID, "good",
		&azidentity.ClientSecretCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := secretsClient(t, w.vault.URL(), c, o).GetSecret(t.Context(), "my-secret", "", nil); err != nil {
		t.Fatal(err)
	}
	if got := last(w.Requests(), azuretest.Token).Path; got != "/adfs/oauth2/token" {
		t.Errorf("token endpoint: got %s", got)
	}
}

// A mistake in a test is reported at once.
func TestMistakesPanic(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	for name, mistake := range map[string]func(){
		"object type":      func() { w.vault.Delete("password", "x") },
		"object name":      func() { w.vault.SetSecret("under_score", azuretest.Secret{}) },
		"empty key":        func() { w.vault.SetKey("x", azuretest.Key{}) },
		"no public key":    func() { w.vault.SetKey("x", azuretest.Key{Public: "x"}) },
		"firewall":         func() { w.vault.SetFirewall("Burning") },
		"cloud":            func() { w.VaultIn("vault.example", "x", w.tenant) },
		"incomplete cloud": func() { w.AddCloud(azuretest.Cloud{AuthorityHost: "login.example"}) },
	} {
		func() {
			defer func() {
				if m, ok := recover().(string); !ok || !strings.HasPrefix(m, "azuretest: ") {
					t.Errorf("%s: got %q, want a panic of this package", name, m)
				}
			}()
			mistake()
		}()
	}
}
