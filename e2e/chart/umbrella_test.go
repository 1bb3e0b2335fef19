package chart_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// umbrella is a chart above this one and above the driver's own, which comes from its Go module.
func umbrella(t *testing.T, chart string) string {
	t.Helper()
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/secrets-store-csi-driver")
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, from := range map[string]string{
		"akv-csi-provider":         folder,
		"secrets-store-csi-driver": filepath.Join(strings.TrimSpace(string(out)), "charts", "secrets-store-csi-driver"),
	} {
		if err := os.CopyFS(filepath.Join(dir, "charts", name), os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "Chart.yaml"), []byte(chart), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// chartYAML is the example of the chart's README, with a head and the condition of this chart.
func chartYAML(t *testing.T) string {
	t.Helper()
	_, example, _ := strings.Cut(read(t, folder+"/README.md"), "# Chart.yaml of the parent chart\n")
	example, _, ok := strings.Cut(example, "```")
	if !ok || !strings.Contains(example, "condition: akv-csi-provider.enabled") {
		t.Fatalf("the README's example: %q", example)
	}
	return "apiVersion: v2\nname: platform\nversion: 1.0.0\n" + example
}

// A chart above this one turns it on and off, shares values with it and installs the driver.
func TestUmbrella(t *testing.T) {
	chart := umbrella(t, chartYAML(t))
	const ours, drivers = "# Source: platform/charts/akv-csi-provider/", "# Source: platform/charts/secrets-store-csi-driver/"
	image := "--set=akv-csi-provider.linux.image.repository=registry.example/akv-csi-provider"
	for _, test := range []struct {
		set         string
		want, never []string
	}{
		{"akv-csi-provider.enabled=true", []string{ours, drivers, `image: "registry.example/akv-csi-provider:dev"`}, nil},
		{"akv-csi-provider.enabled=false", []string{drivers}, []string{ours}},
		{"tags.x=true", []string{ours, drivers}, nil},
		{"global.imageRegistry=mirror.example,global.imagePullSecrets={a},global.other=x", []string{`image: "mirror.example/akv-csi-provider:dev"`, "- name: a\n"}, nil},
		{"akv-csi-provider.x-note=y", []string{ours}, nil},
	} {
		text, err := render(t, chart, image, "--set="+test.set)
		if err != nil {
			t.Errorf("%s: %v", test.set, err)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q", test.set, want)
			}
		}
		for _, never := range test.never {
			if strings.Contains(text, never) {
				t.Errorf("%s: %q is there", test.set, never)
			}
		}
	}
	if _, err := render(t, chart, image, "--set=akv-csi-provider.enabeld=true"); err == nil || !strings.Contains(err.Error(), "enabeld") {
		t.Errorf("a misspelt value: %v", err)
	}
}

// A released chart names its image by digest in an annotation, which may have other images too.
func TestReleasedImage(t *testing.T) {
	const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	const own, other = "{name: akv-csi-provider, image: registry.example/akv" + digest + "}", "{name: other, image: registry.example/other@sha256:00}"
	for images, want := range map[string]string{
		"[" + own + "]":                               "registry.example/akv" + digest,
		"[" + own + ", " + other + "]":                "registry.example/akv" + digest,
		"[" + other + ", " + own + ", " + other + "]": "registry.example/akv" + digest,
		"[" + other + "]":                             "",
	} {
		chart := filepath.Join(t.TempDir(), "chart")
		err := os.CopyFS(chart, os.DirFS(folder))
		if err == nil {
			err = os.WriteFile(filepath.Join(chart, "Chart.yaml"), fmt.Appendf([]byte(read(t, folder+"/Chart.yaml")), "annotations:\n  artifacthub.io/images: %q\n", images), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := render(t, chart)
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), "linux.image.repository: name the image") {
				t.Errorf("%s: %v", images, err)
			}
			continue
		}
		if err != nil || !strings.Contains(text, `image: "`+want+`"`) {
			t.Errorf("%s: %v, no %s", images, err, want)
		}
	}
}
