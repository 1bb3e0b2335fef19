package chart_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

const gitops = "../../deploy/gitops/"

// manifest is what the tests read of an object of Argo CD or Flux.
type manifest struct {
	APIVersion string
	Kind       string
	Metadata   struct {
		Name, Namespace string
		Annotations     map[string]string
	}
	Spec struct {
		Source struct { // Argo CD
			Path, Chart, TargetRevision string
			Helm                        struct {
				ValueFiles   []string
				ValuesObject map[string]any
			}
		}
		Chart struct { // Flux: of a HelmRelease
			Spec struct {
				Chart, Version string
				ValuesFiles    []string
				SourceRef      struct{ Kind, Name string }
			}
		}
		Values    map[string]any
		DependsOn []struct{ Name string }
		SourceRef struct{ Kind, Name string }
		Path      string
		Wait      bool
		Timeout   string
		Install   action
		Upgrade   action
		Ref       struct{ Branch, Tag string } // of a GitRepository

		TargetNamespace string
	}
}

// action is what a HelmRelease does when an installation or an upgrade fails.
type action struct {
	Strategy    struct{ Name string }
	Remediation struct {
		Retries  int
		Strategy string
	}
}

// manifests of all files that match, by kind and name.
func manifestsOf(t *testing.T, pattern string) map[string]manifest {
	t.Helper()
	files, err := filepath.Glob(gitops + pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v", pattern, err)
	}
	found := make(map[string]manifest)
	for _, file := range files {
		for _, text := range regexp.MustCompile(`(?m)^---\n`).Split(read(t, file), -1) {
			var m manifest
			if err := yaml.Unmarshal([]byte(text), &m); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			found[m.Kind+"/"+m.Metadata.Name] = m
		}
	}
	return found
}

// Driver, provider and classes come in this order.
func TestGitOpsOrder(t *testing.T) {
	apps := manifestsOf(t, "argocd/apps/*.yaml")
	for i, name := range []string{"secrets-store-csi-driver", "akv-csi-provider", "shop"} {
		if wave := apps["Application/"+name].Metadata.Annotations["argocd.argoproj.io/sync-wave"]; wave != fmt.Sprint(i) {
			t.Errorf("Argo CD: %s has wave %q", name, wave)
		}
	}
	if root := manifestsOf(t, "argocd/root.yaml")["Application/key-vault"]; root.Spec.Source.Path != "argocd/apps" {
		t.Errorf("Argo CD: root has path %s", root.Spec.Source.Path)
	}
	releases := manifestsOf(t, "flux/infrastructure/*.yaml")
	if d := releases["HelmRelease/akv-csi-provider"].Spec.DependsOn; len(d) != 1 || releases["HelmRelease/"+d[0].Name].Spec.Chart.Spec.Chart != "secrets-store-csi-driver" {
		t.Errorf("Flux: the provider depends on %v", d)
	}
	for name, m := range releases {
		if s := m.Spec.Chart.Spec.SourceRef; m.Kind == "HelmRelease" && releases[s.Kind+"/"+s.Name].Kind == "" {
			t.Errorf("Flux: %s has no source %v", name, s)
		}
	}
	if prune := releases["HelmRelease/csi-secrets-store"].Metadata.Annotations["kustomize.toolkit.fluxcd.io/prune"]; prune != "disabled" {
		t.Errorf("Flux: a mistake in Git uninstalls the driver: prune %q", prune)
	}
	sets := manifestsOf(t, "flux/kustomizations.yaml")
	for name, m := range sets {
		if m.Kind != "Kustomization" {
			continue
		}
		if s := m.Spec.SourceRef; sets[s.Kind+"/"+s.Name].Kind == "" {
			t.Errorf("Flux: %s has no source %v", name, s)
		}
		if n := m.Spec.TargetNamespace; n != "" && sets["Namespace/"+n].Kind == "" {
			t.Errorf("Flux: %s has no namespace %s", name, n)
		}
	}
	first, second := sets["Kustomization/key-vault"].Spec, sets["Kustomization/shop"].Spec
	if !first.Wait || first.Path != "./flux/infrastructure" || len(second.DependsOn) != 1 || second.DependsOn[0].Name != "key-vault" {
		t.Errorf("Flux: %+v, %+v", first, second)
	}
}

