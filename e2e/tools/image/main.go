// Command image builds the plugin's container image without a container engine: static
// binaries by Go and the public CAs of a pinned module, for each platform, in one OCI
// archive. Equal commits yield equal bytes with one version of Go, wherever they are built;
// beside the archive it puts a CycloneDX bill of materials of each platform's binary.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/x509"
	"debug/buildinfo"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// platforms are the architectures of Linux nodes that the image runs on.
var platforms = []string{"amd64", "arm64"}

const (
	binary = "akv-csi-provider"
	caFile = "etc/ssl/certs/ca-certificates.crt" // where Go looks first
)

// options is the command line.
type options struct {
	source string // the project's root
	out    string // folder
	ref    string // name and tag that the archive gives the image
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flag.StringVar(&o.source, "source", "../../..", "the project's `root`")
	flag.StringVar(&o.out, "out", "../../../bin", "`folder` for the archive and the bills of materials")
	flag.StringVar(&o.ref, "ref", binary+":dev", "`name:tag` of the image inside the archive")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "image: unknown argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := build(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// reference is a name with a tag, such as registry.example:5000/team/image:v1.
var reference = regexp.MustCompile(`^[a-z0-9][a-z0-9._:/-]*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// build writes the archive and the bills of materials, and tells progress where the
// reader sees it.
func build(ctx context.Context, o options, progress io.Writer) error {
	if !reference.MatchString(o.ref) {
		return fmt.Errorf("--ref=%q: give a name and a tag, such as registry.example/%s:dev", o.ref, binary)
	}
	source, err := describe(ctx, o.source)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", binary+"-image-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	roots, n, err := authorities()
	if err != nil {
		return err
	}
	fmt.Fprintf(progress, "%d public CAs\n", n)
	var index v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range platforms {
		fmt.Fprintf(progress, "linux/%s: ", arch)
		file := filepath.Join(work, binary+"-"+arch)
		if err := compile(ctx, o.source, arch, file); err != nil {
			return err
		}
		if err := source.read(file); err != nil {
			return err
		}
		terms, err := licenses(ctx, o.source, file)
		if err != nil {
			return err
		}
		image, err := assemble(file, arch, roots, terms, source)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
		bom := filepath.Join(o.out, binary+"-"+arch+".cdx.json")
		if err := materials(ctx, file, bom); err != nil {
			return err
		}
		fmt.Fprintln(progress, "built;", bom)
	}
	archive := filepath.Join(o.out, binary+".oci.tar")
	digest, err := save(index, o.ref, filepath.Join(work, "layout"), archive)
	if err != nil {
		return err
	}
	fmt.Fprintf(progress, "%s\n  %s@%s\n", archive, o.ref, digest)
	return nil
}

// provenance is what the image says of its source.
type provenance struct {
	version  string // as the plugin's --version says
	revision string // of git, empty without, and if what was built is not the commit
	time     time.Time
}

// read takes from a binary what Go stamped into it.
func (p *provenance) read(file string) error {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return err
	}
	p.version, p.revision = strings.TrimPrefix(info.Main.Version, "v"), ""
	stamp := map[string]string{}
	for _, s := range info.Settings {
		stamp[s.Key] = s.Value
	}
	if stamp["vcs.modified"] == "false" {
		p.revision = stamp["vcs.revision"]
	}
	return nil
}

// describe reads the time of git's last commit. SOURCE_DATE_EPOCH, in seconds, goes
// before it (reproducible-builds.org); without either it is 1970.
func describe(ctx context.Context, source string) (provenance, error) {
	p := provenance{time: time.Unix(0, 0).UTC()}
	seconds := os.Getenv("SOURCE_DATE_EPOCH")
	cmd := exec.CommandContext(ctx, "git", "log", "-1", "--format=%ct")
	cmd.Dir = source
	if out, err := cmd.Output(); err == nil && seconds == "" { // a source archive has no git
		seconds = strings.TrimSpace(string(out))
	}
	if seconds == "" {
		return p, nil
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return p, fmt.Errorf("SOURCE_DATE_EPOCH=%q: not a number of seconds", seconds)
	}
	p.time = time.Unix(n, 0).UTC()
	return p, nil
}

// compile builds the plugin. Go stamps git's state into it, from which the plugin tells
// its version.
func compile(ctx context.Context, source, arch, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=auto", "-trimpath", "-tags=grpcnotrace", "-ldflags=-s -w", "-o", to, "./cmd/"+binary)
	cmd.Dir = source
	// What the builder's own settings could change, to begin with the processors it needs.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off", "GOWORK=off")
	return run(cmd)
}

// materials writes the bill of materials of a binary, without what would tell two equal
// ones apart: its time, its number, and the hash of the tool, which is built here.
func materials(ctx context.Context, file, to string) error {
	raw := file + ".cdx.json"
	if err := run(exec.CommandContext(ctx, "go", "tool", "cyclonedx-gomod", "bin", "-json", "-std", "-noserial", "-notimestamp", "-output", raw, file)); err != nil {
		return err
	}
	in, err := os.ReadFile(raw)
	if err != nil {
		return err
	}
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(in), cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		return fmt.Errorf("bill of materials: %w", err)
	}
	if bom.Metadata != nil {
		bom.Metadata.Tools = nil
	}
	var out bytes.Buffer
	if err := cyclonedx.NewBOMEncoder(&out, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(&bom); err != nil {
		return fmt.Errorf("bill of materials: %w", err)
	}
	return os.WriteFile(to, out.Bytes(), 0o644)
}

func run(cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out.Bytes())
	}
	return nil
}

// authorities returns Mozilla's CAs in PEM, and how many they are. Those whose trust has
// conditions, such as a date, are left out: a file cannot say them.
func authorities() (file []byte, n int, err error) {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		if _, err := x509.ParseCertificate(root.Certificate); err != nil {
			return nil, 0, fmt.Errorf("a public CA: %w", err)
		}
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, 0, err
		}
		n++
	}
	if n == 0 {
		return nil, 0, errors.New("no public CAs")
	}
	return b.Bytes(), n, nil
}

// assemble makes the image of one platform: one layer with the binary, the CAs, and the licenses of
// what is linked. It has
// no user: the plugin runs as root, to whom the node's folder of provider sockets
// belongs, and needs no capability.
func assemble(file, arch string, roots []byte, terms []license, source provenance) (v1.Image, error) {
	program, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	entries := []entry{
		{"etc/", 0o755, nil}, {"etc/ssl/", 0o755, nil}, {"etc/ssl/certs/", 0o755, nil},
		{caFile, 0o644, roots}, {binary, 0o755, program},
	}
	for _, e := range append(entries, licenseEntries(terms)...) {
		h := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.data)), ModTime: source.time, Format: tar.FormatPAX, Typeflag: tar.TypeReg}
		if strings.HasSuffix(e.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil },
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
	config.OS, config.Architecture = "linux", arch
	config.Created = v1.Time{Time: source.time}
	config.Config.Entrypoint = []string{"/" + binary}
	config.Config.Labels = map[string]string{
		"org.opencontainers.image.title":    binary,
		"org.opencontainers.image.licenses": "Apache-2.0",
		"org.opencontainers.image.created":  source.time.Format(time.RFC3339),
		"org.opencontainers.image.version":  source.version,
	}
	if source.revision != "" {
		config.Config.Labels["org.opencontainers.image.revision"] = source.revision
	}
	config.History = []v1.History{{Created: v1.Time{Time: source.time}, CreatedBy: "make image"}}
	return mutate.ConfigFile(image, config)
}

// entry is a file of the image, or a folder if its name ends in a slash.
type entry struct {
	name string
	mode int64
	data []byte
}

// licenseEntries are the license files with the folders that they need.
func licenseEntries(terms []license) (entries []entry) {
	made := map[string]bool{}
	for _, l := range terms {
		for i, c := range l.name {
			if folder := l.name[:i+1]; c == '/' && !made[folder] {
				made[folder] = true
				entries = append(entries, entry{folder, 0o755, nil})
			}
		}
		entries = append(entries, entry{l.name, 0o644, l.text})
	}
	return entries
}

// save writes the index as OCI image layout into a tar archive and returns its digest.
func save(index v1.ImageIndex, ref, folder, archive string) (v1.Hash, error) {
	digest, err := index.Digest()
	if err != nil {
		return digest, err
	}
	root, err := layout.Write(folder, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		return digest, err
	}
	err = root.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": ref[strings.LastIndexByte(ref, ':')+1:], // OCI image-spec 1.1, annotations.md
		"io.containerd.image.name":          ref,
	}))
	if err != nil {
		return digest, err
	}
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	err = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error { // in lexical order
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(name), Mode: 0o644, Size: int64(len(data)), Format: tar.FormatUSTAR, Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	if err != nil {
		return digest, err
	}
	if err := w.Close(); err != nil {
		return digest, err
	}
	return digest, os.WriteFile(archive, content.Bytes(), 0o644)
}
