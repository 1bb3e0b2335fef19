package build

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const caFile = "etc/ssl/certs/ca-certificates.crt" // where Go looks first

// Built is the plugin's image.
type Built struct {
	Source    Source
	Index     v1.ImageIndex
	Platforms []Platform
}

// Platform is one image of the index.
type Platform struct {
	Name      string // such as linux/amd64
	Image     v1.Image
	Materials map[string][]byte // bills of materials by the end of their files' names
}

// The bills of materials of a binary: CycloneDX and SPDX.
const (
	CycloneDX = ".cdx.json"
	SPDX      = ".spdx.json"
)

// Plugin compiles the plugin for each platform and makes images of it. It writes a line for
// each to progress.
func Plugin(ctx context.Context, source Source, platforms []string, progress io.Writer) (*Built, error) {
	work, err := os.MkdirTemp("", Binary+"-image-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(work) }()
	roots, err := authorities()
	if err != nil {
		return nil, err
	}
	b := &Built{Source: source, Index: mutate.IndexMediaType(empty.Index, types.OCIImageIndex)}
	for _, name := range platforms {
		start := time.Now()
		system, arch, _ := strings.Cut(name, "/")
		file := filepath.Join(work, Binary+"-"+system+"-"+arch)
		if err := Compile(ctx, source.Folder, "./cmd/"+Binary, name, file); err != nil {
			return nil, err
		}
		if err := b.Source.Read(file); err != nil {
			return nil, err
		}
		p, err := b.platform(ctx, name, file, roots)
		if err != nil {
			return nil, err
		}
		b.Platforms = append(b.Platforms, p)
		b.Index = mutate.AppendManifests(b.Index, mutate.IndexAddendum{
			Add:        p.Image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: system, Architecture: arch}},
		})
		fmt.Fprintf(progress, "%s: image built in %.0f s\n", name, time.Since(start).Seconds())
	}
	b.Index = mutate.Annotations(b.Index, labels(b.Source)).(v1.ImageIndex)
	return b, nil
}

func (b *Built) platform(ctx context.Context, name, file string, roots []byte) (Platform, error) {
	p := Platform{Name: name, Materials: map[string][]byte{}}
	terms, err := Licenses(ctx, b.Source.Folder, b.Source.Folder, file)
	if err != nil {
		return p, err
	}
	if p.Image, err = assemble(file, name, roots, terms, b.Source); err != nil {
		return p, err
	}
	if p.Materials[CycloneDX], err = cyclonedxOf(ctx, file); err != nil {
		return p, err
	}
	p.Materials[SPDX], err = spdxOf(file, name, terms, b.Source)
	return p, err
}

// labels are OCI's annotations of an image, with what is known of its source.
func labels(s Source) map[string]string {
	found := map[string]string{
		"org.opencontainers.image.title":    Binary,
		"org.opencontainers.image.licenses": "Apache-2.0",
		"org.opencontainers.image.created":  s.Time.Format(time.RFC3339),
		"org.opencontainers.image.version":  s.Version,
	}
	for key, value := range map[string]string{"revision": s.Revision, "source": s.URL} {
		if value != "" {
			found["org.opencontainers.image."+key] = value
		}
	}
	return found
}

// assemble makes the image of one platform: one layer with the binary, the CAs, and the licenses of
// what is linked. It has no user: the plugin runs as root, to whom the node's folder of provider sockets
// belongs, and needs no capability.
func assemble(file, platform string, roots []byte, terms []License, source Source) (v1.Image, error) {
	program, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	entries := []Entry{{"etc/", 0o755, nil}, {"etc/ssl/", 0o755, nil}, {"etc/ssl/certs/", 0o755, nil},
		{caFile, 0o644, roots}, {Binary, 0o755, program}}
	content, err := Tar(append(entries, licenseEntries(terms)...), source.Time)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), layer)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, _ = strings.Cut(platform, "/")
	config.Created = v1.Time{Time: source.Time}
	config.Config.Entrypoint = []string{"/" + Binary}
	config.Config.Labels = labels(source)
	config.History = []v1.History{{Created: v1.Time{Time: source.Time}, CreatedBy: "make image"}}
	return mutate.ConfigFile(image, config)
}

// Entry is a file of an archive, or a folder if its name ends in a slash.
type Entry struct {
	Name string
	Mode int64
	Data []byte
}

// Tar writes an archive whose bytes depend on nothing but its arguments.
func Tar(entries []Entry, at time.Time) ([]byte, error) {
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	for _, e := range entries {
		h := &tar.Header{Name: e.Name, Mode: e.Mode, Size: int64(len(e.Data)), ModTime: at, Format: tar.FormatPAX, Typeflag: tar.TypeReg}
		if strings.HasSuffix(e.Name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.Data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return content.Bytes(), err
}

// licenseEntries are the license files with the folders that they need.
func licenseEntries(terms []License) (entries []Entry) {
	made := map[string]bool{}
	for _, l := range terms {
		for i, c := range l.Name {
			if folder := l.Name[:i+1]; c == '/' && !made[folder] {
				made[folder] = true
				entries = append(entries, Entry{folder, 0o755, nil})
			}
		}
		entries = append(entries, Entry{l.Name, 0o644, l.Text})
	}
	return entries
}
