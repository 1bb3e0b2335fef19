package server_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/server"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

func TestOneSecret(t *testing.T) {
	w := newWorld(t, setup{})
	version := w.vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello again!"})
	got, err := w.mount(t, w.request(t, "one.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := &v1alpha1.MountResponse{
		ObjectVersion: []*v1alpha1.ObjectVersion{{Id: "secret/my-secret", Version: version}},
		Files:         []*v1alpha1.File{{Path: "my-secret", Mode: 0o644, Contents: []byte("Hello again!")}},
	}
	if !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if reasons, _ := w.seen.observed(); reasons != "" {
		t.Errorf("observed reasons %q, want one success", reasons)
	}
}

// What mounts cost: no challenge, no discovery of the instance or of endpoints that are
// published; a sign-in for each pod, and at most a read for each mount.
func TestRequestsOfAMount(t *testing.T) {
	w := newWorld(t, setup{})
	first := w.request(t, "one.yaml")
	second := w.pod
	second.Name = "web-1"
	other := w.requestFor(t, "one.yaml", second, nil)
	for _, mount := range []struct {
		name                 string
		req                  *v1alpha1.MountRequest
		metadata, token, get int
	}{
		{"the first", first, 0, 1, 1},
		{"another pod", other, 0, 1, 1},
		{"a rotation", first, 0, 0, 0}, // what the other pod read is fresh enough
		{"the next one", first, 0, 0, 1},
	} {
		w.ResetCounts()
		if _, err := w.mount(t, mount.req); err != nil {
			t.Fatal(err)
		}
		for kind, want := range map[azuretest.Kind]int{
			azuretest.Instance: 0, azuretest.Metadata: mount.metadata, azuretest.Token: mount.token, azuretest.Challenge: 0, azuretest.GetSecret: mount.get,
		} {
			if got := w.Count(kind); got != want {
				t.Errorf("%s: %d requests of kind %s, want %d", mount.name, got, kind, want)
			}
		}
	}
}

func TestTenSecrets(t *testing.T) {
	w := newWorld(t, setup{})
	want := &v1alpha1.MountResponse{}
	for i := range 10 {
		value := fmt.Sprintf("value %d\n", i)
		secret := azuretest.Secret{Value: value}
		file := &v1alpha1.File{Path: fmt.Sprintf("s%d", i), Mode: 0o644, Contents: []byte(value)}
		switch i {
		case 2:
			file.Path = "db/password"
		case 3:
			file.Mode = 0o400
		case 5:
			secret.Version = strings.Repeat("5", 32)
		case 6:
			secret.Value, file.Contents = base64.StdEncoding.EncodeToString([]byte{0, 255, 6}), []byte{0, 255, 6}
		case 7:
			secret.Value, file.Contents = "00ff07", []byte{0, 255, 7}
		case 8:
			file.Path = "db/user"
		}
		name := fmt.Sprintf("s%d", i)
		version := w.vault.SetSecret(name, secret)
		if i == 5 { // the class asks for the older version
			w.vault.SetSecret(name, azuretest.Secret{Value: "newer", Created: time.Now().Add(time.Hour)})
		}
		want.ObjectVersion = append(want.ObjectVersion, &v1alpha1.ObjectVersion{Id: "secret/" + name, Version: version})
		want.Files = append(want.Files, file)
	}
	got, err := w.mount(t, w.request(t, "ten.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if got := w.Count(azuretest.GetSecret); got != 10 {
		t.Errorf("%d reads, want 10", got)
	}
}

// Every form of objects that classes have or may have results in the same files.
func TestFormsOfObjects(t *testing.T) {
	w := newWorld(t, setup{})
	for name, objects := range map[string]string{
		"array of texts":    "array:\n  - |\n    objectName: my-secret\n    objectType: secret\n    objectAlias: a/b",
		"array of mappings": "array:\n  - objectName: my-secret\n    objectType: secret\n    objectAlias: a/b",
		"bare list":         "- objectName: my-secret\n  objectType: secret\n  objectAlias: a/b",
		"JSON":              `[{"objectName":"my-secret","objectType":"secret","objectAlias":"a/b"}]`,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := w.mount(t, w.requestFor(t, "one.yaml", w.with(map[string]string{"objects": objects}), nil))
			if err != nil {
				t.Fatal(err)
			}
			if files(got)["a/b"] != "Hello!" || len(got.GetFiles()) != 1 {
				t.Errorf("got %v", got.GetFiles())
			}
		})
	}
}