// Both use one version of the driver, that of the installation, and values that the chart takes.
func TestGitOpsValues(t *testing.T) {
	version := regexp.MustCompile(`--version (\S+) --set 'tokenRequests`).FindStringSubmatch(read(t, "../../deploy/README.md"))
	apps, releases := manifestsOf(t, "argocd/apps/*.yaml"), manifestsOf(t, "flux/infrastructure/*.yaml")
	argo, flux := apps["Application/akv-csi-provider"].Spec, releases["HelmRelease/akv-csi-provider"].Spec
	driverArgo, driverFlux := apps["Application/secrets-store-csi-driver"].Spec.Source, releases["HelmRelease/csi-secrets-store"].Spec
	if version == nil || driverArgo.TargetRevision != version[1] || driverFlux.Chart.Spec.Version != version[1] {
		t.Errorf("driver %s and %s, want %v", driverArgo.TargetRevision, driverFlux.Chart.Spec.Version, version)
	}
	if fmt.Sprint(driverArgo.Helm.ValuesObject) != fmt.Sprint(driverFlux.Values) || !strings.Contains(fmt.Sprint(driverFlux.Values), "api://AzureADTokenExchange") {
		t.Errorf("the driver's values: %v and %v", driverArgo.Helm.ValuesObject, driverFlux.Values)
	}
	if argo.Source.Path != "deploy/chart" || flux.Chart.Spec.Chart != "./deploy/chart" {
		t.Errorf("charts %s and %s", argo.Source.Path, flux.Chart.Spec.Chart)
	}
	var files [2][]string // of values, from here
	for _, file := range argo.Source.Helm.ValueFiles {
		files[0] = append(files[0], filepath.Join("../../deploy/chart", file))
	}
	for _, file := range flux.Chart.Spec.ValuesFiles {
		files[1] = append(files[1], filepath.Join("../..", file))
	}
	for i, values := range []map[string]any{argo.Source.Helm.ValuesObject, flux.Values} {
		text, err := yaml.Marshal(values)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "values.yaml")
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		args := slices.Clone(operator)
		for _, f := range append(files[i], file) {
			args = append(args, "--values="+f)
		}
		out, err := helm(t, args...)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			`"--identity-modes=workload-identity,identity-binding"`, "kind: PodMonitor",
			// The version of the chart's source.
			fmt.Sprintf("registry.example/akv-csi-provider:%s\"\n", argo.Source.TargetRevision), "maxUnavailable: 10%\n",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in the rendering", want)
			}
		}
	}
}

// The provider's source is a version: a branch would bring each commit to all nodes.
func TestGitOpsVersion(t *testing.T) {
	argo := manifestsOf(t, "argocd/apps/*.yaml")["Application/akv-csi-provider"].Spec.Source.TargetRevision
	flux := manifestsOf(t, "flux/infrastructure/*.yaml")["GitRepository/akv-csi-provider"].Spec.Ref
	if !regexp.MustCompile(`^v\d+\.\d+\.\d+$`).MatchString(argo) || flux.Tag != argo || flux.Branch != "" {
		t.Errorf("Argo CD: %q, Flux: %+v", argo, flux)
	}
}

// Flux waits for an update of all nodes, retries what fails, and never uninstalls for that.
func TestGitOpsFailures(t *testing.T) {
	duration := func(text string) time.Duration {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Errorf("timeout: %v", err)
		}
		return d
	}
	var together time.Duration
	for name, m := range manifestsOf(t, "flux/infrastructure/*.yaml") {
		if m.Kind != "HelmRelease" {
			continue
		}
		own := duration(m.Spec.Timeout)
		if together += own; own < 30*time.Minute {
			t.Errorf("%s: timeout %s", name, own)
		}
		for what, a := range map[string]action{"install": m.Spec.Install, "upgrade": m.Spec.Upgrade} {
			uninstalls := a.Remediation.Retries != 0 && what == "install" || a.Remediation.Strategy == "uninstall"
			retries := a.Strategy.Name == "RetryOnFailure" || a.Remediation.Retries > 0
			if uninstalls || !retries {
				t.Errorf("%s: %s: %+v", name, what, a)
			}
		}
	}
	if set := duration(manifestsOf(t, "flux/kustomizations.yaml")["Kustomization/key-vault"].Spec.Timeout); set <= together {
		t.Errorf("the Kustomization waits for %s, its HelmReleases for %s", set, together)
	}
}
