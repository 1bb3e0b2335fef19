package classes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	kyaml "sigs.k8s.io/yaml"

	"akv-csi-provider/provider/request"
)

// Found is what manifests contain.
type Found struct {
	Files   []string // that were read
	Classes []*Class // of the provider azure, in the order of the manifests
	// Problems are those of documents that cannot be read.
	Problems []Problem
	// Skipped are the documents that may be meant as classes and are not read, with the reason.
	Skipped []Problem
}

// Provider is the name that classes of this provider have.
const Provider = "azure"

const (
	group     = "secrets-store.csi.x-k8s.io/"
	kind      = "SecretProviderClass"
	renderFix = "render it first, as in: helm template . | kubectl akv validate -f -"
	maxFile   = 64 << 20
)

// Read reads files, folders with all their folders, and for "-" the reader. Its error is about what
// cannot be opened.
func Read(paths []string, stdin io.Reader) (*Found, error) {
	found := new(Found)
	for _, path := range paths {
		if path == "-" {
			if err := found.read("<stdin>", stdin, true); err != nil {
				return nil, err
			}
			continue
		}
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			path += string(filepath.Separator) // also where it is a link
		}
		err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() && name != path && (entry.Name() == ".git" || entry.Name() == "node_modules"):
				return filepath.SkipDir
			case entry.IsDir(), name != path && !slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(name))):
				return nil
			}
			return found.open(name, name == path)
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (f *Found) open(name string, named bool) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	return f.read(name, file, named)
}

// read reads one file. Of those that the user did not name, what is no YAML and does not mention a
// class is none of our business.
func (f *Found) read(name string, r io.Reader, named bool) error {
	content, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if len(content) > maxFile {
		return fmt.Errorf("read %s: more than %d MiB", name, maxFile>>20)
	}
	f.Files = append(f.Files, name)
	for _, d := range split(string(content)) {
		if d.empty() || !named && !strings.Contains(d.text, kind) {
			continue
		}
		if err := f.document(name, d); err != nil {
			if !strings.Contains(d.text, kind) && strings.Contains(string(content), kind) {
				// A document beside classes may be of a kind that only looks like YAML.
				f.Skipped = append(f.Skipped, broken(name, d, err))
				continue
			}
			f.Problems = append(f.Problems, broken(name, d, err))
		}
	}
	return nil
}

// document reads the classes of a document.
func (f *Found) document(name string, d document) error {
	readable := d.text
	if d.json {
		readable = yamlOfJSON(d.text)
	}
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(readable), &root); err != nil {
		return err
	}
	if len(root.Content) == 0 {
		return nil
	}
	text := []byte(d.text)
	if !d.json {
		var err error
		if text, err = kyaml.YAMLToJSON(text); err != nil {
			return err
		}
	}
	var sent any
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&sent); err != nil {
		return err
	}
	f.object(name, d, newSource(d.text), resolve(root.Content[0]), sent)
	return nil
}

// jsonEscape is an escape sequence of JSON.
var jsonEscape = regexp.MustCompile(`\\(u[0-9a-fA-F]{4}|.)`)

// yamlOfJSON replaces the escape sequences that YAML does not have by as many other characters. It
// is for places only.
func yamlOfJSON(text string) string {
	return jsonEscape.ReplaceAllStringFunc(text, func(found string) string {
		switch {
		case found == `\/`:
			return " /"
		case len(found) == 6 && strings.ContainsRune("dD", rune(found[2])) && found[3] >= '8':
			return "......" // half of a surrogate pair
		}
		return found
	})
}

