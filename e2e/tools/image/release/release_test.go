package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	image "akv-csi-provider/e2e/tools/image/build"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.yaml.in/yaml/v3"
)

const version = "v0.0.0-test"

// shop is a registry on loopback, with Helm and cosign.
type shop struct {
	*testing.T
	registry     string
	helm, cosign string
	source       string // a clone of the project's last commit
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{T: t, helm: os.Getenv("HELM"), cosign: os.Getenv("COSIGN"), source: filepath.Join(t.TempDir(), "clone")}
	if s.helm == "" || s.cosign == "" {
		t.Skip("needs Helm and cosign: run make releasetest")
	}
	server := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	s.registry = strings.TrimPrefix(server.URL, "http://")
	inGit(t, projectRoot, "clone", "--quiet", ".", s.source)
	// Nothing here needs more than loopback, and a key that is thrown away has no password.
	for _, variable := range []string{"HTTPS_PROXY", "HTTP_PROXY"} {
		t.Setenv(variable, "http://127.0.0.1:1")
	}
	t.Setenv("COSIGN_PASSWORD", "")
	return s
}

// build builds the release into a new folder.
func (s *shop) build() string {
	s.Helper()
	out := filepath.Join(s.TempDir(), "dist")
	err := build(s.Context(), options{
		version: version, registry: s.registry, url: "https://forge.example/p", source: s.source, out: out, helm: s.helm,
		only: "linux/amd64", progress: io.Discard,
	})
	if err != nil {
		s.Fatal(err)
	}
	return out
}

// run runs a program and returns what it printed.
func (s *shop) run(program string, args ...string) (string, error) {
	cmd := exec.CommandContext(s.Context(), program, args...)
	cmd.Env = append(os.Environ(), "HOME="+s.TempDir())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *shop) must(program string, args ...string) string {
	s.Helper()
	out, err := s.run(program, args...)
	if err != nil {
		s.Fatalf("%s %v: %v\n%s", filepath.Base(program), args, err, out)
	}
	return out
}

// keys makes a pair of keys and returns the prefix of their files.
func (s *shop) keys() string {
	s.Helper()
	prefix := filepath.Join(s.TempDir(), "throwaway")
	s.must(s.cosign, "generate-key-pair", "--output-key-prefix", prefix)
	return prefix
}

// Two builds have equal bytes. Pushed, the release is what Helm and cosign expect.
func TestRelease(t *testing.T) {
	s := newShop(t)
	out, keys := s.build(), s.keys()
	same(t, out, s.build())
	sums := s.checkSums(out)
	p := push{out: out, sign: keys + ".key", cosign: s.cosign, progress: io.Discard}
	if err := p.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	img := s.digest(image.Binary + ":" + version)
	chart := s.digest("charts/" + image.Binary + ":" + strings.TrimPrefix(version, "v"))
	in := func(t *testing.T) *shop { with := *s; with.T = t; return &with }
	t.Run("chart", func(t *testing.T) { in(t).checkChart(out, img) })
	t.Run("signatures", func(t *testing.T) { in(t).checkSignatures(out, keys, img, chart) })
	t.Run("provenance", func(t *testing.T) { in(t).checkProvenance(out, keys, img, chart) })
	t.Run("referrers", func(t *testing.T) { in(t).checkReferrers(img) })
	t.Run("once", func(t *testing.T) { in(t).checkOnce(p) })
	if len(sums) < 7 {
		t.Errorf("only %v", sums)
	}
}

// digest is a reference by digest to what has a name in the registry.
func (s *shop) digest(reference string) name.Digest {
	s.Helper()
	tag, err := name.NewTag(s.registry + "/" + reference)
	if err != nil {
		s.Fatal(err)
	}
	d, err := remote.Head(tag)
	if err != nil {
		s.Fatal(err)
	}
	return tag.Digest(d.Digest.String())
}

