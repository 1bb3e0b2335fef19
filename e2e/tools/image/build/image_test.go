package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
)

const (
	root       = "../../../.."
	repository = "registry.example:5000/team/akv-csi-provider"
)

var platforms = []string{"linux/amd64", "linux/arm64"}

// checkout is the project's last commit in its own folder.
func checkout(t *testing.T) string {
	t.Helper()
	if err := exec.CommandContext(t.Context(), "git", "-C", root, "rev-parse", "HEAD").Run(); err != nil {
		t.Skip("the project is no git checkout, from which clones could be made:", err)
	}
	folder := filepath.Join(t.TempDir(), "clone")
	if out, err := exec.CommandContext(t.Context(), "git", "clone", "--quiet", root, folder).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return folder
}

// files are those of a folder or of a tar archive, by name.
type files map[string][]byte

func untar(t *testing.T, r io.Reader) files {
	t.Helper()
	found := files{}
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			found[fmt.Sprintf("%s %o", h.Name, h.Mode)] = data
		}
	}
}

// built makes an image of a clone and returns what it is written as.
func built(t *testing.T) files {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	source, err := Describe(ctx, checkout(t))
	if err != nil {
		t.Fatal(err)
	}
	source.URL = "https://forge.example/akv-csi-provider"
	b, err := Plugin(ctx, source, platforms, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "akv-csi-provider.oci.tar")
	if err := Save(b.Index, repository, "v1", archive); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	found := files{"akv-csi-provider.oci.tar": data}
	for _, p := range b.Platforms {
		for ending, bom := range p.Materials {
			found[p.Name+ending] = bom
		}
	}
	return found
}

// layoutFiles are those of an OCI image layout; what it refers to is looked up by digest.
type layoutFiles struct{ files }

