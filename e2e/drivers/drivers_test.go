// Package drivers_test runs the provider with older versions of the Secrets Store CSI driver.
package drivers_test

import (
	"debug/buildinfo"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/e2e/plugin"
	"akv-csi-provider/provider/azuretest"
)

const driverModule = "sigs.k8s.io/secrets-store-csi-driver"

var provider string // path of the provider's binary

func TestMain(m *testing.M) {
	os.Exit(plugin.Built(func(binary string) int {
		provider = binary
		return m.Run()
	}))
}

// programs are the drivers' programs by their version, as make drivers builds them of the modules
// beside this file.
func programs(t *testing.T) map[string]string {
	t.Helper()
	modules, err := filepath.Glob("v*/go.mod")
	if err != nil || len(modules) < 3 {
		t.Fatalf("%d modules, %v", len(modules), err)
	}
	found := make(map[string]string)
	for _, module := range modules {
		minor := filepath.Dir(module)
		program := filepath.Join(os.Getenv("DRIVERS"), minor)
		info, err := buildinfo.ReadFile(program)
		if err != nil {
			t.Fatalf("run make drivers: %v", err)
		}
		var version string
		for _, dependency := range append(info.Deps, &info.Main) {
			if dependency.Path == driverModule {
				version = dependency.Version
			}
		}
		if !strings.HasPrefix(version, minor+".") {
			t.Errorf("%s is version %q", program, version)
		}
		found[version] = program
	}
	return found
}

const twoObjects = `[
  {objectName: my-secret, objectType: secret},
  {objectName: other, objectType: secret, objectAlias: sub/other, filePermission: 0400}]`

const oneObject = "[{objectName: my-secret, objectType: secret}]"

// The life of pods and their volumes with each driver.
func TestDrivers(t *testing.T) {
	for version, program := range programs(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, program)
			n.vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello!"})
			n.vault.SetSecret("other", azuretest.Secret{Value: "more"})
			n.refuses()
			v := n.mounts()
			n.rotates(v)
			n.restarts(v)
			n.fails(v)
			n.shrinks(v)
			v.unpublish()
			if _, err := os.Stat(v.target); !os.IsNotExist(err) {
				t.Errorf("the volume is still there: %v", err)
			}
		})
	}
}

// refuses starts a pod whose object is missing: its event has the provider's cause and reason, and
// nothing is written.
func (n *node) refuses() {
	n.t.Helper()
	v := n.pod("typo", "[{objectName: my-secert, objectType: secret}]")
	message := v.publish()
	if !strings.Contains(message, `my-secert`) || !strings.HasSuffix(message, "[ObjectNotFound]") || strings.Contains(message, "\n") {
		n.t.Errorf("the pod's event is %q", message)
	}
	if files, err := os.ReadDir(v.target); err != nil || len(files) > 0 {
		n.t.Errorf("a failed mount left %v, %v", files, err)
	}
	if got := v.versions(); got != nil {
		n.t.Errorf("a failed mount recorded %q", got)
	}
}

// mounts starts a pod that gets its files.
func (n *node) mounts() *volume {
	n.t.Helper()
	v := n.pod("web", twoObjects)
	if message := v.publish(); message != "" {
		n.t.Fatal(message)
	}
	if got, want := v.files(), "my-secret -rw-r--r-- Hello!, sub/other -r-------- more"; got != want {
		n.t.Errorf("files %q, want %q", got, want)
	}
	if got := v.versions(); len(got) != 2 || !strings.HasPrefix(got[0], "secret/my-secret@") || !strings.HasPrefix(got[1], "secret/other@") {
		n.t.Errorf("recorded %q", got)
	}
	return v
}

// rotates changes a secret: the driver's loop writes it, and writes nothing without a change.
func (n *node) rotates(v *volume) {
	n.t.Helper()
	version := n.vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello again!"})
	n.eventually("the new value is in the volume", func() bool { return strings.Contains(v.files(), "Hello again!") })
	n.eventually("the new version is recorded", func() bool { return slices.Contains(v.versions(), "secret/my-secret@"+version) })
	n.eventually("an event says so", func() bool { return n.reported("successfully rotated mounted contents") })
	written := v.written()
	n.rotations(2)
	if got := v.written(); got != written {
		n.t.Error("a rotation without a change wrote the files again")
	}
}

// restarts the provider, which then knows a volume by the versions that the driver sends alone.
func (n *node) restarts(v *volume) {
	n.t.Helper()
	n.stopProvider()
	n.startProvider()
	n.rotations(1)
	if log := n.provider.Log(); !strings.Contains(log, "rotation=true") || strings.Contains(log, "rotation=false") {
		n.t.Errorf("after a restart, a rotation is taken for the start of a pod:\n%s", log)
	}
	version := n.vault.SetSecret("my-secret", azuretest.Secret{Value: "Hello once more!"})
	n.eventually("a change after the restart is in the volume", func() bool { return strings.Contains(v.files(), "Hello once more!") })
	n.eventually("its version is recorded", func() bool { return slices.Contains(v.versions(), "secret/my-secret@"+version) })
}

// fails has the vault refuse: the pod keeps its files, and its event says why.
func (n *node) fails(v *volume) {
	n.t.Helper()
	n.vault.Revoke(clientID)
	written, files := v.written(), v.files()
	n.eventually("an event has the cause", func() bool { return n.reported("provider mount err", "contoso", "[AccessDenied]") })
	if v.written() != written || v.files() != files {
		n.t.Errorf("a failed rotation left %q of %q", v.files(), files)
	}
	n.vault.Grant(clientID, azuretest.SecretsGet)
	n.vault.SetSecret("my-secret", azuretest.Secret{Value: "back"})
	n.eventually("the volume follows the vault again", func() bool { return strings.Contains(v.files(), "back") })
}

// shrinks takes an object out of the class: its file and its version go.
func (n *node) shrinks(v *volume) {
	n.t.Helper()
	n.class(v.name, oneObject)
	n.eventually("one file is left", func() bool { return v.files() == "my-secret -rw-r--r-- back" })
	n.eventually("one version is recorded", func() bool { return len(v.versions()) == 1 })
}