// checkSums compares the checksums with those of sha256sum, and returns the files.
func (s *shop) checkSums(out string) []string {
	s.Helper()
	text, err := os.ReadFile(filepath.Join(out, "checksums.txt"))
	if err != nil {
		s.Fatal(err)
	}
	found := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		sum, file, _ := strings.Cut(strings.TrimSpace(line), "  ")
		content, err := os.ReadFile(filepath.Join(out, file))
		if digest, _, _ := v1.SHA256(bytes.NewReader(content)); err != nil || digest.Hex != sum {
			s.Errorf("%s: %s, %v", file, sum, err)
		}
		found[file] = true
	}
	files, err := os.ReadDir(out)
	if err != nil || len(files) != len(found)+1 {
		s.Errorf("%d files, %d checksums, %v", len(files), len(found), err)
	}
	return slices.Sorted(maps.Keys(found))
}

// checkChart has Helm pull and render the chart: with its defaults it runs the image by digest, and
// other values name other images.
func (s *shop) checkChart(out string, img name.Digest) {
	rendered := func(args ...string) string {
		args = append([]string{"template", "akv-csi-provider", "oci://" + s.registry + "/charts/akv-csi-provider", "--plain-http", "--version=0.0.0-test", "--kube-version=1.34.0"}, args...)
		text := s.must(s.helm, args...)
		m := regexp.MustCompile(`(?m)^ +image: "(.*)"$`).FindStringSubmatch(text)
		if len(m) != 2 {
			s.Fatalf("no image in\n%s", text)
		}
		return m[1]
	}
	digest, zeros := img.DigestStr(), strings.Repeat("0", 64)
	for _, c := range []struct{ set, want string }{
		{"", img.String()},
		{"global.imageRegistry=mirror.example", "mirror.example/akv-csi-provider@" + digest},
		{"linux.image.repository=mirror.example/akv", "mirror.example/akv@" + digest},
		{"linux.image.tag=v9", img.Context().String() + ":v9"},
		{"linux.image.repository=mine.example/akv,linux.image.tag=v9", "mine.example/akv:v9"},
		{"linux.image.digest=sha256:" + zeros, img.Context().String() + "@sha256:" + zeros},
	} {
		if got := rendered("--set=" + c.set); got != c.want {
			s.Errorf("%s: image %s, want %s", c.set, got, c.want)
		}
	}
	if got, err := s.run(s.helm, "template", "x", filepath.Join(out, "akv-csi-provider-0.0.0-test.tgz"), "--kube-version=1.34.0", "--set=windows.enabled=true"); err == nil || !strings.Contains(got, "windows.image.repository") {
		s.Errorf("the image of Linux for Windows: %v, %s", err, got)
	}
	var chart struct{ Version, AppVersion string }
	if err := yaml.Unmarshal([]byte(s.must(s.helm, "show", "chart", filepath.Join(out, "akv-csi-provider-0.0.0-test.tgz"))), &chart); err != nil || chart.Version != "0.0.0-test" {
		s.Errorf("%+v, %v", chart, err)
	}
	install, err := os.ReadFile(filepath.Join(out, installFile))
	if err != nil || strings.Count(string(install), "image: \""+img.String()+"\"") != 1 || strings.Contains(string(install), "helm") {
		s.Errorf("%s, %v", install, err)
	}
}

// checkSignatures verifies all that is signed, with the key and with another one.
func (s *shop) checkSignatures(out, keys string, img, chart name.Digest) {
	other := s.keys()
	sums := filepath.Join(out, "checksums.txt")
	platform := s.platform(img)
	for _, args := range [][]string{
		{"verify", img.String()}, {"verify", chart.String()}, {"verify", platform.String()},
		{"verify-attestation", "--type=slsaprovenance1", img.String()}, {"verify-attestation", "--type=slsaprovenance1", chart.String()},
		{"verify-attestation", "--type=cyclonedx", platform.String()}, {"verify-attestation", "--type=spdxjson", platform.String()},
		{"verify-blob", "--bundle=" + sums + ".sigstore.json", sums},
	} {
		s.must(s.cosign, append([]string{args[0], "--insecure-ignore-tlog", "--key=" + keys + ".pub"}, args[1:]...)...)
		if text, err := s.run(s.cosign, append([]string{args[0], "--insecure-ignore-tlog", "--key=" + other + ".pub"}, args[1:]...)...); err == nil {
			s.Errorf("%v: verified with another key: %s", args, text)
		}
	}
}

