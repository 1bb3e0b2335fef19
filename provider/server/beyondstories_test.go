package server_test

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/metrics"
	"akv-csi-provider/provider/throttle"

	"google.golang.org/grpc/codes"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// beyondStories are of the rules that the reference has in its text, below the tables: each is named
// after the section and the rule.
func beyondStories() []story {
	return slices.Concat(vaultRules(), optionalRules(), searchRules(), valueRules(), certificateRules(), documentRules(), identityRules(), cloudRules())
}

// Every section on what only this provider has is in the table, and each story there has its own name.
func TestRulesOfSections(t *testing.T) {
	names, sections := map[string]bool{}, map[string]int{}
	for _, s := range beyondStories() {
		section, _, _ := strings.Cut(s.row, "/")
		sections[section]++
		if name := s.row + ": " + s.name; s.name == "" || names[name] {
			t.Errorf("no unique name: %s", name)
		} else {
			names[name] = true
		}
	}
	for _, section := range []string{"Several vaults", "Optional objects", "Search", "Pieces of a value", "Pieces of a certificate", "Documents", "Authentication", "Clouds"} {
		if sections[section] < 3 {
			t.Errorf("%d stories of the rules of %q", sections[section], section)
		}
	}
}

// uncached is a provider that reads from the vault in every rotation.
func uncached() setup {
	return setup{reads: func(c *keyvault.Config) { c.CacheTTL = 0 }}
}

// together answers no read of a secret before n of them have arrived.
func together(n int64) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper {
		var asked atomic.Int64
		all := make(chan struct{})
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			if strings.Contains(req.URL.Path, "/secrets/") {
				if asked.Add(1) == n {
					close(all)
				}
				select {
				case <-all:
				case <-req.Context().Done():
					return nil, req.Context().Err()
				}
			}
			return next.RoundTrip(req)
		})
	}
}

// requests checks the number of requests of a kind.
func requests(kind azuretest.Kind, want int) func(*testing.T, *world, map[string]string) {
	return func(t *testing.T, w *world, _ map[string]string) {
		if n := w.Count(kind); n != want {
			t.Errorf("%d requests of kind %v, want %d", n, kind, want)
		}
	}
}

// secrets adds some that may be listed.
func secrets(values map[string]string) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) {
		w.vault.Grant(clientID, azuretest.SecretsList)
		for name, value := range values {
			w.vault.SetSecret(name, azuretest.Secret{Value: value, Tags: map[string]string{"env": name[:1], "all": "x"}})
		}
	}
}

// failover adds a second vault, and makes the first fail.
func failover(faults ...azuretest.Fault) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) {
		v := w.Vault("fabrikam", w.tenant)
		v.Grant(clientID, azuretest.SecretsGet)
		v.SetSecret("my-secret", azuretest.Secret{Value: "of another vault"})
		for _, f := range faults {
			w.vault.SetFault(f)
		}
	}
}

// A pod that runs keeps its files also after a restart of the plugin, where the driver says that it
// runs: another vault may be older.
func TestFailoverAfterRestart(t *testing.T) {
	w := newWorld(t, setup{})
	failover(azuretest.Fault{Status: 503})(t, w)
	req := w.requestFor(t, "one.yaml", w.with(map[string]string{"failoverKeyvaultName": "fabrikam"}), nil)
	req.CurrentObjectVersion = []*v1alpha1.ObjectVersion{{Id: "secret/my-secret", Version: "aaaa"}}
	if resp, err := w.mount(t, req); err == nil {
		t.Errorf("a running pod got %q", files(resp))
	}
	req.CurrentObjectVersion = nil
	if got := w.mounted(t, req); got != "of another vault" {
		t.Errorf("a pod that starts got %q", got)
	}
}

