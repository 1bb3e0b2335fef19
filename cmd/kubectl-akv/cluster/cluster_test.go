package cluster_test

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"akv-csi-provider/cmd/kubectl-akv/cluster"
)

func TestSplit(t *testing.T) {
	const setUp = `MountVolume.SetUp failed for volume "secrets" : rpc error: code = Unknown desc = failed to mount secrets store objects for pod shop/web, `
	for _, test := range []struct {
		name, message, before, provider string
		reasons                         []string
	}{
		{"provider", setUp + "err: rpc error: code = NotFound desc = no secret; create it [ObjectNotFound]",
			setUp[:len(setUp)-2], "no secret; create it [ObjectNotFound]", []string{"ObjectNotFound"}},
		{"several", setUp + "err: rpc error: code = NotFound desc = a; b [ObjectNotFound] | c; d [AccessDenied] | e; f [AccessDenied]",
			setUp[:len(setUp)-2], "a; b [ObjectNotFound] | c; d [AccessDenied] | e; f [AccessDenied]", []string{"ObjectNotFound", "AccessDenied"}},
		{"words of a gRPC status in the error", setUp + "err: rpc error: code = Unknown desc = x desc = y; z [Internal]",
			setUp[:len(setUp)-2], "x desc = y; z [Internal]", []string{"Internal"}},
		{"another provider", setUp + "err: rpc error: code = Unknown desc = some [words]", setUp + "err: rpc error: code = Unknown desc = some [words]", "", nil},
		{"no provider", setUp + `err: error connecting to provider "azure": provider not found: provider "azure"`,
			setUp + `err: error connecting to provider "azure": provider not found: provider "azure"`, "", nil},
		{"kubelet", "driver name secrets-store.csi.k8s.io not found [AccessDenied]", "driver name secrets-store.csi.k8s.io not found [AccessDenied]", "", nil},
	} {
		before, provider, reasons := cluster.Split(test.message)
		if before != test.before || provider != test.provider || !slices.Equal(reasons, test.reasons) {
			t.Errorf("%s: %q, %q, %q", test.name, before, provider, reasons)
		}
	}
}

// Events of the old API and of the new one, which has a series.
func TestTimeOfAnEvent(t *testing.T) {
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for name, e := range map[string]corev1.Event{
		"old":     {LastTimestamp: metav1.NewTime(at), Count: 3},
		"series":  {LastTimestamp: metav1.NewTime(at.Add(-time.Hour)), Series: &corev1.EventSeries{Count: 3, LastObservedTime: metav1.NewMicroTime(at)}},
		"new":     {EventTime: metav1.NewMicroTime(at), Count: 3},
		"created": {ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(at)}, Count: 3},
	} {
		if f := cluster.NewFailure(e); !f.Time.Equal(at) || f.Count != 3 {
			t.Errorf("%s: %v, %d", name, f.Time, f.Count)
		}
	}
}

func TestFlag(t *testing.T) {
	c := corev1.Container{Command: []string{"/provider", "-v=4"}, Args: []string{"--endpoint=a", "--pprof", "endpoint=b", "--endpoint=c=d"}}
	for name, want := range map[string]string{"endpoint": "c=d", "pprof": "true", "v": "4"} {
		if got, ok := cluster.Flag(c, name); !ok || got != want {
			t.Errorf("%s: %q, %t", name, got, ok)
		}
	}
	if got, ok := cluster.Flag(c, "end"); ok {
		t.Errorf("end: %q", got)
	}
}

func TestVersion(t *testing.T) {
	for image, want := range map[string]string{
		"registry.example:5000/akv-csi-provider":           "latest",
		"registry.example:5000/akv-csi-provider:v1.2.3":    "v1.2.3",
		"akv-csi-provider:v1.2.3@sha256:0123456789abcdef0": "sha256:0123456789abcdef0",
	} {
		if got := cluster.Version(image); got != want {
			t.Errorf("%s: %s", image, got)
		}
	}
}
