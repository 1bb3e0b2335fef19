package server_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/keyvault"

	"google.golang.org/grpc/codes"
)

// refusalFailures are what the real Key Vault answers beside the refusals of vaultFailures.
func refusalFailures() []failure {
	forbidden := func(inner, message string) func(*world) {
		return func(w *world) { w.vault.SetForbidden(inner, message) }
	}
	notIssued := func(more ...azuretest.Permission) func(*world) {
		return func(w *world) {
			w.vault.Grant(clientID, more...)
			w.vault.SetCertificate("my-cert", azuretest.Certificate{NotIssued: true})
		}
	}
	const certSecret = "[{objectName: my-cert, objectType: secret}]"
	all := []failure{
		{name: "vault/outside the perimeter", prepare: func(w *world) { w.vault.SetFirewall("ForbiddenByNetworkSecurityPerimeter") }, wantCode: codes.PermissionDenied, wantReason: "VaultFirewall"},
		{name: "vault/subscription disabled", prepare: forbidden("", "Access denied because vault subscription is disabled or deleted."), wantCode: codes.InvalidArgument, wantReason: "VaultRefused"},
		{name: "vault/subscription not registered", prepare: forbidden("", "The subscription is not registered to use namespace 'Microsoft.KeyVault'."), wantCode: codes.InvalidArgument, wantReason: "VaultRefused"},
		{name: "vault/certificate not issued", pod: map[string]string{"objects": aCert}, prepare: notIssued(azuretest.CertificatesGet), wantCode: codes.FailedPrecondition, wantReason: "ContentInvalid"},
		{name: "vault/secret of a certificate not issued", pod: map[string]string{"objects": certSecret}, prepare: notIssued(azuretest.CertificatesGet), wantCode: codes.FailedPrecondition, wantReason: "ContentInvalid"},
		{name: "vault/secret of a certificate that may not be read", pod: map[string]string{"objects": certSecret}, prepare: notIssued(), wantCode: codes.FailedPrecondition, wantReason: "ObjectDisabled"},
		{name: "vault/signing key not known", prepare: withFault(azuretest.GetSecret, azuretest.Fault{Status: 401, InnerCode: "AKV10046"}), wantCode: codes.FailedPrecondition, wantReason: "ServiceUnavailable"},
		{name: "vault/501", prepare: withFault(azuretest.GetSecret, azuretest.Fault{Status: 501}), wantCode: codes.InvalidArgument, wantReason: "VaultRefused"},
		{name: "vault/405", prepare: withFault(azuretest.GetSecret, azuretest.Fault{Status: 405}), wantCode: codes.InvalidArgument, wantReason: "VaultRefused"},
		{name: "vault/408", prepare: withFault(azuretest.GetSecret, azuretest.Fault{Status: 408}), wantCode: codes.FailedPrecondition, wantReason: "ServiceUnavailable"},
		{name: "vault/409", prepare: withFault(azuretest.GetSecret, azuretest.Fault{Status: 409, InnerCode: "ObjectIsBeingDeleted"}), wantCode: codes.InvalidArgument, wantReason: "VaultRefused"},
		{name: "vault/no API version", setup: setup{roundTripper: refuseVersions("7.1")}, wantCode: codes.InvalidArgument, wantReason: "VaultRefused"},
		{name: "vault/no API version named", setup: setup{roundTripper: refuseVersions("")}, wantCode: codes.InvalidArgument, wantReason: "VaultRefused"},
	}
	return all
}

// refuseVersions makes the vault refuse each version of its API, and name one.
func refuseVersions(named string) func(http.RoundTripper) http.RoundTripper {
	message := "The specified version (1.0) is not recognized."
	if named != "" {
		message += " Consider using the latest supported version (" + named + ")."
	}
	return func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host != "contoso.vault.azure.net" {
				return next.RoundTrip(req)
			}
			body := `{"error":{"code":"BadParameter","message":"` + message + `"}}`
			return &http.Response{StatusCode: http.StatusBadRequest, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
		})
	}
}

