package status_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/cmd/kubectl-akv/kubetest"
	"akv-csi-provider/cmd/kubectl-akv/status"
)

func run(ctx context.Context, s *kubetest.Server, args ...string) (int, string) {
	var out bytes.Buffer
	env := cli.NewEnv(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &out})
	cmd := status.New(env)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(append(args, "--kubeconfig", s.Kubeconfig))
	switch err := cmd.ExecuteContext(ctx); {
	case err == nil:
		return 0, out.String()
	case errors.Is(err, cli.ErrProblems):
		return 1, out.String()
	default:
		return 2, out.String() + err.Error()
	}
}

const metrics = `# TYPE akv_csi_mount_duration_seconds histogram
akv_csi_mount_duration_seconds_bucket{reason="ok",le="+Inf"} 12
akv_csi_mount_duration_seconds_sum{reason="ok"} 1.5
akv_csi_mount_duration_seconds_count{reason="ok"} 12
akv_csi_mount_duration_seconds_bucket{reason="Timeout",le="+Inf"} 1
akv_csi_mount_duration_seconds_sum{reason="Timeout"} 50
akv_csi_mount_duration_seconds_count{reason="Timeout"} 1
akv_csi_mount_duration_seconds_bucket{reason="AccessDenied",le="+Inf"} 3
akv_csi_mount_duration_seconds_sum{reason="AccessDenied"} 0.5
akv_csi_mount_duration_seconds_count{reason="AccessDenied"} 3
# TYPE akv_csi_rotations_total counter
akv_csi_rotations_total{result="changed"} 1
akv_csi_rotations_total{result="failed"} 2
# TYPE akv_csi_build_info gauge
akv_csi_build_info{version="v1.2.3-4-gabc"} 1
`

const header = "NODE\tDRIVER\tPROVIDER\tVERSION\tVOLUMES\tMOUNTS\tFAILED MOUNTS\tFAILED ROTATIONS\tWAITING PODS\n"

func TestStatus(t *testing.T) {
	s := kubetest.NewReadOnly(t)
	s.Sound()
	s.Put(kubetest.MetricsPath, metrics)
	s.Put(kubetest.PodPath, kubetest.Running())
	s.Put(kubetest.StatusPath, kubetest.Mounted("uid-web"))
	code, out := run(t.Context(), s)
	if want := header + "node-1\tregistered\tready\tv1.2.3-4-gabc\t1\t12\tAccessDenied 3, Timeout 1\t2\t0\n"; code != 0 || out != want {
		t.Errorf("%d %q", code, out)
	}

	s.Put(kubetest.PodPath, kubetest.Pod())
	s.Put(kubetest.EventPath, kubetest.Failed("is not allowed to get it; run az [AccessDenied]"))
	code, out = run(t.Context(), s)
	if code != 1 || !strings.Contains(out, "\t1\n\nWAITING FOR\tPODS\tSUCH AS\nAccessDenied\t1\tshop/web\n") {
		t.Errorf("%d %q", code, out)
	}
	if code, out = run(t.Context(), s, "-o", "json"); code != 1 || !strings.Contains(out, `"AccessDenied": 3`) || !strings.Contains(out, `"pod": "web"`) {
		t.Errorf("%d %s", code, out)
	}
}

// A provider that is down is a problem, without any pod that waits.
func TestProviderDown(t *testing.T) {
	s := kubetest.NewReadOnly(t)
	s.Sound()
	s.Remove(kubetest.PodPath)
	s.Put(kubetest.ProviderPath, kubetest.SystemPod("akv-csi-provider", "akv-csi-provider-x7k2p", kubetest.ProviderContainer(), false))
	if code, out := run(t.Context(), s); code != 1 || !strings.Contains(out, "CrashLoopBackOff") {
		t.Errorf("%d %s", code, out)
	}
}

// What cannot be read is named; the rest is there.
func TestFewRights(t *testing.T) {
	for resource, want := range map[string]string{
		"daemonsets": "providers (DaemonSets)", "csinodes": "drivers (CSINodes)", "pods/proxy": "metrics of providers (pods/proxy)",
		"secretproviderclasspodstatuses": "mounted volumes (SecretProviderClassPodStatuses)", "events": "events",
	} {
		s := kubetest.NewReadOnly(t)
		s.Sound()
		s.Put(kubetest.MetricsPath, metrics)
		s.Forbid(resource)
		code, out := run(t.Context(), s)
		if code == 2 || !strings.Contains(out, "\nnot seen: "+want+": no right\n") || !strings.Contains(out, "node-1\t") {
			t.Errorf("%s: %d %s", resource, code, out)
		}
	}
}

// Metrics that the API server cannot reach are named once for all nodes, with the reason, and not requested.
func TestMetricsOutOfReach(t *testing.T) {
	const local, off = "serves them on the node's loopback address only (--bind-address", "serves none (--prometheus-port=0"
	for flag, want := range map[string]string{
		"--bind-address=127.0.0.1": local, "--bind-address=::1": local, "--bind-address=127.9.9.9": local, "--prometheus-port=0": off,
		"--bind-address=10.0.0.1": "", "--bind-address=": "",
	} {
		s := kubetest.NewReadOnly(t)
		s.Sound()
		s.Put(kubetest.PodPath, kubetest.Running())
		s.Put(kubetest.MetricsPath, metrics)
		c := kubetest.ProviderContainer()
		c.Args = append(c.Args, flag)
		pod := kubetest.SystemPod("akv-csi-provider", "akv-csi-provider-x7k2p", c, true)
		s.Put(kubetest.ProviderPath, pod)
		pod.Name, pod.Spec.NodeName = "akv-csi-provider-9zzzz", "node-2"
		s.Put(strings.Replace(kubetest.ProviderPath, "x7k2p", "9zzzz", 1), pod)
		s.Put(strings.Replace(kubetest.MetricsPath, "x7k2p", "9zzzz", 1), metrics)
		code, out := run(t.Context(), s)
		switch n := strings.Count(out, "\nnot seen: metrics of providers"); {
		case code != 0 || strings.Count(out, "\tready\t") != 2:
			t.Errorf("%s: %d %s", flag, code, out)
		case want == "" && (n != 0 || strings.Count(out, "\t12\t") != 2):
			t.Errorf("%s: %s", flag, out)
		case want != "" && (n != 1 || !strings.Contains(out, want) || strings.Contains(out, "\t12\t")):
			t.Errorf("%s: %s", flag, out)
		}
	}
}

// Each interval shows it again, also with problems, until the context ends: that is no error.
func TestRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		var at []time.Duration
		start := time.Now()
		err := status.Repeat(ctx, 5*time.Second, func(context.Context) error {
			at = append(at, time.Since(start))
			return cli.ErrProblems
		})
		if err != nil || !slices.Equal(at, []time.Duration{0, 5 * time.Second, 10 * time.Second}) {
			t.Errorf("%v, %v", at, err)
		}
		if err = status.Repeat(t.Context(), time.Second, func(context.Context) error { return io.EOF }); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}

func TestInterval(t *testing.T) {
	if code, out := run(t.Context(), kubetest.NewReadOnly(t), "--watch", "--interval", "10ms"); code != 2 || !strings.Contains(out, "at least 1s") {
		t.Errorf("%d %s", code, out)
	}
}
