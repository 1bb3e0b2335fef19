package e2e_test

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"

	"go.yaml.in/yaml/v3"
)

// values are what a reader would export before envsubst.
var values = map[string]string{
	"NAMESPACE": "default", "KEYVAULT_NAME": "kv-contoso", "OTHER_KEYVAULT_NAME": "kv-contoso-west",
	"TENANT_ID": "11111111-2222-3333-4444-555555555555", "CLIENT_ID": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
	"CLIENT_SECRET": "abc8Q~not-a-password", "CERTIFICATE_NAME": "web-tls", "HOST_NAME": "web.contoso.example",
	"CLIENT_CERTIFICATE": clientPFX,
	"ORDERS_CLIENT_ID":   "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "WEB_CLIENT_ID": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
}

func expand(t *testing.T, text string) string {
	t.Helper()
	return os.Expand(text, func(name string) string {
		value, ok := values[name]
		if !ok {
			t.Errorf("a variable that is not exported: %s", name)
		}
		return value
	})
}

// asApplied is the YAML of a document after envsubst, if it is written for that.
func asApplied(t *testing.T, text string) string {
	t.Helper()
	if strings.Contains(text, "${") {
		return expand(t, text)
	}
	return text
}

// documents are the project's Markdown files, by path from its root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == ".git" || d.Name() == "bin" || d.Name() == "dist") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == ".md" {
			text, err := os.ReadFile(path)
			found[path] = string(text)
			return err
		}
		return nil
	})
	if err != nil || len(found) < 4 {
		t.Fatalf("found %d documents, %v", len(found), err)
	}
	return found
}

// checkYAML parses each document of the text, and a SecretProviderClass with the
// plugin's own parser. It returns how many classes and documents there were.
func checkYAML(t *testing.T, where, text string) (classes, documents int) {
	t.Helper()
	box, err := azuretest.New(azuretest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	cluster, err := box.Cluster("https://oidc.contoso.example/")
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var doc yaml.Node
		if err := decoder.Decode(&doc); err != nil {
			if err.Error() != "EOF" {
				t.Errorf("%s: %v", where, err)
			}
			return classes, documents
		}
		documents++
		checkFields(t, where, &doc)
		var kind struct {
			Kind     string
			Metadata struct{ Namespace string }
		}
		if doc.Decode(&kind) != nil || kind.Kind != "SecretProviderClass" {
			continue
		}
		classes++
		one, err := yaml.Marshal(&doc)
		if err != nil {
			t.Fatal(err)
		}
		pod := azuretest.Pod{Namespace: cmp.Or(kind.Metadata.Namespace, values["NAMESPACE"]), Name: "web-0", ServiceAccount: "default"}
		req, err := cluster.MountRequest(one, pod, nil, "/mnt")
		if err != nil {
			t.Errorf("%s: %v", where, err)
			continue
		}
		mount, err := new(request.Parser).Parse(req.GetAttributes(), req.GetSecrets(), req.GetPermission())
		switch {
		case err != nil:
			t.Errorf("%s: %v", where, err)
		case len(mount.Warnings) > 0:
			t.Errorf("%s: accepted with warnings: %v", where, mount.Warnings)
		default:
			var class manifest
			if err := doc.Decode(&class); err != nil {
				t.Errorf("%s: %v", where, err)
			}
			checkSynced(t, class, pathsOf(mount))
		}
	}
}

