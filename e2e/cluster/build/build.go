// Package build makes what the node of the cluster suite runs: the programs of Kubernetes,
// etcd and the Secrets Store CSI driver from their Go modules, and images of them from
// static binaries. What is there already and was made from the same sources is kept.
package build

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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
	local                   string // folder, from Source, with code of ours that go.mod does not pin
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
			{"tools/etcd", "go.etcd.io/etcd/server/v3", "etcd", "", ""},
			{"tools/driver", "sigs.k8s.io/secrets-store-csi-driver/cmd/secrets-store-csi-driver", "secrets-store-csi-driver",
				"-X sigs.k8s.io/secrets-store-csi-driver/pkg/version.BuildVersion=" + driverVersion, "../mlog"},
			{".", "./sidecars", "sidecars", "", "sidecars"},
		}
	}
	for _, name := range names {
		all = append(all, program{"tools/kubernetes-" + kubernetes, "k8s.io/kubernetes/cmd/" + name, "kubernetes-" + kubernetes + "/" + name, flags, ""})
	}
	for _, p := range all {
		if err := b.compile(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// compile leaves alone what was built from the same module.
func (b *Builder) compile(ctx context.Context, p program) error {
	out, module := filepath.Join(b.Out, p.out), filepath.Join(b.Source, p.module)
	sources := []string{filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum")}
	if p.local != "" {
		files, err := filepath.Glob(filepath.Join(b.Source, p.local, "*"))
		if err != nil {
			return err
		}
		if len(files) == 0 {
			return fmt.Errorf("no code in %s", p.local)
		}
		sources = append(sources, files...)
	}
	args := []string{"build", "-ldflags=-s -w " + p.flags, "-o", "", p.pkg}
	environ := []string{"CGO_ENABLED=0", "GOOS=" + runtime.GOOS, "GOARCH=" + runtime.GOARCH, "GOWORK=off", "GOFLAGS=-mod=readonly -trimpath -tags=grpcnotrace"}
	return once(out, fmt.Sprint(args, environ), sources, func(unfinished string) error {
		start := time.Now()
		fmt.Fprintf(b.Progress, "building %s ...", p.out)
		args[3] = unfinished
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = module
		cmd.Env = append(os.Environ(), environ...)
		if text, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintln(b.Progress)
			return fmt.Errorf("build %s: %w\n%s", p.out, err, text)
		}
		fmt.Fprintf(b.Progress, " %d s\n", int(time.Since(start).Seconds()))
		return nil
	})
}

// once makes the file out unless it was made before from sources of the same content, by
// the same Go and with the same options. Times of files do not count: in a fresh clone all
// are new. A digest of it all is kept beside out, and is there only while it is true.
func once(out, options string, sources []string, make func(unfinished string) error) error {
	sum := sha256.New()
	fmt.Fprintf(sum, "%s %s/%s %s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, options)
	for _, source := range sources {
		content, err := os.ReadFile(source)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %x\n", filepath.Base(source), sha256.Sum256(content))
	}
	digest, made := fmt.Sprintf("%x\n", sum.Sum(nil)), out+".madefrom"
	if known, err := os.ReadFile(made); err == nil && string(known) == digest {
		if _, err := os.Stat(out); err == nil {
			return nil
		}
	}
	unfinished := out + ".new" // what an interrupt leaves is not taken for the file
	if err := make(unfinished); err != nil {
		return err
	}
	if err := os.Remove(made); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(unfinished, out); err != nil {
		return err
	}
	return os.WriteFile(made, []byte(digest), 0o644)
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
