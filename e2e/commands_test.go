package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"mvdan.cc/sh/v3/syntax"
)

// needs is what a block of commands must say of itself before it may run a program.
var needs = map[string]string{
	"az": "Azure", "az-prom-rules-converter": "", "sed": "", "terraform": "Azure", "kubectl": "cluster", "helm": "cluster", "docker": "cluster",
	"make": "", "cat": "", "envsubst": "", "jq": "", "grep": "", "date": "", "curl": "", "openssl": "", "mkdir": "", "tar": "",
	"go": "registry", "git": "", "cd": "", "printf": "", "sleep": "", "mktemp": "", "rm": "", ":": "",
}

var (
	shell  = regexp.MustCompile("(?ms)^( *)```sh\n(.*?)^ *```$")
	inline = regexp.MustCompile("`((?:az|kubectl|helm|terraform) [^`]+)`")
	code   = regexp.MustCompile("`[^`\n]+`")
	flags  = regexp.MustCompile(`(?:^|[\s` + "`" + `(])--([a-z][-a-z0-9]*)`)
)

// The commands of the documents parse, run programs that the block is marked for,
// read files that are there, call targets that exist and use variables that were
// exported before. What "az", "kubectl" and the like make of them needs Azure, a
// cluster or a registry, as the mark says.
func TestCommands(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for where, text := range documents(t) {
		exported := make(map[string]bool)
		for _, m := range shell.FindAllStringSubmatch(text, -1) {
			blocks++
			block := strings.ReplaceAll("\n"+m[2], "\n"+m[1], "\n")
			c := commands{t: t, where: where, makefile: string(makefile), exported: exported}
			if strings.HasPrefix(block, "\n# needs Azure\n") {
				c.marks = []string{"Azure", "cluster", "registry"} // Azure has one
			} else if strings.HasPrefix(block, "\n# needs a cluster\n") {
				c.marks = []string{"cluster"}
			} else if strings.HasPrefix(block, "\n# needs a registry\n") {
				c.marks = []string{"registry"}
			}
			c.check(block)
		}
		for _, m := range inline.FindAllStringSubmatch(text, -1) {
			c := commands{t: t, where: where, makefile: string(makefile), marks: []string{"Azure", "cluster", "registry"}}
			c.check(m[1])
		}
	}
	if blocks < 30 {
		t.Errorf("only %d blocks of commands", blocks)
	}
}

type commands struct {
	t               *testing.T
	where, makefile string
	marks           []string
	exported        map[string]bool // so far; nil where nothing can be, in a line of the text
}

func (c commands) check(block string) {
	c.t.Helper()
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(block), c.where)
	if err != nil {
		c.t.Errorf("%v in%s", err, block)
		return
	}
	syntax.Walk(file, func(node syntax.Node) bool {
		switch n := node.(type) {
		case *syntax.DeclClause:
			for _, a := range n.Args {
				if n.Variant.Value != "export" || a.Name == nil || a.Value == nil {
					c.t.Errorf("%s: not an export of a value in%s", c.where, block)
					continue
				}
				syntax.Walk(a.Value, c.visit(block))
				c.exported[a.Name.Value] = true
			}
			return false
		case nil:
			return true
		}
		return c.visit(block)(node)
	})
}

func (c commands) visit(block string) func(syntax.Node) bool {
	return func(node syntax.Node) bool {
		switch n := node.(type) {
		case *syntax.ParamExp:
			if c.exported != nil && !c.exported[n.Param.Value] {
				c.t.Errorf("%s: $%s is used before it is exported", c.where, n.Param.Value)
			}
		case *syntax.CallExpr:
			if len(n.Args) > 0 {
				c.call(n.Args, block)
			}
		}
		return true
	}
}

