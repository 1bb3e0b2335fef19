package server_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/server"

	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// lines are the log's lines about mounts so far, and empty it.
func (w *world) lines(t *testing.T) []map[string]any {
	t.Helper()
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	var all []map[string]any
	for line := range strings.Lines(w.log.b.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if msg := fields["msg"]; msg == "mounted" || msg == "mount failed" {
			all = append(all, fields)
		}
	}
	w.log.b.Reset()
	return all
}

// logLine returns the one line of a mount, without what differs from run to run.
func (w *world) logLine(t *testing.T) map[string]any {
	t.Helper()
	all := w.lines(t)
	if len(all) != 1 {
		t.Fatalf("%d lines of one mount: %v", len(all), all)
	}
	if d, ok := all[0]["durationSeconds"].(float64); !ok || d <= 0 {
		t.Errorf("durationSeconds %v", all[0]["durationSeconds"])
	}
	delete(all[0], "time")
	delete(all[0], "durationSeconds")
	delete(all[0], "mount")
	return all[0]
}

// A mount is one line: which, what it brought, how, and at what cost.
func TestMountIsOneLine(t *testing.T) {
	w := newWorld(t, setup{})
	w.vault.SetSecret("other", azuretest.Secret{Value: "x"})
	of := func(pod string) *v1alpha1.MountRequest {
		p := w.with(map[string]string{"objects": "[{objectName: my-secret, objectType: secret}, {objectName: other, objectType: secret}]"})
		p.Name = pod
		return w.requestFor(t, "one.yaml", p, nil)
	}
	who := map[string]any{"node": "node-1", "podUID": 36, "identity": "workload-identity", "clientID": clientID, "tenantID": tenantID, "versions": 2}
	want := func(pod string, more ...map[string]any) map[string]any {
		all := map[string]any{
			"level": "INFO", "msg": "mounted", "pod": pod, "namespace": "shop", "serviceAccount": "reader", "class": "one", "vault": "contoso",
			"objects": 2.0, "reason": "ok", "rotation": false,
			"read": 0.0, "shared": 0.0, "cached": 0.0, "stale": 0.0, "requests": 0.0,
		}
		for _, m := range more {
			maps.Copy(all, m)
		}
		return all
	}
	first := of("web-0")
	for _, c := range []struct {
		name string
		req  *v1alpha1.MountRequest
		want map[string]any
	}{
		{"the first", first, want("web-0", map[string]any{"read": 2.0, "requests": 3.0}, who)},
		{"of another pod", of("web-1"), want("web-1", map[string]any{"read": 2.0, "requests": 3.0}, who)},
		{"a rotation", first, want("web-0", map[string]any{"level": "DEBUG", "cached": 2.0, "rotation": true, "changed": false})},
	} {
		if _, err := w.mount(t, c.req); err != nil {
			t.Fatal(err)
		}
		got := w.logLine(t)
		if size, ok := got["bytes"].(float64); !ok || size < 7 {
			t.Errorf("%s: %v bytes", c.name, got["bytes"])
		}
		delete(got, "bytes") // how many is the encoding's
		if list, ok := got["versions"].([]any); ok {
			got["versions"] = len(list)
		}
		if uid, ok := got["podUID"].(string); ok {
			got["podUID"] = len(uid)
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("%s:\ngot  %v\nwant %v", c.name, got, c.want)
		}
	}
}

// A bug in shared work is one sentence and one stack, which shows the bug, however many objects trip it.
func TestPanicInSharedWork(t *testing.T) {
	for _, host := range []string{"login.", "contoso."} {
		w := newWorld(t, setup{roundTripper: func(next http.RoundTripper) http.RoundTripper { return buggy{host, next} }})
		_, err := w.mount(t, w.requestFor(t, "one.yaml", w.with(map[string]string{"objects": "[{objectName: a, objectType: secret}, {objectName: b, objectType: secret}]"}), nil))
		log := w.log.String()
		if strings.Count(status.Convert(err).Message(), "a bug in the provider") != 1 || strings.Count(log, `"stack":`) != 1 || strings.Count(log, `"panic":`) != 1 || !strings.Contains(log, "theBug") {
			t.Errorf("%s: %v: %s", host, err, log)
		}
	}
}

// buggy panics for requests to a host.
type buggy struct {
	host string
	next http.RoundTripper
}

func (b buggy) RoundTrip(req *http.Request) (*http.Response, error) {
	if strings.HasPrefix(req.URL.Host, b.host) {
		theBug()
	}
	return b.next.RoundTrip(req)
}

func theBug() { panic("CANARY") }

