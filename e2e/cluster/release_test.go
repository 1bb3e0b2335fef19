package cluster_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"akv-csi-provider/e2e/cluster/build"

	"github.com/google/go-containerregistry/pkg/registry"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// released: a user installs a release from a registry, by the chart and by install.yaml, upgrades
// from the release before while pods start, goes back, and verifies who built it.
func (c *cluster) released(t *testing.T) {
	if c.node == nil {
		t.Skip(noNode)
	}
	releases := setup.Builder().Releases()
	if len(releases) == 0 {
		t.Skip("releases are built from commits, and with E2E_RUN only for a name with Release: run make e2e in a git checkout")
	}
	before, now := releases[0], releases[1]
	s := c.newStore(t)
	digests := map[string]string{before.Version: s.push(t, before), now.Version: s.push(t, now)}
	s.verify(t, now, digests[now.Version])

	c.helm(t, "uninstall", release, "-n", system, "--wait")
	t.Cleanup(func() { // whatever happens, for the tests that follow
		if t.Failed() {
			c.remove(t, s.manifests(t, now))
			c.installPlugin(t)
		}
	})
	c.helm(t, append(s.chart(before, "upgrade", "--install"), c.azureValues()...)...)
	c.runsImage(t, digests[before.Version])
	stream := c.startPods(t)
	c.helm(t, s.chart(now, "upgrade", "--reset-then-reuse-values")...)
	c.runsImage(t, digests[now.Version])
	c.helm(t, "rollback", release, "-n", system, "--wait")
	c.runsImage(t, digests[before.Version])
	stream.stop(t)

	c.helm(t, "uninstall", release, "-n", system, "--wait")
	c.kubectl(t, "apply", "-f", filepath.Join(s.folder(now), "install.yaml"))
	c.runsImage(t, digests[now.Version])
	c.leadToBox(t)
	p := c.sound(t)
	p.apply(t, p.pod("applied", "app", "app", "cat /mnt/secrets/password"))
	if got := p.output(t, "applied"); got != "geheim" {
		t.Errorf("the pod printed %q", got)
	}
	c.remove(t, s.manifests(t, now))
	c.installPlugin(t)
}

// store is a registry on loopback with releases, and a pair of keys that signed them.
type store struct {
	*cluster
	dir string
}

func (c *cluster) newStore(t *testing.T) *store {
	t.Helper()
	listener, err := net.Listen("tcp", build.Registry)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	s := &store{cluster: c, dir: t.TempDir()}
	t.Setenv("COSIGN_PASSWORD", "")
	t.Setenv("HOME", s.dir) // what cosign caches is not the user's
	for _, pair := range []string{"ours", "another"} {
		c.command(t, setup.Cosign, "generate-key-pair", "--output-key-prefix", filepath.Join(s.dir, pair))
	}
	return s
}

func (s *store) key(name string) string { return filepath.Join(s.dir, name) }

// folder is the test's own copy of a release, to which its signatures are added.
func (s *store) folder(r build.Release) string { return filepath.Join(s.dir, r.Version) }

// push uploads a release as its makers do, and returns the digest of its image.
func (s *store) push(t *testing.T, r build.Release) string {
	t.Helper()
	if err := os.CopyFS(s.folder(r), os.DirFS(r.Dir)); err != nil {
		t.Fatal(err)
	}
	s.command(t, setup.Builder().ReleaseTool(), "push", "--out="+s.folder(r), "--sign="+s.key("ours.key"), "--cosign="+setup.Cosign)
	response, err := http.Head("http://" + build.Registry + "/v2/akv-csi-provider/manifests/" + r.Version)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	digest := response.Header.Get("Docker-Content-Digest")
	if response.StatusCode != http.StatusOK || digest == "" {
		t.Fatalf("%s: digest %q", response.Status, digest)
	}
	return digest
}

// chart are Helm's arguments that install the chart of a release.
func (s *store) chart(r build.Release, command ...string) []string {
	return append(command, release, "oci://"+build.Registry+"/charts/akv-csi-provider", "--plain-http",
		"--version", strings.TrimPrefix(r.Version, "v"), "--namespace", system)
}

func (s *store) manifests(t *testing.T, r build.Release) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.folder(r), "install.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// verify checks the release's signatures as deploy/VERSIONS.md says, and that nothing passes with
// another key.
func (s *store) verify(t *testing.T, r build.Release, digest string) {
	t.Helper()
	img, sums := build.Registry+"/akv-csi-provider@"+digest, filepath.Join(s.folder(r), "checksums.txt")
	for _, args := range [][]string{
		{"verify", img},
		{"verify", build.Registry + "/charts/akv-csi-provider:" + strings.TrimPrefix(r.Version, "v")},
		{"verify-attestation", "--type=slsaprovenance1", img},
		{"verify-blob", "--bundle=" + sums + ".sigstore.json", sums},
	} {
		with := func(key string) []string {
			return append([]string{args[0], "--insecure-ignore-tlog", "--key=" + s.key(key)}, args[1:]...)
		}
		s.command(t, setup.Cosign, with("ours.pub")...)
		if out, err := s.run(t.Context(), "", setup.Cosign, with("another.pub")...); err == nil {
			t.Errorf("%v: verified with another key: %s", args, out)
		}
	}
}

// runsImage waits for the plugin's DaemonSet, which runs the image by that digest.
func (c *cluster) runsImage(t *testing.T, digest string) {
	t.Helper()
	c.rolledOut(t, release)
	eventually(t, busy, "the plugin's pod runs "+digest, func(ctx context.Context) error {
		pod, err := c.pluginPod(ctx)
		if err != nil {
			return err
		}
		got, err := c.client.CoreV1().Pods(system).Get(ctx, pod, metav1.GetOptions{})
		if err != nil {
			return err
		}
		want := build.Registry + "/akv-csi-provider@" + digest
		if got.Spec.Containers[0].Image != want || len(got.Status.ContainerStatuses) != 1 || !strings.HasSuffix(got.Status.ContainerStatuses[0].ImageID, "@"+digest) {
			return fmt.Errorf("image %s, %+v", got.Spec.Containers[0].Image, got.Status.ContainerStatuses)
		}
		return nil
	})
}

// leadToBox gives the DaemonSet of install.yaml what no user needs: the way to the fake Azure.
func (c *cluster) leadToBox(t *testing.T) {
	t.Helper()
	c.kubectl(t, "-n", system, "patch", "daemonset", release, "--patch", fmt.Sprintf(`spec:
  template:
    spec:
      containers:
        - name: provider
          env: [{name: HTTPS_PROXY, value: %q}, {name: SSL_CERT_FILE, value: /azure/ca.crt}]
          volumeMounts: [{name: azure, mountPath: /azure}]
      volumes: [{name: azure, configMap: {name: azure-ca}}]
`, c.box.ProxyURL()))
	c.rolledOut(t, release)
}
