package server_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/keyvault"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// mounted is the content of the one secret that a request brings.
func (w *world) mounted(t *testing.T, req *v1alpha1.MountRequest) string {
	t.Helper()
	resp, err := w.mount(t, req)
	if err != nil {
		t.Fatal(err)
	}
	return files(resp)["my-secret"]
}

func (w *world) refused(t *testing.T, req *v1alpha1.MountRequest, reason string) {
	t.Helper()
	resp, err := w.mount(t, req)
	if got := status.Convert(err); resp != nil || !strings.HasSuffix(got.Message(), "["+reason+"]") {
		t.Errorf("got %v, %v, want a refusal for %s", resp, err, reason)
	}
}

// podOf is a pod of the service account.
func podOf(namespace, name, account string) azuretest.Pod {
	return azuretest.Pod{Namespace: namespace, Name: name, ServiceAccount: account}
}

// Pods whose service accounts are called the same in other namespaces share nothing.
func TestSameNamesInAnotherNamespace(t *testing.T) {
	w := newWorld(t, setup{})
	if got := w.mounted(t, w.request(t, "one.yaml")); got != "Hello!" {
		t.Fatalf("got %q", got)
	}
	w.ResetCounts()
	w.refused(t, w.requestFor(t, "one.yaml", podOf("evil", "web-0", "reader"), nil), "FederatedCredentialMissing")
	if w.Count(azuretest.Token) != 1 || w.Count(azuretest.GetSecret) != 0 {
		t.Errorf("the stranger cost %v", w.Counts())
	}
}

// Neither an unsigned token with the victim's claims, nor one with another issuer's key,
// nor the victim's with another signature gets what the victim's got, though token and
// value are cached.
func TestForgedTokens(t *testing.T) {
	w := newWorld(t, setup{})
	claims, err := w.cluster.Claims(w.pod, entra.Audience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	genuine, err := w.cluster.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	with := func(token string) *v1alpha1.MountRequest {
		return w.requestFor(t, "one.yaml", w.pod, map[string]string{entra.Audience: token})
	}
	for range 2 {
		_ = w.mounted(t, with(genuine))
	}
	unsigned, err := w.cluster.ForgedToken(claims, true)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := w.cluster.ForgedToken(claims, false)
	if err != nil {
		t.Fatal(err)
	}
	body := genuine[:strings.LastIndexByte(genuine, '.')+1]
	for name, token := range map[string]string{"unsigned": unsigned, "signed by another": foreign, "without its signature": body, "with another signature": body + foreign[strings.LastIndexByte(foreign, '.')+1:]} {
		w.ResetCounts()
		resp, err := w.mount(t, with(token))
		if resp != nil || status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: got %v, %v", name, resp, err)
		}
		if w.Count(azuretest.Token) != 1 || w.Count(azuretest.GetSecret) != 0 {
			t.Errorf("%s: cost %v", name, w.Counts())
		}
	}
	if got := w.mounted(t, with(genuine)); got != "Hello!" {
		t.Errorf("the victim got %q", got)
	}
}

// A recreated service account must prove its identity again, and one whose trust has ended gets
// nothing by a new token.
func TestRecreatedServiceAccount(t *testing.T) {
	w := newWorld(t, setup{})
	_ = w.mounted(t, w.request(t, "one.yaml"))
	recreated := w.pod
	recreated.ServiceAccountUID, recreated.UID = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
	w.ResetCounts()
	if got := w.mounted(t, w.requestFor(t, "one.yaml", recreated, nil)); got != "Hello!" || w.Count(azuretest.Token) != 1 {
		t.Errorf("got %q with %v", got, w.Counts())
	}
	w.app.Unfederate()
	w.refused(t, w.requestFor(t, "one.yaml", recreated, nil), "FederatedCredentialMissing")
}

