package plugin

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// raceFlags watch the plugin for races when its caller is watched.
var raceFlags []string

// Built compiles the plugin, has tests run with its path, and returns their exit code. It
// is for TestMain of a package of the e2e module.
func Built(run func(binary string) int) int { return built(run, raceFlags) }

// Shipped is Built without the race detector, which multiplies the memory: for tests that run the
// plugin under the limits of its manifests.
func Shipped(run func(binary string) int) int { return built(run, nil) }

func built(run func(binary string) int, flags []string) int {
	dir, err := os.MkdirTemp("", "akv")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary := filepath.Join(dir, "akv-csi-provider")
	if err := build(binary, flags); err != nil {
		fmt.Fprintln(os.Stderr, "build the plugin:", err)
		return 1
	}
	return run(binary)
}

// build is run in that package's folder, and builds with the versions of the plugin's
// module.
func build(binary string, flags []string) error {
	args := append([]string{"build", "-o", binary}, flags...)
	cmd := exec.Command("go", append(args, "./cmd/akv-csi-provider")...)
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	return cmd.Run()
}