func vaultRules() []story {
	in := func(s story) story { s.row = "Several vaults/" + s.row; return s }
	other := map[string]string{"my-secret": "of another vault"}
	class := map[string]string{"failoverKeyvaultName": "fabrikam"}
	unavailable := func(name string, f azuretest.Fault) story {
		return in(story{row: "failoverKeyvaultName", name: name, pod: class, prepare: failover(f), files: other})
	}
	silent := unavailable("a silent vault is left in time, with a warning", azuretest.Fault{Stall: true})
	silent.setup.metrics = metrics.New("1.2.3")
	var start time.Time
	silent.prepare = func(t *testing.T, w *world) {
		failover(azuretest.Fault{Stall: true})(t, w)
		start = time.Now()
	}
	silent.check = func(t *testing.T, w *world, _ map[string]string) {
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("took %s", took)
		}
		if log := w.log.String(); !strings.Contains(log, `"level":"WARN"`) || !strings.Contains(log, `"failover":1`) {
			t.Errorf("log: %s", log)
		}
		wantAnswers(t, silent.setup.metrics, "failover", 1)
	}
	return []story{
		in(story{row: "keyvaultName", name: "one sign-in for all, read in parallel, each behind its own throttle", setup: setup{throttle: throttle.Config{Max: 1}, roundTripper: together(2)},
			objects: "[{objectName: my-secret, objectType: secret}, {objectName: my-secret, objectType: secret, objectAlias: b, keyvaultName: fabrikam}]",
			prepare: failover(), files: map[string]string{"my-secret": "Hello!", "b": "of another vault"}, check: requests(azuretest.Token, 1)}),
		silent,
		unavailable("a vault that cannot be reached", azuretest.Fault{Reset: true}),
		unavailable("a vault that answers 500", azuretest.Fault{Status: 500}),
		unavailable("a vault that throttles", azuretest.Fault{Status: 429}),
		in(story{row: "failoverKeyvaultName", name: "a 401 is final", pod: class, prepare: failover(azuretest.Fault{Status: 401}), code: codes.Unauthenticated, says: []string{"contoso", "[TokenRejected]"}}),
		in(story{row: "failoverKeyvaultName", name: "a 403 is final", pod: class, code: codes.PermissionDenied, says: []string{"contoso", "[AccessDenied]"},
			prepare: func(t *testing.T, w *world) { failover()(t, w); w.vault.Revoke(clientID) }}),
		in(story{row: "failoverKeyvaultName", name: "not of an object of another vault than the class's", pod: class, prepare: func(t *testing.T, w *world) {
			failover()(t, w)
			w.Vault("northwind", w.tenant).SetFault(azuretest.Fault{Status: 503})
		}, objects: "[{objectName: my-secret, objectType: secret, keyvaultName: northwind}]", code: codes.FailedPrecondition, says: []string{"northwind", "[ServiceUnavailable]"}}),
		in(story{row: "failoverKeyvaultName", name: "a running pod keeps its files", pod: class, setup: uncached(), prepare: failover(), files: hello,
			then: &story{prepare: failover(azuretest.Fault{Status: 503}), code: codes.FailedPrecondition, says: []string{"contoso", "[ServiceUnavailable]"}}}),
	}
}