// An expired assertion is never answered from the cache.
func TestExpiredAssertion(t *testing.T) {
	w := newWorld(t, setup{})
	_ = w.mounted(t, w.request(t, "one.yaml"))
	expired, err := w.cluster.Token(w.pod, entra.Audience, -time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	w.refused(t, w.requestFor(t, "one.yaml", w.pod, map[string]string{entra.Audience: expired}), "TokenExpired")
}

// A pod that starts sees the newest secret: in the middle of a rotation window, and when
// its own first mount has failed.
func TestNewPodsSeeTheNewestSecret(t *testing.T) {
	w := newWorld(t, setup{})
	old := w.request(t, "one.yaml")
	_ = w.mounted(t, old)
	_ = w.mounted(t, w.requestFor(t, "one.yaml", podOf("shop", "web-1", "reader"), nil))
	newer := podOf("shop", "web-2", "reader")
	w.SetFault(azuretest.Token, azuretest.Fault{Status: 400, InnerCode: "700016", Times: 1})
	w.refused(t, w.requestFor(t, "one.yaml", newer, nil), "ApplicationNotFound")
	for i := range 5 {
		value := fmt.Sprint("changed ", i)
		w.vault.SetSecret("my-secret", azuretest.Secret{Value: value})
		pod := newer
		if i > 0 {
			pod.Name = fmt.Sprint("web-", 3+i)
		}
		if got := w.mounted(t, w.requestFor(t, "one.yaml", pod, nil)); got != value {
			t.Errorf("a new pod got %q, want %q", got, value)
		}
	}
	if got := w.mounted(t, old); got != "changed 4" {
		t.Errorf("a rotation got %q", got)
	}
}

// No file goes back to an older version, whatever other pods read meanwhile: this pod's class
// moves to an identity for which an older answer is cached.
func TestNoFileGoesBack(t *testing.T) {
	w := newWorld(t, setup{})
	const second = "bbbbbbbb-bbbb-cccc-dddd-eeeeeeeeeeee"
	w.tenant.Application(second).Federate(issuer, w.pod.Subject(), entra.Audience)
	w.vault.Grant(second, azuretest.SecretsGet)
	as := func(pod azuretest.Pod, client string) *v1alpha1.MountRequest {
		pod.VolumeAttributes = map[string]string{"clientID": client}
		return w.requestFor(t, "one.yaml", pod, nil)
	}
	neighbour := podOf("shop", "web-1", "reader")
	_ = w.mounted(t, as(neighbour, second)) // which caches Hello! for the second identity
	w.vault.SetSecret("my-secret", azuretest.Secret{Value: "newer"})
	if got := w.mounted(t, as(w.pod, clientID)); got != "newer" {
		t.Fatalf("got %q", got)
	}
	if got := w.mounted(t, as(w.pod, second)); got != "newer" {
		t.Errorf("the file went back to %q", got)
	}
}

// secrets-store-sync-controller sends one target path with all its requests. The first mount
// of a pod is fresh although another one had that path before.
func TestOneTargetPathForAll(t *testing.T) {
	w := newWorld(t, setup{})
	request := func(name, target string) *v1alpha1.MountRequest {
		pod := w.pod
		pod.Name = name
		req := w.requestFor(t, "one.yaml", pod, nil)
		req.TargetPath = target
		return req
	}
	_ = w.mounted(t, request("a", "/common"))
	_ = w.mounted(t, request("b", "/other"))
	w.vault.SetSecret("my-secret", azuretest.Secret{Value: "newer", Created: time.Now().Add(time.Second)})
	if got := w.mounted(t, request("a", "/common")); got != "Hello!" {
		t.Errorf("a rotation got %q, and the test tests nothing", got)
	}
	_ = w.mounted(t, request("b", "/third")) // a first mount, which reads again
	w.vault.SetSecret("my-secret", azuretest.Secret{Value: "newest", Created: time.Now().Add(2 * time.Second)})
	if got := w.mounted(t, request("c", "/common")); got != "newest" {
		t.Errorf("the first mount of another pod got %q", got)
	}
}

// A rotation of many pods of one identity costs one read of each object.
func TestRotationRound(t *testing.T) {
	w := newWorld(t, setup{})
	var round []*v1alpha1.MountRequest
	for i := range 20 {
		round = append(round, w.requestFor(t, "one.yaml", podOf("shop", fmt.Sprint("web-", i), "reader"), nil))
	}
	all := func() {
		var group sync.WaitGroup
		for _, req := range round {
			group.Go(func() {
				if _, err := w.mount(t, req); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
	all()
	w.ResetCounts()
	all()
	if counts := w.Counts(); counts[azuretest.GetSecret] > 2 || len(counts) > 1 {
		t.Errorf("a round cost %v", counts)
	}
}

// Without sharing the vault sees each pod's reads.
func TestUnsharedReads(t *testing.T) {
	w := newWorld(t, setup{reads: func(c *keyvault.Config) { c.Unshared = true }})
	req := w.request(t, "one.yaml")
	for range 3 {
		_ = w.mounted(t, req)
	}
	if got := w.Count(azuretest.GetSecret); got != 3 {
		t.Errorf("%d reads of 3 mounts", got)
	}
}

// A token that the vault rejects is exchanged once more; a second rejection is an error.
func TestRejectedTokenIsExchangedOnceMore(t *testing.T) {
	w := newWorld(t, setup{})
	req := w.request(t, "one.yaml")
	w.SetTokenLifetime(-time.Minute)
	w.refused(t, req, "TokenRejected")
	if w.Count(azuretest.Token) != 2 || w.Count(azuretest.GetSecret) != 2 {
		t.Errorf("cost %v", w.Counts())
	}
	w.SetTokenLifetime(time.Hour)
	if got := w.mounted(t, req); got != "Hello!" {
		t.Errorf("got %q", got)
	}
}

// Rights that were just given are seen by the next mount.
func TestDeniedThenGranted(t *testing.T) {
	w := newWorld(t, setup{})
	req := w.request(t, "one.yaml")
	w.vault.Revoke(clientID)
	w.refused(t, req, "AccessDenied")
	w.vault.Grant(clientID, azuretest.SecretsGet)
	w.ResetCounts()
	if got := w.mounted(t, req); got != "Hello!" || w.Count(azuretest.Token) != 1 {
		t.Errorf("got %q with %v", got, w.Counts())
	}
}
