package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/mod/semver"
)

// notes are this version's section of the changelog. One that is not final may have the
// section of what is not released yet.
func (r *release) notes(context.Context) error {
	text, err := os.ReadFile(filepath.Join(r.checkout, changelog))
	if err != nil {
		return err
	}
	section, err := sectionOf(string(text), r.version)
	if err != nil {
		return err
	}
	section = absolute(section, r.url+"/blob/"+r.version+"/deploy/")
	section += fmt.Sprintf("\n### Artifacts\n\n- image `%s:%s@%s`\n- chart `oci://%s`, version `%s`\n- `%s` for `kubectl apply -f`\n",
		r.repository(), r.version, r.digest, r.chartRepository(), r.number(), installFile)
	return r.write("RELEASE_NOTES.md", []byte(section))
}

const changelog = "deploy/CHANGELOG.md"

// sectionOf returns the text below a version's heading.
func sectionOf(text, version string) (string, error) {
	number := strings.TrimPrefix(version, "v")
	for _, wanted := range []string{number, "Unreleased"} {
		heading := regexp.MustCompile(`(?m)^## \[` + regexp.QuoteMeta(wanted) + `\].*\n`).FindStringIndex(text)
		if heading == nil {
			if semver.Prerelease(version) == "" {
				break
			}
			continue
		}
		section, _, _ := strings.Cut(text[heading[1]:], "\n## ")
		if section = strings.TrimSpace(section); section == "" {
			return "", fmt.Errorf("%s: the section [%s] is empty", changelog, wanted)
		}
		return section + "\n", nil
	}
	return "", fmt.Errorf("%s has no section [%s]: rename [Unreleased] and add the date", changelog, number)
}

var relativeLink = regexp.MustCompile(`\]\(([^):#]+[^):]*)\)`)

// absolute has links that are relative to the changelog lead to that commit's files.
func absolute(text, folder string) string {
	return relativeLink.ReplaceAllString(text, "]("+folder+"$1)")
}