// A 403 without a known inner code is explained by its words, in whichever case, and never by a role
// that is missing. Names in the words of a missing role decide nothing.
func TestForbiddenByWords(t *testing.T) {
	for _, c := range []struct {
		name, inner, message string
		reason               string
		says                 []string
		not                  []string
	}{
		{"no public access", "", "Public network access is disabled and request is not from a trusted service nor via an approved private link.",
			"VaultFirewall", []string{"private endpoint", "203.0.113.7"}, []string{"az role", "network rules"}},
		{"no public access, of an unknown code", "Novel", "PUBLIC NETWORK ACCESS IS DISABLED.", "VaultFirewall", []string{"private endpoint"}, []string{"az role", "network rules"}},
		{"no private link", "", "Connection is not an approved private link and caller was ignored because bypass is not set to 'AzureServices' and PublicNetworkAccess is set to 'Disabled'.\r\nTo modify network access, see: https://go.microsoft.com/fwlink/?linkid=2155655",
			"VaultFirewall", []string{"private endpoint"}, []string{"az role", "network rules"}},
		{"code of the connection", "ForbiddenByConnection", "Novel.", "VaultFirewall", []string{"private endpoint", "203.0.113.7"}, []string{"network rules"}},
		{"firewall", "", "Client address is not authorized and caller is not a trusted service.", "VaultFirewall", []string{"network rules", "address 203.0.113.7"}, []string{"az role"}},
		{"firewall, with an address", "", "Client address is not authorized and caller is not a trusted service.\r\nClient address: 198.51.100.9\r\nCaller: appid=x",
			"VaultFirewall", []string{"network rules", "address 198.51.100.9"}, []string{"203.0.113.7"}},
		{"firewall or perimeter", "ForbiddenByFirewall", "Request was not allowed by NSP rules and the client address is not authorized and caller was ignored because bypass is set to None\r\nClient address: 2001:db8::9",
			"VaultFirewall", []string{"network rules", "perimeter", "address 2001:db8::9"}, []string{"az role"}},
		{"firewall, with an address in the sentence", "", "Client address (198.51.100.9) is not authorized and caller is not a trusted service.", "VaultFirewall", []string{"address 198.51.100.9"}, []string{"az role"}},
		{"firewall, of an address", "", "Client IP address 198.51.100.9 is not authorized.", "VaultFirewall", []string{"network rules", "address 198.51.100.9"}, []string{"az role"}},
		{"firewall, address not allowed", "", "IP address 198.51.100.9 is not allowed to access this vault.", "VaultFirewall", []string{"network rules", "address 198.51.100.9"}, []string{"az role"}},
		{"firewall, of a network", "", "The request is blocked by the virtual network rules of the vault.", "VaultFirewall", []string{"network rules"}, []string{"az role"}},
		{"no access from outside", "", "Public access is disabled.", "VaultFirewall", []string{"private endpoint"}, []string{"az role", "network rules"}},
		{"no public access to the resource", "", "The public network access on this resource is disabled. To connect, use the Private Endpoint.", "VaultFirewall", []string{"private endpoint"}, []string{"az role", "network rules"}},
		{"perimeter, in one word", "", "Request denied because of NetworkSecurityPerimeter access rules.", "VaultFirewall", []string{"inbound access rule"}, []string{"az role"}},
		{"profile of the perimeter", "", "Inbound access is denied by the perimeter profile.", "VaultFirewall", []string{"inbound access rule"}, []string{"az role"}},
		{"a client that may not", "", "The client 'x' is not authorized.", "AccessDenied", []string{"az role", "set-policy"}, nil},
		{"in no policy", "", "Access denied. Caller was not found on any access policy.\r\nCaller: appid=x", "AccessDenied", []string{"set-policy"}, []string{"az role"}},
		{"perimeter", "", "Access to the resource was denied by the Network Security Perimeter configuration.", "VaultFirewall", []string{"inbound access rule of the perimeter", "203.0.113.7"}, []string{"az role"}},
		{"code of the perimeter", "ForbiddenByNsp", "Novel.", "VaultFirewall", []string{"perimeter"}, []string{"az role"}},
		{"subscription disabled", "", "Access denied because vault subscription is disabled or deleted.", "VaultRefused", []string{"subscription"}, []string{"az role", "register"}},
		{"code of the subscription", "ReadOnlyDisabledSubscription", "Novel.", "VaultRefused", []string{"subscription"}, []string{"az role"}},
		{"subscription not registered", "", "The subscription registration is in 'Unregistered' state.", "VaultRefused", []string{"az provider register --namespace Microsoft.KeyVault"}, []string{"az role"}},
		{"disabled", "", "Operation get is not allowed on a disabled secret.", "ObjectDisabled", []string{"enable it"}, []string{"az role"}},
		{"vault disabled", "VaultDisabled", "Novel.", "AccessDenied", nil, []string{"enable it"}},
		{"no role", "", "Caller is not authorized to perform action on resource.\r\nCaller: appid=x", "AccessDenied", []string{"az role"}, []string{"set-policy"}},
		{"no role for names like a firewall's", "ForbiddenByRbac", "Caller is not authorized to perform action on resource.\r\nResource: '/subscriptions/x/resourcegroups/public network access is disabled/network security perimeter/client address is not authorized'",
			"AccessDenied", []string{"az role"}, []string{"private endpoint"}},
		{"no policy", "", "The user, group or application 'appid=x' does not have secrets get permission on key vault 'contoso;location=x'.", "AccessDenied", []string{"set-policy"}, []string{"az role"}},
		{"novel", "Novel", "Novel.", "AccessDenied", []string{"az role", "set-policy"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, setup{})
			w.vault.SetForbidden(c.inner, c.message)
			_, err := w.mount(t, w.request(t, "one.yaml"))
			if err == nil || !strings.HasSuffix(err.Error(), "["+c.reason+"]") {
				t.Fatalf("got %v, want %s", err, c.reason)
			}
			for _, text := range c.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("does not say %q: %v", text, err)
				}
			}
			for _, text := range c.not {
				if strings.Contains(err.Error(), text) {
					t.Errorf("says %q: %v", text, err)
				}
			}
		})
	}
}

