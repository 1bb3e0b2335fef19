package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	image "akv-csi-provider/e2e/tools/image/build"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// keyless is the value of --sign that has cosign sign with a certificate for the identity of
// who runs it, such as a workflow, and record that in Sigstore's public log.
const keyless = "keyless"

// attestations are what is signed besides the image and the chart: documents that refer to an
// image, by their media type, with cosign's names of their predicates.
var attestations = map[string]string{
	statementType:                    "slsaprovenance1",
	"application/vnd.cyclonedx+json": "cyclonedx",
	"application/spdx+json":          "spdxjson",
}

// signer runs cosign.
type signer struct {
	push
	folder string // for files
	how    []string
}

func newSigner(p push, folder string) (signer, error) {
	s := signer{push: p, folder: folder, how: []string{"--yes"}}
	if p.sign == keyless {
		return s, nil
	}
	// A signature by a key needs no service: who verifies it has the key.
	none := filepath.Join(folder, "signing-config.json")
	s.how = append(s.how, "--key="+p.sign, "--signing-config="+none)
	return s, os.WriteFile(none, []byte(`{"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json", "rekorTlogConfig": {}, "tsaConfig": {}}`), 0o600)
}

// run signs the image with its platforms, the chart, the documents and the list of checksums.
func (s signer) run(ctx context.Context, root v1.ImageIndex, all []v1.Descriptor, named []name.Digest) error {
	for _, to := range named {
		if err := s.call(ctx, "sign", "--recursive", to.String()); err != nil {
			return err
		}
	}
	for _, d := range all {
		if d.Annotations[image.Name] != "" {
			continue
		}
		if err := s.attest(ctx, root, d.Digest, named); err != nil {
			return err
		}
	}
	sums := filepath.Join(s.out, "checksums.txt")
	return s.call(ctx, "sign-blob", "--bundle="+sums+".sigstore.json", sums)
}

// attest signs a document about the image that it refers to; the provenance is about the
// chart, too.
func (s signer) attest(ctx context.Context, root v1.ImageIndex, digest v1.Hash, named []name.Digest) error {
	img, err := root.Image(digest)
	if err != nil {
		return err
	}
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 || m.Subject == nil {
		return fmt.Errorf("%s refers to nothing: %w", digest, err)
	}
	r, err := layers[0].Compressed()
	if err != nil {
		return err
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	subjects := []name.Digest{named[0].Context().Digest(m.Subject.Digest.String())}
	if m.ArtifactType == statementType {
		var statement struct{ Predicate json.RawMessage }
		if err := json.Unmarshal(content, &statement); err != nil {
			return err
		}
		content, subjects = statement.Predicate, named
	}
	file := filepath.Join(s.folder, "predicate.json")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return err
	}
	for _, to := range subjects {
		if err := s.call(ctx, "attest", "--type="+attestations[m.ArtifactType], "--predicate="+file, to.String()); err != nil {
			return err
		}
	}
	return nil
}

func (s signer) call(ctx context.Context, command string, args ...string) error {
	args = append(append([]string{command}, s.how...), args...)
	fmt.Fprintf(s.progress, "cosign %s %s\n", command, args[len(args)-1])
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, s.cosign, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, &out, &out // it asks for the key's password
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cosign %s: %w\n%s", strings.Join(args, " "), err, out.Bytes())
	}
	return nil
}
