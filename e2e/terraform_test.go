package e2e_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// The Terraform files parse, are formatted, name each thing once and refer only to
// what is declared.
func TestTerraform(t *testing.T) {
	files, err := filepath.Glob("../deploy/terraform/*.tf")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	declared := map[string]bool{"path.module": true}
	used := make(map[string]hcl.Range)
	chart := false
	variables := make(map[string]bool) // whether it is used
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(hclwrite.Format(text), text) {
			t.Errorf("%s is not formatted: terraform fmt", file)
		}
		parsed, diags := hclsyntax.ParseConfig(text, file, hcl.InitialPos)
		if diags.HasErrors() {
			t.Error(diags)
			continue
		}
		for _, block := range parsed.Body.(*hclsyntax.Body).Blocks {
			for _, name := range declares(t, block) {
				if declared[name] {
					t.Errorf("%s: %s is declared twice", block.DefRange(), name)
				}
				declared[name] = true
				if variable, ok := strings.CutPrefix(name, "var."); ok {
					variables[variable] = false
				}
			}
			references(block, used)
			if slices.Equal(block.Labels, []string{"helm_release", "provider"}) {
				chartValues(t, file, block.Body.Attributes["values"].Expr, "")
				chart = true
			}
		}
	}
	if !chart {
		t.Error("no release of our chart")
	}
	for name, at := range used {
		if !declared[name] {
			t.Errorf("%s: %s is not declared", at, name)
		}
		if variable, ok := strings.CutPrefix(name, "var."); ok {
			variables[variable] = true
		}
	}
	for name, ok := range variables {
		if !ok {
			t.Errorf("the variable %s is not used", name)
		}
	}
	for _, want := range []string{
		"azurerm_key_vault", "azurerm_key_vault_secret", "azurerm_user_assigned_identity", "azurerm_role_assignment",
		"azurerm_federated_identity_credential", "helm_release",
	} {
		found := false
		for name := range declared {
			found = found || strings.HasPrefix(name, want+".")
		}
		if !found {
			t.Errorf("no %s", want)
		}
	}
}

// declares are the names by which others refer to a block.
func declares(t *testing.T, block *hclsyntax.Block) []string {
	t.Helper()
	switch {
	case block.Type == "variable" && len(block.Labels) == 1:
		return []string{"var." + block.Labels[0]}
	case block.Type == "resource" && len(block.Labels) == 2:
		return []string{strings.Join(block.Labels, ".")}
	case block.Type == "data" && len(block.Labels) == 2:
		return []string{"data." + strings.Join(block.Labels, ".")}
	case block.Type == "output" && len(block.Labels) == 1:
		return []string{"output." + block.Labels[0]}
	case block.Type == "locals":
		var names []string
		for name := range block.Body.Attributes {
			names = append(names, "local."+name)
		}
		return names
	case block.Type != "terraform" && block.Type != "provider":
		t.Errorf("%s: an unexpected %s", block.DefRange(), block.Type)
	}
	return nil
}

// references collects what the expressions of a block refer to, without attributes.
func references(block *hclsyntax.Block, used map[string]hcl.Range) {
	for name, attribute := range block.Body.Attributes {
		if block.Type == "variable" && name == "type" {
			continue // keywords, such as string
		}
		for _, traversal := range attribute.Expr.Variables() {
			parts := 2
			if traversal.RootName() == "data" {
				parts = 3
			}
			var names []string
			for _, step := range traversal[:min(parts, len(traversal))] {
				switch s := step.(type) {
				case hcl.TraverseRoot:
					names = append(names, s.Name)
				case hcl.TraverseAttr:
					names = append(names, s.Name)
				}
			}
			used[strings.Join(names, ".")] = traversal.SourceRange()
		}
	}
	for _, inner := range block.Body.Blocks {
		references(inner, used)
	}
}

// chartValues checks the values of a release, an object in yamlencode, against the chart's.
func chartValues(t *testing.T, where string, expr hcl.Expression, path string) {
	t.Helper()
	switch e := expr.(type) {
	case *hclsyntax.TupleConsExpr:
		for _, inner := range e.Exprs {
			chartValues(t, where, inner, path)
		}
	case *hclsyntax.FunctionCallExpr:
		for _, inner := range e.Args {
			chartValues(t, where, inner, path)
		}
	case *hclsyntax.ObjectConsExpr:
		for _, item := range e.Items {
			chartValues(t, where, item.ValueExpr, path+"."+hcl.ExprAsKeyword(item.KeyExpr))
		}
	default:
		checkValue(t, where, strings.TrimPrefix(path, "."))
	}
}
