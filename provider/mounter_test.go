package provider_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/throttle"
)

const (
	clientID = "6c2f9d0e-8a3b-4a55-9d3c-2f1f6f1c7a10"
	tenantID = "11111111-2222-3333-4444-555555555555"

	attrTokens = "csi.storage.k8s.io/serviceAccount.tokens"
)

var tokenEnd = time.Unix(4_000_000_000, 0)

// signIn returns to every caller a token that names its assertion.
type signIn struct {
	err  error
	wait chan struct{} // if not nil, answers once it is closed

	mu     sync.Mutex // guards what follows
	ids    []entra.Identity
	scopes []string

	forgotten int
}

func (s *signIn) Token(_ context.Context, id entra.Identity, scope string) (entra.Token, error) {
	s.mu.Lock()
	s.ids, s.scopes = append(s.ids, id), append(s.scopes, scope)
	s.mu.Unlock()
	if s.wait != nil {
		<-s.wait
	}
	if s.err != nil {
		return entra.Token{}, s.err
	}
	return entra.Token{Value: "for " + id.Assertion, ExpiresOn: tokenEnd}, nil
}

func (s *signIn) Forget(id entra.Identity, _ string, token entra.Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if token.Value != "for "+id.Assertion {
		panic("another token than was given")
	}
	s.forgotten++
}

// vaults has secrets by name, of which each version is "v-" and the name.
type vaults struct {
	values map[string]string
	lists  map[string][]string                    // versions by name, newest first
	items  map[string][]keyvault.Item             // objects by host and type
	fails  map[string]func(context.Context) error // instead of a value
	hook   func(name string)                      // called within each read

	mu        sync.Mutex // guards what follows
	reads     []string
	listed    []string
	suggested []string
	at        map[string]int // reads by host
	hosts     map[string]bool
	callers   map[keyvault.Caller]bool
	needs     []keyvault.Freshness
}

func (v *vaults) Get(ctx context.Context, caller keyvault.Caller, o keyvault.Object, fresh keyvault.Freshness) func() (keyvault.Value, error) {
	return begun(func() (keyvault.Value, error) { return v.get(ctx, caller, o, fresh) })
}

// begun runs the work in its own goroutine, where a panic becomes its error.
func begun[T any](work func() (T, error)) func() (T, error) {
	var value T
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer fault.Recover(&err)
		value, err = work()
	}()
	return func() (T, error) {
		<-done
		return value, err
	}
}

func (v *vaults) get(ctx context.Context, caller keyvault.Caller, o keyvault.Object, fresh keyvault.Freshness) (keyvault.Value, error) {
	host, name, version := o.Host, o.Name, o.Version
	v.mu.Lock()
	v.reads = append(v.reads, name)
	if v.at == nil {
		v.at = map[string]int{}
	}
	v.at[host]++
	if v.hosts == nil {
		v.hosts, v.callers = map[string]bool{}, map[keyvault.Caller]bool{}
	}
	v.hosts[host], v.callers[caller], v.needs = true, true, append(v.needs, fresh)
	v.mu.Unlock()
	if v.hook != nil {
		v.hook(name)
	}
	for _, key := range []string{name, host} {
		if fail, ok := v.fails[key]; ok {
			return keyvault.Value{}, fail(ctx)
		}
	}
	value, ok := v.values[name]
	if !ok {
		return keyvault.Value{}, refusal(ctx, host, caller, name, version, http.StatusNotFound, `{"error":{"code":"SecretNotFound","message":"x"}}`)
	}
	if version == "" {
		version = "v-" + name
	}
	return keyvault.Value{Text: value, Version: version}, nil
}

func (v *vaults) Versions(ctx context.Context, _ keyvault.Caller, o keyvault.Object, n int, _ keyvault.Freshness) func() ([]string, error) {
	return func() ([]string, error) {
		if fail, ok := v.fails[o.Name+" list"]; ok {
			return nil, fail(ctx)
		}
		all := v.lists[o.Name]
		return all[:min(n, len(all))], nil
	}
}

func (v *vaults) List(ctx context.Context, _ keyvault.Caller, host string, kind request.Type, _ keyvault.Freshness) func() ([]keyvault.Item, error) {
	return begun(func() ([]keyvault.Item, error) {
		v.mu.Lock()
		v.listed = append(v.listed, host+" "+string(kind))
		v.mu.Unlock()
		if fail, ok := v.fails[host]; ok {
			return nil, fail(ctx)
		}
		return v.items[host+" "+string(kind)], nil
	})
}

