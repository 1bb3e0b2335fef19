package cloud_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"akv-csi-provider/provider/cloud"
)

const stackFile = `{
  "name": "AzureStackCloud",
  "activeDirectoryEndpoint": "https://adfs.local.azurestack.external/adfs/",
  "keyVaultEndpoint": "https://vault.local.azurestack.external/",
  "keyVaultDNSSuffix": ".Vault.Local.AzureStack.External"
}`

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCustom(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	r := &cloud.Resolver{Default: "AzurePublicCloud", EnvDirs: []string{first, second}}
	for _, path := range []string{
		write(t, filepath.Join(first, "stack.json"), stackFile),
		write(t, filepath.Join(second, "below", "stack.json"), stackFile),
		filepath.Join(second, "below") + "/../below/./stack.json",
	} {
		got, err := r.Resolve("azurestackcloud", path)
		if err != nil {
			t.Fatal(err)
		}
		want := cloud.Cloud{Name: "AzureStackCloud", Authority: "https://adfs.local.azurestack.external",
			VaultSuffix: "vault.local.azurestack.external", Resource: "https://vault.local.azurestack.external", APIVersion: "7.1", Custom: true}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

// A ConfigMap's files are links within its folder; that folder may be swapped.
func TestCustomThroughALinkWithin(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "..2026", "stack.json"), stackFile)
	link(t, "..2026", filepath.Join(dir, "..data"))
	link(t, filepath.Join("..data", "stack.json"), filepath.Join(dir, "stack.json"))
	r := &cloud.Resolver{EnvDirs: []string{dir}}
	if _, err := r.Resolve("AzureStackCloud", filepath.Join(dir, "stack.json")); err != nil {
		t.Error(err)
	}
}

func link(t *testing.T, to, from string) {
	t.Helper()
	if err := os.Symlink(to, from); err != nil {
		t.Fatal(err)
	}
}

// All failures below an allowed folder read the same, whatever is there.
func TestCustomRefuses(t *testing.T) {
	outside := t.TempDir()
	secret := write(t, filepath.Join(outside, "stack.json"), stackFile)
	dir := t.TempDir()
	at := func(name, text string) string { return write(t, filepath.Join(dir, name), text) }
	link(t, secret, filepath.Join(dir, "absolute-link"))
	rel, err := filepath.Rel(dir, secret)
	if err != nil {
		t.Fatal(err)
	}
	link(t, rel, filepath.Join(dir, "relative-link"))
	link(t, outside, filepath.Join(dir, "folder-link"))
	with := func(authority, resource, suffix string) string {
		return fmt.Sprintf(`{"activeDirectoryEndpoint":%q,"keyVaultEndpoint":%q,"keyVaultDNSSuffix":%q}`, authority, resource, suffix)
	}
	const url, suffix = "https://a.example", "vault.example"
	unusable := map[string]string{
		"missing":         filepath.Join(dir, "nothing"),
		"a folder":        dir,
		"absolute link":   filepath.Join(dir, "absolute-link"),
		"relative link":   filepath.Join(dir, "relative-link"),
		"through a link":  filepath.Join(dir, "folder-link", "stack.json"),
		"empty":           at("empty", ""),
		"not JSON":        at("text", "root:x:0:0"),
		"no object":       at("list", "[]"),
		"nothing in it":   at("nothing-in-it", "{}"),
		"wrong type":      at("number", `{"activeDirectoryEndpoint": 1}`),
		"http authority":  at("http", with("http://a.example", url, suffix)),
		"http endpoint":   at("http2", with(url, "http://a.example", suffix)),
		"no suffix":       at("none2", with(url, url, "")),
		"no host":         at("nohost", with("https://", url, suffix)),
		"user":            at("user", with("https://u:p@a.example", url, suffix)),
		"query":           at("query", with(url, url+"?a=b", suffix)),
		"suffix with a /": at("path", with(url, url, "evil.example/")),
		"suffix with a @": at("at", with(url, url, "a@evil.example")),
		"suffix with a :": at("port", with(url, url, "evil.example:80")),
		"long suffix":     at("long", with(url, url, strings.Repeat("a.", 200)+"b")),
		"too large":       at("large", `{"x":"`+strings.Repeat("x", 70<<10)+`"}`),
	}
	if runtime.GOOS != "windows" {
		unusable["a device"] = filepath.Join(dir, "device")
		link(t, os.DevNull, unusable["a device"])
	}
	r := &cloud.Resolver{EnvDirs: []string{dir}}
	texts := map[string]string{}
	for name, path := range unusable {
		t.Run(name, func(t *testing.T) {
			got, err := r.Resolve("AzureStackCloud", path)
			refused(t, got, err, "cloudEnvFileName", fmt.Sprintf("%q", path), "activeDirectoryEndpoint")
			texts[strings.ReplaceAll(err.Error(), fmt.Sprintf("%q", path), "")] = name
		})
	}
	if len(texts) != 1 {
		t.Errorf("failures can be distinguished: %q", texts)
	}
	for name, path := range map[string]string{
		"outside":        secret,
		"traversal":      dir + "/../" + filepath.Base(outside) + "/stack.json",
		"sibling":        dir + "x/stack.json",
		"relative":       "stack.json",
		"of the process": "/proc/self/environ",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := r.Resolve("AzureStackCloud", path)
			refused(t, got, err, "cloudEnvFileName", dir, "--cloud-env-dirs")
		})
	}
}

func TestCustomOfTheProvider(t *testing.T) {
	r := &cloud.Resolver{Default: "AzureStackCloud"}
	got, err := r.Resolve("", "")
	refused(t, got, err, "cloudEnvFileName", "AZURE_ENVIRONMENT_FILEPATH")

	own, err := cloud.ReadFile(write(t, filepath.Join(t.TempDir(), "own.json"), stackFile))
	if err != nil {
		t.Fatal(err)
	}
	r.Environment = &own
	if got, err = r.Resolve("", ""); err != nil || got.VaultSuffix != "vault.local.azurestack.external" || !got.Custom {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := cloud.ReadFile(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file is no error")
	}
	if _, err := cloud.ReadFile(write(t, filepath.Join(t.TempDir(), "bad"), "x")); err == nil {
		t.Error("a bad file is no error")
	}
}

// Two classes with different files at the same moment get each its own cloud.
func TestCustomAtOnce(t *testing.T) {
	dir := t.TempDir()
	r := &cloud.Resolver{Default: "AzurePublicCloud", EnvDirs: []string{dir}}
	var group sync.WaitGroup
	for i := range 8 {
		suffix := fmt.Sprintf("vault%d.example", i)
		path := write(t, filepath.Join(dir, suffix), strings.ReplaceAll(stackFile, ".Vault.Local.AzureStack.External", suffix))
		group.Go(func() {
			for range 100 {
				if got, err := r.Resolve("AzureStackCloud", path); err != nil || got.VaultSuffix != suffix {
					t.Errorf("%s: got %+v, %v", suffix, got, err)
				}
				if got, err := r.Resolve("", path); err != nil || got.Custom {
					t.Errorf("public cloud: got %+v, %v", got, err)
				}
			}
		})
	}
	group.Wait()
}
