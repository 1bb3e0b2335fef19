package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	image "akv-csi-provider/e2e/tools/image/build"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.yaml.in/yaml/v3"
)

// Helm's media types (helm.sh/docs/topics/registries).
const (
	chartConfig  = "application/vnd.cncf.helm.config.v1+json"
	chartContent = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
)

const installFile = "install.yaml"

// chartFile is the packaged chart.
func (r *release) chartFile() string { return image.Binary + "-" + r.number() + ".tgz" }

// packChart makes the chart of this version, which runs the image by its digest, and its OCI
// artifact. Helm's own package command writes the time into the archive.
func (r *release) packChart(context.Context) error {
	folder := filepath.Join(r.checkout, "deploy/chart")
	definition, err := os.ReadFile(filepath.Join(folder, "Chart.yaml"))
	if err != nil {
		return err
	}
	definition, err = r.chartDefinition(definition)
	if err != nil {
		return err
	}
	var entries []image.Entry
	err = filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error { // in lexical order
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if name == "Chart.yaml" {
			content = definition
		}
		entries = append(entries, image.Entry{Name: image.Binary + "/" + filepath.ToSlash(name), Mode: 0o644, Data: content})
		return err
	})
	if err != nil {
		return err
	}
	archive, err := zipped(entries, r.source)
	if err != nil {
		return err
	}
	if err := r.write(r.chartFile(), archive); err != nil {
		return err
	}
	var metadata map[string]any
	if err := yaml.Unmarshal(definition, &metadata); err != nil {
		return err
	}
	config, err := json.Marshal(metadata)
	if err != nil {
		return err
	}
	r.chart, err = newArtifact(artifact{
		config: blob{chartConfig, config}, layers: []blob{{chartContent, archive}},
		annotations: map[string]string{
			"org.opencontainers.image.title": image.Binary, "org.opencontainers.image.version": r.number(),
			"org.opencontainers.image.created": r.created(), "org.opencontainers.image.source": r.url,
			"org.opencontainers.image.revision": r.source.Revision, "org.opencontainers.image.licenses": "Apache-2.0",
		},
	})
	if err != nil {
		return err
	}
	r.subjects = append(r.subjects, subject{r.chartRepository(), r.chart.digest.Hex})
	r.step("chart %s: %s", r.number(), r.chartFile())
	return nil
}

var chartVersions = regexp.MustCompile(`(?m)^(version|appVersion): .*$`)

// chartDefinition is Chart.yaml with this version, and with the image in the annotation that
// the template akv.image reads.
func (r *release) chartDefinition(text []byte) ([]byte, error) {
	if n := len(chartVersions.FindAll(text, -1)); n != 2 {
		return nil, fmt.Errorf("deploy/chart/Chart.yaml: %d lines with version and appVersion", n)
	}
	text = chartVersions.ReplaceAllFunc(text, func(line []byte) []byte {
		key, _, _ := strings.Cut(string(line), ":")
		return []byte(key + ": " + map[string]string{"version": r.number(), "appVersion": r.version}[key])
	})
	return append(text, fmt.Sprintf("home: %s\nsources: [%s]\nannotations:\n  artifacthub.io/license: Apache-2.0\n  artifacthub.io/images: |\n    - name: %s\n      image: %s@%s\n",
		r.url, r.url, image.Binary, r.repository(), r.digest)...), nil
}

// zipped is a tar archive, compressed, without time and name in its header.
func zipped(entries []image.Entry, source image.Source) ([]byte, error) {
	content, err := image.Tar(entries, source.Time)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}

var (
	// between are the lines that Helm puts between objects.
	between = regexp.MustCompile(`\n*---\n# Source: .*\n`)
	// helms are labels that only Helm's own objects should have: it adopts objects by them.
	helms = regexp.MustCompile(`(?m)^ +(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n`)
)

// renderManifests has Helm render the chart with its defaults, as deploy/manifests are.
func (r *release) renderManifests(ctx context.Context) error {
	home := filepath.Join(r.work, "helm") // not what the user has set up
	// Helm 3 assumes an old Kubernetes where it is not given one.
	cmd := exec.CommandContext(ctx, r.helm, "template", image.Binary, filepath.Join(r.out, r.chartFile()), "--namespace=kube-system", "--kube-version=1.34.0")
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("helm template: %w %s", err, stderr.Bytes())
	}
	text := between.ReplaceAllString("\n"+string(out), "\n---\n")
	text = helms.ReplaceAllString(text, "")
	if want := `"` + r.repository() + "@" + r.digest.String() + `"`; !strings.Contains(text, want) {
		return fmt.Errorf("the chart does not run %s by default", want)
	}
	text = fmt.Sprintf("# %s %s. The Secrets Store CSI driver must be installed, too.", image.Binary, r.version) + strings.TrimRight(text, "\n") + "\n"
	r.step("manifests: %s", installFile)
	return r.write(installFile, []byte(text))
}

// created is the time of the commit, as OCI's annotations have it.
func (r *release) created() string {
	return v1.Time{Time: r.source.Time}.Format("2006-01-02T15:04:05Z07:00")
}
