package chart_test

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"
)

// The copy of values.yaml that templates can read.
func TestDefaults(t *testing.T) {
	text := "# values.yaml without its comments; do not edit: cd e2e && go test ./chart -run TestDefaults -update\n"
	for line := range strings.Lines(read(t, folder+"/values.yaml")) {
		if code := strings.TrimSpace(line); code != "" && code[0] != '#' {
			text += strings.TrimRight(regexp.MustCompile(` +# .*`).ReplaceAllString(line, ""), "\n") + "\n"
		}
	}
	golden(t, folder+"/files/defaults.yaml", text, "if this is meant: cd e2e && go test ./chart -run TestDefaults -update")
	var values, defaults map[string]any
	if err := yaml.Unmarshal([]byte(read(t, folder+"/values.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(text), &defaults); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(values, defaults) {
		t.Error("values.yaml without its comments has other values")
	}
}

func marshal(t *testing.T, value any) []byte {
	t.Helper()
	text, err := yaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// paths lists the keys of values, with those above them. Objects of Kubernetes are one value.
func paths(above string, values map[string]any) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		all = append(all, above+name)
		if below, ok := values[name].(map[string]any); ok && !slices.Contains(free, name) {
			all = append(all, paths(above+name+".", below)...)
		}
	}
	return all
}

// set sets the value of a path, or removes the path.
func set(values map[string]any, path string, value any, remove bool) {
	name, rest, nested := strings.Cut(path, ".")
	switch {
	case nested:
		below, ok := values[name].(map[string]any)
		if !ok {
			if remove {
				return
			}
			below = make(map[string]any)
			values[name] = below
		}
		set(below, rest, value, remove)
	case remove:
		delete(values, name)
	default:
		values[name] = value
	}
}

// everyObject are values with which the chart creates all of its objects.
func everyObject() map[string]any {
	on := map[string]any{"enabled": true}
	system := func() map[string]any {
		return map[string]any{"enabled": true, "image": map[string]any{"repository": "registry.example/akv-csi-provider", "tag": "v1"}}
	}
	return map[string]any{
		"podMonitor": maps.Clone(on), "prometheusRule": maps.Clone(on), "dashboard": maps.Clone(on), "networkPolicy": maps.Clone(on),
		"linux": system(), "windows": system(),
	}
}

// empty are the ways by which a value can be null.
var empty = map[string]func(t *testing.T, values map[string]any) (string, error){
	"file": func(t *testing.T, values map[string]any) (string, error) {
		return helm(t, slices.Concat(operator, []string{"--values=" + valuesFile(t, values)})...)
	},
	"parent chart": func(t *testing.T, values map[string]any) (string, error) {
		return render(t, parent(t, map[string]any{"akv-csi-provider": values}), operator...)
	},
	"file for the parent chart": func(t *testing.T, values map[string]any) (string, error) {
		file := valuesFile(t, map[string]any{"akv-csi-provider": values})
		return render(t, parent(t, map[string]any{}), slices.Concat(operator, []string{"--values=" + file})...)
	},
}

func valuesFile(t *testing.T, values map[string]any) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, marshal(t, values), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// parent is a chart above this one alone, with values.
func parent(t *testing.T, values map[string]any) string {
	t.Helper()
	dir := t.TempDir()
	err := os.CopyFS(filepath.Join(dir, "charts", "akv-csi-provider"), os.DirFS(folder))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "Chart.yaml"), []byte("apiVersion: v2\nname: platform\nversion: 1.0.0\n"), 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "values.yaml"), marshal(t, values), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// result is a rendering, or what the chart itself says why there is none.
type result struct{ text, refusal string }

// renderings has the results of values by the way and the values: most tests compare with the same.
var renderings sync.Map

