package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	image "akv-csi-provider/e2e/tools/image/build"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/mod/semver"
)

// platforms are those of the image.
var platforms = []string{"linux/amd64", "linux/arm64", "linux/ppc64le", "linux/s390x"}

// options is the command line of build.
type options struct {
	version, registry, url, downloads, builder string

	source, out, helm, only string
	progress                io.Writer
}

// release is what is being built.
type release struct {
	options
	source   image.Source
	work     string // folder, removed at the end
	checkout string // of the commit, in work
	built    *image.Built
	digest   v1.Hash // of the image's index
	chart    artifact
	subjects []subject // what the provenance is about
}

// repository is where the image will be, chartRepository where the chart.
func (o options) repository() string      { return o.registry + "/" + image.Binary }
func (o options) chartRepository() string { return o.registry + "/charts/" + image.Binary }

// number is the version as charts and file names have it.
func (o options) number() string { return strings.TrimPrefix(o.version, "v") }

// step reports progress.
func (o options) step(format string, args ...any) {
	fmt.Fprintf(o.progress, "== "+format+"\n", args...)
}

// check refuses what cannot be released, before anything is built.
func (o *options) check() error {
	switch {
	case !semver.IsValid(o.version) || semver.Canonical(o.version) != o.version:
		return fmt.Errorf("VERSION=%s: not a semantic version with a v and without build metadata, such as v1.2.3 or v1.2.3-rc.1", o.version)
	case semver.Compare(o.version, "v2.0.0-0") >= 0:
		return fmt.Errorf("VERSION=%s: Go stamps a version of v2 or later only into a module whose path ends in /%s: rename the module in go.mod first", o.version, semver.Major(o.version))
	case o.url == "":
		return fmt.Errorf("--url: name the source repository")
	}
	if _, err := name.NewRepository(o.repository()); err != nil || !strings.Contains(o.registry, ".") && !strings.HasPrefix(o.registry, "localhost") {
		return fmt.Errorf("REGISTRY=%s: not a registry's host, with or without a folder, such as ghcr.io/contoso", o.registry)
	}
	if o.downloads == "" {
		o.downloads = o.url + "/releases/download/" + o.version
	}
	if o.builder == "" {
		o.builder = o.url
	}
	return nil
}

// build makes the release in a folder that it replaces when it is complete.
func build(ctx context.Context, o options) error {
	start := time.Now()
	if err := o.check(); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", image.Binary+"-release-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	r := &release{options: o, work: work, checkout: filepath.Join(work, "source")}
	r.out = filepath.Join(work, "dist")
	if err := os.Mkdir(r.out, 0o755); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		r.clone, r.image, r.packChart, r.renderManifests, r.tool, r.notes, r.layout, r.checksums,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(o.out); err != nil {
		return err
	}
	if err := os.CopyFS(o.out, os.DirFS(r.out)); err != nil {
		return err
	}
	r.step("%s %s is in %s after %.0f s", image.Binary, r.version, o.out, time.Since(start).Seconds())
	fmt.Fprintf(r.progress, "  image %s:%s@%s\n  chart oci://%s %s, %s\n", r.repository(), r.version, r.digest, r.chartRepository(), r.number(), r.chart.digest)
	return nil
}

// image compiles the plugin for each platform.
func (r *release) image(ctx context.Context) error {
	var wanted []string
	for _, p := range platforms {
		if r.only == "" || r.only == p {
			wanted = append(wanted, p)
		}
	}
	if len(wanted) == 0 {
		return fmt.Errorf("--only=%s: none of %s", r.only, strings.Join(platforms, ", "))
	}
	var err error
	if r.built, err = image.Plugin(ctx, r.source, wanted, r.progress); err != nil {
		return err
	}
	if err := r.checkVersion(r.built.Source); err != nil {
		return err
	}
	if r.digest, err = r.built.Index.Digest(); err != nil {
		return err
	}
	r.subjects = append(r.subjects, subject{r.repository(), r.digest.Hex})
	for _, p := range r.built.Platforms {
		for ending, bom := range p.Materials {
			if err := r.write(r.materialsFile(p)+ending, bom); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkVersion: Go stamps a pseudo-version where it finds no reason to believe the tag.
func (r *release) checkVersion(s image.Source) error {
	if s.Version != r.number() || s.Revision != r.source.Revision {
		return fmt.Errorf("the program says that it is version %q of commit %q, not %s of %s", s.Version, s.Revision, r.number(), r.source.Revision)
	}
	return nil
}

func (r *release) materialsFile(p image.Platform) string {
	return image.Binary + "_" + r.version + "_" + strings.ReplaceAll(p.Name, "/", "_")
}

// write adds a file to the release.
func (r *release) write(name string, content []byte) error {
	return os.WriteFile(filepath.Join(r.out, name), content, 0o644)
}

// checksums lists all files as sha256sum does.
func (r *release) checksums(context.Context) error {
	files, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var lines []string
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(r.out, f.Name()))
		if err != nil {
			return err
		}
		lines = append(lines, fmt.Sprintf("%x  %s\n", sha256.Sum256(content), f.Name()))
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[66:], b[66:]) })
	return r.write("checksums.txt", []byte(strings.Join(lines, "")))
}