const threeTypes = "[{objectName: tls, objectType: secret}, {objectName: tls, objectType: key, objectAlias: k}, {objectName: tls, objectType: cert, objectAlias: c}, " +
	"{objectName: my-secret, objectType: secret, objectVersionHistory: 2}]"

// A vault of any version of the API since 2016-10-01 mounts, in the first mount with one more request
// for each that was under way, and then with none.
func TestAPIVersions(t *testing.T) {
	first := slices.Index(azuretest.APIVersions, "2016-10-01")
	if first < 0 {
		t.Fatal("2016-10-01 is not known")
	}
	for _, latest := range azuretest.APIVersions[first:] {
		t.Run(latest, func(t *testing.T) {
			w := newWorld(t, setup{})
			c := newChain(t)
			w.vault.SetLatestAPIVersion(latest)
			w.vault.Grant(clientID, azuretest.SecretsList, azuretest.KeysGet, azuretest.CertificatesGet)
			w.vault.SetCertificate("tls", azuretest.Certificate{DER: c.leaf.Raw, SecretValue: c.keyPEM(t) + certificatesPEM(c.leaf), ContentType: "application/x-pem-file"})
			pod := w.with(map[string]string{"objects": threeTypes})
			requests := func() int {
				return w.Count(azuretest.GetSecret) + w.Count(azuretest.GetKey) + w.Count(azuretest.GetCertificate) + w.Count(azuretest.List)
			}
			const needed = 5
			for mount, most := range []int{2 * needed, needed} {
				before := requests()
				req := w.requestFor(t, "one.yaml", pod, nil)
				req.TargetPath += strings.Repeat("x", mount) // both are starting pods
				resp, err := w.mount(t, req)
				if err != nil {
					t.Fatal(err)
				}
				if got := files(resp); got["tls"] != c.keyPEM(t)+certificatesPEM(c.leaf) || got["k"] != c.publicPEM(t) || got["c"] != certificatesPEM(c.leaf) || got["my-secret/0"] != "Hello!" {
					t.Errorf("mount %d: got %v", mount, got)
				}
				if n := requests() - before; n < needed || n > most {
					t.Errorf("mount %d: %d requests, want at most %d", mount, n, most)
				}
			}
		})
	}
}