func (l layoutFiles) blob(t *testing.T, d v1.Descriptor, into any) []byte {
	t.Helper()
	data, ok := l.files["blobs/sha256/"+d.Digest.Hex+" 644"]
	if sum := fmt.Sprintf("%x", sha256.Sum256(data)); !ok || sum != d.Digest.Hex || int64(len(data)) != d.Size {
		t.Fatalf("blob %s: there %t, %d bytes of %d, digest %s", d.Digest, ok, len(data), d.Size, sum)
	}
	if into != nil {
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

// Two builds in two places are equal to the byte, and contain an image that runs.
func TestImage(t *testing.T) {
	first := built(t)
	// Another builder's settings; those of the other architecture, as the tool that makes
	// the bills of materials would be compiled again for ours.
	if runtime.GOARCH == "amd64" {
		t.Setenv("GOARM64", "v9.0")
	} else {
		t.Setenv("GOAMD64", "v3")
	}
	second := built(t)
	for name := range first {
		if !bytes.Equal(first[name], second[name]) {
			t.Errorf("%s differs between two builds", name)
		}
	}
	l := layoutFiles{untar(t, bytes.NewReader(first["akv-csi-provider.oci.tar"]))}
	var top, index v1.IndexManifest
	if err := json.Unmarshal(l.files["index.json 644"], &top); err != nil {
		t.Fatal(err)
	}
	if len(top.Manifests) != 1 || top.Manifests[0].Annotations["io.containerd.image.name"] != repository+":v1" || top.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "v1" {
		t.Fatalf("index.json: %+v", top)
	}
	l.blob(t, top.Manifests[0], &index)
	var got []string
	for _, d := range index.Manifests {
		got = append(got, d.Platform.String())
		t.Run(d.Platform.Architecture, func(t *testing.T) { checkPlatform(t, l, d) })
	}
	if !slices.Equal(got, platforms) {
		t.Errorf("platforms: got %v, want %v", got, platforms)
	}
	if len(first) != 1+2*len(platforms) {
		t.Errorf("%d files", len(first))
	}
	for _, platform := range platforms {
		checkMaterials(t, first[platform+CycloneDX], first[platform+SPDX])
	}
}

// linked are some of what both bills of materials must have.
var linked = []string{"google.golang.org/grpc", "github.com/Azure/azure-sdk-for-go/sdk/azidentity"}

func checkMaterials(t *testing.T, cyclonedx, spdx []byte) {
	t.Helper()
	var bom struct {
		BOMFormat  string
		Components []struct{ Name string }
	}
	if err := json.Unmarshal(cyclonedx, &bom); err != nil || bom.BOMFormat != "CycloneDX" {
		t.Fatalf("bill of materials: %q, %v", bom.BOMFormat, err)
	}
	for _, want := range append(linked, "std") {
		if !slices.ContainsFunc(bom.Components, func(c struct{ Name string }) bool { return c.Name == want }) {
			t.Errorf("the bill of materials lacks %s", want)
		}
	}
	document, err := spdxjson.Read(bytes.NewReader(spdx))
	if err != nil {
		t.Fatal(err)
	}
	// The program itself and, as there, what is linked.
	if len(document.Packages) != len(bom.Components)+1 || len(document.Relationships) != len(document.Packages) {
		t.Errorf("SPDX: %d packages, %d relationships, CycloneDX: %d components", len(document.Packages), len(document.Relationships), len(bom.Components))
	}
	ids := map[common.ElementID]bool{}
	for _, p := range document.Packages {
		ids[p.PackageSPDXIdentifier] = true
		if p.PackageLicenseDeclared == noAssertion || p.PackageVersion == "" {
			t.Errorf("SPDX: %s %q is under %s", p.PackageName, p.PackageVersion, p.PackageLicenseDeclared)
		}
	}
	if len(ids) != len(document.Packages) {
		t.Errorf("SPDX: %d identifiers of %d packages", len(ids), len(document.Packages))
	}
	for _, want := range append(linked, "stdlib", Binary) {
		if !slices.ContainsFunc(document.Packages, func(p *v2_3.Package) bool { return p.PackageName == want }) {
			t.Errorf("SPDX lacks %s", want)
		}
	}
}

func checkPlatform(t *testing.T, l layoutFiles, d v1.Descriptor) {
	var manifest v1.Manifest
	l.blob(t, d, &manifest)
	var config v1.ConfigFile
	l.blob(t, manifest.Config, &config)
	if config.OS != "linux" || config.Architecture != d.Platform.Architecture || !slices.Equal(config.Config.Entrypoint, []string{"/akv-csi-provider"}) ||
		config.Created.Unix() == 0 || len(config.Config.Labels["org.opencontainers.image.revision"]) != 40 ||
		config.Config.Labels["org.opencontainers.image.source"] != "https://forge.example/akv-csi-provider" {
		t.Errorf("config: %+v", config)
	}
	if len(manifest.Layers) != 1 || len(config.RootFS.DiffIDs) != 1 {
		t.Fatalf("%d layers", len(manifest.Layers))
	}
	content, err := gzip.NewReader(bytes.NewReader(l.blob(t, manifest.Layers[0], nil)))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(content)
	if err != nil {
		t.Fatal(err)
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256(plain)); sum != config.RootFS.DiffIDs[0].Hex {
		t.Errorf("the layer's diff ID: got %s", sum)
	}
	layer := untar(t, bytes.NewReader(plain))
	info, err := buildinfo.Read(bytes.NewReader(layer["akv-csi-provider 755"]))
	if err != nil {
		t.Fatal(err)
	}
	checkLicenses(t, layer, info)
	maps.DeleteFunc(layer, func(name string, _ []byte) bool { return strings.HasPrefix(name, "licenses/") })
	if got, want := slices.Sorted(maps.Keys(layer)), []string{"akv-csi-provider 755", "etc/ssl/certs/ca-certificates.crt 644"}; !slices.Equal(got, want) {
		t.Fatalf("files: got %v, want %v", got, want)
	}
	if roots := x509.NewCertPool(); !roots.AppendCertsFromPEM(layer["etc/ssl/certs/ca-certificates.crt 644"]) ||
		bytes.Count(layer["etc/ssl/certs/ca-certificates.crt 644"], []byte("BEGIN CERTIFICATE")) < 50 {
		t.Error("few or no CAs")
	}
	for _, want := range []debug.BuildSetting{{Key: "-trimpath", Value: "true"}, {Key: "CGO_ENABLED", Value: "0"},
		map[string]debug.BuildSetting{"amd64": {Key: "GOAMD64", Value: "v1"}, "arm64": {Key: "GOARM64", Value: "v8.0"}}[d.Platform.Architecture]} {
		if !slices.Contains(info.Settings, want) {
			t.Errorf("%s is not built with %s=%s", d.Platform.Architecture, want.Key, want.Value)
		}
	}
	if runtime.GOOS != "linux" || runtime.GOARCH != d.Platform.Architecture {
		return // it cannot run here
	}
	program := filepath.Join(t.TempDir(), "akv-csi-provider")
	if err := os.WriteFile(program, layer["akv-csi-provider 755"], 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program, "--version").CombinedOutput()
	labels := config.Config.Labels
	if want := "akv-csi-provider " + labels["org.opencontainers.image.version"] + " "; err != nil || !strings.HasPrefix(string(out), want) ||
		!strings.Contains(string(out), "linux/"+runtime.GOARCH) {
		t.Errorf("--version: %v, %s, want %s", err, out, want)
	}
	head, err := exec.CommandContext(t.Context(), "git", "-C", root, "rev-parse", "HEAD").Output()
	if got := labels["org.opencontainers.image.revision"]; err != nil || got != strings.TrimSpace(string(head)) {
		t.Errorf("revision: got %s, want %s, %v", got, head, err)
	}
	if v := labels["org.opencontainers.image.version"]; v == "" || strings.Contains(v, "devel") {
		t.Errorf("version %q", v)
	}
}

// The time of the commit is SOURCE_DATE_EPOCH where that is set.
func TestDescribe(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	if s, err := Describe(t.Context(), t.TempDir()); err != nil || s.Time.Unix() != 1700000000 {
		t.Errorf("got %v, %v", s.Time, err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	if _, err := Describe(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "SOURCE_DATE_EPOCH") {
		t.Errorf("got %v", err)
	}
}