// platform is the image of the one platform.
func (s *shop) platform(img name.Digest) name.Digest {
	s.Helper()
	index, err := remote.Index(img)
	if err != nil {
		s.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil || len(m.Manifests) != 1 {
		s.Fatalf("%+v, %v", m, err)
	}
	return img.Context().Digest(m.Manifests[0].Digest.String())
}

// checkProvenance reads the statement, and the one that was signed.
func (s *shop) checkProvenance(out, keys string, img, chart name.Digest) {
	type statement struct {
		Subject       []struct{ Digest map[string]string }
		PredicateType string
		Predicate     struct {
			BuildDefinition struct {
				ExternalParameters   map[string]string
				ResolvedDependencies []struct{ Digest map[string]string }
			}
		}
	}
	head, err := git(s.Context(), s.source, "rev-parse", "HEAD")
	if err != nil {
		s.Fatal(err)
	}
	check := func(text []byte, digests ...string) {
		s.Helper()
		var got statement
		if err := json.Unmarshal(text, &got); err != nil {
			s.Fatal(err)
		}
		b := got.Predicate.BuildDefinition
		if got.PredicateType != predicateType || b.ExternalParameters["version"] != version || len(b.ResolvedDependencies) != 1 || b.ResolvedDependencies[0].Digest["gitCommit"] != head {
			s.Errorf("%s", text)
		}
		for i, d := range digests {
			if want := strings.TrimPrefix(d, "sha256:"); i >= len(got.Subject) || got.Subject[i].Digest["sha256"] != want {
				s.Errorf("subjects %v, want %s", got.Subject, want)
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(out, "provenance_"+version+".intoto.json"))
	if err != nil {
		s.Fatal(err)
	}
	check(text, img.DigestStr(), chart.DigestStr())
	signed := s.must(s.cosign, "verify-attestation", "--insecure-ignore-tlog", "--key="+keys+".pub", "--type=slsaprovenance1", img.String())
	var envelope struct{ Payload []byte }
	if err := json.Unmarshal([]byte(signed[strings.LastIndex(signed, "\n{")+1:]), &envelope); err != nil {
		s.Fatalf("%v in %s", err, signed)
	}
	check(envelope.Payload, img.DigestStr())
}

// checkReferrers lists what refers to the index and to the image of its platform.
func (s *shop) checkReferrers(img name.Digest) {
	for ref, want := range map[name.Digest][]string{
		img:             {statementType},
		s.platform(img): {"application/spdx+json", "application/vnd.cyclonedx+json"},
	} {
		index, err := remote.Referrers(ref)
		if err != nil {
			s.Fatal(err)
		}
		m, err := index.IndexManifest()
		if err != nil {
			s.Fatal(err)
		}
		var got []string
		for _, d := range m.Manifests {
			if d.Annotations["dev.sigstore.bundle.content"] != "" {
				continue // it is a signature
			}
			// This registry lists the type of the configuration instead.
			img, err := remote.Image(ref.Context().Digest(d.Digest.String()))
			if err != nil {
				s.Fatal(err)
			}
			referrer, err := img.Manifest()
			if err != nil {
				s.Fatal(err)
			}
			got = append(got, referrer.ArtifactType)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			s.Errorf("%s: %v, want %v", ref, got, want)
		}
	}
}

// checkOnce: the same release may be pushed again, but no other one of that version.
func (s *shop) checkOnce(p push) {
	p.sign = ""
	if err := p.run(s.Context()); err != nil {
		s.Errorf("the same again: %v", err)
	}
	commit(s.T, s.source, "another")
	p.out = s.build()
	if err := p.run(s.Context()); err == nil || !strings.Contains(err.Error(), "a version is published once") {
		s.Errorf("another: %v", err)
	}
	p.out = s.TempDir()
	if err := p.run(s.Context()); err == nil || !strings.Contains(err.Error(), "run make release first") {
		s.Errorf("nothing: %v", fmt.Sprint(err))
	}
}
