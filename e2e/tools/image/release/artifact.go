package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// blob is content with its media type.
type blob struct {
	mediaType string
	content   []byte
}

// artifact is an OCI artifact that is no image: a chart, or what refers to an image.
type artifact struct {
	artifactType string
	config       blob
	layers       []blob
	subject      *v1.Descriptor // what it refers to
	annotations  map[string]string

	manifest []byte
	digest   v1.Hash
}

// noConfig is OCI's empty descriptor (image-spec 1.1, manifest.md).
var noConfig = blob{"application/vnd.oci.empty.v1+json", []byte("{}")}

// newArtifact writes the artifact's manifest.
func newArtifact(a artifact) (artifact, error) {
	m := v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: a.artifactType,
		Subject: a.subject, Annotations: a.annotations,
	}
	var err error
	if m.Config, err = descriptor(a.config); err != nil {
		return a, err
	}
	for _, l := range a.layers {
		d, err := descriptor(l)
		if err != nil {
			return a, err
		}
		m.Layers = append(m.Layers, d)
	}
	if a.manifest, err = json.Marshal(m); err != nil {
		return a, err
	}
	a.digest, _, err = v1.SHA256(bytes.NewReader(a.manifest))
	return a, err
}

func descriptor(b blob) (v1.Descriptor, error) {
	digest, size, err := v1.SHA256(bytes.NewReader(b.content))
	return v1.Descriptor{MediaType: types.MediaType(b.mediaType), Digest: digest, Size: size}, err
}

// image is the artifact as the library writes it.
func (a artifact) image() (v1.Image, error) { return partial.CompressedToImage(core{a}) }

// core implements what the library makes an image of.
type core struct{ artifact }

func (c core) RawManifest() ([]byte, error)        { return c.manifest, nil }
func (c core) RawConfigFile() ([]byte, error)      { return c.config.content, nil }
func (c core) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (c core) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, l := range c.layers {
		if d, err := descriptor(l); err == nil && d.Digest == h {
			return layer{l, d}, nil
		}
	}
	return nil, errors.New("no layer " + h.String())
}

type layer struct {
	blob
	descriptor v1.Descriptor
}

func (l layer) Digest() (v1.Hash, error)            { return l.descriptor.Digest, nil }
func (l layer) Size() (int64, error)                { return l.descriptor.Size, nil }
func (l layer) MediaType() (types.MediaType, error) { return l.descriptor.MediaType, nil }
func (l layer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.content)), nil
}
