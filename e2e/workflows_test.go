package e2e_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// workflow has the fields that can grant rights or run foreign code.
type workflow struct {
	Permissions map[string]string
	Jobs        map[string]struct {
		Permissions map[string]string
		Timeout     int `yaml:"timeout-minutes"`
		Steps       []struct {
			Uses, Run string
			With      map[string]string
		}
	}
}

var (
	pinned = regexp.MustCompile(`^[\w.-]+/[\w./-]+@[0-9a-f]{40}$`)
	called = regexp.MustCompile(`(?m)\bmake ([a-z0-9]+|\$\{\{ matrix\.target \}\})`)
	texts  = regexp.MustCompile(`\$\{\{\s*github\.(?:event|head_ref)`)
)

// Workflows run make targets that exist and pinned actions, with no rights but those that a job
// names, and put no text of a pull request into a shell.
func TestWorkflows(t *testing.T) {
	files, err := filepath.Glob("../.github/workflows/*.yml")
	if err != nil || len(files) < 2 {
		t.Fatalf("%q, %v", files, err)
	}
	makefile := read(t, "../Makefile")
	for _, file := range files {
		text := read(t, file)
		var w workflow
		if err := yaml.Unmarshal([]byte(text), &w); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if w.Permissions == nil || len(w.Permissions) > 0 || texts.MatchString(text) || strings.Contains(text, "pull_request_target") {
			t.Errorf("%s: rights for all jobs, or texts of a pull request", file)
		}
		if comments := regexp.MustCompile(`(?m)uses: \S+ # v\d+\.\d+\.\d+$`).FindAllString(text, -1); len(comments) != strings.Count(text, "uses: ") {
			t.Errorf("%s: an action without the version of its digest", file)
		}
		for name, job := range w.Jobs {
			if job.Permissions == nil || job.Timeout == 0 {
				t.Errorf("%s: job %s has no permissions or no timeout", file, name)
			}
			for scope, right := range job.Permissions {
				if right != "read" && filepath.Base(file)+" "+name != "release.yml release" {
					t.Errorf("%s: job %s has %s: %s", file, name, scope, right)
				}
			}
			for _, step := range job.Steps {
				if step.Uses != "" && !pinned.MatchString(step.Uses) {
					t.Errorf("%s: %s is not pinned by digest", file, step.Uses)
				}
				if strings.HasPrefix(step.Uses, "actions/checkout@") && step.With["persist-credentials"] != "false" {
					t.Errorf("%s: job %s leaves the token in the checkout", file, name)
				}
				if step.Run != "" && !called.MatchString(step.Run) {
					t.Errorf("%s: no make target in %q", file, step.Run)
				}
				for _, m := range called.FindAllStringSubmatch(step.Run, -1) {
					if m[1][0] != '$' && !strings.Contains(makefile, "\n"+m[1]+":") {
						t.Errorf("%s: no target %s", file, m[1])
					}
				}
			}
		}
	}
	// The targets of the matrix.
	matrix := regexp.MustCompile(`(?m)^ *target: \[(.*)\]$|\{target: ([^,]+),`).FindAllStringSubmatch(read(t, "../.github/workflows/test.yml"), -1)
	var targets []string
	for _, m := range matrix {
		for target := range strings.SplitSeq(m[1]+m[2], ", ") {
			name, _, _ := strings.Cut(target, " ")
			if targets = append(targets, name); !strings.Contains(makefile, "\n"+name+":") {
				t.Errorf("no target %s", name)
			}
		}
	}
	// The cluster's suite has a workflow of its machines.
	for _, m := range regexp.MustCompile(`(?m)^step make (\w+)`).FindAllStringSubmatch(read(t, "../.ci/run"), -1) {
		if m[1] != "e2e" && !slices.Contains(targets, m[1]) {
			t.Errorf(".ci/run makes %s, the workflow %q", m[1], targets)
		}
	}
}

// Dependabot knows every module.
func TestDependabot(t *testing.T) {
	var config struct {
		Updates []struct {
			Ecosystem   string `yaml:"package-ecosystem"`
			Directories []string
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "../.github/dependabot.yml")), &config); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, module := range modules(t) {
		want = append(want, strings.TrimSuffix("/"+strings.TrimPrefix(module, "."), "/."))
	}
	slices.Sort(want)
	for _, update := range config.Updates {
		if update.Ecosystem == "gomod" {
			if got := slices.Sorted(slices.Values(update.Directories)); !slices.Equal(got, want) {
				t.Errorf("dependabot has\n%q\nthere are\n%q", got, want)
			}
			return
		}
	}
	t.Error("no Go modules")
}
