// Package build makes what the node of the cluster suite runs: the programs of Kubernetes,
// etcd and the Secrets Store CSI driver from their Go modules, and images of them from
// static binaries. What is there already and not older than its sources is kept.
package build

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Versions are the Kubernetes releases that the suite knows, by their minor version; each
// has a module in tools.
var Versions = map[string]string{"1.34": "1.34.4", "1.37": "1.37.2"}

const driverVersion = "v1.6.0"

// Builder builds into a folder.
type Builder struct {
	Out      string    // the folder, an absolute path; outlives a run
	Source   string    // e2e/cluster
	Progress io.Writer // a line for each thing that takes time
}

// program is a main package of one of the modules below Source.
type program struct {
	module, pkg, out, flags string
}

// Programs builds what a node of that Kubernetes runs, or, if the node is not ours, kubectl
// alone.
func (b *Builder) Programs(ctx context.Context, kubernetes string, node bool) error {
	release, known := Versions[kubernetes]
	if !known {
		return fmt.Errorf("no Kubernetes %q here: the suite knows 1.34 and 1.37", kubernetes)
	}
	const v = "k8s.io/component-base/version."
	flags := fmt.Sprintf("-X %[1]sgitVersion=v%[2]s -X %[1]sgitMajor=1 -X %[1]sgitMinor=%[3]s -X %[1]sgitTreeState=clean", v, release, strings.TrimPrefix(kubernetes, "1."))
	names := []string{"kubectl"}
	var all []program
	if node {
		names = append(names, "kubelet", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
		all = []program{
			{"tools/etcd", "go.etcd.io/etcd/server/v3", "etcd", ""},
			{"tools/driver", "sigs.k8s.io/secrets-store-csi-driver/cmd/secrets-store-csi-driver", "secrets-store-csi-driver",
				"-X sigs.k8s.io/secrets-store-csi-driver/pkg/version.BuildVersion=" + driverVersion},
			{".", "./sidecars", "sidecars", ""},
		}
	}
	for _, name := range names {
		all = append(all, program{"tools/kubernetes-" + kubernetes, "k8s.io/kubernetes/cmd/" + name, "kubernetes-" + kubernetes + "/" + name, flags})
	}
	for _, p := range all {
		if err := b.compile(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// compile leaves alone what is newer than the module that pins it.
func (b *Builder) compile(ctx context.Context, p program) error {
	out, module := filepath.Join(b.Out, p.out), filepath.Join(b.Source, p.module)
	sources := []string{filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum")}
	if strings.HasPrefix(p.pkg, "./") {
		files, err := filepath.Glob(filepath.Join(module, p.pkg, "*.go"))
		if err != nil {
			return err
		}
		sources = append(sources, files...)
	}
	if newer(out, sources...) {
		return nil
	}
	start := time.Now()
	fmt.Fprintf(b.Progress, "building %s ...", p.out)
	unfinished := out + ".new" // what an interrupt leaves is not taken for the program
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w "+p.flags, "-o", unfinished, p.pkg)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly")
	if text, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintln(b.Progress)
		return fmt.Errorf("build %s: %w\n%s", p.out, err, text)
	}
	fmt.Fprintf(b.Progress, " %d s\n", int(time.Since(start).Seconds()))
	return os.Rename(unfinished, out)
}

// newer tells whether the file is there and changed after all the others.
func newer(file string, than ...string) bool {
	have, err := os.Stat(file)
	if err != nil {
		return false
	}
	for _, other := range than {
		if info, err := os.Stat(other); err != nil || info.ModTime().After(have.ModTime()) {
			return false
		}
	}
	return true
}

// Plugin builds the plugin's image as users do, under that name, into [Builder.PluginArchive].
func (b *Builder) Plugin(ctx context.Context, ref string) error {
	cmd := exec.CommandContext(ctx, "go", "run", ".", "--ref="+ref, "--out="+b.Out)
	cmd.Dir = filepath.Join(b.Source, "../image")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the plugin's image: %w\n%s", err, text)
	}
	return nil
}

// PluginArchive is the plugin's image.
func (b *Builder) PluginArchive() string { return filepath.Join(b.Out, "akv-csi-provider.oci.tar") }

// DriverManifests copies the driver's own manifests to [Builder.Manifests].
func (b *Builder) DriverManifests(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", "sigs.k8s.io/secrets-store-csi-driver@"+driverVersion)
	cmd.Dir = filepath.Join(b.Source, "tools/driver")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("the driver's module: %w\n%s", err, out)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return err
	}
	if err := os.RemoveAll(b.Manifests()); err != nil {
		return err
	}
	return os.CopyFS(b.Manifests(), os.DirFS(filepath.Join(module.Dir, "deploy")))
}

// Manifests is the folder of the driver's own manifests.
func (b *Builder) Manifests() string { return filepath.Join(b.Out, "driver-"+driverVersion) }
