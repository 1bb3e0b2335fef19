package document

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/template/parse"

	"akv-csi-provider/provider/tree"
)

// paths are the JMESPath expressions of a template, by the text in it.
type paths map[string]*tree.Path

// maxErrors bounds the errors of one template.
const maxErrors = 20

// checker finds everything in a template that this package does not execute, and what the
// template refers to.
type checker struct {
	text       string
	errors     []*Error
	references []Reference
	paths      paths
}

// scope is where a node stands.
type scope struct {
	dot    bool // a range or with sets .
	nested int
}

func (s scope) inner() scope { return scope{s.dot, s.nested + 1} }

func (c *checker) add(n parse.Node, format string, args ...any) {
	if len(c.errors) < maxErrors {
		c.errors = append(c.errors, &Error{lineOf(c.text, n), fmt.Sprintf(format, args...)})
	}
}

// tooDeep reports a node that is nested too deep to go on.
func (c *checker) tooDeep(n parse.Node, s scope) bool {
	if s.nested > maxNesting {
		c.add(n, "nested more than %d levels deep", maxNesting)
		return true
	}
	return false
}

func (c *checker) list(l *parse.ListNode, s scope) {
	if l == nil || c.tooDeep(l, s) {
		return
	}
	for _, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.TextNode, *parse.CommentNode, *parse.BreakNode, *parse.ContinueNode:
		case *parse.ActionNode:
			c.pipe(n.Pipe, s)
		case *parse.IfNode:
			c.branch(&n.BranchNode, s, s.dot)
		case *parse.WithNode:
			c.branch(&n.BranchNode, s, true)
		case *parse.RangeNode:
			if n.Pipe.IsAssign {
				c.add(n, "range takes := and not =")
			}
			c.branch(&n.BranchNode, s, true)
		case *parse.TemplateNode:
			c.add(n, "template and block are not supported")
		default:
			c.add(n, "this is not supported")
		}
	}
}

// branch checks an if, with or range. In its first list . has a value if dot says so.
func (c *checker) branch(b *parse.BranchNode, s scope, dot bool) {
	c.pipe(b.Pipe, s)
	c.list(b.List, scope{dot, s.nested + 1})
	c.list(b.ElseList, s.inner())
}

func (c *checker) pipe(p *parse.PipeNode, s scope) {
	if c.tooDeep(p, s) {
		return
	}
	for i, command := range p.Cmds {
		c.command(command, i > 0, s)
	}
}

func (c *checker) command(command *parse.CommandNode, piped bool, s scope) {
	if name, ok := command.Args[0].(*parse.IdentifierNode); ok {
		c.function(name, command.Args[1:], piped, s)
		return
	}
	if len(command.Args) > 1 || piped {
		c.add(command, "%s is not a function", quote(command.Args[0].String()))
	}
	c.operand(command.Args[0], s)
}

// operand checks what stands for a value, other than a function.
func (c *checker) operand(n parse.Node, s scope) {
	switch n := n.(type) {
	case *parse.PipeNode:
		c.pipe(n, s.inner())
	case *parse.StringNode, *parse.BoolNode:
	case *parse.NumberNode:
		if !n.IsInt || int64(int32(n.Int64)) != n.Int64 {
			c.add(n, "%s is not an integer that is supported", quote(n.Text))
		}
	case *parse.DotNode:
		if !s.dot {
			c.add(n, ". has no value outside of range and with")
		}
	case *parse.FieldNode:
		if !s.dot {
			c.add(n, "%s has no value outside of a range over find", quote(n.String()))
		}
		c.field(n, n.Ident)
	case *parse.VariableNode:
		if n.Ident[0] == "$" {
			c.add(n, "$ has no value")
		}
		c.field(n, n.Ident[1:])
	case *parse.IdentifierNode:
		c.add(n, "put parentheses around %s and its arguments", quote(n.Ident))
	default: // nil, and fields of what is in parentheses
		c.add(n, "%s is not supported", quote(n.String()))
	}
}

func (c *checker) field(n parse.Node, names []string) {
	if len(names) > 1 || len(names) == 1 && names[0] != "Name" && names[0] != "Value" {
		c.add(n, "%s is not a field: a result of find has .Name and .Value", quote(n.String()))
	}
}

func (c *checker) function(name *parse.IdentifierNode, args []parse.Node, piped bool, s scope) {
	switch kind := Kind(name.Ident); kind {
	case Secret, Certificate, Key, Find:
		c.reference(name, kind, args, piped)
		return
	}
	f, ok := functions[name.Ident]
	if !ok {
		c.add(name, "there is no function %s", quote(name.Ident))
		return
	}
	for _, arg := range args {
		c.operand(arg, s)
	}
	n := len(args)
	if piped {
		n++
	}
	if n < f.least || n > len(f.params) && !f.more {
		c.add(name, "%s has %d arguments, which is not what it takes", name.Ident, n)
		return
	}
	switch name.Ident {
	case "json", "yaml":
		c.path(name, args)
	case "printf":
		c.format(name, args, n-1)
	}
}

// reference checks an argument that is needed before the template is executed.
func (c *checker) reference(name *parse.IdentifierNode, kind Kind, args []parse.Node, piped bool) {
	text, ok := literal(args)
	if !ok || len(args) != 1 || piped {
		c.add(name, "%s takes one text in quotes, so that it is known what to read", kind)
		return
	}
	source := Source{kind, text}
	if !slices.ContainsFunc(c.references, func(r Reference) bool { return r.Source == source }) {
		c.references = append(c.references, Reference{source, lineOf(c.text, name)})
	}
}

// literal is the first argument, if it is a text.
func literal(args []parse.Node) (string, bool) {
	if len(args) == 0 {
		return "", false
	}
	text, ok := args[0].(*parse.StringNode)
	if !ok {
		return "", false
	}
	return text.Text, true
}

func (c *checker) path(name *parse.IdentifierNode, args []parse.Node) {
	text, ok := literal(args)
	if !ok {
		c.add(name, "%s takes a JMESPath expression in quotes, then a value", name.Ident)
		return
	}
	path, err := tree.ParsePath(text)
	if err != nil {
		c.add(name, "%s %s %v", name.Ident, quote(text), err)
		return
	}
	c.paths[text] = path
}

// verb is a verb of fmt with its flags, width and precision, which are bounded.
var verb = regexp.MustCompile(`^%[-+# 0]*[0-9]{0,3}(\.[0-9]{0,3})?[svdqx]`)

// format checks the format of printf for a number of arguments.
func (c *checker) format(name *parse.IdentifierNode, args []parse.Node, n int) {
	format, ok := literal(args)
	if !ok {
		c.add(name, "printf takes a format in quotes")
		return
	}
	verbs := 0
	for rest := format; ; {
		at := strings.IndexByte(rest, '%')
		if at < 0 {
			break
		}
		rest = rest[at:]
		if after, ok := strings.CutPrefix(rest, "%%"); ok {
			rest = after
			continue
		}
		found := verb.FindString(rest)
		if found == "" {
			c.add(name, "printf takes the verbs %%s, %%v, %%d, %%q, %%x and %%%%")
			return
		}
		rest = rest[len(found):]
		verbs++
	}
	if verbs != n {
		c.add(name, "printf has %d verbs for %d arguments", verbs, n)
	}
}
