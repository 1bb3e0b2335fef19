package main

import (
	"fmt"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
)

// semver is the grammar of semver.org 2.0.0 with the "v" that Go puts before it.
var semver = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

// version is the plugin's semantic version, without "v": the one Go stamps into
// a build from a version-control checkout, or 0.0.0-devel.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && semver.MatchString(info.Main.Version) {
		return strings.TrimPrefix(info.Main.Version, "v")
	}
	return "0.0.0-devel"
}

func versionLine() string {
	return fmt.Sprintf("akv-csi-provider %s %s %s/%s", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
