package request

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// retained returns how many bytes more of the heap are in use after f than before it, per n things
// that f has made.
func retained(n int, f func()) int64 {
	used := func() int64 {
		runtime.GC()
		runtime.GC() // the first one leaves what sync.Pool holds, like encoding/json's buffers
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := used()
	f()
	return (used() - before) / int64(n)
}

// A short text whose aliases make many warnings takes little memory in the cache.
func TestCachedListsAreSmall(t *testing.T) {
	p := NewParser()
	const lists = 4
	per := retained(lists, func() {
		for n := range lists {
			var y strings.Builder
			fmt.Fprintf(&y, "# %d\narray:\n- &a {objectName: x, objectType: secret", n)
			for i := range 100 {
				fmt.Fprintf(&y, ", a%02d: ", i)
			}
			y.WriteString("}\n")
			for range 2900 {
				y.WriteString("- *a\n")
			}
			if y.Len() > maxListText {
				t.Fatal(y.Len())
			}
			attr, err := json.Marshal(map[string]string{"keyvaultName": "vault", "objects": y.String(), "csi.storage.k8s.io/pod.name": "p", "csi.storage.k8s.io/pod.namespace": "n"})
			if err != nil {
				t.Fatal(err)
			}
			m, err := p.Parse(string(attr), "{}", "420")
			if err != nil {
				t.Fatal(err)
			}
			if len(m.Objects) != 2901 || len(m.Warnings) == 0 || len(m.Warnings) > 2*maxWarnings+len(m.Objects) {
				t.Fatalf("%d objects, %d warnings", len(m.Objects), len(m.Warnings))
			}
		}
	})
	runtime.KeepAlive(p)
	if per > 1<<20 {
		t.Errorf("a 16 KiB list retains %d MiB", per>>20)
	}
}

// What a request is about does not keep the request in memory: it becomes part of the keys of caches.
func TestNamesAreSmall(t *testing.T) {
	const requests, large = 8, 100 << 10
	wide := func(text string) string { return text + strings.Repeat(" ", large) }
	mounts := make([]*Mount, requests)
	per := retained(requests, func() {
		for i := range mounts {
			attr, err := json.Marshal(map[string]string{
				"keyvaultName": wide("vault"), "failoverKeyvaultName": wide("other"), "clientID": wide("client"), "tenantID": wide("tenant"), "cloudName": wide("AzurePublicCloud"),
				"objects":                     fmt.Sprintf("- {objectName: %q, objectType: secret, objectVersion: %q}", wide("x"), wide("1")),
				"csi.storage.k8s.io/pod.name": wide("p"), "csi.storage.k8s.io/pod.namespace": wide("n"),
			})
			if err != nil {
				t.Fatal(err)
			}
			secrets, err := json.Marshal(map[string]string{"clientid": wide("client"), "tenantid": wide("tenant"), "clientsecret": "s", "clientcertificate": wide("c")})
			if err != nil {
				t.Fatal(err)
			}
			if mounts[i], err = new(Parser).Parse(string(attr), string(secrets), "420"); err != nil {
				t.Fatal(err)
			}
		}
	})
	runtime.KeepAlive(mounts)
	if per > large/4 {
		t.Errorf("a request retains %d KiB", per>>10)
	}
}

// Nor do pieces, patterns and templates, which take more than their text does.
func TestCachedPiecesAreSmall(t *testing.T) {
	const object = "objectName: x, objectType: secret, "
	list := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for name, objects := range map[string]func(n int) string{
		"pieces": func(n int) string {
			return "- {" + object + "jmesPath: [" + list(n, "{path: a.b, objectAlias: f%d}, ") + "]}"
		},
		"expressions": func(n int) string {
			return "- {" + object + "jmesPath: [{objectAlias: x, path: " + list(n, "a%d.") + "a}]}"
		},
		"parts": func(n int) string {
			return "- {" + object + "files: [" + list(n, "{part: leaf, objectAlias: f%d}, ") + "]}"
		},
		"templates":  func(n int) string { return `- {objectAlias: f, template: "` + list(n, "{{%d}}") + `"}` },
		"references": func(n int) string { return `- {objectAlias: f, template: "` + list(n, `{{ secret \"s%d\" }}`) + `"}` },
		"patterns":   func(n int) string { return list(n, "- {objectType: secret, find: {name: '(a?){20}b{50}|%d'}}\n") },
		"tags":       func(n int) string { return list(n, "- {objectType: secret, find: {tags: {a: b, c%d: d}}}\n") },
	} {
		cached := 0
		for n := 1; n <= 512; n *= 2 {
			p := NewParser()
			const lists = 4
			per := retained(lists, func() {
				for i := range lists {
					_, _ = p.ParseClass(map[string]string{"keyvaultName": "vault", "objects": fmt.Sprintf("# %d\n%s", i, objects(n))}, 0o644)
				}
			})
			runtime.KeepAlive(p)
			if p.known.Len() == lists {
				cached = n
			}
			if per > 1<<20 {
				t.Errorf("%d %s: a list retains %d KiB", n, name, per>>10)
			}
		}
		if most := map[string]int{"patterns": 16, "templates": 512, "expressions": 128}[name]; cached < 8 || most > 0 && cached > most {
			t.Errorf("%s: lists of up to %d are cached", name, cached)
		}
	}
}