// Mistakes that the replaced provider accepts are accepted with a warning in log and metric,
// and refused in the strict mode.
func TestObjectsWithWarnings(t *testing.T) {
	objects := "[{objectName: my-secret, objectType: secret, objectFromat: pem}, {objectName: other, objectType: secret, objectAlias: my-secret}]"
	for _, strict := range []bool{false, true} {
		t.Run(fmt.Sprintf("strict=%t", strict), func(t *testing.T) {
			w := newWorld(t, setup{mounter: func(m *provider.Mounter) { m.StrictObjects = strict }})
			w.vault.SetSecret("other", azuretest.Secret{Value: "last"})
			got, err := w.mount(t, w.requestFor(t, "one.yaml", w.with(map[string]string{"objects": objects}), nil))
			if _, warnings := w.seen.observed(); warnings != "unknown_field,duplicate_path" {
				t.Errorf("observed %q", warnings)
			}
			if !strings.Contains(w.log.String(), "did you mean objectFormat?") {
				t.Errorf("the log names no near field: %s", w.log)
			}
			if strict {
				if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "objectFromat") || !strings.Contains(err.Error(), "[InvalidParameter]") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || len(got.GetFiles()) != 1 || files(got)["my-secret"] != "last" || len(got.GetObjectVersion()) != 2 {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// Two pods with different identities mount at once, again and again, through the
// same vault's shared client: each reads with its own token only.
func TestPodsDoNotMix(t *testing.T) {
	w := newWorld(t, setup{})
	const pods = 8
	requests := make([]*v1alpha1.MountRequest, pods)
	for i := range pods {
		id := fmt.Sprintf("00000000-0000-0000-0000-%012d", i)
		secret := fmt.Sprintf("of-pod-%d", i)
		pod := azuretest.Pod{Namespace: fmt.Sprintf("ns%d", i), Name: "web-0", ServiceAccount: "reader"}
		w.tenant.Application(id).Federate(issuer, pod.Subject(), entra.Audience)
		w.vault.Grant(id, azuretest.SecretsGet)
		w.vault.SetSecret(secret, azuretest.Secret{Value: secret})
		pod.VolumeAttributes = map[string]string{"clientID": id, "objects": fmt.Sprintf("[{objectName: %s, objectType: secret}]", secret)}
		requests[i] = w.requestFor(t, "one.yaml", pod, nil)
	}
	w.ResetCounts()
	var group sync.WaitGroup
	for range 4 {
		for i, req := range requests {
			group.Go(func() {
				secret := fmt.Sprintf("of-pod-%d", i)
				got, err := w.mount(t, req)
				if err != nil || files(got)[secret] != secret {
					t.Errorf("pod %d: got %v, %v", i, got.GetFiles(), err)
				}
			})
		}
	}
	group.Wait()
	for _, r := range w.Requests() {
		if r.Kind != azuretest.GetSecret {
			continue
		}
		if i := strings.TrimLeft(r.ClientID, "0-"); !strings.Contains(r.Path, "/of-pod-"+max(i, "0")) {
			t.Errorf("client %s read %s", r.ClientID, r.Path)
		}
	}
}

// A token that names a victim but was not signed by its cluster gets nothing,
// also right after the victim's own mount.
func TestForgedToken(t *testing.T) {
	w := newWorld(t, setup{})
	if _, err := w.mount(t, w.request(t, "one.yaml")); err != nil {
		t.Fatal(err)
	}
	claims, err := w.cluster.Claims(w.pod, entra.Audience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, unsigned := range []bool{true, false} {
		forged, err := w.cluster.ForgedToken(claims, unsigned)
		if err != nil {
			t.Fatal(err)
		}
		w.ResetCounts()
		_, err = w.mount(t, w.requestFor(t, "one.yaml", w.pod, map[string]string{entra.Audience: forged}))
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("unsigned=%t: got %v", unsigned, err)
		}
		if got := w.Count(azuretest.GetSecret); got != 0 {
			t.Errorf("unsigned=%t: %d reads, want none", unsigned, got)
		}
	}
}

// The SDK's own policy would cache the tenant of a challenge forever.
func TestWrongTenantLeavesTheVaultUsable(t *testing.T) {
	w := newWorld(t, setup{})
	foreign := w.Tenant("99999999-2222-3333-4444-555555555555")
	foreign.Application(clientID).Federate(issuer, w.pod.Subject(), entra.Audience)
	stray := w.with(map[string]string{"tenantID": "99999999-2222-3333-4444-555555555555"})
	if _, err := w.mount(t, w.requestFor(t, "one.yaml", stray, nil)); status.Code(err) != codes.PermissionDenied {
		t.Fatalf("got %v", err)
	}
	w.ResetCounts()
	if _, err := w.mount(t, w.request(t, "one.yaml")); err != nil {
		t.Fatal(err)
	}
	if token, read := w.Count(azuretest.Token), w.Count(azuretest.GetSecret); token != 1 || read != 1 {
		t.Errorf("%d token requests and %d reads, want 1 and 1", token, read)
	}
}

// A volume's content is bounded while it is read, not only at the end.
func TestVolumeIsBounded(t *testing.T) {
	w := newWorld(t, setup{mounter: func(m *provider.Mounter) { m.MaxBytes = 1000 }})
	var objects strings.Builder
	for i := range 20 {
		name := fmt.Sprintf("s%d", i)
		w.vault.SetSecret(name, azuretest.Secret{Value: strings.Repeat("CANARY", 100+i)})
		fmt.Fprintf(&objects, "- {objectName: %s, objectType: secret}\n", name)
	}
	_, err := w.mount(t, w.requestFor(t, "one.yaml", w.with(map[string]string{"objects": objects.String()}), nil))
	const want = `the volume is 13140 bytes, over the limit of 1000; the largest parts are secret "s19" (714 bytes), secret "s18" (708 bytes), secret "s17" (702 bytes);`
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), want) || !strings.HasSuffix(err.Error(), "[TooLarge]") {
		t.Errorf("got %v", err)
	}
}

// A status travels in trailers; one of any length would cost all mounts of the
// driver their connection.
func TestMessageIsBounded(t *testing.T) {
	w := newWorld(t, setup{config: func(c *server.Config) {
		c.Mounter = failing{&fault.Error{Reason: fault.ContentInvalid, Cause: strings.Repeat("é", 20<<20)}}
	}})
	_, err := w.mount(t, w.request(t, "one.yaml"))
	if got := status.Convert(err).Message(); len(got) > 17<<10 || !strings.HasSuffix(got, "… [ContentInvalid]") {
		t.Errorf("%d bytes: %.100s … %s", len(got), got, got[max(0, len(got)-50):])
	}
}

// Dates are informational: Key Vault serves the secret, and so does the plugin.
func TestValidityIsAWarning(t *testing.T) {
	w := newWorld(t, setup{mounter: func(m *provider.Mounter) {
		m.Now = func() time.Time { return time.Unix(2_000_000_000, 0) }
	}})
	for name, c := range map[string]struct {
		from, to *time.Time
		want     string
	}{
		"expired": {to: new(time.Unix(1_999_999_999, 0)), want: "has expired"},
		"early":   {from: new(time.Unix(2_000_000_001, 0)), want: "is not valid yet"},
	} {
		w.vault.SetSecret(name, azuretest.Secret{Value: name, NotBefore: c.from, Expires: c.to})
		got, err := w.mount(t, w.requestFor(t, "one.yaml", w.with(map[string]string{"objects": "[{objectName: " + name + ", objectType: secret}]"}), nil))
		if err != nil || files(got)[name] != name || !strings.Contains(w.log.String(), c.want) {
			t.Errorf("%s: got %v, %v, log %s", name, got, err, w.log)
		}
	}
	if strings.Count(w.log.String(), `"level":"WARN"`) != 2 {
		t.Errorf("log %s", w.log)
	}
}

func TestTokensFromTheSecrets(t *testing.T) {
	w := newWorld(t, setup{})
	token, err := w.cluster.Token(w.pod, entra.Audience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	req := w.requestFor(t, "one.yaml", w.pod, map[string]string{})
	req.Secrets = fmt.Sprintf(`{"csi.storage.k8s.io/serviceAccount.tokens":%q}`,
		w.cluster.Projected(map[string]string{entra.Audience: token}))
	got, err := w.mount(t, req)
	if err != nil || files(got)["my-secret"] != "Hello!" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestVersion(t *testing.T) {
	w := newWorld(t, setup{})
	got, err := w.client.Version(t.Context(), &v1alpha1.VersionRequest{Version: "v1alpha1"})
	want := &v1alpha1.VersionResponse{Version: "v1alpha1", RuntimeName: "akv-csi-provider", RuntimeVersion: "1.2.3"}
	if err != nil || !proto.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
}

// The length of a message is bounded also if thousands of objects each fail for another cause.
func TestManyFailures(t *testing.T) {
	w := newWorld(t, setup{})
	var objects strings.Builder
	for i := range 60 {
		name := fmt.Sprintf("s%d", i)
		w.vault.SetSecret(name, azuretest.Secret{Value: "no hex"})
		fmt.Fprintf(&objects, "- {objectName: %s, objectType: secret, objectEncoding: hex}\n", name)
	}
	_, err := w.mount(t, w.requestFor(t, "one.yaml", w.with(map[string]string{"objects": objects.String()}), nil))
	if got := status.Convert(err).Message(); status.Code(err) != codes.FailedPrecondition || !strings.Contains(got, `secret "s49"`) ||
		strings.Contains(got, `secret "s50"`) || !strings.HasSuffix(got, " | and 10 more failures") {
		t.Errorf("got %v", err)
	}
}
