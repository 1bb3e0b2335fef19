package server_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// drivers are how versions of the driver differ in what they send when they rotate a volume
// (pkg/rotation/reconciler.go of v1.3.4, v1.4.8 and v1.5.6, pkg/secrets-store/nodeserver.go of
// v1.6.0). The older ones have their own loop for it: it makes the attributes from the
// class without its name and without those of the volume, requests tokens itself, and sends the
// versions that the volume contains. v1.6 passes on kubelet's calls, which are all alike.
var drivers = []struct {
	version string
	loop    bool
}{{"v1.3.4", true}, {"v1.4.8", true}, {"v1.5.6", true}, {"v1.6.0", false}}

// asRotation is the request of a mount as the rotation loop of drivers before v1.6 sends it.
func asRotation(t *testing.T, w *world, pod azuretest.Pod, mount *v1alpha1.MountRequest, contains []*v1alpha1.ObjectVersion) *v1alpha1.MountRequest {
	t.Helper()
	var attributes map[string]string
	if err := json.Unmarshal([]byte(mount.GetAttributes()), &attributes); err != nil {
		t.Fatal(err)
	}
	delete(attributes, "secretProviderClass")
	delete(attributes, "csi.storage.k8s.io/ephemeral")
	token, err := w.cluster.Token(pod, entra.Audience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	attributes["csi.storage.k8s.io/serviceAccount.tokens"] = w.cluster.Projected(map[string]string{entra.Audience: token})
	text, err := json.Marshal(attributes)
	if err != nil {
		t.Fatal(err)
	}
	return &v1alpha1.MountRequest{Attributes: string(text), Secrets: "{}", Permission: "420",
		TargetPath: mount.GetTargetPath(), CurrentObjectVersion: contains}
}

// With each driver, a volume's later mounts are rotations: they are answered with what another
// pod of the same identity has just read, and say what changed.
func TestDrivers(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver.version, func(t *testing.T) {
			w := newWorld(t, setup{})
			mounts := func(n int) (*v1alpha1.MountRequest, azuretest.Pod) {
				pod := w.pod
				pod.Name, pod.UID = fmt.Sprint("web-", n), fmt.Sprintf("0d9d6f4e-0000-4000-8000-%012d", n)
				req := w.requestFor(t, "one.yaml", pod, nil)
				req.TargetPath = "/var/lib/kubelet/pods/" + pod.UID + "/volumes/kubernetes.io~csi/secrets/mount"
				return req, pod
			}
			req, pod := mounts(1)
			first, err := w.mount(t, req)
			if err != nil {
				t.Fatal(err)
			}
			other, _ := mounts(2)
			_ = w.mounted(t, other)
			w.vault.SetSecret("my-secret", azuretest.Secret{Value: "newer", Created: time.Now().Add(time.Second)})
			if driver.loop {
				req = asRotation(t, w, pod, req, first.GetObjectVersion())
			}
			if got := w.mounted(t, req); got != "Hello!" {
				t.Errorf("a rotation got %q: it reads for itself", got)
			}
			third, _ := mounts(3)
			if got := w.mounted(t, third); got != "newer" {
				t.Errorf("a new pod got %q", got)
			}
			if got := w.mounted(t, req); got != "newer" {
				t.Errorf("the next rotation got %q", got)
			}
			if got := w.seen.rotations(); got != "unchanged,changed" {
				t.Errorf("rotations %s", got)
			}
		})
	}
}
