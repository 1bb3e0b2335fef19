package build

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// program is a main package of one of the modules below Source.
type program struct {
	module, pkg, out, flags string
	local                   []string // files and folders, from Source, with our code, which go.mod does not pin
	optional                bool
}

// programs are what a node runs or, if the node is not ours, kubectl and its plugin alone.
func (b *Builder) programs() ([]artifact, error) {
	release, known := Versions[b.Kubernetes]
	if !known {
		return nil, fmt.Errorf("no Kubernetes %q here: the suite knows 1.34 and 1.37", b.Kubernetes)
	}
	const v = "k8s.io/component-base/version."
	flags := fmt.Sprintf("-X %[1]sgitVersion=v%[2]s -X %[1]sgitMajor=1 -X %[1]sgitMinor=%[3]s -X %[1]sgitTreeState=clean", v, release, strings.TrimPrefix(b.Kubernetes, "1."))
	names := []string{"kubectl"}
	all := []program{{"../../cmd/kubectl-akv", ".", "kubectl-akv", "", []string{"../../cmd/kubectl-akv", "../../provider", "../../deploy/troubleshooting.go", "../../deploy/TROUBLESHOOTING.md"}, false}}
	if b.Node {
		names = append(names, "kubelet", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
		all = append(all, []program{
			{"tools/etcd", "go.etcd.io/etcd/server/v3", "etcd", "", nil, false},
			{"tools/driver", "sigs.k8s.io/secrets-store-csi-driver/cmd/secrets-store-csi-driver", "secrets-store-csi-driver",
				"-X sigs.k8s.io/secrets-store-csi-driver/pkg/version.BuildVersion=" + driverVersion, []string{"../mlog"}, false},
			{".", "./sidecars", "sidecars", "", []string{"sidecars"}, false},
			// Module proxies may lack it.
			{"tools/sync-controller", "sigs.k8s.io/secrets-store-sync-controller/cmd", "secrets-store-sync-controller", "", nil, true},
		}...)
	}
	for _, name := range names {
		all = append(all, program{"tools/kubernetes-" + b.Kubernetes, "k8s.io/kubernetes/cmd/" + name, "kubernetes-" + b.Kubernetes + "/" + name, flags, nil, false})
	}
	var artifacts []artifact
	for _, p := range all {
		a, err := b.compiled(p)
		if err != nil {
			return nil, err
		}
		artifacts = append(artifacts, a)
	}
	return artifacts, nil
}

// compiled is the program, which is not built again if the module is the same.
func (b *Builder) compiled(p program) (artifact, error) {
	module := filepath.Join(b.Source, p.module)
	sources := []string{filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum")}
	code, err := b.code(p.local...)
	if err != nil {
		return artifact{}, err
	}
	sources = append(sources, code...)
	args := []string{"build", "-ldflags=-s -w " + p.flags, "-o", "", p.pkg}
	environ := []string{"CGO_ENABLED=0", "GOOS=" + runtime.GOOS, "GOARCH=" + runtime.GOARCH, "GOWORK=off", "GOFLAGS=-mod=readonly -trimpath -tags=grpcnotrace"}
	return artifact{filepath.Join(b.Out, p.out), fmt.Sprint(args, environ), sources, func(ctx context.Context, unfinished string) error {
		args := slices.Clone(args)
		args[3] = unfinished
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Env = module, append(os.Environ(), environ...)
		return run(cmd)
	}, p.optional}, nil
}

// code are the files, and those in the folders and below that are neither tests nor documents.
func (b *Builder) code(paths ...string) (all []string, err error) {
	for _, path := range paths {
		root, before := filepath.Join(b.Source, path), len(all)
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.Name() == "testdata":
				return fs.SkipDir
			case d.Type().IsRegular() && !strings.HasSuffix(path, "_test.go") && (filepath.Ext(path) != ".md" || path == root):
				all = append(all, path)
			}
			return nil
		})
		if err == nil && len(all) == before {
			err = fmt.Errorf("no code in %s", path)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// run adds to an error what the command printed.
func run(cmd *exec.Cmd) error {
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, text)
	}
	return nil
}

// Manifests is the folder of the driver's manifests.
func (b *Builder) Manifests() string { return filepath.Join(b.Out, "driver-"+driverVersion) }

// manifests are the driver's own, copied from its module.
func (b *Builder) manifests() artifact {
	return b.folder(b.Manifests(), "tools/driver", "sigs.k8s.io/secrets-store-csi-driver@"+driverVersion, "deploy", false)
}

// SyncChart is the chart of secrets-store-sync-controller.
func (b *Builder) SyncChart() string { return filepath.Join(b.Out, "sync-controller-"+syncVersion) }

func (b *Builder) syncChart() artifact {
	return b.folder(b.SyncChart(), "tools/sync-controller", "sigs.k8s.io/secrets-store-sync-controller@"+syncVersion, "charts/secrets-store-sync-controller", true)
}

// MissingSync names what of secrets-store-sync-controller could not be built; "" if nothing is missing.
func (b *Builder) MissingSync() (string, error) {
	all, err := b.artifacts()
	if err != nil {
		return "", err
	}
	for _, a := range all {
		if !a.optional {
			continue
		}
		if current, err := a.current(); err != nil || !current {
			return b.name(a), err
		}
	}
	return "", nil
}

// folder is copied from a module that the go.mod in tools pins.
func (b *Builder) folder(out, tool, version, path string, optional bool) artifact {
	module := filepath.Join(b.Source, tool)
	sources := []string{filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum")}
	return artifact{out, strings.TrimPrefix(version[strings.LastIndexByte(version, '@'):], "@"), sources, func(ctx context.Context, unfinished string) error {
		cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", version)
		cmd.Dir, cmd.Env = module, append(os.Environ(), "GOWORK=off")
		text, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("module %s: %w\n%s", version, err, text)
		}
		var downloaded struct{ Dir string }
		if err := json.Unmarshal(text, &downloaded); err != nil {
			return err
		}
		return os.CopyFS(unfinished, os.DirFS(filepath.Join(downloaded.Dir, path)))
	}, optional}
}

// PluginArchive is the plugin's image.
func (b *Builder) PluginArchive() string { return filepath.Join(b.Out, "akv-csi-provider.oci.tar") }

// plugin is the plugin's image, built as users do.
func (b *Builder) plugin() (artifact, error) {
	sources, err := b.code("../../go.mod", "../../go.sum", "../../cmd/akv-csi-provider", "../../provider", "../tools/image")
	if err != nil {
		return artifact{}, err
	}
	return artifact{b.PluginArchive(), b.Plugin, sources, func(ctx context.Context, unfinished string) error {
		dir := unfinished + ".d" // the bills of materials are written beside the archive
		defer func() { _ = os.RemoveAll(dir) }()
		cmd := exec.CommandContext(ctx, "go", "run", ".", "--ref="+b.Plugin, "--out="+dir)
		cmd.Dir = filepath.Join(b.Source, "../tools/image")
		if err := run(cmd); err != nil {
			return err
		}
		return os.Rename(filepath.Join(dir, filepath.Base(b.PluginArchive())), unfinished)
	}, false}, nil
}