// Suggest counts, and leaves the error as it is.
func (v *vaults) Suggest(_ context.Context, _ keyvault.Caller, o keyvault.Object, err error) func() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.suggested = append(v.suggested, o.Host+" "+o.Name)
	return func() error {
		if v.hook != nil {
			v.hook("suggest " + o.Name)
		}
		return err
	}
}

// Resource is the one of the file with "/own" after it.
func (v *vaults) Resource(_ context.Context, host, fallback string) (string, error) {
	if fail, ok := v.fails[host]; ok {
		return "", fail(context.Background())
	}
	return fallback + "/own", nil
}

// refusal is the error of a real reader when the vault answers so.
func refusal(ctx context.Context, host string, caller keyvault.Caller, name, version string, status int, body string) error {
	reader, err := keyvault.NewReader(keyvault.Config{Transport: answer{status, body}, Throttle: throttle.Config{Max: 1}, Timeout: time.Minute})
	if err != nil {
		return err
	}
	_, err = reader.Get(ctx, caller, keyvault.Object{Host: host, Type: request.TypeSecret, Name: name, Version: version}, keyvault.Freshness{})()
	return err
}

type answer struct {
	status int
	body   string
}

func (a answer) Do(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: a.status, Body: io.NopCloser(strings.NewReader(a.body)), Header: http.Header{}, Request: r}, nil
}

// parse makes the request of a pod with a class in which something is changed.
func parse(t testing.TB, objects string, changes map[string]string) *request.Mount {
	t.Helper()
	return parseWith(t, "null", objects, changes)
}

// parseWith is parse with the secrets that the driver sends.
func parseWith(t testing.TB, secrets, objects string, changes map[string]string) *request.Mount {
	t.Helper()
	attributes := map[string]string{
		"csi.storage.k8s.io/pod.name": "cart-0", "csi.storage.k8s.io/pod.namespace": "shop", "csi.storage.k8s.io/serviceAccount.name": "reader",
		attrTokens:     `{"api://AzureADTokenExchange":{"token":"assertion","expirationTimestamp":"2030-01-02T03:04:05Z"}}`,
		"keyvaultName": "Contoso", "tenantID": tenantID, "clientID": clientID, "objects": objects,
	}
	maps.Copy(attributes, changes)
	text, err := json.Marshal(attributes)
	if err != nil {
		t.Fatal(err)
	}
	m, err := new(request.Parser).Parse(string(text), secrets, "420")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// secrets is a class's list of secrets.
func secrets(names ...string) string {
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "- {objectName: %s, objectType: secret}\n", name)
	}
	return b.String()
}

func numbered(n int) ([]string, map[string]string) {
	names, values := make([]string, n), map[string]string{}
	for i := range names {
		names[i] = fmt.Sprintf("s%d", i)
		values[names[i]] = "value of " + names[i]
	}
	return names, values
}

func newMounter(s *signIn, v *vaults) *provider.Mounter {
	return &provider.Mounter{MaxBytes: 4 << 20, SignIn: s, Vaults: v, Clouds: &cloud.Resolver{Default: "AzurePublicCloud"}, MaxConcurrency: 4}
}

// refused checks what every failed mount must be: no volume, one line, a reason.
func refused(t *testing.T, volume *provider.Volume, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("mounted %+v", volume)
	}
	if volume != nil {
		t.Error("a volume came with the error")
	}
	if strings.ContainsFunc(err.Error(), unicode.IsControl) {
		t.Errorf("not one line: %q", err)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("does not say %q: %v", s, err)
		}
	}
}

func wantReason(t *testing.T, err error, want fault.Reason) {
	t.Helper()
	if !fault.Is(err, want) {
		t.Errorf("%T %v has not the reason %s", err, err, want)
	}
}