func resultOf(t *testing.T, way string, values map[string]any) result {
	t.Helper()
	key := way + "\n" + string(marshal(t, values))
	if known, ok := renderings.Load(key); ok {
		return known.(result)
	}
	text, err := empty[way](t, values)
	r := result{text: text}
	if err != nil {
		refusal := regexp.MustCompile(`Error: execution error at \(.*?\): (.*)`).FindStringSubmatch(err.Error())
		if refusal == nil {
			t.Fatalf("in a %s: %v", way, err)
		}
		r = result{refusal: refusal[1]}
	}
	renderings.Store(key, r)
	return r
}

// sameResult fails the test unless values with null have the result of values without these keys.
func sameResult(t *testing.T, way, what string, with, without map[string]any) {
	t.Helper()
	got, want := resultOf(t, way, with), resultOf(t, way, without)
	if got.refusal != want.refusal {
		t.Errorf("%s in a %s: refused: %q, want %q", what, way, got.refusal, want.refusal)
	}
	a, b := strings.Split(got.text, "\n"), strings.Split(want.text, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Errorf("%s in a %s: got %q, want %q", what, way, a[i], b[i])
			return
		}
	}
	if len(a) != len(b) {
		t.Errorf("%s in a %s: %d lines, want %d", what, way, len(a), len(b))
	}
}

// A key that a user leaves empty (null) has its default.
func TestEmptyKeys(t *testing.T) {
	var values map[string]any
	if err := yaml.Unmarshal([]byte(read(t, folder+"/values.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	keys := paths("", values)
	if len(keys) < 110 {
		t.Fatalf("%d keys", len(keys))
	}
	for _, key := range keys {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			with, without := everyObject(), everyObject()
			set(with, key, nil, false)
			set(without, key, nil, true)
			sameResult(t, "file", key, with, without)
		})
	}
	// In the other ways, all that everyObject does not set at once, and each object alone.
	leaves, objects := []string{}, []string{}
	for _, key := range keys {
		if slices.ContainsFunc(keys, func(other string) bool { return strings.HasPrefix(other, key+".") }) {
			objects = append(objects, key)
		} else if !slices.Contains(paths("", everyObject()), key) {
			leaves = append(leaves, key)
		}
	}
	for _, way := range slices.Sorted(maps.Keys(empty)) {
		if way == "file" {
			continue
		}
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			with := everyObject()
			for _, key := range leaves {
				set(with, key, nil, false)
			}
			sameResult(t, way, "every key", with, everyObject())
			for _, key := range objects {
				with, without := everyObject(), everyObject()
				set(with, key, nil, false)
				set(without, key, nil, true)
				sameResult(t, way, key, with, without)
			}
		})
	}
}

// In an object of Kubernetes, null removes a field of the default.
func TestNullRemoves(t *testing.T) {
	for key, field := range map[string]string{
		"linux.affinity.nodeAffinity":                   "nodeAffinity:",
		"linux.livenessProbe.initialDelaySeconds":       "initialDelaySeconds: 5",
		"linux.resources.limits":                        "memory: 384Mi",
		"linux.resources.limits.memory":                 "memory: 384Mi",
		"linux.resources.requests.cpu":                  "cpu: 50m",
		"linux.securityContext.seccompProfile":          "seccompProfile:",
		"linux.securityContext.capabilities.drop":       "drop:",
		"linux.updateStrategy.rollingUpdate":            "rollingUpdate:",
		"dashboard.labels.grafana_dashboard":            `grafana_dashboard: "1"`,
		"linux.resources.limits.cpu":                    "cpu: null",
		"linux.podSecurityContext.seLinuxOptions.level": "level: null",
	} {
		// Helm 4 does not remove what is null in values.yaml of the parent chart.
		for _, way := range []string{"file", "file for the parent chart"} {
			values := everyObject()
			delete(values, "windows")
			delete(values, "networkPolicy") // needs Windows, or a network of its pods
			set(values, key, nil, false)
			text, err := empty[way](t, values)
			if err != nil || strings.Contains(text, field) {
				t.Errorf("%s in a %s: %v, has %s", key, way, err, field)
			}
		}
	}
}
