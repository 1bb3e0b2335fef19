package tree

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jmespath-community/go-jmespath/pkg/parsing"
)

// MaxExpression bounds the bytes of an expression, and with them its depth.
const MaxExpression = 1024

// Bounds of evaluations. A step is a node of the expression that is
// evaluated for a value, or a value that it touches, and takes less than a microsecond.
const (
	maxSteps  = 1 << 18
	maxResult = 1 << 20 // bytes of what a file gets
)

// Budget is the number of steps that several evaluations may take together.
type Budget int

// NewBudget is that of one object.
func NewBudget() Budget { return maxSteps }

// Path is a JMESPath expression (https://jmespath.org/specification.html).
//
// The grammar is that of a library, the evaluation is not: the libraries for Go have no bounds
// (`[@,@][]|[@,@][]|…` doubles a list with each ten characters, up to all memory), make a
// float64 of every number, and walk over objects in random order.
type Path struct {
	text string
	root parsing.ASTNode
}

// String returns the expression.
func (p *Path) String() string { return p.text }

// The errors of an expression, beside those of its syntax and of its functions.
var (
	errReference  = errors.New("uses & outside of a function's arguments")
	errExpression = errors.New("is longer than 1024 bytes")
	ErrSteps      = errors.New("takes too many steps on this value")
	ErrResult     = errors.New("selects more than 1048576 bytes of this value")
)

// ParsePath reads an expression. The text of its error may quote the expression, which is part of
// the class.
func ParsePath(text string) (_ *Path, err error) {
	if len(text) > MaxExpression {
		return nil, errExpression
	}
	defer func() {
		if recover() != nil { // the parser has been seen to read behind its last token
			err = errors.New("is not a JMESPath expression")
		}
	}()
	root, err := parsing.NewParser().Parse(text)
	if err != nil {
		if syntax, ok := errors.AsType[parsing.SyntaxError](err); ok {
			return nil, errors.New("is not a JMESPath expression: " + where(text, syntax.Offset))
		}
		return nil, errors.New("is not a JMESPath expression")
	}
	if root.NodeType == parsing.ASTExpRef {
		return nil, errReference
	}
	if err := checkNode(&root); err != nil {
		return nil, err
	}
	return &Path{text, root}, nil
}

// nameRule is what an author mostly overlooks: keys of JSON often have hyphens, dots and colons.
const nameRule = "a name with other characters than letters, digits and _ needs double quotes"

// where says where the syntax is wrong, and why if a name is the likely cause: then it is wrong at a
// character that JMESPath does not have between names.
func where(text string, offset int) string {
	if offset >= len(text) {
		return "it ends too early"
	}
	for offset = max(offset, 0); offset > 0 && !utf8.RuneStart(text[offset]); {
		offset--
	}
	wrong, _ := utf8.DecodeRuneInString(text[offset:])
	at := fmt.Sprintf("unexpected %q at character %d", wrong, utf8.RuneCountInString(text[:offset])+1)
	if strings.ContainsRune(".[]{}()*|&!,<>=?@\"'`", wrong) {
		return at
	}
	return at + " (" + nameRule + ")"
}

// checkNode refuses what is not part of the specification, in which an expression sees nothing
// but the value before it, and the functions that do not exist.
func checkNode(n *parsing.ASTNode) error {
	switch n.NodeType {
	case parsing.ASTRootNode, parsing.ASTLetExpression, parsing.ASTVariable, parsing.ASTBindings, parsing.ASTBinding, parsing.ASTEmpty:
		return errors.New("uses an extension of JMESPath: variables and arithmetic are not supported")
	case parsing.ASTArithmeticExpression, parsing.ASTArithmeticUnaryExpression: // mostly a name such as client-id
		return errors.New("uses an extension of JMESPath: variables and arithmetic are not supported (" + nameRule + ")")
	case parsing.ASTLiteral:
		n.Value = numbers(n.Value)
	case parsing.ASTFunctionExpression:
		name := n.Value.(string)
		f, ok := functions[name]
		if !ok {
			return fmt.Errorf("calls %.64q, which is not a JMESPath function", name)
		}
		if len(n.Children) < len(f.args) || len(n.Children) > len(f.args) && !f.variadic {
			return fmt.Errorf("calls %s with %d arguments", name, len(n.Children))
		}
		for i := range n.Children {
			if (n.Children[i].NodeType == parsing.ASTExpRef) != (f.args[min(i, len(f.args)-1)] == expression) {
				return fmt.Errorf("calls %s with an argument of the wrong type", name)
			}
		}
	case parsing.ASTSlice:
		if step := n.Value.([]*int)[2]; step != nil && *step == 0 {
			return errors.New("has a slice with step 0")
		}
	}
	for i := range n.Children {
		if n.Children[i].NodeType == parsing.ASTExpRef && n.NodeType != parsing.ASTFunctionExpression {
			return errReference
		}
		if err := checkNode(&n.Children[i]); err != nil {
			return err
		}
	}
	return nil
}

// Find evaluates the expression. Nothing was found if the result is null. The text of its error
// contains no part of the value.
func (p *Path) Find(root any, budget *Budget) (result any, found bool, err error) {
	e := evaluation{steps: int(*budget)}
	defer func() {
		*budget = Budget(e.steps)
		switch failed := recover().(type) {
		case nil:
		case failure:
			result, found, err = nil, false, failed.error
		default:
			panic(failed)
		}
	}()
	result = e.eval(&p.root, root)
	if size := e.size(result); size > maxResult {
		return nil, false, ErrResult
	}
	return result, result != nil, nil
}

// Quote is the expression for a message.
func (p *Path) Quote() string { return fmt.Sprintf("%.64q", strings.ToValidUTF8(p.text, "�")) }
