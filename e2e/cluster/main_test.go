// Package cluster_test tests the plugin with its real callers: kubelet, the Secrets Store
// CSI driver and pods, in a Kubernetes of one node that it starts itself, or in the one that
// E2E_CLUSTER names. Only Azure is fake: package azuretest verifies the pods' tokens with
// the API server's own keys.
// See e2e/README.md.
package cluster_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"akv-csi-provider/e2e/cluster/config"
	"akv-csi-provider/e2e/cluster/node"
)

// setup is what the environment says; unable says why no cluster can be had.
var (
	setup  config.Config
	unable string
)

func TestMain(m *testing.M) {
	// The tests wait for pods, not for processors. The flag still takes precedence.
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	var err error
	if setup, err = config.Read(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if setup.Existing != "" {
		if err := prepared(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	missing, err := node.Missing()
	switch {
	case err != nil:
		unable = err.Error()
	case len(missing) > 0:
		unable = "it lacks what Debian and Ubuntu have in " + strings.Join(missing, ", ") + "; make e2e E2E_INSTALL=yes installs them with apt-get"
	}
	if unable != "" {
		unable = "this machine cannot start a cluster: " + unable
		fmt.Fprintln(os.Stderr, "SKIPPED:", unable)
		os.Exit(m.Run())
	}
	os.Exit(node.Enter(prepared, m.Run))
}

// prepared returns an error unless all that the tests run was built, which takes too long for
// go test's clock. No other process builds into the folder as long as this one lives.
func prepared() error {
	release, err := setup.Builder().Use()
	if err != nil {
		return fmt.Errorf("%w\nmake e2e builds it; here, with the same environment: go run ./prepare", err)
	}
	folderInUse = release
	return nil
}

// folderInUse is never called. It prevents that the lock's file is closed.
var folderInUse func() error
