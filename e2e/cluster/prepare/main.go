// Command prepare makes what the tests of e2e/cluster need before go test's clock starts: it
// builds the programs and images of a node, and with E2E_INSTALL=yes it installs the packages
// that this machine lacks. It reads the same environment variables as the tests.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"akv-csi-provider/e2e/cluster/config"
	"akv-csi-provider/e2e/cluster/node"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	c, err := config.Read()
	if err != nil {
		return err
	}
	if c.Existing == "" {
		missing, err := node.Missing()
		if err == nil && len(missing) > 0 && c.Install {
			if err := install(ctx, missing); err != nil { // which E2E_INSTALL requests
				return err
			}
			missing = nil
		}
		if err != nil || len(missing) > 0 {
			fmt.Fprintln(os.Stderr, "nothing is built: no cluster can be started here") // the tests say why
			return nil
		}
	}
	return c.Builder().Build(ctx, os.Stderr)
}

func install(ctx context.Context, packages []string) error {
	command := "apt-get install -y --no-install-recommends " + strings.Join(packages, " ")
	for _, line := range []string{"apt-get update", command} {
		fmt.Fprintln(os.Stderr, line)
		words := strings.Fields(line)
		cmd := exec.CommandContext(ctx, words[0], words[1:]...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", line, err, out)
		}
	}
	return nil
}