func optionalRules() []story {
	in := func(s story) story { s.row = "Optional objects/optional"; return s }
	const one = "[{objectName: my-secret, objectType: secret, optional: true}]"
	later := in(story{name: "a line and a metric, and there at the next rotation", setup: uncached(), objects: "[{objectName: later, objectType: secret, optional: true}]", files: map[string]string{}, ids: []string{"secret/later"},
		then: &story{prepare: secrets(map[string]string{"later": "here"}), files: map[string]string{"later": "here"}}})
	later.setup.metrics = metrics.New("1.2.3")
	later.check = func(t *testing.T, w *world, _ map[string]string) {
		if log := w.log.String(); !strings.Contains(log, `"level":"INFO"`) || !strings.Contains(log, `"firstAbsent":["secret \"later\""]`) {
			t.Errorf("log: %s", log)
		}
		wantAnswers(t, later.setup.metrics, "absent", 1)
	}
	refused := func(name string, status int, code codes.Code, reason string) story {
		return in(story{name: name, objects: one, prepare: func(_ *testing.T, w *world) { w.vault.SetFault(azuretest.Fault{Status: status}) }, code: code, says: []string{reason}})
	}
	return []story{
		later,
		in(story{name: "a version", objects: "[{objectName: my-secret, objectType: secret}, {objectName: my-secret, objectType: secret, objectAlias: v, optional: true, objectVersion: 01234567890123456789012345678901}]", files: hello}),
		in(story{name: "disappears at the next rotation when it is deleted", setup: uncached(), objects: one, files: hello,
			then: &story{prepare: func(_ *testing.T, w *world) { w.vault.Delete("secret", "my-secret") }, files: map[string]string{}}}),
		in(story{name: "a key and a certificate", prepare: func(_ *testing.T, w *world) { w.vault.Grant(clientID, azuretest.KeysGet, azuretest.CertificatesGet) },
			objects: "[{objectName: k, objectType: key, optional: true}, {objectName: c, objectType: cert, optional: true}]", files: map[string]string{}}),
		in(story{name: "a document", objects: "[{objectAlias: d, optional: true, template: '{{ secret \"my-secret\" }}{{ secret \"gone\" }}'}]", files: map[string]string{}}),
		refused("not where the vault answers 401", 401, codes.Unauthenticated, "[TokenRejected]"),
		refused("not where the vault throttles", 429, codes.FailedPrecondition, "[Throttled]"),
		refused("not where the vault is unavailable", 503, codes.FailedPrecondition, "[ServiceUnavailable]"),
	}
}

func identityRules() []story {
	in := func(s story) story { s.row = "Authentication/" + s.row; return s }
	c := newClientCertificate()
	none := map[string]string{"clientID": "", "tenantID": ""}
	certificate := func(_ *testing.T, w *world) { w.app.Unfederate(); w.app.AddCertificate(c.Certificate) }
	return []story{
		in(story{row: "service-principal", name: "by certificate, a PFX in base64", secret: map[string]string{"clientid": clientID, "clientcertificate": c.pfx}, pod: map[string]string{"clientID": ""}, prepare: certificate, files: hello}),
		in(story{row: "service-principal", name: "by certificate, with the tenant of the Secret", secret: map[string]string{"clientid": clientID, "TenantID": tenantID, "clientcertificate": c.pem}, pod: none, prepare: certificate, files: hello}),
		in(story{row: "service-principal", name: "never a certificate of another application", secret: map[string]string{"clientid": clientID, "clientcertificate": c.pem}, pod: map[string]string{"clientID": ""}, code: codes.Unauthenticated, says: []string{clientID}}),
		in(story{row: "workload-identity, of a Secret", name: "with the tenant of the Secret", secret: map[string]string{"clientid": clientID, "tenantid": tenantID}, pod: none, files: hello}),
		in(story{row: "workload-identity, of a Secret", name: "the class's tenant counts", secret: map[string]string{"clientid": clientID, "tenantid": otherTenant}, pod: map[string]string{"clientID": ""}, files: hello}),
		in(story{row: "managed-identity", name: "by the ARM resource ID", pod: map[string]string{"useVMManagedIdentity": "true", "userAssignedIdentityID": webIdentity}, files: hello,
			prepare: func(_ *testing.T, w *world) {
				w.IMDS().Assign(w.tenant.Application("another"))
				w.IMDS().AssignResource(webIdentity, w.app)
			}}),
		in(story{row: "managed-identity", name: "by an ARM resource ID that is not assigned", pod: map[string]string{"useVMManagedIdentity": "true", "userAssignedIdentityID": webIdentity},
			prepare: systemAssigned, code: codes.Unauthenticated, says: []string{"userAssignedIdentities/web", "[ManagedIdentityUnavailable]"}}),
	}
}

