package e2e_test

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"akv-csi-provider/provider/azuretest"
)

// saved is a YAML block that the paragraph before it names as a file.
var saved = regexp.MustCompile("\\b[Ss]ave this as `([-\\w]+\\.yaml)`(?:.|\n.)*\n\n *```yaml\n((?:.*\n)*?) *```")

// savedIn are the files that a document's reader saves, by name.
func savedIn(t *testing.T, document string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	for _, m := range saved.FindAllStringSubmatch(read(t, document), -1) {
		files[m[1]] = m[2]
	}
	return files
}

// A reader of a how-to gets to running pods by its text alone: each whole manifest has the name of a
// file, and a command applies that file. TestHowTosRun checks that its variables are exported before.
func TestHowTosApplyWhatTheyShow(t *testing.T) {
	object := regexp.MustCompile("(?m)^ *kind: ")
	manifests := 0
	for _, page := range howTos(t) {
		text, files := read(t, page), savedIn(t, page)
		blocks := make(map[string]bool) // those that are saved
		for name, content := range files {
			blocks[content] = true
			applied := regexp.MustCompile(`(?:kubectl apply -f ` + name + `|envsubst < ` + name + ` \| kubectl apply -f -|--patch-file ` + name + `)\n`)
			commands := ""
			for _, m := range shell.FindAllStringSubmatch(text, -1) {
				commands += m[2]
			}
			if strings.Contains(content, "${") != strings.Contains(commands, "envsubst < "+name) || !applied.MatchString(commands) {
				t.Errorf("%s: no command applies %s, with envsubst where it has variables", page, name)
			}
		}
		for _, m := range fence.FindAllStringSubmatch(text, -1) {
			if object.MatchString(m[1]) {
				manifests++
				if !blocks[m[1]+"\n"] {
					t.Errorf("%s: nothing says to save this: %.80s", page, m[1])
				}
			}
		}
	}
	if manifests < 5 {
		t.Errorf("%d manifests", manifests)
	}
}

// The classes of how-tos that the reader applies have, with what the reader stores, the files that the
// pods read.
func TestHowTosMount(t *testing.T) {
	s := newSite(t, "vault.azure.net")
	s.vault.SetSecret("orders-db", azuretest.Secret{Value: `{"user": "orders_a", "password": "s3cret"}`})
	s.vault.SetSecret("web-settings", azuretest.Secret{Value: `{"GREETING": "Hello!"}`})
	got := make(map[string]map[string]string) // by class and path
	for _, page := range howTos(t) {
		all := manifestsIn(t, page)
		for name, class := range all["SecretProviderClass"] {
			for _, account := range all["ServiceAccount"] {
				s.api.SetServiceAccount("default", name, account.Metadata.Annotations)
			}
			got[name] = make(map[string]string)
			raw := strings.Replace(string(class.raw), "namespace: "+class.Metadata.Namespace, "namespace: default", 1)
			for path, content := range s.mount(t, name, raw) {
				got[name][path] = string(content)
			}
		}
	}
	want := map[string]map[string]string{
		"orders":     {"db/user": "orders_a", "db/password": "s3cret"},
		"web-secret": {"greeting": "Hello!"},
		"web-file":   {".env": "GREETING='Hello!'\n"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
