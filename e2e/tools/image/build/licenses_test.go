package build

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// checkLicenses checks that the image has the license of all that is linked into its binary.
func checkLicenses(t *testing.T, layer files, info *debug.BuildInfo) {
	t.Helper()
	folders := []string{"licenses/akv-csi-provider/", "licenses/go/"}
	for _, m := range info.Deps {
		folders = append(folders, "licenses/"+m.Path+"@"+m.Version+"/")
	}
	if len(folders) < 20 {
		t.Errorf("only %d modules are linked", len(folders))
	}
	for _, folder := range folders {
		found := false
		for name, text := range layer {
			found = found || strings.HasPrefix(name, folder) && strings.HasSuffix(name, " 644") && len(text) > 100
		}
		if !found {
			t.Errorf("nothing in %s", folder)
		}
	}
}

// All that is linked is under a license that is allowed, and comes with its text.
func TestLinkedLicenses(t *testing.T) {
	file := filepath.Join(t.TempDir(), Binary)
	if err := Compile(t.Context(), root, "./cmd/"+Binary, "linux/"+runtime.GOARCH, file); err != nil {
		t.Fatal(err)
	}
	found, err := Licenses(t.Context(), root, root, file)
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, l := range found {
		for _, name := range namesOf(l.Text) {
			used[name] = true
		}
	}
	for _, want := range []string{"MIT", "BSD-3-Clause", "Apache-2.0", "MPL-2.0"} {
		if !used[want] {
			t.Errorf("nothing is under %s", want)
		}
	}
	if !slices.ContainsFunc(found, func(l License) bool { return strings.HasSuffix(l.Name, "/NOTICE") }) {
		t.Error("no NOTICE, which Apache 2.0 requires")
	}
}

const (
	isc = "Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted, provided that the above copyright notice and this permission notice appear in all copies.\n\n" +
		"THE SOFTWARE IS PROVIDED \"AS IS\" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.\n"
	unlicense = "This is free and unencumbered software released into the public domain.\n\nAnyone is free to copy, modify, publish, use, compile, sell, or distribute this software, either in source code form or as a compiled binary, for any purpose, commercial or non-commercial, and by any means.\n\n" +
		"In jurisdictions that recognize copyright laws, the author or authors of this software dedicate any and all copyright interest in the software to the public domain. We make this dedication for the benefit of the public at large and to the detriment of our heirs and successors. We intend this dedication to be an overt act of relinquishment in perpetuity of all present and future rights to this software under copyright law.\n\n" +
		"THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.\n"
)

func TestReadLicenses(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  []string // files, or
		err   string
	}{
		"license and notice":      {map[string]string{"LICENSE": isc, "NOTICE.txt": "Somebody", "main.go": isc}, []string{"LICENSE", "NOTICE.txt"}, ""},
		"another spelling":        {map[string]string{"Licence.md": isc}, []string{"Licence.md"}, ""},
		"none":                    {map[string]string{"README": isc}, nil, "no license file"},
		"not a license":           {map[string]string{"LICENSE": "All rights reserved."}, nil, "no license file"},
		"one that is not allowed": {map[string]string{"LICENSE": isc, "COPYING": unlicense}, nil, "m is under Unlicense (COPYING)"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			for name, text := range c.files {
				if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			found, err := readLicenses("m", folder)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v", err)
				}
				return
			}
			var got []string
			for _, l := range found {
				got = append(got, strings.TrimPrefix(l.Name, "licenses/m/"))
			}
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}
