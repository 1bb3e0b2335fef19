// Command image builds the plugin's image and its bills of materials for a developer: see
// package build. Command release, beside it, builds all that users get.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"akv-csi-provider/e2e/tools/image/build"
)

// platforms are what developers' clusters have. A release has more.
var platforms = []string{"linux/amd64", "linux/arm64"}

// options is the command line.
type options struct {
	source string // the project's root
	out    string // folder
	ref    string // name and tag of the image in the archive
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flag.StringVar(&o.source, "source", "../../..", "the project's `root`")
	flag.StringVar(&o.out, "out", "../../../bin", "`folder` for the archive and the bills of materials")
	flag.StringVar(&o.ref, "ref", build.Binary+":dev", "`name:tag` of the image inside the archive")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "image: unknown argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// reference is a name with a tag, such as registry.example:5000/team/image:v1.
var reference = regexp.MustCompile(`^[a-z0-9][a-z0-9._:/-]*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// run writes the archive and the bills of materials, and reports progress.
func run(ctx context.Context, o options, progress io.Writer) error {
	if !reference.MatchString(o.ref) {
		return fmt.Errorf("--ref=%q: give a name and a tag, such as registry.example/%s:dev", o.ref, build.Binary)
	}
	source, err := build.Describe(ctx, o.source)
	if err != nil {
		return err
	}
	built, err := build.Plugin(ctx, source, platforms, progress)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	for _, p := range built.Platforms {
		for ending, bom := range p.Materials {
			file := filepath.Join(o.out, build.Binary+"-"+filepath.Base(p.Name)+ending)
			if err := os.WriteFile(file, bom, 0o644); err != nil {
				return err
			}
		}
	}
	at := strings.LastIndexByte(o.ref, ':')
	archive := filepath.Join(o.out, build.Binary+".oci.tar")
	if err := build.Save(built.Index, o.ref[:at], o.ref[at+1:], archive); err != nil {
		return err
	}
	digest, err := built.Index.Digest()
	fmt.Fprintf(progress, "%s\n  %s@%s\n", archive, o.ref, digest)
	return err
}
