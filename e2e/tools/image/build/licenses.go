package build

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
	"golang.org/x/mod/semver"
)

// License is a file with terms, as it comes with a module or with Go itself.
type License struct {
	Name string // its path in an image
	Text []byte
}

// licenseFile is what such files are called.
var licenseFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)

// allowed are the licenses, by SPDX's names, under which what is linked may be given on in an image. A
// module under another one is a decision for a maintainer.
var allowed = []string{"MIT", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "MPL-2.0", "ISC"}

// Licenses returns the license and notice files of the project, of Go, and of all modules that are
// linked into a binary, sorted by path. MIT, BSD and Apache 2.0 require them beside each copy. The
// go.sum of that module verifies the others.
func Licenses(ctx context.Context, project, module, file string) ([]License, error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return nil, err
	}
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOROOT: %w", err)
	}
	folders := map[string]string{Binary: project, "go": strings.TrimSpace(string(root))}
	versions := map[string]string{}
	for _, m := range modulesOf(info) {
		if semver.IsValid(m.Version) { // else it is the project's own, at a path
			versions[m.Path] = m.Version
		}
	}
	downloaded, err := download(ctx, module, versions)
	if err != nil {
		return nil, err
	}
	for path, folder := range downloaded {
		folders[path+"@"+versions[path]] = folder
	}
	var all []License
	for name, folder := range folders {
		found, err := readLicenses(name, folder)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	slices.SortFunc(all, func(a, b License) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// download returns the folders of modules in the module cache, to which go mod download adds what
// is missing; go.sum has them.
func download(ctx context.Context, module string, versions map[string]string) (map[string]string, error) {
	args := []string{"mod", "download", "-json"}
	for path, version := range versions {
		args = append(args, path+"@"+version)
	}
	slices.Sort(args[3:])
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = module, append(os.Environ(), "GOFLAGS=", "GOWORK=off")
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
func readLicenses(module, folder string) (found []License, err error) {
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
		found = append(found, License{"licenses/" + module + "/" + e.Name(), text})
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