// object reads a class, or those of a list.
func (f *Found) object(name string, d document, s source, node *yaml.Node, sent any) {
	object, ok := sent.(map[string]any)
	if !ok {
		return
	}
	version, _ := object["apiVersion"].(string)
	switch k, _ := object["kind"].(string); {
	case k == "List" || k == kind+"List":
		items, _ := object["items"].([]any)
		_, nodes := lookup(node, "items")
		for i, item := range items {
			if nodes != nil && i < len(nodes.Content) {
				f.object(name, d, s, resolve(nodes.Content[i]), item)
			}
		}
	case k == kind && strings.HasPrefix(version, group):
		c := &Class{File: name, document: d, source: s, node: node}
		c.readSpec(object)
		f.class(c, object)
	case k == kind:
		c := &Class{File: name, document: d, source: s, node: node}
		_, metadata := lookup(node, "metadata")
		c.Name, c.Namespace = text(metadata, "name"), text(metadata, "namespace")
		c.add(node, "apiVersion", fmt.Sprintf("%q is not the API of SecretProviderClasses", version), "use "+group+"v1")
		f.Problems = append(f.Problems, c.Problems...)
	}
}

func (f *Found) class(c *Class, object map[string]any) {
	if c.Provider == Provider {
		f.Classes = append(f.Classes, c)
		return
	}
	at, field := c.node, "spec.provider"
	if _, value := lookup(c.spec, "provider"); value != nil {
		at = value
	} else if c.spec != nil {
		at = c.spec
	}
	if c.Provider == "" {
		c.add(at, field, "missing", "set provider: "+Provider)
		f.Problems = append(f.Problems, c.Problems...)
		return
	}
	c.Problems = nil
	if request.Nearest(c.Provider, Provider) != "" {
		c.add(at, field, fmt.Sprintf("%q is no provider that the driver finds", c.Provider), "did you mean "+Provider+"?")
		f.Problems = append(f.Problems, c.Problems...)
		return
	}
	c.add(at, field, fmt.Sprintf("the class is for the provider %q", c.Provider), "")
	f.Skipped = append(f.Skipped, c.Problems...)
}

var yamlLine = regexp.MustCompile(`line (\d+)`)

// templateField begins a template of a document, which looks like one of Helm.
var templateField = regexp.MustCompile(`^ *(- +)*['"]?template['"]? *:`)

// broken is the problem of a document that is not YAML: mostly a template that is not rendered.
func broken(name string, d document, err error) Problem {
	template := -1 // column of the last template of a document that may go on, or -1
	for n, line := range strings.Split(d.text, "\n") {
		content := strings.TrimLeft(line, "- ")
		column := len(line) - len(content)
		if content == "" || content[0] == '#' || template >= 0 && column > template {
			continue
		}
		if template = -1; templateField.MatchString(line) {
			template = column
			continue
		}
		if at, what := request.Placeholder(line); at != nil && clearly(line[at[0]:at[1]]) {
			p := d.in(position{n + 1, 1 + utf8.RuneCountInString(line[:at[0]])})
			return Problem{File: name, Cause: fmt.Sprintf("%.64q is %s", line[at[0]:at[1]], what), Fix: renderFix, Line: p.line, Column: p.column}
		}
	}
	cause := strings.TrimPrefix(strings.Join(strings.Fields(err.Error()), " "), "yaml: ")
	line := 1
	if m := yamlLine.FindStringSubmatch(cause); m != nil {
		line, _ = strconv.Atoi(m[1])
		cause = strings.TrimPrefix(cause, m[0]+": ")
	}
	p := d.in(position{line, 1})
	if at, ok := indentingTab(d.text, line); ok && strings.Contains(cause, "tab character") {
		p = d.in(at) // of a block of text, the parser names the line on which it begins
	}
	return Problem{File: name, Cause: "not valid YAML: " + cause, Fix: "correct the YAML", Line: p.line, Column: p.column}
}

// indentingTab returns the place of the first tab in the indentation of a line, from a line on.
func indentingTab(text string, from int) (position, bool) {
	for n, line := range strings.Split(text, "\n") {
		indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
		if tab := strings.IndexByte(indent, '\t'); n+1 >= from && tab >= 0 {
			return position{n + 1, tab + 1}, true
		}
	}
	return position{}, false
}

// clearly reports whether a placeholder is one wherever it stands: words in single brackets are
// mappings, and may be in any YAML.
func clearly(found string) bool {
	for _, start := range []string{"{{", "${", "$(", "<no value>", "{%", "<%", "#{", "%!"} {
		if strings.HasPrefix(found, start) {
			return true
		}
	}
	return false
}
