package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	image "akv-csi-provider/e2e/tools/image/build"

	"go.yaml.in/yaml/v3"
)

// toolName is the kubectl plugin's program, which kubectl runs as "kubectl akv".
const toolName = "kubectl-akv"

// toolPlatforms are those of users' machines.
var toolPlatforms = []string{"darwin/amd64", "darwin/arm64", "linux/amd64", "linux/arm64", "windows/amd64", "windows/arm64"}

// krewFile is the manifest by which krew installs the kubectl plugin.
const krewFile = "akv.yaml"

// tool makes the archives of the kubectl plugin and krew's manifest. Commits before the plugin
// was there have no module of it.
func (r *release) tool(ctx context.Context) error {
	module := filepath.Join(r.checkout, "cmd", toolName)
	if _, err := os.Stat(filepath.Join(module, "go.mod")); os.IsNotExist(err) {
		r.step("no %s: this commit has no cmd/%s", toolName, toolName)
		return nil
	}
	var all []krewPlatform
	for _, p := range toolPlatforms {
		if r.only != "" && r.only != p {
			continue
		}
		start := time.Now()
		k, err := r.toolArchive(ctx, module, p)
		if err != nil {
			return err
		}
		all = append(all, k)
		fmt.Fprintf(r.progress, "%s: %s built in %.0f s\n", p, toolName, time.Since(start).Seconds())
	}
	text, err := yaml.Marshal(r.krew(all))
	if err != nil {
		return err
	}
	r.step("%s: %d archives, %s", toolName, len(all), krewFile)
	return r.write(krewFile, text)
}

// toolArchive compiles the plugin for a platform and packs it with the licenses of what is
// linked: a zip archive for Windows, a tar archive elsewhere.
func (r *release) toolArchive(ctx context.Context, module, platform string) (krewPlatform, error) {
	system, arch, _ := strings.Cut(platform, "/")
	k := krewPlatform{Bin: toolName}
	k.Selector.MatchLabels = map[string]string{"os": system, "arch": arch}
	name := fmt.Sprintf("%s_%s_%s_%s", toolName, r.version, system, arch)
	file := filepath.Join(r.work, name)
	if err := image.Compile(ctx, module, ".", platform, file); err != nil {
		return k, err
	}
	stamped := r.source
	if err := stamped.Read(file); err != nil {
		return k, err
	}
	if err := r.checkVersion(stamped); err != nil {
		return k, err
	}
	terms, err := image.Licenses(ctx, r.checkout, module, file)
	if err != nil {
		return k, err
	}
	program, err := os.ReadFile(file)
	if err != nil {
		return k, err
	}
	if system == "windows" {
		k.Bin += ".exe"
	}
	entries := []image.Entry{{Name: k.Bin, Mode: 0o755, Data: program}}
	for _, l := range terms {
		entries = append(entries, image.Entry{Name: l.Name, Mode: 0o644, Data: l.Text})
		if l.Name == "licenses/"+image.Binary+"/LICENSE" { // krew wants one at the root
			entries = append(entries, image.Entry{Name: "LICENSE", Mode: 0o644, Data: l.Text})
		}
	}
	pack, ending := zipped, ".tar.gz"
	if system == "windows" {
		pack, ending = zipArchive, ".zip"
	}
	content, err := pack(entries, r.source)
	if err != nil {
		return k, err
	}
	k.URI, k.SHA256 = r.downloads+"/"+name+ending, fmt.Sprintf("%x", sha256.Sum256(content))
	r.subjects = append(r.subjects, subject{name + ending, k.SHA256})
	return k, r.write(name+ending, content)
}

func zipArchive(entries []image.Entry, source image.Source) ([]byte, error) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.Name, Method: zip.Deflate, Modified: source.Time}
		h.SetMode(os.FileMode(e.Mode))
		f, err := w.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := f.Write(e.Data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

// krewPlugin is a manifest of krew (krew.sigs.k8s.io/docs/developer-guide/plugin-manifest).
type krewPlugin struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name string `yaml:"name"`
	} `yaml:"metadata"`
	Spec struct {
		Version          string         `yaml:"version"`
		Homepage         string         `yaml:"homepage"`
		ShortDescription string         `yaml:"shortDescription"`
		Description      string         `yaml:"description"`
		Platforms        []krewPlatform `yaml:"platforms"`
	} `yaml:"spec"`
}

type krewPlatform struct {
	Selector struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	} `yaml:"selector"`
	URI    string `yaml:"uri"`
	SHA256 string `yaml:"sha256"`
	Bin    string `yaml:"bin"`
}

func (r *release) krew(platforms []krewPlatform) krewPlugin {
	k := krewPlugin{APIVersion: "krew.googlecontainertools.github.com/v1alpha2", Kind: "Plugin"}
	k.Metadata.Name = strings.TrimPrefix(toolName, "kubectl-")
	k.Spec.Version, k.Spec.Homepage = r.version, r.url
	k.Spec.ShortDescription = "Write and diagnose Azure Key Vault SecretProviderClasses"
	k.Spec.Description = "Helps authors of SecretProviderClasses for Azure Key Vault: it writes and checks classes,\nand says why a pod does not get its secrets."
	k.Spec.Platforms = platforms
	return k
}
