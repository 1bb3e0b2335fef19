package build

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// image is a file tree of static programs. All have busybox, which is the shell and the
// tools of the tests' pods and the mount of the driver.
type image struct {
	ref        string // what manifests call it: a node without a registry has it under that name
	program    string // in Out; added as the entrypoint if not empty
	entrypoint []string
	optional   bool
}

var notInFiles = regexp.MustCompile(`[^a-z0-9.]+`)

func (b *Builder) images() []image {
	const upstream = "registry.k8s.io/"
	return []image{
		{"e2e.local/pause:1", "", []string{"/bin/busybox", "sleep", "2147483647"}, false},
		{"docker.io/library/busybox:1.37", "", nil, false},
		{upstream + "csi-secrets-store/driver:" + driverVersion, "secrets-store-csi-driver", []string{"/program"}, false},
		{upstream + "sig-storage/csi-node-driver-registrar:v2.16.0", "sidecars", []string{"/program", "registrar"}, false},
		{upstream + "sig-storage/livenessprobe:v2.18.0", "sidecars", []string{"/program", "livenessprobe"}, false},
		{upstream + "secrets-store-sync/controller:" + syncVersion, "secrets-store-sync-controller", []string{"/secrets-store-sync-controller"}, true},
	}
}

// Images are the archives of the images that [Builder.Build] made.
func (b *Builder) Images() []string {
	var archives []string
	for _, i := range b.images() {
		if _, err := os.Stat(b.archive(i)); err != nil && i.optional {
			continue
		}
		archives = append(archives, b.archive(i))
	}
	return archives
}

func (b *Builder) archive(i image) string {
	return filepath.Join(b.Out, notInFiles.ReplaceAllString(i.ref, "-")+".tar")
}

func (b *Builder) imageArtifacts() ([]artifact, error) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	var artifacts []artifact
	for _, i := range b.images() {
		content := []string{busybox}
		if i.program != "" {
			content = append(content, filepath.Join(b.Out, i.program))
		}
		sources := append(slices.Clone(content), filepath.Join(b.Source, "build/images.go"))
		artifacts = append(artifacts, artifact{b.archive(i), i.ref, sources, func(ctx context.Context, unfinished string) error {
			applets, err := exec.CommandContext(ctx, busybox, "--list").Output()
			if err != nil {
				return fmt.Errorf("busybox --list: %w", err)
			}
			return i.write(unfinished, strings.Fields(string(applets)), content)
		}, i.optional})
	}
	return artifacts, nil
}

func (i image) write(archive string, applets, sources []string) error {
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	for _, dir := range []string{"bin/", "tmp/"} {
		if err := w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o1777}); err != nil {
			return err
		}
	}
	for n, source := range sources {
		target := "bin/busybox"
		if n > 0 {
			target = strings.TrimPrefix(i.entrypoint[0], "/")
		}
		data, err := os.ReadFile(source)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: target, Mode: 0o755, Size: int64(len(data))}); err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	// Debian's busybox lacks it, Docker Hub's has it.
	const printenv = "#!/bin/sh\neval echo \"\\$$1\"\n"
	if err := w.WriteHeader(&tar.Header{Name: "bin/printenv", Mode: 0o755, Size: int64(len(printenv))}); err != nil {
		return err
	}
	if _, err := io.WriteString(w, printenv); err != nil {
		return err
	}
	for _, a := range applets {
		if a != "busybox" && a != "printenv" {
			if err := w.WriteHeader(&tar.Header{Name: "bin/" + a, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}); err != nil {
				return err
			}
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil })
	if err != nil {
		return err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	diff, err := layer.DiffID()
	if err != nil {
		return err
	}
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH,
		Config: v1.Config{Entrypoint: i.entrypoint, Env: []string{"PATH=/bin"}},
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{diff}},
	})
	if err != nil {
		return err
	}
	ref, err := name.NewTag(i.ref)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(archive, ref, img)
}
