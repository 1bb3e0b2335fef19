// Package version prints which kubectl-akv this is.
package version

import (
	"fmt"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"akv-csi-provider/cmd/kubectl-akv/cli"
)

// semver is the grammar of semver.org 2.0.0 with the "v" that Go puts before it.
var semver = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

// Version is the tool's semantic version, without "v": the one Go stamps into a build from a
// version-control checkout, or 0.0.0-devel.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && semver.MatchString(info.Main.Version) {
		return strings.TrimPrefix(info.Main.Version, "v")
	}
	return "0.0.0-devel"
}

// New returns the command.
func New(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "version",
		Short:             "Print the version of kubectl akv",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		Example:           "  kubectl akv version\n  kubectl akv version -o json",
	}
	output := cli.AddOutputFlag(cmd, "text", "json", "yaml")
	cmd.RunE = func(*cobra.Command, []string) error {
		if *output != "text" {
			return cli.Encode(env.Out, *output, map[string]string{
				"version": Version(), "goVersion": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
			})
		}
		_, err := fmt.Fprintf(env.Out, "kubectl-akv %s %s %s/%s\n", Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return err
	}
	return cmd
}
