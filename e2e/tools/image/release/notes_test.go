package main

import "testing"

const changes = `# Changelog

## [Unreleased]

- next

## [1.1.0] - 2026-12-24

### Added

- this

## [1.1.0-rc.1] - 2026-12-01

## [1.0.0] - 2026-11-30
- first
`

func TestSectionOf(t *testing.T) {
	for version, want := range map[string]string{
		"v1.1.0":      "### Added\n\n- this\n",
		"v1.0.0":      "- first\n",
		"v1.2.0-rc.1": "- next\n",
		"v1.1.0-rc.1": "error: deploy/CHANGELOG.md: the section [1.1.0-rc.1] is empty",
		"v1.2.0":      "error: deploy/CHANGELOG.md has no section [1.2.0]: rename [Unreleased] and add the date",
		"v1.1.00":     "error: deploy/CHANGELOG.md has no section [1.1.00]: rename [Unreleased] and add the date",
	} {
		got, err := sectionOf(changes, version)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", version, got, want)
		}
	}
}

// On a page of releases, links relative to the changelog would lead nowhere.
func TestAbsolute(t *testing.T) {
	const text = "[a](MOVING.md), [b](README.md#image), [c](https://x.example/y.md), [d](#here)"
	const want = "[a](https://f.example/MOVING.md), [b](https://f.example/README.md#image), [c](https://x.example/y.md), [d](#here)"
	if got := absolute(text, "https://f.example/"); got != want {
		t.Errorf("got %s", got)
	}
}
