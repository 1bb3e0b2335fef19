package document

import (
	"errors"
	"fmt"
	"text/template/parse"

	"akv-csi-provider/provider/tree"
)

var (
	errSteps = errors.New("the template takes too many steps")
	errWork  = errors.New("the functions of the template read and write too much")
)

// execution is one execution of a template. The values in it are string, int, bool, []Match,
// Match and missing.
type execution struct {
	*Template
	values    Values
	limit     int // bytes of the output, and of each value
	out       []byte
	variables []variable
	steps     int
	work      int
	budget    tree.Budget
	trees     map[string]any // parsed values, or their error; by function and text
}

type variable struct {
	name  string
	value any
}

// Execute writes the document. The error is an *Error; it names the line and contains no value.
// The document has at most limit bytes.
func (t *Template) Execute(values Values, limit int) ([]byte, error) {
	x := execution{Template: t, values: values, limit: limit, steps: maxSteps, work: maxWork, budget: tree.NewBudget(), trees: make(map[string]any)}
	if _, err := x.list(nil, t.root); err != nil {
		return nil, err
	}
	return x.out, nil
}

// fail is the error of a node. An error of an inner node stays.
func (x *execution) fail(n parse.Node, err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{lineOf(x.text, n), err.Error()}
}

func (x *execution) step(n parse.Node) error {
	if x.steps--; x.steps < 0 {
		return x.fail(n, errSteps)
	}
	return nil
}

// spend charges for bytes that are going to be written or read.
func (x *execution) spend(n int) error {
	if n > x.limit {
		return fmt.Errorf("a value or the document would be longer than %d bytes", x.limit)
	}
	if x.work -= n; x.work < 0 {
		return errWork
	}
	return nil
}

// jump is how a list ended.
type jump int

const (
	toNext jump = iota
	toBreak
	toContinue
)

func (x *execution) list(dot any, l *parse.ListNode) (jump, error) {
	if l == nil {
		return toNext, nil
	}
	for _, n := range l.Nodes {
		if err := x.step(n); err != nil {
			return toNext, err
		}
		next, err := x.node(dot, n)
		if err != nil || next != toNext {
			return next, err
		}
	}
	return toNext, nil
}

func (x *execution) node(dot any, n parse.Node) (jump, error) {
	switch n := n.(type) {
	case *parse.TextNode:
		return toNext, x.write(n, string(n.Text))
	case *parse.ActionNode:
		value, err := x.pipe(dot, n.Pipe)
		if err == nil && len(n.Pipe.Decl) == 0 {
			var text string
			if text, err = printed(value); err == nil {
				return toNext, x.write(n, text)
			}
			err = x.fail(n, err)
		}
		return toNext, err
	case *parse.IfNode:
		return x.branch(dot, &n.BranchNode, false)
	case *parse.WithNode:
		return x.branch(dot, &n.BranchNode, true)
	case *parse.RangeNode:
		return x.loop(dot, n)
	case *parse.BreakNode:
		return toBreak, nil
	case *parse.ContinueNode:
		return toContinue, nil
	}
	return toNext, nil // a comment
}

func (x *execution) write(n parse.Node, text string) error {
	if len(x.out)+len(text) > x.limit {
		return x.fail(n, fmt.Errorf("the document would be longer than %d bytes", x.limit))
	}
	x.out = append(x.out, text...)
	return nil
}

// leave ends the scope of the variables after the first n.
func (x *execution) leave(n int) { x.variables = x.variables[:n] }

func (x *execution) branch(dot any, b *parse.BranchNode, with bool) (jump, error) {
	defer x.leave(len(x.variables))
	value, err := x.pipe(dot, b.Pipe)
	switch {
	case err != nil:
		return toNext, err
	case !isTrue(value):
		return x.list(dot, b.ElseList)
	case with:
		dot = value
	}
	return x.list(dot, b.List)
}

func (x *execution) loop(dot any, r *parse.RangeNode) (jump, error) {
	defer x.leave(len(x.variables))
	value, err := x.commands(dot, r.Pipe)
	if err != nil {
		return toNext, err
	}
	matches, ok := value.([]Match)
	if !ok {
		return toNext, x.fail(r, errors.New("range takes the results of find only"))
	}
	for i, match := range matches {
		if err := x.step(r); err != nil {
			return toNext, err
		}
		scope := len(x.variables)
		if declared := r.Pipe.Decl; len(declared) > 0 {
			if len(declared) > 1 {
				x.declare(declared[0], i)
			}
			x.declare(declared[len(declared)-1], match)
		}
		next, err := x.list(match, r.List)
		x.leave(scope)
		if err != nil {
			return toNext, err
		}
		if next == toBreak {
			break
		}
	}
	if len(matches) == 0 {
		return x.list(dot, r.ElseList)
	}
	return toNext, nil
}

func (x *execution) declare(v *parse.VariableNode, value any) {
	x.variables = append(x.variables, variable{v.Ident[0], value})
}

// find returns the variable that was declared last with the name. To the parser, = declares one
// too.
func (x *execution) find(v *parse.VariableNode) (*variable, error) {
	for i := len(x.variables) - 1; i >= 0; i-- {
		if i%64 == 63 { // a template can declare thousands
			if err := x.step(v); err != nil {
				return nil, err
			}
		}
		if x.variables[i].name == v.Ident[0] {
			return &x.variables[i], nil
		}
	}
	return nil, x.fail(v, fmt.Errorf("%s has not been declared with :=", v.Ident[0]))
}

func (x *execution) pipe(dot any, p *parse.PipeNode) (any, error) {
	value, err := x.commands(dot, p)
	if err != nil {
		return nil, err
	}
	for _, v := range p.Decl {
		if !p.IsAssign {
			x.declare(v, value)
			continue
		}
		known, err := x.find(v)
		if err != nil {
			return nil, err
		}
		known.value = value
	}
	return value, nil
}

func (x *execution) commands(dot any, p *parse.PipeNode) (value any, err error) {
	for i, command := range p.Cmds {
		if err := x.step(command); err != nil {
			return nil, err
		}
		name, ok := command.Args[0].(*parse.IdentifierNode)
		if !ok {
			value, err = x.operand(dot, command.Args[0])
		} else {
			value, err = x.function(dot, name, command.Args[1:], value, i > 0)
		}
		if err != nil {
			return nil, x.fail(command, err)
		}
	}
	return value, nil
}

func (x *execution) operand(dot any, n parse.Node) (any, error) {
	if err := x.step(n); err != nil {
		return nil, err
	}
	switch n := n.(type) {
	case *parse.StringNode:
		return n.Text, nil
	case *parse.NumberNode:
		return int(n.Int64), nil
	case *parse.BoolNode:
		return n.True, nil
	case *parse.PipeNode:
		return x.pipe(dot, n)
	case *parse.DotNode:
		return dot, nil
	case *parse.FieldNode:
		return x.field(n, dot, n.Ident)
	case *parse.VariableNode:
		known, err := x.find(n)
		if err != nil {
			return nil, err
		}
		return x.field(n, known.value, n.Ident[1:])
	}
	return nil, x.fail(n, errors.New("this is not supported")) // the checker refuses it
}

func (x *execution) field(n parse.Node, value any, names []string) (any, error) {
	if len(names) == 0 {
		return value, nil
	}
	match, ok := value.(Match)
	if !ok {
		return nil, x.fail(n, fmt.Errorf("%s is not a field of this value: only a result of find has fields", quote("."+names[0])))
	}
	if names[0] == "Name" {
		return match.Name, nil
	}
	return match.Value, nil
}