func TestMount(t *testing.T) {
	s, v := &signIn{}, &vaults{values: map[string]string{"a": "A", "b": "Qg=="}}
	volume, err := newMounter(s, v).Mount(t.Context(), parse(t,
		"- {objectName: b, objectType: secret, objectAlias: d/b, objectEncoding: base64, objectVersion: 0123, filePermission: 0400}\n"+secrets("a"), nil), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	want := &provider.Volume{
		Files:    []render.File{{Path: "d/b", Mode: 0o400, Content: []byte("B")}, {Path: "a", Mode: 0o644, Content: []byte("A")}},
		Versions: []provider.Version{{ID: "secret/b", Version: "0123"}, {ID: "secret/a", Version: "v-a"}},
	}
	if !reflect.DeepEqual(volume, want) {
		t.Errorf("got  %+v\nwant %+v", volume, want)
	}
	wantID := entra.Identity{Mode: entra.WorkloadIdentity, Authority: "https://login.microsoftonline.com", TenantID: tenantID, ClientID: clientID,
		ServiceAccount: "system:serviceaccount:shop:reader", Assertion: "assertion", Audience: entra.Audience}
	if len(s.ids) != 1 {
		t.Fatalf("signed in %d times", len(s.ids))
	}
	id := s.ids[0]
	if id.TenantIDFrom == "" || id.ClientIDFrom == "" {
		t.Errorf("does not say where the IDs come from: %+v", id)
	}
	id.TenantIDFrom, id.ClientIDFrom = "", ""
	if id != wantID || s.scopes[0] != "https://vault.azure.net/.default" {
		t.Errorf("signed in %+v for %s", id, s.scopes[0])
	}
	caller := keyvault.Caller{Principal: keyvault.Principal{Authority: "https://login.microsoftonline.com", TenantID: tenantID, ClientID: clientID}, Token: "for assertion", Expires: tokenEnd}
	if len(v.callers) != 1 || !v.callers[caller] || len(v.hosts) != 1 || !v.hosts["contoso.vault.azure.net"] {
		t.Errorf("read as %+v from %v", v.callers, v.hosts)
	}
}

func TestClouds(t *testing.T) {
	for _, c := range []struct{ class, plugin, authority, host, scope string }{
		{"", "AzureChinaCloud", "https://login.chinacloudapi.cn", "contoso.vault.azure.cn", "https://vault.azure.cn/.default"},
		{"azureusgovernment", "AzureChinaCloud", "https://login.microsoftonline.us", "contoso.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net/.default"},
		{"AzureCloud", "AzureChinaCloud", "https://login.microsoftonline.com", "contoso.vault.azure.net", "https://vault.azure.net/.default"},
	} {
		t.Run(c.class, func(t *testing.T) {
			s, v := &signIn{}, &vaults{values: map[string]string{"a": "A"}}
			m := newMounter(s, v)
			m.Clouds.Default = c.plugin
			if _, err := m.Mount(t.Context(), parse(t, secrets("a"), map[string]string{"cloudName": c.class}), time.Time{}); err != nil {
				t.Fatal(err)
			}
			if s.ids[0].Authority != c.authority || s.scopes[0] != c.scope || !v.hosts[c.host] {
				t.Errorf("signed in at %s for %s, read from %v", s.ids[0].Authority, s.scopes[0], v.hosts)
			}
		})
	}
}

// Files stand in the order of the class, whatever the order in which they come.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names, values := numbered(30)
		release := map[string]chan struct{}{}
		for _, name := range names {
			release[name] = make(chan struct{})
		}
		m := newMounter(&signIn{}, &vaults{values: values, hook: func(name string) { <-release[name] }})
		m.MaxConcurrency = len(names)
		var volume *provider.Volume
		var err error
		done := make(chan struct{})
		req := parse(t, secrets(names...), nil)
		go func() {
			defer close(done)
			volume, err = m.Mount(t.Context(), req, time.Time{})
		}()
		for _, name := range slices.Backward(names) {
			synctest.Wait()
			close(release[name])
		}
		<-done
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range names {
			f, ver := volume.Files[i], volume.Versions[i]
			if f.Path != name || string(f.Content) != values[name] || ver.ID != "secret/"+name || ver.Version != "v-"+name {
				t.Errorf("%d is %s %q %+v, want %s", i, f.Path, f.Content, ver, name)
			}
		}
	})
}

// Objects are read at a time, and no more than is allowed.
func TestParallelismIsBounded(t *testing.T) {
	for _, bound := range []int{1, 3} {
		t.Run(fmt.Sprint(bound), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				names, values := numbered(10)
				running, release := make(chan string, len(names)), make(chan struct{})
				v := &vaults{values: values, hook: func(name string) { running <- name; <-release; <-running }}
				m := newMounter(&signIn{}, v)
				m.MaxConcurrency = bound
				req := parse(t, secrets(names...), nil)
				done := make(chan error, 1)
				go func() {
					_, err := m.Mount(t.Context(), req, time.Time{})
					done <- err
				}()
				for left := len(names); left > 0; left-- {
					synctest.Wait()
					if got := len(running); got < 1 || got > bound || left == len(names) && got < bound {
						t.Errorf("%d reads at a time with %d to go, want %d", got, left, bound)
					}
					release <- struct{}{}
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				if len(v.reads) != len(names) {
					t.Errorf("%d reads", len(v.reads))
				}
			})
		})
	}
}

