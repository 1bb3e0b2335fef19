package e2e_test

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/syntax"
)

// A command of a document replaces nothing that a reader did not mean: neither in a shell without the
// variables, where envsubst writes empty names, nor in a cluster or a vault that has the name already.

// step is a statement of a document's commands, with the block in which it is.
type step struct {
	stmt  *syntax.Stmt
	text  string
	block int
}

// steps are the statements of a document, in order.
func steps(t *testing.T, where, document string) (all []step) {
	t.Helper()
	for i, m := range shell.FindAllStringSubmatch(document, -1) {
		block := strings.ReplaceAll("\n"+m[2], "\n"+m[1], "\n")
		file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(block), where)
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		for _, stmt := range file.Stmts {
			all = append(all, step{stmt, block[stmt.Pos().Offset():stmt.End().Offset()], i})
		}
	}
	return all
}

var variable = regexp.MustCompile(`\$\{?([A-Z_]+)\}?`)

// substituted is the text that the envsubst of a statement reads; "" if the statement has none. An
// example that the reader chooses is the quick start, whose variables every example has.
func substituted(t *testing.T, where string, s step) (text string) {
	t.Helper()
	if !strings.Contains(s.text, "envsubst") {
		return ""
	}
	syntax.Walk(s.stmt, func(node syntax.Node) bool {
		switch n := node.(type) {
		case *syntax.Redirect:
			text += savedIn(t, where)[literal(n.Word)]
		case *syntax.CallExpr:
			for _, w := range n.Args {
				if name := strings.ReplaceAll(literal(w), "$", "quick-start"); strings.HasPrefix(name, "deploy/") {
					files, err := filepath.Glob("../" + name)
					if err != nil {
						t.Fatal(err)
					}
					for _, file := range files {
						text += read(t, file)
					}
				}
			}
		}
		return true
	})
	return text
}

// guarded are the variables without which a statement stops, and those that it sets from them.
func guarded(stmt *syntax.Stmt) map[string]bool {
	stops := make(map[string]bool)
	syntax.Walk(stmt, func(node syntax.Node) bool {
		if p, ok := node.(*syntax.ParamExp); ok && p.Exp != nil && p.Exp.Op == syntax.ErrorUnsetOrNull {
			stops[p.Param.Value] = true
		}
		return true
	})
	syntax.Walk(stmt, func(node syntax.Node) bool {
		if a, ok := node.(*syntax.Assign); ok && a.Value != nil {
			syntax.Walk(a.Value, func(node syntax.Node) bool {
				if p, ok := node.(*syntax.ParamExp); ok && stops[p.Param.Value] {
					stops[a.Name.Value] = true
				}
				return true
			})
		}
		return true
	})
	return stops
}

// A statement with envsubst stops where a variable is empty, as in a new shell. What it deletes depends on
// the namespace alone.
func TestEmptyVariablesStop(t *testing.T) {
	found := 0
	for where, document := range documents(t) {
		for _, s := range steps(t, where, document) {
			if !strings.Contains(s.text, "envsubst") {
				continue
			}
			found++
			needed := make(map[string]bool)
			for _, m := range variable.FindAllStringSubmatch(substituted(t, where, s), -1) {
				needed[m[1]] = true
			}
			if len(needed) == 0 {
				t.Errorf("%s: reads no variables: %s", where, s.text)
			}
			if strings.Contains(s.text, "kubectl delete") {
				needed = map[string]bool{"NAMESPACE": true}
			}
			stops := guarded(s.stmt)
			for _, name := range slices.Sorted(maps.Keys(needed)) {
				if !stops[name] {
					t.Errorf("%s: goes on with an empty %s: %s", where, name, s.text)
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("%d statements with envsubst", found)
	}
}

// replaces are the commands that change an object of that name if there is one, and what shows in an
// earlier block whether there is. A pasted block runs whole, so the check cannot be in the same one.
var replaces = []struct{ change, check *regexp.Regexp }{
	{regexp.MustCompile(`kubectl apply`), regexp.MustCompile(`kubectl .*\bget serviceaccount\b(?:.|\n)* --ignore-not-found`)},
	{regexp.MustCompile(`az identity create`), regexp.MustCompile(`az identity list|az group exists`)},
	{regexp.MustCompile(`az keyvault secret set .*--name orders-db|az keyvault secret set .*--name web-settings`), regexp.MustCompile(`az keyvault secret list`)},
}

// A document that creates a ServiceAccount, an identity or a secret first checks that there is none of that
// name, and says what to do if the reader's application has an identity.
func TestNothingIsReplaced(t *testing.T) {
	accounts := 0
	for where, document := range documents(t) {
		all := steps(t, where, document)
		applied := func(s step) bool { return strings.Contains(substituted(t, where, s), "kind: ServiceAccount") }
		for i, s := range all {
			for _, r := range replaces {
				if !r.change.MatchString(s.text) || r.change == replaces[0].change && !applied(s) {
					continue
				}
				if !slices.ContainsFunc(all[:i], func(earlier step) bool { return earlier.block < s.block && r.check.MatchString(earlier.text) }) {
					t.Errorf("%s: no block before has %s: %s", where, r.check, s.text)
				}
			}
		}
		if !strings.Contains(document, "az identity create ") || !slices.ContainsFunc(all, applied) {
			continue
		}
		accounts++
		own := regexp.MustCompile("ServiceAccount\\s+already\\s+has\\s+the\\s+annotation\\s+`azure.workload.identity/client-id`|\n## Your own workload identity\n")
		if !own.MatchString(document) {
			t.Errorf("%s: a ServiceAccount that has an identity loses it", where)
		}
	}
	if accounts < 4 {
		t.Errorf("%d documents create an identity for a ServiceAccount", accounts)
	}
}

// A document that installs the driver first checks that the cluster has none, whose settings it would
// overwrite, creates the cluster, or removes the driver of another installation.
func TestDriverIsNotReplaced(t *testing.T) {
	free := regexp.MustCompile(`#check-the-cluster\)|\naz aks create |\n *helm uninstall csi |\n *az aks disable-addons `)
	installs := 0
	for where, document := range documents(t) {
		before, _, found := strings.Cut(document, "helm upgrade --install csi-secrets-store ")
		if !found {
			continue
		}
		installs++
		if !free.MatchString(before) {
			t.Errorf("%s: installs the driver where there may be one", where)
		}
	}
	if installs < 6 {
		t.Errorf("%d documents install the driver", installs)
	}
}
