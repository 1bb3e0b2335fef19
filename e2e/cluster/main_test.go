// Package cluster_test shows the plugin in the hands of its real callers: kubelet, the
// Secrets Store CSI driver and pods, in a Kubernetes of one node that it starts itself, or
// in the one that E2E_CLUSTER names. Only Azure is not the real one: it is in a box of
// package azuretest, which verifies the pods' tokens with the API server's own keys.
// See e2e/README.md.
package cluster_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/e2e/cluster/build"
	"akv-csi-provider/e2e/cluster/node"
)

// settings are what the environment says.
type settings struct {
	kubernetes string // of the node: 1.37 or 1.34
	tokens     string // how the driver gets pods' tokens: secrets or context
	cache      string // folder of what is built
	existing   string // kubeconfig of a cluster to use, or "kind"
	install    bool   // packages that are missing
	hold       bool   // keep the cluster when the tests are over, until interrupted
	boxAddress string // where the existing cluster's nodes reach this machine
	helm       string // the program
	image      string // name and tag of the plugin's image
	kind       string // name of the kind cluster
}

// pluginImage is the name that the plugin's image has on our node.
const pluginImage = "docker.io/library/akv-csi-provider:e2e"

func readSettings() (settings, error) {
	get := func(name, otherwise string) string {
		if v := os.Getenv(name); v != "" {
			return v
		}
		return otherwise
	}
	s := settings{
		kubernetes: get("E2E_KUBERNETES", "1.37"), tokens: get("E2E_TOKENS", "secrets"),
		existing: os.Getenv("E2E_CLUSTER"), boxAddress: get("E2E_BOX_ADDRESS", "127.0.0.1"), image: get("E2E_IMAGE", pluginImage),
		install: os.Getenv("E2E_INSTALL") == "yes", hold: os.Getenv("E2E_HOLD") == "yes", kind: get("E2E_KIND_NAME", "kind"),
	}
	var err error
	if s.cache, err = filepath.Abs(get("E2E_CACHE", "../../bin/cluster")); err != nil {
		return s, err
	}
	if s.helm, err = filepath.Abs(get("HELM", "../../bin/helm")); err != nil {
		return s, err
	}
	if !slices.Contains([]string{"secrets", "context"}, s.tokens) {
		return s, fmt.Errorf("E2E_TOKENS=%q: secrets or context", s.tokens)
	}
	if s.existing == "" && s.tokens == "secrets" && s.kubernetes == "1.34" {
		return s, errors.New("E2E_TOKENS=secrets needs Kubernetes 1.35 or newer: set E2E_TOKENS=context")
	}
	if s.existing != "" && s.existing != "kind" && os.Getenv("E2E_IMAGE") == "" {
		return s, errors.New("E2E_CLUSTER needs E2E_IMAGE, an image of the plugin that the cluster can pull")
	}
	return s, nil
}

// setup is what TestMain found; unable says why no cluster can be had.
var (
	setup  settings
	unable string
)

func TestMain(m *testing.M) {
	// The tests wait for pods, not for processors. The flag still goes before this.
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	var err error
	if setup, err = readSettings(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if setup.existing != "" {
		if err := prepare(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	missing, err := node.Missing()
	switch {
	case err != nil:
		unable = err.Error()
	case len(missing) > 0 && setup.install:
		if err := install(missing); err != nil { // which was asked for
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case len(missing) > 0:
		unable = "it lacks what Debian and Ubuntu have in " + strings.Join(missing, ", ") + "; E2E_INSTALL=yes installs them with apt-get"
	}
	if unable != "" {
		unable = "this machine cannot start a cluster: " + unable
		fmt.Fprintln(os.Stderr, "SKIPPED:", unable)
		os.Exit(m.Run())
	}
	os.Exit(node.Enter(prepare, m.Run))
}

func install(missing []string) error {
	command := "apt-get install -y --no-install-recommends " + strings.Join(missing, " ")
	for _, line := range []string{"apt-get update", command} {
		fmt.Fprintln(os.Stderr, line)
		words := strings.Fields(line)
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", line, err, out)
		}
	}
	return nil
}

// builder writes its progress where go test does not hold it back.
func builder() *build.Builder {
	return &build.Builder{Out: setup.cache, Source: ".", Progress: os.Stderr}
}

// prepare builds what the tests need while the network of the machine is there.
func prepare() error {
	b, ctx := builder(), context.Background()
	if err := b.Programs(ctx, setup.kubernetes, setup.existing == ""); err != nil {
		return err
	}
	if err := b.DriverManifests(ctx); err != nil {
		return err
	}
	if setup.existing == "" {
		if _, err := b.Images(); err != nil {
			return err
		}
	}
	if setup.existing == "" || setup.existing == "kind" {
		return b.Plugin(ctx, setup.image)
	}
	return nil
}