func TestAllMissingObjectsAreNamedInOne(t *testing.T) {
	v := &vaults{values: map[string]string{"here": "x", "there": "y"}}
	volume, err := newMounter(&signIn{}, v).Mount(t.Context(), parse(t, secrets("gone1", "here", "gone2", "there", "gone3"), nil), time.Time{})
	refused(t, volume, err, `"gone1"`, `"gone2"`, `"gone3"`, "contoso.vault.azure.net")
	wantReason(t, err, "ObjectNotFound")
	var missing *fault.Error
	if !errors.As(err, &missing) || len(missing.Objects) != 3 || missing.Objects[0] != `secret "gone1"` || missing.Objects[1] != `secret "gone2"` || missing.Objects[2] != `secret "gone3"` {
		t.Errorf("%T %v is not one error of the three in their order", err, err)
	}
	if text := err.Error(); strings.Contains(text, `"here"`) || strings.Contains(text, `"there"`) || strings.Count(text, "contoso.vault.azure.net") != 1 {
		t.Errorf("not reported as one: %s", text)
	}
	if len(v.reads) != 5 {
		t.Errorf("%d objects were read", len(v.reads))
	}
}

func TestDifferentFailuresAreDistinguished(t *testing.T) {
	v := &vaults{values: map[string]string{"text": "p@ssw0rd-of-nobody"}, fails: map[string]func(context.Context) error{
		"off": func(ctx context.Context) error {
			return refusal(ctx, "contoso.vault.azure.net", keyvault.Caller{Token: "t"}, "off", "", http.StatusForbidden, `{"error":{"code":"Forbidden","innererror":{"code":"SecretDisabled"}}}`)
		},
	}}
	volume, err := newMounter(&signIn{}, v).Mount(t.Context(), parse(t, secrets("gone1", "off", "gone2")+"- {objectName: text, objectType: secret, objectEncoding: hex}\n", nil), time.Time{})
	refused(t, volume, err, `"gone1"`, `"gone2"`, `"off"`, `"text"`, "hex")
	if strings.Contains(err.Error(), "p@ss") {
		t.Errorf("shows the value: %v", err)
	}
	var failures fault.Errors
	if !errors.As(err, &failures) || len(failures) != 3 {
		t.Fatalf("%T %v is not three failures", err, err)
	}
	for i, reason := range []fault.Reason{"ObjectNotFound", "ObjectDisabled", "ContentInvalid"} {
		wantReason(t, failures[i], reason)
	}
	if !strings.Contains(failures[2].Error(), `secret "text"`) {
		t.Errorf("%v does not name the object", failures[2])
	}
}

// Of equal paths the last wins, as in the driver; the versions of both are reported,
// so that a rotation of either is seen.
func TestEqualPaths(t *testing.T) {
	v := &vaults{values: map[string]string{"a": "A", "b": "B", "c": "C"}}
	volume, err := newMounter(&signIn{}, v).Mount(t.Context(), parse(t,
		"- {objectName: a, objectType: secret, objectAlias: f}\n- {objectName: b, objectType: secret}\n- {objectName: c, objectType: secret, objectAlias: f, filePermission: 0600}\n", nil), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	want := &provider.Volume{
		Files:    []render.File{{Path: "b", Mode: 0o644, Content: []byte("B")}, {Path: "f", Mode: 0o600, Content: []byte("C")}},
		Versions: []provider.Version{{ID: "secret/a", Version: "v-a"}, {ID: "secret/b", Version: "v-b"}, {ID: "secret/c", Version: "v-c"}},
	}
	if !reflect.DeepEqual(volume, want) {
		t.Errorf("got  %+v\nwant %+v", volume, want)
	}
}

// One object may be mounted under two paths.
func TestOneObjectUnderTwoPaths(t *testing.T) {
	v := &vaults{values: map[string]string{"a": "A"}}
	volume, err := newMounter(&signIn{}, v).Mount(t.Context(), parse(t, secrets("a")+"- {objectName: a, objectType: secret, objectAlias: b}\n", nil), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if len(volume.Files) != 2 || string(volume.Files[0].Content) != "A" || string(volume.Files[1].Content) != "A" || len(volume.Versions) != 2 {
		t.Errorf("got %+v", volume)
	}
}

func TestNothingIsReadBeforeSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, v := &signIn{wait: make(chan struct{}), err: errors.New("refused")}, &vaults{values: map[string]string{"a": "A"}}
		req := parse(t, secrets("a", "b"), nil)
		done := make(chan struct{})
		go func() {
			defer close(done)
			volume, err := newMounter(s, v).Mount(t.Context(), req, time.Time{})
			if volume != nil || !errors.Is(err, s.err) {
				t.Errorf("got %v %v", volume, err)
			}
		}()
		synctest.Wait()
		if len(v.reads) > 0 {
			t.Errorf("read %v before signing in", v.reads)
		}
		close(s.wait)
		<-done
		if len(v.reads) > 0 {
			t.Errorf("read %v though the sign-in failed", v.reads)
		}
	})
}

