package e2e_test

import (
	"os"
	"regexp"
	"testing"
)

// The command of the page on moving over for those without the plugin finds the lines that decide
// whether a class is refused or changes.
func TestMovingGrep(t *testing.T) {
	page, err := os.ReadFile("../deploy/MOVING.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`\| grep -nE '(.*?)'\n`).FindSubmatch(page)
	if found == nil {
		t.Fatal("no such command")
	}
	lines := regexp.MustCompile(string(found[1]))
	for line, want := range map[string]bool{
		`          objectVersionHistory: 3`:                   true,
		`      objects: '[{"objectVersionHistory": "10"}]'`:   true,
		`      usePodIdentity: "True"`:                        true,
		`      cloudName: AzureGermanCloud`:                   true,
		`      cloudEnvFileName: /tmp/env.json`:               true,
		`          filePermission: rw`:                        true,
		`      cloudName: AzurePublicCloud`:                   false,
		`          objectVersion: 0123456789abcdef0123456789`: false,
		`      useVMManagedIdentity: "true"`:                  false,
	} {
		if lines.MatchString(line) != want {
			t.Errorf("%q: found is %t", line, !want)
		}
	}
}
