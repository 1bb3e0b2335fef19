// Package build makes the plugin's container image without a container engine: static
// binaries by Go and the public CAs of a pinned module, for each platform, as an OCI image
// layout, with a bill of materials of each binary. Equal commits yield equal bytes with one
// version of Go, wherever they are built.
package build

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Binary is the name of the plugin's program and image.
const Binary = "akv-csi-provider"

// Source is what the image says about where it comes from.
type Source struct {
	Folder   string    // the project's root
	URL      string    // of the repository, for the labels of images; may be empty
	Time     time.Time // of the commit
	Version  string    // as the plugin's --version says
	Revision string    // of git; empty without git, and if what was built is not the commit
}

// Describe reads the time of git's last commit. SOURCE_DATE_EPOCH, in seconds, takes
// precedence over it (reproducible-builds.org); without either it is 1970.
func Describe(ctx context.Context, folder string) (Source, error) {
	s := Source{Folder: folder, Time: time.Unix(0, 0).UTC()}
	seconds := os.Getenv("SOURCE_DATE_EPOCH")
	cmd := exec.CommandContext(ctx, "git", "log", "-1", "--format=%ct")
	cmd.Dir = folder
	if out, err := cmd.Output(); err == nil && seconds == "" { // a source archive has no git
		seconds = strings.TrimSpace(string(out))
	}
	if seconds == "" {
		return s, nil
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return s, fmt.Errorf("SOURCE_DATE_EPOCH=%q: not a number of seconds", seconds)
	}
	s.Time = time.Unix(n, 0).UTC()
	return s, nil
}

// Read takes from a binary the version and revision that Go stamped into it.
func (s *Source) Read(file string) error {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return err
	}
	s.Version, s.Revision = strings.TrimPrefix(info.Main.Version, "v"), ""
	stamp := map[string]string{}
	for _, setting := range info.Settings {
		stamp[setting.Key] = setting.Value
	}
	if stamp["vcs.modified"] == "false" {
		s.Revision = stamp["vcs.revision"]
	}
	return nil
}

// Compile builds a main package of a module. Go stamps git's state into it, from which
// the program knows its version.
func Compile(ctx context.Context, module, pkg, platform, to string) error {
	system, arch, _ := strings.Cut(platform, "/")
	to, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=auto", "-trimpath", "-tags=grpcnotrace", "-ldflags=-s -w", "-o", to, pkg)
	cmd.Dir = module
	// What the builder's own settings could change, to begin with the processors it needs.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOOS="+system, "GOARCH="+arch,
		"GOAMD64=v1", "GOARM64=v8.0", "GOPPC64=power8", "GOFIPS140=off", "GOWORK=off")
	return run(cmd)
}

func run(cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out.Bytes())
	}
	return nil
}