func cloudRules() []story {
	var all []story
	for _, c := range []struct{ row, name, suffix, audience string }{
		{"AzureUSGovernmentCloud, AzureUSGovernment", "AzureUSGovernmentCloud", "vault.usgovcloudapi.net", "USGov"},
		{"AzureChinaCloud", "AzureChinaCloud", "vault.azure.cn", "China"},
		{"AzureBleuCloud", "AzureBleuCloud", "vault.sovcloud-api.fr", "France"},
		{"AzureDelosCloud", "AzureDelosCloud", "vault.sovcloud-api.de", "Germany"},
	} {
		for name, audience := range map[string]string{"a token of its audience": entra.Audience + c.audience, "a token of the public audience": entra.Audience} {
			all = append(all, story{row: "Clouds/" + c.row, name: name, pod: map[string]string{"cloudName": c.name}, audience: audience,
				prepare: federated(audience, inCloud(c.suffix)), files: map[string]string{"my-secret": "from " + c.suffix}})
		}
	}
	const public, own = "Clouds/AzurePublicCloud, AzureCloud", "api://own"
	override := setup{mounter: func(m *provider.Mounter) { m.TokenAudience = own }}
	newest, stack, older := versionsStory(public, "the newest version of the API"), versionsStory("Clouds/AzureStackCloud", "version 7.1 of the API"), versionsStory(public, "an older version of the API, remembered")
	latest := azuretest.APIVersions[len(azuretest.APIVersions)-1]
	newest.versions(latest, latest)
	stack.versions("7.1", "7.1")
	stack.setup.mounter, stack.pod, stack.prepare = stackFile().mounter, map[string]string{"cloudName": "AzureStackCloud", "cloudEnvFileName": stackPath}, stackHub(tenantID)
	stack.files = map[string]string{"my-secret": "on the hub"}
	stack.then.files = stack.files
	older.versions(latest, "7.4", "7.4")
	older.prepare = func(_ *testing.T, w *world) { w.vault.SetLatestAPIVersion("7.4") }
	return append(all, newest.story, stack.story, older.story,
		story{row: public, name: "--token-audience", setup: override, audience: own, prepare: federated(own, nil), files: hello},
		story{row: public, name: "not a token of another audience than --token-audience", setup: override, audience: "api://other", code: codes.FailedPrecondition, says: []string{own, "[TokenRequestMissing]"}},
		story{row: "Clouds/AzureBleuCloud", name: "not a token of another cloud's audience", pod: map[string]string{"cloudName": "AzureBleuCloud"}, audience: entra.Audience + "China",
			prepare: inCloud("vault.sovcloud-api.fr"), code: codes.FailedPrecondition, says: []string{entra.Audience + "France", "[TokenRequestMissing]"}})
}

// federated trusts the pod's tokens of this audience only.
func federated(audience string, also func(*testing.T, *world)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		w.app.Unfederate()
		w.app.Federate(issuer, w.pod.Subject(), audience)
		if also != nil {
			also(t, w)
		}
	}
}

// apiStory is a story about the versions of the API in requests to the vault.
type apiStory struct {
	story
	requested *[]string
}

func versionsStory(row, name string) apiStory {
	s := apiStory{story{row: row, name: name, setup: uncached(), files: hello, then: &story{files: hello}}, new([]string)}
	s.setup.roundTripper = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			if strings.Contains(req.URL.Path, "/secrets/") {
				*s.requested = append(*s.requested, req.URL.Query().Get("api-version"))
			}
			return next.RoundTrip(req)
		})
	}
	return s
}

// versions are those of the two mounts.
func (s apiStory) versions(want ...string) {
	s.then.check = func(t *testing.T, _ *world, _ map[string]string) {
		if !slices.Equal(*s.requested, want) {
			t.Errorf("requests of versions %v, want %v", *s.requested, want)
		}
	}
}