func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../deploy/examples/*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	together := make(map[string]string) // by folder, as "cat *.yaml" has them
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		together[filepath.Dir(file)] += expand(t, string(text))
	}
	if len(together) == 0 {
		t.Error("no examples")
	}
	for folder, text := range together {
		found, err := filepath.Glob(folder + "/*.yaml")
		if err != nil {
			t.Fatal(err)
		}
		if classes, documents := checkYAML(t, folder, text); classes == 0 || documents != len(found) {
			t.Errorf("%s: %d classes in %d documents of %d files", folder, classes, documents, len(found))
		}
	}
}

var (
	fence   = regexp.MustCompile("(?s)\n *```yaml\n(.*?)\n *```")
	targets = regexp.MustCompile("(?m)^    make ([a-z0-9]+)|`make ([a-z0-9]+)")
	links   = regexp.MustCompile(`\]\(([^)]+)\)`)
)

func TestDocuments(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	classes := 0
	for path, text := range documents(t) {
		for _, m := range fence.FindAllStringSubmatch(text, -1) {
			found, _ := checkYAML(t, path, asApplied(t, m[1]))
			classes += found
		}
		for _, m := range targets.FindAllStringSubmatch(text, -1) {
			if target := m[1] + m[2]; !strings.Contains(string(makefile), "\n"+target+":") {
				t.Errorf("%s: no target %s in the Makefile", path, target)
			}
		}
		for _, m := range links.FindAllStringSubmatch(text, -1) {
			checkLink(t, path, m[1])
		}
	}
	if classes == 0 {
		t.Error("no document shows a class")
	}
}

// checkLink checks that a relative link leads to a file and, with a fragment, to a heading.
func checkLink(t *testing.T, from, link string) {
	t.Helper()
	if strings.HasPrefix(link, "https://") {
		return
	}
	file, fragment, _ := strings.Cut(link, "#")
	target := filepath.Join(filepath.Dir(from), file)
	if file == "" {
		target = from
	}
	if _, err := os.Stat(target); err != nil {
		t.Errorf("%s: %v", from, err)
		return
	}
	if fragment == "" {
		return
	}
	text, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && line[0] == '#' {
			if strings.ReplaceAll(strings.ToLower(strings.TrimSpace(title)), " ", "-") == fragment {
				return
			}
		}
	}
	t.Errorf("%s: %s has no heading #%s", from, target, fragment)
}

// Every reason and code that a test reaches is in the reference.
func TestReferenceNamesEveryReason(t *testing.T) {
	golden, err := os.ReadFile("../provider/server/testdata/messages.golden")
	if err != nil {
		t.Fatal(err)
	}
	reference, err := os.ReadFile("../provider/README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := slices.Collect(strings.Lines(string(reference)))
	reached := regexp.MustCompile(`(?m)^    ([A-Za-z]+)  .*\[([A-Za-z]+)\]$`).FindAllStringSubmatch(string(golden), -1)
	if len(reached) < 50 {
		t.Fatalf("%d messages", len(reached))
	}
	for _, m := range reached {
		if strings.Contains(m[0], " | ") {
			continue // several causes: the code is the first one's
		}
		if !slices.ContainsFunc(rows, func(row string) bool {
			return strings.HasPrefix(row, "|") && strings.Contains(row, "`"+m[2]+"`") && strings.Contains(row, "| "+m[1]+" |")
		}) {
			t.Errorf("no row for %s with code %s", m[2], m[1])
		}
	}
}

// The table of the reference and the entries of the troubleshooting document have every
// reason, and no other; the entries are in alphabetical order.
func TestDocumentsHaveEveryReason(t *testing.T) {
	section := func(name, heading string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, after, ok := strings.Cut(string(text), "\n## "+heading+"\n")
		if !ok {
			t.Fatalf("%s has no section %s", name, heading)
		}
		found, _, _ := strings.Cut(after, "\n## ")
		return found
	}
	var reasons []string
	for _, r := range fault.Reasons {
		reasons = append(reasons, string(r.Reason))
	}
	slices.Sort(reasons)

	var table []string
	for _, m := range regexp.MustCompile("(?m)^\\|.*\\| [A-Z][A-Za-z]+ \\| `([A-Z][A-Za-z]+)` \\|").FindAllStringSubmatch(section("../provider/README.md", "Errors"), -1) {
		table = append(table, m[1])
	}
	slices.Sort(table)
	if table = slices.Compact(table); !slices.Equal(table, reasons) {
		t.Errorf("the table of provider/README.md has\n%q\nwant\n%q", table, reasons)
	}

	var entries []string
	for _, entry := range strings.Split(section("../deploy/TROUBLESHOOTING.md", "Reasons"), "\n### ")[1:] {
		reason, text, _ := strings.Cut(entry, "\n")
		entries = append(entries, reason)
		if len(strings.Fields(text)) < 15 {
			t.Errorf("%s: hardly an entry: %q", reason, text)
		}
	}
	if !slices.Equal(entries, reasons) {
		t.Errorf("deploy/TROUBLESHOOTING.md has\n%q\nwant\n%q", entries, reasons)
	}
}