// A rotation is reported as changed when versions differ, and as a warning when it fails:
// the pod keeps its files, and the driver hides the error.
func TestRotationsAreReported(t *testing.T) {
	w := newWorld(t, setup{reads: func(c *keyvault.Config) { c.CacheTTL = 0 }})
	req := w.request(t, "one.yaml")
	w.vault.Revoke(clientID)
	_, _ = w.mount(t, req)
	if got := w.logLine(t); got["level"] != "ERROR" || got["msg"] != "mount failed" || got["rotation"] != false || got["reason"] != "AccessDenied" ||
		got["code"] != "PermissionDenied" || got["pod"] != "web-0" || got["requests"] != 2.0 {
		t.Errorf("the first, failed: %v", got)
	}
	w.vault.Grant(clientID, azuretest.SecretsGet)
	for range 2 {
		_ = w.mounted(t, req)
	}
	w.vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello again!", Created: time.Now().Add(time.Second)})
	_ = w.mounted(t, req)
	if got := w.lines(t); len(got) != 3 || got[0]["rotation"] != false || got[1]["changed"] != false || got[2]["changed"] != true {
		t.Errorf("first, unchanged, changed: %v", got)
	}
	w.vault.Revoke(clientID)
	_, _ = w.mount(t, req)
	if got := w.logLine(t); got["level"] != "WARN" || got["rotation"] != true || got["pod"] != "web-0" || got["namespace"] != "shop" ||
		!strings.Contains(got["error"].(string), "[AccessDenied]") {
		t.Errorf("a rotation, failed: %v", got)
	}
	if got := strings.Join(w.seen.operations, ","); got != "start,start,rotate,rotate,rotate" {
		t.Errorf("operations %s", got)
	}
	if got := w.seen.rotations(); got != "unchanged,changed,failed" {
		t.Errorf("observed %q", got)
	}
}

// Drivers before 1.6 send the versions that the volume contains, so a mount is known as a rotation
// also right after the plugin has started.
func TestRotationAfterAStart(t *testing.T) {
	w := newWorld(t, setup{})
	version := w.vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello!", Version: strings.Repeat("a", 32)})
	for _, c := range []struct{ target, version, want string }{
		{"/a", version, "unchanged"}, {"/b", "older", "unchanged,changed"}, {"/c", "", "unchanged,changed"},
	} {
		req := w.request(t, "one.yaml")
		req.TargetPath = c.target
		if c.version != "" {
			req.CurrentObjectVersion = []*v1alpha1.ObjectVersion{{Id: "secret/my-secret", Version: c.version}}
		}
		_ = w.mounted(t, req)
		if got := w.seen.rotations(); got != c.want {
			t.Errorf("%s: observed %q, want %q", c.target, got, c.want)
		}
	}
}

// No line of a mount contains a secret or a token, however it ends and at any level.
func TestLogHoldsNoSecrets(t *testing.T) {
	const canary = "CANARY.do-not-log"
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo} {
		out := new(buffer)
		w := newWorld(t, setup{config: func(c *server.Config) { c.Log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level})) }})
		w.vault.SetSecret("my-secret", azuretest.Secret{Value: canary})
		req := w.request(t, "one.yaml")
		_ = w.mounted(t, req)
		_ = w.mounted(t, req)
		w.vault.Revoke(clientID)
		req.TargetPath = "/another"
		_, err := w.mount(t, req)
		text := out.String()
		if err == nil || strings.Count(text, "msg=mounted") != map[slog.Level]int{slog.LevelDebug: 2, slog.LevelInfo: 1}[level] || strings.Count(text, `msg="mount failed"`) != 1 {
			t.Errorf("%s: got %v and\n%s", level, err, text)
		}
		for _, never := range []string{canary, "eyJ", "Bearer"} {
			if strings.Contains(text, never) {
				t.Errorf("%s: the log contains %q:\n%s", level, never, text)
			}
		}
	}
}

// begun reports when a read has been requested.
type begun struct {
	provider.Vaults
	asked chan struct{}
}

func (b begun) Get(ctx context.Context, caller keyvault.Caller, o keyvault.Object, need keyvault.Freshness) func() (keyvault.Value, error) {
	wait := b.Vaults.Get(ctx, caller, o, need)
	b.asked <- struct{}{}
	return wait
}

// The request of a read that two mounts share is counted for the one that made it.
func TestSharedReadIsPaidOnce(t *testing.T) {
	asked, sent, release := make(chan struct{}, 8), make(chan struct{}, 8), make(chan struct{})
	hold := false // set between mounts
	w := newWorld(t, setup{
		mounter: func(m *provider.Mounter) { m.Vaults = begun{m.Vaults, asked} },
		roundTripper: func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				if hold && strings.Contains(req.URL.Path, "/secrets/") {
					sent <- struct{}{}
					<-release
				}
				return next.RoundTrip(req)
			})
		},
	})
	running := w.request(t, "one.yaml")
	_ = w.mounted(t, running)
	<-asked
	_ = w.lines(t)
	hold = true
	starts := w.pod
	starts.Name = "web-1"
	starting := w.requestFor(t, "one.yaml", starts, nil)
	var group sync.WaitGroup
	for _, req := range []*v1alpha1.MountRequest{starting, running} {
		group.Go(func() {
			if _, err := w.mount(t, req); err != nil {
				t.Error(err)
			}
		})
		<-asked
		if req == starting {
			<-sent
		}
	}
	close(release)
	group.Wait()
	all := w.lines(t)
	if len(all) != 2 {
		t.Fatalf("got %v", all)
	}
	for _, got := range all {
		want := map[string]any{"read": 1.0, "shared": 0.0, "requests": 2.0} // a token and the read
		if got["pod"] == "web-0" {
			want = map[string]any{"read": 0.0, "shared": 1.0, "requests": 0.0}
		}
		for name, value := range want {
			if got[name] != value {
				t.Errorf("%s: %s=%v, want %v", got["pod"], name, got[name], value)
			}
		}
	}
}
