package request_test

import (
	"fmt"
	"math/rand/v2"
	"path"
	"reflect"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/request"
)

// Conflicts finds what a search of each path in all others finds.
func TestConflicts(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		files := make([]request.File, random.IntN(8))
		for i := range files {
			parts := make([]string, 1+random.IntN(4))
			for j := range parts {
				parts[j] = []string{"a", "b", "a-b", strings.Repeat("x", 200)}[random.IntN(4)]
			}
			files[i] = request.File{Path: strings.Join(parts, "/"), Owner: random.IntN(3)}
		}
		var wantDuplicates, wantNested []request.Conflict
		last := make(map[string]int)
		for i, f := range files {
			if other, taken := last[f.Path]; taken {
				wantDuplicates = append(wantDuplicates, request.Conflict{File: f, Other: files[other]})
			}
			last[f.Path] = i
		}
		for i, f := range files {
			for dir := path.Dir(f.Path); dir != "." && last[f.Path] == i; dir = path.Dir(dir) {
				if other, taken := last[dir]; taken {
					wantNested = append(wantNested, request.Conflict{File: f, Other: files[other]})
				}
			}
		}
		duplicates, nested := request.Conflicts(files)
		if !reflect.DeepEqual(duplicates, wantDuplicates) || !reflect.DeepEqual(nested, wantNested) {
			t.Fatalf("%+v:\ngot  %+v, %+v\nwant %+v, %+v", files, duplicates, nested, wantDuplicates, wantNested)
		}
	}
}

// deepFiles are n files that are thousands of directories deep: each in the directories of
// the others, in its own, or below the others.
func deepFiles(kind string, n int) []request.File {
	files := make([]request.File, n)
	for i := range files {
		switch kind {
		case "one directory":
			files[i].Path = fmt.Sprintf("%s%d", strings.Repeat("a/", 2000), i)
		case "many directories":
			files[i].Path = fmt.Sprintf("%d/%sx", i, strings.Repeat("a/", 2000))
		case "nested":
			files[i].Path = strings.Repeat("a/", i) + "a"
		}
	}
	return files
}

// Deep paths are no burden. To look up each directory of each path took minutes.
func TestConflictsOfDeepPaths(t *testing.T) {
	start := time.Now()
	for kind, nested := range map[string]int{"one directory": 0, "many directories": 0, "nested": 1024} {
		if duplicates, got := request.Conflicts(deepFiles(kind, 2048)); len(duplicates) > 0 || len(got) != nested {
			t.Errorf("%s: %d duplicates, %d nested", kind, len(duplicates), len(got))
		}
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %s", took)
	}
}

func BenchmarkConflicts(b *testing.B) {
	for _, kind := range []string{"one directory", "many directories", "nested"} {
		for _, n := range []int{256, 2048} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				files := deepFiles(kind, n)
				bytes := 0
				for _, f := range files {
					bytes += len(f.Path)
				}
				b.SetBytes(int64(bytes))
				for b.Loop() {
					request.Conflicts(files)
				}
			})
		}
	}
}

// An error comes with the pod as far as it could be read, for the log.
func TestPodOfAnError(t *testing.T) {
	base := newAttributes(t)
	m, err := base.with(map[string]string{"keyvaultName": "", attrPodName: ""}).parse(t)
	_ = refused(t, m, err)
	if m.Pod.Name != "" || m.Pod.Namespace != pod.Namespace || m.Pod.ServiceAccount != pod.ServiceAccount {
		t.Errorf("got %+v", m.Pod)
	}
}