// Azure Stack Hub gets requests in a version that it has from the beginning.
func TestAPIVersionOfStackHub(t *testing.T) {
	w := newWorld(t, stackFile())
	stackHub(tenantID)(t, w)
	w.VaultIn("vault.stack.example", "contoso", nil).SetLatestAPIVersion("7.1")
	pod := w.with(map[string]string{"cloudName": "AzureStackCloud", "cloudEnvFileName": stackPath})
	resp, err := w.mount(t, w.requestFor(t, "one.yaml", pod, nil))
	if err != nil || files(resp)["my-secret"] != "on the hub" {
		t.Fatalf("got %v, %v", files(resp), err)
	}
	if n := w.Count(azuretest.GetSecret); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// Disabled keys and certificates are served by Key Vault, and so mounted, with a warning.
func TestDisabledIsServed(t *testing.T) {
	w := newWorld(t, setup{})
	c := newChain(t)
	w.vault.Grant(clientID, azuretest.KeysGet, azuretest.CertificatesGet)
	w.vault.SetKey("k", azuretest.Key{Public: &c.key.PublicKey, Disabled: true})
	w.vault.SetCertificate("c", azuretest.Certificate{DER: c.leaf.Raw, Disabled: true})
	pod := w.with(map[string]string{"objects": "[{objectName: k, objectType: key}, {objectName: c, objectType: cert}]"})
	resp, err := w.mount(t, w.requestFor(t, "one.yaml", pod, nil))
	if got := files(resp); err != nil || got["k"] != c.publicPEM(t) || got["c"] != certificatesPEM(c.leaf) {
		t.Fatalf("got %v, %v", got, err)
	}
	for _, text := range []string{`key \"k\" is disabled`, `cert \"c\" is disabled`} {
		if !strings.Contains(w.log.String(), text) {
			t.Errorf("the log does not say %q: %s", text, w.log)
		}
	}
}

// The token of a managed storage account has no version. The driver reports it with "" for one.
func TestTokenOfAStorageAccount(t *testing.T) {
	w := newWorld(t, setup{})
	w.vault.SetSecret("account-sas", azuretest.Secret{Value: "?sv=1&sig=x", ContentType: "application/vnd.ms-sastoken-storage", Token: true})
	pod := w.with(map[string]string{"objects": "[{objectName: account-sas, objectType: secret}]"})
	resp, err := w.mount(t, w.requestFor(t, "one.yaml", pod, nil))
	if err != nil || files(resp)["account-sas"] != "?sv=1&sig=x" {
		t.Fatalf("got %v, %v", files(resp), err)
	}
	if all := resp.GetObjectVersion(); len(all) != 1 || all[0].GetId() != "secret/account-sas" || all[0].GetVersion() != "" {
		t.Errorf("versions %v", all)
	}
}

// A vault that does not know Entra's signing key is unavailable: a pod may start with an older value,
// and gets the newest when the incident is over.
func TestSigningKeyNotKnown(t *testing.T) {
	w := newWorld(t, setup{reads: func(c *keyvault.Config) { c.StaleIfError = time.Hour }})
	mount := func(path string) (string, error) {
		t.Helper()
		req := w.request(t, "one.yaml")
		req.TargetPath += path
		resp, err := w.mount(t, req)
		return files(resp)["my-secret"], err
	}
	if got, err := mount("1"); err != nil || got != "Hello!" {
		t.Fatal(got, err)
	}
	w.SetFault(azuretest.GetSecret, azuretest.Fault{Status: http.StatusUnauthorized, InnerCode: "AKV10046"})
	if got, err := mount("2"); err != nil || got != "Hello!" {
		t.Errorf("during the incident: %q, %v", got, err)
	}
	w.ClearFaults()
	w.vault.SetSecret("my-secret", azuretest.Secret{Value: "newer", Created: time.Now().Add(time.Second)})
	if got, err := mount("3"); err != nil || got != "newer" {
		t.Errorf("after it: %q, %v", got, err)
	}
}

// PFX and public keys in the form that Key Vault writes.
func TestFormsOfKeyVault(t *testing.T) {
	w := newWorld(t, setup{})
	c := newChain(t)
	w.vault.Grant(clientID, azuretest.KeysGet)
	for old, name := range map[bool]string{false: "pfx", true: "old-pfx"} {
		w.vault.SetCertificate(name, azuretest.Certificate{DER: c.leaf.Raw, SecretValue: c.servicePFX(old)})
	}
	keys := writtenKeys(t)
	objects := "[{objectName: pfx, objectType: secret}, {objectName: old-pfx, objectType: secret}"
	for _, k := range keys {
		w.vault.SetKey(k.name, k.Key)
		objects += ", {objectName: " + k.name + ", objectType: key}"
	}
	resp, err := w.mount(t, w.requestFor(t, "one.yaml", w.with(map[string]string{"objects": objects + "]"}), nil))
	if err != nil {
		t.Fatal(err)
	}
	got, want := files(resp), c.keyPEM(t)+certificatesPEM(c.leaf, c.issuer, c.root)
	if got["pfx"] != want || got["old-pfx"] != want {
		t.Errorf("got %s and %s", got["pfx"], got["old-pfx"])
	}
	for _, k := range keys {
		if got[k.name] != k.pem {
			t.Errorf("%s: got %s", k.name, got[k.name])
		}
	}
}

// The next page of a list is where the opaque token leads.
func TestManyVersions(t *testing.T) {
	w := newWorld(t, setup{})
	w.vault.Grant(clientID, azuretest.SecretsList)
	for i := range 60 {
		w.vault.SetSecret("h", azuretest.Secret{Value: strings.Repeat("v", i+1), Created: time.Unix(int64(1000+i), 0)})
	}
	pod := w.with(map[string]string{"objects": "[{objectName: h, objectType: secret, objectVersionHistory: 60}]"})
	resp, err := w.mount(t, w.requestFor(t, "one.yaml", pod, nil))
	if got := files(resp); err != nil || len(got) != 60 || got["h/0"] != strings.Repeat("v", 60) || got["h/59"] != "v" {
		t.Errorf("got %d files, %v", len(got), err)
	}
	if n := w.Count(azuretest.List); n != 3 {
		t.Errorf("%d pages", n)
	}
}

// Any host of Entra may stand in a challenge.
func TestChallengeHosts(t *testing.T) {
	for _, host := range []string{"login.windows.net", "login.microsoftonline.com", "login.chinacloudapi.cn"} {
		w := newWorld(t, setup{})
		other := w.Vault("elsewhere", w.Tenant("99999999-9999-9999-9999-999999999999"))
		other.SetChallengeHost(host)
		_, err := w.mount(t, w.requestFor(t, "one.yaml", w.with(map[string]string{"keyvaultName": "elsewhere"}), nil))
		if err == nil || !strings.Contains(err.Error(), `tenant "99999999-9999-9999-9999-999999999999"`) || !strings.HasSuffix(err.Error(), "[WrongTenant]") {
			t.Errorf("%s: got %v", host, err)
		}
	}
}
