package chart_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each container has four fifths of its memory limit as GOMEMLIMIT.
func TestMemoryLimit(t *testing.T) {
	for _, file := range rendered(t) {
		sets, _ := objects(t, file)
		for name, set := range sets {
			c := set.Spec.Template.Spec.Containers[0]
			want := fmt.Sprintf("%dMiB", c.Resources.Limits.Memory().Value()*4/5>>20)
			var got []string
			for _, e := range c.Env {
				if e.Name == "GOMEMLIMIT" {
					got = append(got, e.Value)
				}
			}
			if len(got) != 1 || got[0] != want {
				t.Errorf("%s: %s: GOMEMLIMIT %q, want %s", filepath.Base(file), name, got, want)
			}
		}
	}
}

// There is none without a limit, and a user's own takes precedence. Quantities are those of Kubernetes.
func TestMemoryLimitUnits(t *testing.T) {
	value := regexp.MustCompile(`- name: GOMEMLIMIT\n +value: (.*)\n`)
	for set, want := range map[string]string{
		"linux.resources.limits.memory=100Mi":                  `"80MiB"`,
		"linux.resources.limits.memory=1Gi":                    `"819MiB"`,
		"linux.resources.limits.memory=300M":                   `"228MiB"`,
		"linux.resources.limits.memory=1.5Gi":                  `"1228MiB"`,
		"linux.resources.limits.memory=0.5Gi":                  `"409MiB"`,
		"linux.resources.limits.memory=500000k":                `"381MiB"`,
		"linux.resources.limits.memory=400000Ki":               `"312MiB"`,
		"linux.resources.limits.memory=5e8":                    `"381MiB"`,
		"linux.resources.limits.memory=1G":                     `"762MiB"`,
		"linux.resources.limits.memory=0.001Ti":                `"838MiB"`,
		"linux.resources.limits.memory=536870912":              `"409MiB"`,
		"linux.resources.limits.memory=lots":                   "",
		"linux.resources.limits.memory=null":                   "",
		"linux.resources.limits=null":                          "",
		"linux.resources=null":                                 `"307MiB"`, // the default's
		"linux.env[0].name=GOMEMLIMIT,linux.env[0].value=1GiB": "1GiB",
	} {
		text, err := helm(t, "--values=testdata/plain.yaml", "--set="+set)
		if err != nil {
			t.Errorf("%s: %v", set, err)
			continue
		}
		var got []string
		for _, m := range value.FindAllStringSubmatch(text, -1) {
			got = append(got, m[1])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: GOMEMLIMIT %q, want %s", set, got, want)
		}
	}
}