// A panic is this mount's error. The process, and the other reads, go on.
func TestPanicInARead(t *testing.T) {
	const value = "the value of a panic may contain anything"
	v := &vaults{values: map[string]string{"a": "A", "c": "C"}, fails: map[string]func(context.Context) error{
		"b": func(context.Context) error { panic(value) },
	}}
	volume, err := newMounter(&signIn{}, v).Mount(t.Context(), parse(t, secrets("a", "b", "c"), nil), time.Time{})
	refused(t, volume, err)
	var panicked *fault.Panic
	if !errors.As(err, &panicked) || panicked.Value != value || !strings.Contains(string(panicked.Stack), "TestPanicInARead") {
		t.Errorf("%T %v is no *PanicError with value and stack", err, err)
	}
	if strings.Contains(err.Error(), value) {
		t.Errorf("shows the value: %v", err)
	}
	if len(v.reads) != 3 {
		t.Errorf("%d objects were read", len(v.reads))
	}
}

// A caller that canceled gets one error, not one for each object.
func TestCallerCanceled(t *testing.T) {
	gone := func(ctx context.Context) error { return ctx.Err() }
	v := &vaults{fails: map[string]func(context.Context) error{"a": gone, "b": gone, "c": gone}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	volume, err := newMounter(&signIn{}, v).Mount(ctx, parse(t, secrets("a", "b", "c"), nil), time.Time{})
	refused(t, volume, err)
	if !errors.Is(err, context.Canceled) || errors.As(err, new(fault.Errors)) {
		t.Errorf("%T %v is not the context's error alone", err, err)
	}
}

func TestTenant(t *testing.T) {
	const other = "99999999-2222-3333-4444-555555555555"
	for _, c := range []struct{ name, class, plugin, want, from string }{
		{"of the class", tenantID, other, tenantID, "tenantID"},
		{"of the plugin", "", other, other, "--tenant-id"},
		{"in lower case", "AAAAAAAA-2222-3333-4444-555555555555", "", "aaaaaaaa-2222-3333-4444-555555555555", "tenantID"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &signIn{}
			m := newMounter(s, &vaults{values: map[string]string{"a": "A"}})
			m.DefaultTenant = c.plugin
			if _, err := m.Mount(t.Context(), parse(t, secrets("a"), map[string]string{"tenantID": c.class}), time.Time{}); err != nil {
				t.Fatal(err)
			}
			if id := s.ids[0]; id.TenantID != c.want || !strings.Contains(id.TenantIDFrom, c.from) {
				t.Errorf("signed in in %s, from %s", id.TenantID, id.TenantIDFrom)
			}
		})
	}
}