func (c commands) call(args []*syntax.Word, block string) {
	c.t.Helper()
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = literal(a)
	}
	need, known := needs[words[0]]
	if !known {
		c.t.Errorf("%s: an unexpected program: %q in%s", c.where, words[0], block)
	}
	if need != "" && !slices.Contains(c.marks, need) {
		c.t.Errorf("%s: %s in a block that is not marked as needing it:%s", c.where, words[0], block)
	}
	for i, w := range words[1:] {
		if strings.HasPrefix(w, "deploy/") && !strings.Contains(w, "$") {
			if found, err := filepath.Glob("../" + w); err != nil || len(found) == 0 {
				c.t.Errorf("%s: no file %s", c.where, w)
			}
		}
		if words[0] == "make" && !strings.Contains(w, "=") && !strings.Contains(c.makefile, "\n"+w+":") {
			c.t.Errorf("%s: no target %s in the Makefile", c.where, w)
		}
		if words[0] == "helm" && w == "--reuse-values" {
			c.t.Errorf("%s: %s leaves out the defaults of new values; use --reset-then-reuse-values", c.where, w)
		}
		if words[0] == "helm" && words[i] == "--set" && slices.Contains(words, "deploy/chart") {
			key, _, _ := strings.Cut(w, "=")
			checkValue(c.t, c.where, key)
		}
	}
}

// literal is a word as it is written, with $ for what is expanded in it.
func literal(w *syntax.Word) string {
	var b strings.Builder
	for _, part := range w.Parts {
		switch p := part.(type) {
		case *syntax.Lit:
			b.WriteString(p.Value)
		case *syntax.SglQuoted:
			b.WriteString(p.Value)
		case *syntax.DblQuoted:
			b.WriteString(literal(&syntax.Word{Parts: p.Parts}))
		default:
			b.WriteByte('$')
		}
	}
	return b.String()
}

// checkValue checks a value that a command sets against the chart's values.yaml.
func checkValue(t *testing.T, where, key string) {
	t.Helper()
	text, err := os.ReadFile("../deploy/chart/values.yaml")
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	var at any
	if err := yaml.Unmarshal(text, &at); err != nil {
		t.Fatal(err)
	}
	for part := range strings.SplitSeq(key, ".") {
		part, _, _ = strings.Cut(part, "[") // an element of a list
		values, _ := at.(map[string]any)
		if at = values[part]; values == nil || part == "securityContext" { // whose fields are those of Kubernetes
			break
		}
		if _, ok := values[part]; !ok {
			t.Errorf("%s: the chart has no value %s", where, key)
			return
		}
	}
}

// foreign are flags of other programs that the documents name outside a command.
var foreign = []string{
	"from-file", "timeout", // kubectl; also Helm
	"as-serviceaccount", "as-me", "node-publish-secret", "show", "force", "driver-namespace", "provider-namespace", // kubectl akv
	"register-with-taints",                                                       // kubelet
	"service-account-issuer",                                                     // the API server
	"startup-taint",                                                              // cluster-autoscaler
	"enable-secret-rotation", "rotation-poll-interval", "max-call-recv-msg-size", // the driver
	"token-request-audience",                                                                 // secrets-store-sync-controller
	"set", "reuse-values", "reset-then-reuse-values", "api-versions", "skip-crds", "dry-run", // Helm
	"secret-permissions", "key-permissions", "certificate-permissions", "enable-oidc-issuer", "node-vm-size", "enable-workload-identity", "subject", // az
}

// A flag that a document names outside a command is one of the plugin's, and each of the
// plugin's flags that the operator's page lists exists.
func TestFlagsExist(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "akv-csi-provider")
	build := exec.Command("go", "build", "-o", binary, "./cmd/akv-csi-provider")
	build.Dir, build.Stderr = "..", os.Stderr
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is shipped
	if err := build.Run(); err != nil {
		t.Fatal(err)
	}
	help, err := exec.Command(binary, "--help").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for where, text := range documents(t) {
		for _, span := range code.FindAllString(shell.ReplaceAllString(text, ""), -1) {
			if !strings.HasPrefix(span, "`--") && !strings.HasPrefix(span, "`akv-csi-provider --") {
				continue
			}
			for _, m := range flags.FindAllStringSubmatch(span, -1) {
				named++
				if m[1] != "help" && !slices.Contains(foreign, m[1]) && !strings.Contains(string(help), "\n  --"+m[1]) {
					t.Errorf("%s: no flag --%s", where, m[1])
				}
			}
		}
	}
	if named < 30 {
		t.Errorf("only %d flags named", named)
	}
}
