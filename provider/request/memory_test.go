package request

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// A short text whose aliases make many warnings takes little memory in the cache.
func TestCachedListsAreSmall(t *testing.T) {
	p := NewParser()
	const lists = 4
	var a, b runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&a)
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
	runtime.GC()
	runtime.ReadMemStats(&b)
	per := (int64(b.HeapAlloc) - int64(a.HeapAlloc)) / lists
	runtime.KeepAlive(p)
	if per > 1<<20 {
		t.Errorf("a 16 KiB list keeps %d MiB", per>>20)
	}
}
