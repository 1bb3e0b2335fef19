package build

import (
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Annotations of a layout's descriptors: OCI's own (image-spec 1.1, annotations.md), and the
// one by which containerd names what it imports.
const (
	RefName = "org.opencontainers.image.ref.name"
	Name    = "io.containerd.image.name"
)

// NewLayout makes an empty OCI image layout.
func NewLayout(folder string) (layout.Path, error) {
	return layout.Write(folder, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
}

// Named are the annotations by which a layout names a reference with a tag.
func Named(repository, tag string) layout.Option {
	return layout.WithAnnotations(map[string]string{RefName: tag, Name: repository + ":" + tag})
}

// Save writes the index under that name as an archive of an OCI image layout.
func Save(index v1.ImageIndex, repository, tag, archive string) error {
	work, err := os.MkdirTemp("", Binary+"-layout-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	root, err := NewLayout(work)
	if err != nil {
		return err
	}
	if err := root.AppendIndex(index, Named(repository, tag)); err != nil {
		return err
	}
	return Archive(work, archive)
}

// Archive writes the files of a folder into a tar archive.
func Archive(folder, archive string) error {
	var entries []Entry
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error { // in lexical order
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		entries = append(entries, Entry{filepath.ToSlash(name), 0o644, data})
		return err
	})
	if err != nil {
		return err
	}
	content, err := Tar(entries, time.Unix(0, 0).UTC())
	if err != nil {
		return err
	}
	return os.WriteFile(archive, content, 0o644)
}
