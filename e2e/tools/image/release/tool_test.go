package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// archived returns the files of an archive by name.
func archived(t *testing.T, file string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	add := func(name string, mode os.FileMode, r io.Reader) {
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		found[fmt.Sprintf("%s %o", name, mode.Perm())] = content
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(file, ".zip") {
		r, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.File {
			in, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			add(f.Name, f.Mode(), in)
		}
		return found
	}
	plain, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(plain); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		add(h.Name, os.FileMode(h.Mode), r)
	}
}

// The archives of the kubectl plugin have its program, which knows its version, and the
// licenses; krew's manifest names them all.
func TestTool(t *testing.T) {
	license, err := os.ReadFile(filepath.Join(projectRoot, "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	// As the project's: the tool's module imports the one above it from its folder.
	source := repository(t, map[string]string{
		"LICENSE":                 string(license),
		"go.mod":                  "module example.com\n\ngo 1.26.0\n",
		"project.go":              "package project\n",
		"cmd/kubectl-akv/go.mod":  "module example.com/cmd/kubectl-akv\n\ngo 1.26.0\n\nrequire example.com v0.0.0\n\nreplace example.com => ../..\n",
		"cmd/kubectl-akv/main.go": "package main\n\nimport _ \"example.com\"\n\nfunc main() {}\n",
	})
	run := func() string {
		out := t.TempDir()
		o := options{version: "v1.2.3", registry: "registry.example", url: "https://forge.example/p", source: source, out: out, progress: io.Discard}
		if err := o.check(); err != nil {
			t.Fatal(err)
		}
		r := &release{options: o, work: t.TempDir(), checkout: filepath.Join(t.TempDir(), "source")}
		if err := errors.Join(r.clone(t.Context()), r.tool(t.Context())); err != nil {
			t.Fatal(err)
		}
		if len(r.subjects) != len(toolPlatforms) {
			t.Errorf("the provenance is about %v", r.subjects)
		}
		return out
	}
	first, second := run(), run()
	same(t, first, second)
	text, err := os.ReadFile(filepath.Join(first, krewFile))
	if err != nil {
		t.Fatal(err)
	}
	var manifest krewPlugin
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.Metadata.Name != "akv" || manifest.Spec.Version != "v1.2.3" || len(manifest.Spec.ShortDescription) > 60 {
		t.Errorf("%+v", manifest)
	}
	var got []string
	for _, p := range manifest.Spec.Platforms {
		platform := p.Selector.MatchLabels["os"] + "/" + p.Selector.MatchLabels["arch"]
		got = append(got, platform)
		name, ok := strings.CutPrefix(p.URI, "https://forge.example/p/releases/download/v1.2.3/")
		content, err := os.ReadFile(filepath.Join(first, name))
		if err != nil || !ok || fmt.Sprintf("%x", sha256.Sum256(content)) != p.SHA256 {
			t.Fatalf("%+v: %v", p, err)
		}
		files := archived(t, filepath.Join(first, name))
		if want := []string{"LICENSE 644", p.Bin + " 755", "licenses/akv-csi-provider/LICENSE 644", "licenses/go/LICENSE 644", "licenses/go/PATENTS 644"}; !slices.Equal(slices.Sorted(maps.Keys(files)), want) {
			t.Errorf("%s has %v", name, slices.Sorted(maps.Keys(files)))
		}
		checkProgram(t, files[p.Bin+" 755"], platform)
	}
	if !slices.Equal(got, toolPlatforms) {
		t.Errorf("platforms %v", got)
	}
}

// checkProgram checks what Go stamped into a program.
func checkProgram(t *testing.T, program []byte, platform string) {
	t.Helper()
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	stamp := map[string]string{}
	if info.Main.Version != "v1.2.3" {
		t.Errorf("%s: version %s", platform, info.Main.Version)
	}
	for _, s := range info.Settings {
		stamp[s.Key] = s.Value
	}
	if stamp["GOOS"]+"/"+stamp["GOARCH"] != platform || stamp["vcs.modified"] != "false" || len(stamp["vcs.revision"]) != 40 {
		t.Errorf("%s: %v", platform, stamp)
	}
}

// same checks that two folders have the same files.
func same(t *testing.T, first, second string) {
	t.Helper()
	read := func(folder string) map[string]string {
		found := map[string]string{}
		files, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			content, err := os.ReadFile(filepath.Join(folder, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			found[f.Name()] = fmt.Sprintf("%x", sha256.Sum256(content))
		}
		return found
	}
	if a, b := read(first), read(second); !maps.Equal(a, b) {
		t.Errorf("two builds differ:\n%v\n%v", a, b)
	}
}
