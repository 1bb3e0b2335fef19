package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const projectRoot = "../../../.."

func TestCheck(t *testing.T) {
	for _, c := range []struct{ version, registry, want string }{
		{"v1.2.3", "ghcr.io/contoso", ""},
		{"v0.0.0-test", "localhost:5000", ""},
		{"v1.2.3-rc.1", "127.0.0.1:5000/a/b", ""},
		{"", "ghcr.io/contoso", "VERSION="},
		{"1.2.3", "ghcr.io/contoso", "VERSION=1.2.3: not a semantic version"},
		{"v1.2", "ghcr.io/contoso", "not a semantic version"},
		{"v1.2.3+4", "ghcr.io/contoso", "without build metadata"},
		{"v1.02.3", "ghcr.io/contoso", "not a semantic version"},
		{"v2.0.0", "ghcr.io/contoso", "rename the module"},
		{"v2.0.0-rc.1", "ghcr.io/contoso", "path ends in /v2"},
		{"v1.2.3", "", "REGISTRY="},
		{"v1.2.3", "contoso", "REGISTRY=contoso: not a registry"}, // Docker Hub's "contoso"
		{"v1.2.3", "ghcr.io/Contoso", "not a registry"},
	} {
		o := options{version: c.version, registry: c.registry, url: "https://forge.example/p"}
		err := o.check()
		if c.want == "" {
			if err != nil || o.downloads != "https://forge.example/p/releases/download/"+c.version || o.builder == "" {
				t.Errorf("%+v: got %v, %+v", c, err, o)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v", c, err)
		}
	}
}

// repository makes a git repository of those files with one commit.
func repository(t *testing.T, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Join(folder, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	inGit(t, folder, "init", "--quiet")
	inGit(t, folder, "add", ".")
	commit(t, folder, "first")
	return folder
}

func commit(t *testing.T, folder, message string) {
	t.Helper()
	inGit(t, folder, "-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false", "commit", "--quiet", "--allow-empty", "-m", message)
}

func inGit(t *testing.T, folder string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", folder}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

// What is not the commit of that version is refused, before anything is built.
func TestTree(t *testing.T) {
	o := options{version: "v1.2.3", registry: "registry.example", url: "https://forge.example/p", out: t.TempDir(), progress: io.Discard}
	refused := func(want string) {
		t.Helper()
		if err := build(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	o.source = t.TempDir()
	refused("a release is made of a git commit")
	o.source = repository(t, map[string]string{"README.md": "one\n"})
	if err := os.WriteFile(filepath.Join(o.source, "new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("the working tree is not what was committed; commit or stash these first:\n?? new")
	inGit(t, o.source, "add", ".")
	inGit(t, o.source, "tag", "v1.2.3")
	commit(t, o.source, "second")
	refused("run git checkout v1.2.3")
}

// The clone has the version's tags and no other: Go would take the highest.
func TestClone(t *testing.T) {
	source := repository(t, map[string]string{"go.mod": "module example\n"})
	inGit(t, source, "tag", "v9.9.9")
	o := options{version: "v1.2.3", registry: "registry.example", url: "https://forge.example/p", source: source, progress: io.Discard}
	r := &release{options: o, checkout: filepath.Join(t.TempDir(), "source")}
	if err := r.clone(t.Context()); err != nil {
		t.Fatal(err)
	}
	if tags, err := git(t.Context(), r.checkout, "tag"); err != nil || tags != "cmd/kubectl-akv/v1.2.3\nv1.2.3" {
		t.Errorf("tags %q, %v", tags, err)
	}
	if r.source.Time.Unix() == 0 || r.source.URL != o.url || len(r.source.Revision) != 40 {
		t.Errorf("%+v", r.source)
	}
	if tags, err := git(t.Context(), source, "tag"); err != nil || tags != "v9.9.9" {
		t.Errorf("the source got tags: %q, %v", tags, err)
	}
}
