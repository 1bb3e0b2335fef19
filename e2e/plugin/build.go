package plugin

import (
	"os"
	"os/exec"
)

// raceFlags watch the plugin for races when its caller is watched.
var raceFlags []string

// Build compiles the plugin for tests of a package of the e2e module. It is run in
// that package's folder, and builds with the versions of the plugin's own module.
func Build(binary string) error {
	args := append([]string{"build", "-o", binary}, raceFlags...)
	build := exec.Command("go", append(args, "./cmd/akv-csi-provider")...)
	build.Dir = "../.."
	build.Stderr = os.Stderr
	return build.Run()
}
