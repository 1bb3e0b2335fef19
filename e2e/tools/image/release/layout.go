package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	image "akv-csi-provider/e2e/tools/image/build"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
)

// archiveFile has the image, what refers to it, and the chart.
const archiveFile = image.Binary + ".oci.tar"

// materialTypes are the media types of bills of materials.
var materialTypes = map[string]string{
	image.CycloneDX: "application/vnd.cyclonedx+json",
	image.SPDX:      "application/spdx+json",
}

const statementType = "application/vnd.in-toto+json"

// layout writes an OCI image layout with all that a registry gets, but the signatures: the
// bills of materials refer to the image of their platform, the provenance to the index.
func (r *release) layout(context.Context) error {
	statement, err := r.statement()
	if err != nil {
		return err
	}
	if err := r.write(r.provenanceFile(), statement); err != nil {
		return err
	}
	folder := filepath.Join(r.work, "layout")
	root, err := image.NewLayout(folder)
	if err != nil {
		return err
	}
	if err := root.AppendIndex(r.built.Index, image.Named(r.repository(), r.version)); err != nil {
		return err
	}
	if err := appendArtifact(root, r.chart, image.Named(r.chartRepository(), r.number())); err != nil {
		return err
	}
	if err := r.refer(root, r.built.Index, statementType, r.provenanceFile(), statement, map[string]string{"in-toto.io/predicate-type": predicateType}); err != nil {
		return err
	}
	for _, p := range r.built.Platforms {
		for _, ending := range slices.Sorted(maps.Keys(p.Materials)) {
			if err := r.refer(root, p.Image, materialTypes[ending], r.materialsFile(p)+ending, p.Materials[ending], nil); err != nil {
				return err
			}
		}
	}
	r.step("image with bills of materials and provenance, and chart: %s", archiveFile)
	return image.Archive(folder, filepath.Join(r.out, archiveFile))
}

// refer adds a document that refers to an image or an index.
func (r *release) refer(root layout.Path, to partial.Describable, mediaType, file string, content []byte, annotations map[string]string) error {
	subject, err := partial.Descriptor(to)
	if err != nil {
		return err
	}
	subject = &v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	all := map[string]string{"org.opencontainers.image.created": r.created(), "org.opencontainers.image.title": file}
	maps.Copy(all, annotations)
	a, err := newArtifact(artifact{artifactType: mediaType, config: noConfig, layers: []blob{{mediaType, content}}, subject: subject, annotations: all})
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return appendArtifact(root, a)
}

func appendArtifact(root layout.Path, a artifact, options ...layout.Option) error {
	img, err := a.image()
	if err != nil {
		return err
	}
	return root.AppendImage(img, options...)
}
