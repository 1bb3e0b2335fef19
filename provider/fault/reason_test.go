package fault_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"testing"

	"akv-csi-provider/provider/fault"
)

// Each constant is in the list, once, under the word that is its name.
func TestReasonsAreComplete(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	listed := make(map[fault.Reason]int)
	sentence := regexp.MustCompile(`^[A-Z][^\n]*\.$`)
	for _, r := range fault.Reasons {
		listed[r.Reason]++
		if !sentence.MatchString(r.Meaning) {
			t.Errorf("%s: %q is not one sentence", r.Reason, r.Meaning)
		}
	}
	constants := 0
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, spec := range group.Specs {
			value := spec.(*ast.ValueSpec)
			kind, ok := value.Type.(*ast.Ident)
			if !ok || kind.Name != "Reason" || len(value.Values) != 1 {
				t.Errorf("%s is no plain Reason", value.Names[0])
				continue
			}
			constants++
			text, err := strconv.Unquote(value.Values[0].(*ast.BasicLit).Value)
			if err != nil || text != value.Names[0].Name {
				t.Errorf("%s has the text %q", value.Names[0], text)
			}
			if n := listed[fault.Reason(text)]; n != 1 {
				t.Errorf("%s is listed %d times", text, n)
			}
		}
	}
	if constants == 0 || constants != len(fault.Reasons) {
		t.Errorf("%d constants, %d in the list", constants, len(fault.Reasons))
	}
}
