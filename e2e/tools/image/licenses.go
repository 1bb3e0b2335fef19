package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// license is a file with terms, as it comes with a module or with Go itself.
type license struct {
	name string // its path in the image
	text []byte
}

// licenseFile is what such files are called.
var licenseFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)

// allowed are the licenses, by SPDX's names, under which what is linked may be given on in an image. A
// module under another one is a decision that somebody must make.
var allowed = []string{"MIT", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "MPL-2.0", "ISC"}

// licenses returns the license and notice files of the project, of Go, and of all modules that are
// linked into the binary, sorted by path. MIT, BSD and Apache 2.0 ask for them beside each copy.
func licenses(ctx context.Context, source, file string) ([]license, error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return nil, err
	}
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOROOT: %w", err)
	}
	folders := map[string]string{binary: source, "go": strings.TrimSpace(string(root))}
	versions := map[string]string{}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		versions[m.Path] = m.Version
	}
	downloaded, err := download(ctx, source, versions)
	if err != nil {
		return nil, err
	}
	for path, folder := range downloaded {
		folders[path+"@"+versions[path]] = folder
	}
	var all []license
	for name, folder := range folders {
		found, err := readLicenses(name, folder)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	slices.SortFunc(all, func(a, b license) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// download returns the folders of modules in the module cache, to which go mod download adds what
// is missing; go.sum holds them.
func download(ctx context.Context, source string, versions map[string]string) (map[string]string, error) {
	args := []string{"mod", "download", "-json"}
	for path, version := range versions {
		args = append(args, path+"@"+version)
	}
	slices.Sort(args[3:])
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = source, append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go mod download: %w\n%s", err, out)
	}
	folders := map[string]string{}
	for list := json.NewDecoder(bytes.NewReader(out)); list.More(); {
		var m struct{ Path, Dir string }
		if err := list.Decode(&m); err != nil {
			return nil, fmt.Errorf("go mod download: %w", err)
		}
		folders[m.Path] = m.Dir
	}
	return folders, nil
}

// readLicenses reads the license files of a module, which lie in its root. It is an error if there is
// none, or if one is under a license that is not allowed.
func readLicenses(module, folder string) (found []license, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("licenses of %s: %w", module, err)
	}
	known := false
	for _, e := range entries {
		if !e.Type().IsRegular() || !licenseFile.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil, err
		}
		names := namesOf(text)
		for _, name := range names {
			if !slices.Contains(allowed, name) {
				return nil, fmt.Errorf("%s is under %s (%s), which is none of %s", module, name, e.Name(), strings.Join(allowed, ", "))
			}
		}
		known = known || len(names) > 0
		found = append(found, license{"licenses/" + module + "/" + e.Name(), text})
	}
	if !known {
		return nil, fmt.Errorf("%s has no license file that is known", module)
	}
	return found, nil
}

// namesOf returns the licenses whose text a file contains. Grants of patents beside a
// license have no name there.
func namesOf(text []byte) (names []string) {
	for _, match := range licensecheck.Scan(text).Match {
		if name := match.ID; !match.IsURL && !slices.Contains(names, name) && name != "GooglePatentsFile" && name != "GooglePatentClause" {
			names = append(names, name)
		}
	}
	return names
}