// TestRefusedBeforeSignIn has what is refused without a request.
func TestRefusedBeforeSignIn(t *testing.T) {
	const one = "- {objectName: a, objectType: secret}\n"
	type change = map[string]string
	for _, c := range []struct {
		name    string
		objects string
		set     change
		mounter func(*provider.Mounter)
		reason  fault.Reason
		says    []string
	}{
		{"no tenant", one, change{"tenantID": ""}, nil, "InvalidParameter", []string{"tenantID", "missing", "--tenant-id"}},
		{"closed cloud", one, change{"cloudName": "AzureGermanCloud"}, nil, "InvalidParameter", []string{"cloudName", "2021", "AzurePublicCloud"}},
		{"unknown cloud", one, change{"cloudName": "AzureMoonCloud"}, nil, "InvalidParameter", []string{"cloudName", "AzureMoonCloud", "AzurePublicCloud"}},
		{"no identity", one, change{"clientID": ""}, nil, "NoIdentity", []string{"no clientID", "set clientID"}},
		{"no token", one, change{attrTokens: ""}, nil, "TokenRequestMissing", []string{`"api://AzureADTokenExchange"`, "received: none", "tokenRequests"}},
		{"other tokens", one, change{attrTokens: `{"vault":{"token":"t-1"},"api://AKSIdentityBinding":{"token":"t-2"}}`}, nil, "TokenRequestMissing",
			[]string{`"api://AzureADTokenExchange"`, `"api://AKSIdentityBinding" "vault"`, "tokenRequests"}},
		{"empty token", one, change{attrTokens: `{"api://AzureADTokenExchange":{"token":""}}`}, nil, "TokenRequestMissing", []string{"received: none"}},
		{"strict", "- {objectName: a, objectType: secret, objectAliases: b}\n- {objectName: a, objectType: secret}\n", nil,
			func(m *provider.Mounter) { m.StrictObjects = true }, "InvalidParameter", []string{"objectAliases", "objectAlias?", "objects[1]", "--strict-objects"}},
		{"Azure Stack without a file", one, change{"cloudName": "AzureStackCloud"}, nil, "InvalidParameter", []string{"cloudEnvFileName", "AZURE_ENVIRONMENT_FILEPATH"}},
		{"file outside", one, change{"cloudName": "AzureStackCloud", "cloudEnvFileName": "/proc/self/environ"}, nil, "InvalidParameter", []string{"cloudEnvFileName", "--cloud-env-dirs"}},
		{"binding without a client", one, change{"useAzureTokenProxy": "true", "clientID": ""}, nil, "NoIdentity", []string{"useAzureTokenProxy", "clientID"}},
		{"binding without a token", one, change{"useAzureTokenProxy": "true"}, nil, "TokenRequestMissing", []string{`"api://AKSIdentityBinding"`, `received: ["api://AzureADTokenExchange"]`}},
		{"mode left out", one, nil, modes(entra.ManagedIdentity, entra.ServicePrincipal), "IdentityModeRefused", []string{"workload-identity", "managed-identity (useVMManagedIdentity) or service-principal (nodePublishSecretRef)", "--identity-modes"}},
		{"node left out", one, change{"useVMManagedIdentity": "true"}, modes(entra.WorkloadIdentity), "IdentityModeRefused", []string{"managed-identity", "--identity-modes"}},
		{"binding left out", one, change{"useAzureTokenProxy": "true"}, modes(entra.WorkloadIdentity), "IdentityModeRefused", []string{"identity-binding", "--identity-modes"}},
		{"node in another namespace", one, change{"useVMManagedIdentity": "true"}, func(m *provider.Mounter) { m.NodeNamespaces = []string{"kube-system"} },
			"IdentityModeRefused", []string{`"shop"`, "--managed-identity-namespaces"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, v := &signIn{}, &vaults{values: map[string]string{"a": "A"}}
			m := newMounter(s, v)
			if c.mounter != nil {
				c.mounter(m)
			}
			volume, err := m.Mount(t.Context(), parse(t, c.objects, c.set), time.Time{})
			refused(t, volume, err, c.says...)
			wantReason(t, err, c.reason)
			if len(s.ids) > 0 || len(v.reads) > 0 {
				t.Error("a request was sent")
			}
			if strings.Contains(err.Error(), "t-1") || strings.Contains(err.Error(), "t-2") {
				t.Errorf("shows a token: %v", err)
			}
		})
	}
}

func modes(only ...entra.Mode) func(*provider.Mounter) {
	return func(m *provider.Mounter) { m.Modes = only }
}

// Without the strict mode the same class is mounted.
func TestMistakesAreAccepted(t *testing.T) {
	volume, err := newMounter(&signIn{}, &vaults{values: map[string]string{"a": "A"}}).Mount(t.Context(),
		parse(t, "- {objectName: a, objectType: secret, objectAliases: b}\n- {objectName: a, objectType: secret}\n", nil), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if len(volume.Files) != 1 || volume.Files[0].Path != "a" || volume.Files[0].Mode != fs.FileMode(0o644) || len(volume.Versions) != 2 {
		t.Errorf("got %+v", volume)
	}
}
