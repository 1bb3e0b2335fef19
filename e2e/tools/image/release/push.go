package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	image "akv-csi-provider/e2e/tools/image/build"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// push uploads a release that was built to the registry that it was built for.
type push struct {
	out, sign, cosign string
	progress          io.Writer
	options           []remote.Option
}

func (p push) run(ctx context.Context) error {
	p.options = []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	folder, err := os.MkdirTemp("", image.Binary+"-push-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	if err := unpack(filepath.Join(p.out, archiveFile), folder); err != nil {
		return fmt.Errorf("%w; run make release first", err)
	}
	root, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		return err
	}
	manifest, err := root.IndexManifest()
	if err != nil {
		return err
	}
	named, err := p.upload(root, manifest.Manifests)
	if err != nil {
		return err
	}
	if p.sign == "" {
		fmt.Fprintln(p.progress, "not signed: SIGN is neither a key nor keyless")
		return nil
	}
	s, err := newSigner(p, folder)
	if err != nil {
		return err
	}
	return s.run(ctx, root, manifest.Manifests, named)
}

// upload pushes what has a name under that name, and everything else, which refers to the
// image, into the image's repository. It returns the named ones.
func (p push) upload(root v1.ImageIndex, all []v1.Descriptor) (named []name.Digest, err error) {
	for _, d := range all {
		var to name.Reference
		if text := d.Annotations[image.Name]; text != "" {
			tag, err := name.NewTag(text)
			if err != nil {
				return nil, err
			}
			if err := p.free(tag, d.Digest); err != nil {
				return nil, err
			}
			named, to = append(named, tag.Digest(d.Digest.String())), tag
		} else if len(named) > 0 { // the image is the first
			to = named[0].Context().Digest(d.Digest.String())
		} else {
			return nil, errors.New("the archive does not begin with an image that has a name")
		}
		fmt.Fprintf(p.progress, "push %s\n", to)
		if d.MediaType.IsIndex() {
			index, err := root.ImageIndex(d.Digest)
			if err != nil {
				return nil, err
			}
			if err := remote.WriteIndex(to, index, p.options...); err != nil {
				return nil, err
			}
			continue
		}
		img, err := root.Image(d.Digest)
		if err != nil {
			return nil, err
		}
		if err := remote.Write(to, img, p.options...); err != nil {
			return nil, err
		}
	}
	return named, nil
}

// free refuses to move the tag of a version: users and caches rely on what it was.
func (p push) free(tag name.Tag, digest v1.Hash) error {
	there, err := remote.Head(tag, p.options...)
	var refused *transport.Error
	switch {
	case err == nil && there.Digest != digest:
		return fmt.Errorf("%s is %s in the registry, not %s: a version is published once; release another one", tag, there.Digest, digest)
	case errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound:
		return nil
	}
	return err
}

// unpack writes the files of a tar archive into a folder.
func unpack(archive, folder string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for r := tar.NewReader(file); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if err := root.MkdirAll(filepath.Dir(h.Name), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(h.Name, content, 0o644); err != nil {
			return err
		}
	}
}
