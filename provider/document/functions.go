package document

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"text/template/parse"

	"akv-csi-provider/provider/tree"
)

// function is a function of templates.
type function struct {
	// params has a letter for each parameter: s is a text, i an integer, v a text, an integer
	// or a boolean, a anything.
	params string
	least  int  // number of arguments
	more   bool // the last parameter may be there any number of times
	call   func(x *execution, args []any) (any, error)
}

// functions are all but those that refer to objects. The reference of the project lists them.
// The package variable is set by init, because the functions call the execution.
var functions map[string]function

func init() {
	functions = map[string]function{
		"json":    {"sa", 2, false, func(x *execution, args []any) (any, error) { return x.selected("json", tree.ParseJSON, args) }},
		"yaml":    {"sa", 2, false, func(x *execution, args []any) (any, error) { return x.selected("yaml", tree.ParseYAML, args) }},
		"b64enc":  {"s", 1, false, text(4.0/3, func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) })},
		"b64dec":  {"s", 1, false, decodeBase64},
		"hex":     {"s", 1, false, text(2, func(s string) string { return hex.EncodeToString([]byte(s)) })},
		"quote":   {"v", 0, true, func(x *execution, args []any) (any, error) { return x.quoted(args, "%q") }},
		"squote":  {"v", 0, true, func(x *execution, args []any) (any, error) { return x.quoted(args, "'%s'") }},
		"indent":  {"is", 2, false, func(x *execution, args []any) (any, error) { return x.indent(args, "") }},
		"nindent": {"is", 2, false, func(x *execution, args []any) (any, error) { return x.indent(args, "\n") }},
		"trim":    {"s", 1, false, text(1, strings.TrimSpace)},
		"trimPrefix": {"ss", 2, false, func(_ *execution, args []any) (any, error) {
			return strings.TrimPrefix(args[1].(string), args[0].(string)), nil
		}},
		"trimSuffix": {"ss", 2, false, func(_ *execution, args []any) (any, error) {
			return strings.TrimSuffix(args[1].(string), args[0].(string)), nil
		}},
		"upper":    {"s", 1, false, text(3, strings.ToUpper)},
		"lower":    {"s", 1, false, text(3, strings.ToLower)},
		"replace":  {"sss", 3, false, replace},
		"default":  {"aa", 1, false, fallback},
		"toJson":   {"a", 1, false, toJSON},
		"urlquery": {"v", 0, true, func(x *execution, args []any) (any, error) { return x.print(args, 3, url.QueryEscape) }},

		// Of text/template:
		"and": {"a", 1, true, nil}, // see execution.logic
		"or":  {"a", 1, true, nil},
		"not": {"a", 1, false, func(_ *execution, args []any) (any, error) { return !isTrue(args[0]), nil }},
		"eq":  {"vv", 2, true, equal},
		"ne":  {"vv", 2, false, order(func(c int) bool { return c != 0 }, true)},
		"lt":  {"vv", 2, false, order(func(c int) bool { return c < 0 }, false)},
		"le":  {"vv", 2, false, order(func(c int) bool { return c <= 0 }, false)},
		"gt":  {"vv", 2, false, order(func(c int) bool { return c > 0 }, false)},
		"ge":  {"vv", 2, false, order(func(c int) bool { return c >= 0 }, false)},
		"len": {"a", 1, false, length},
		"print": {"v", 0, true, func(x *execution, args []any) (any, error) {
			return x.print(args, 1, func(s string) string { return s })
		}},
		"printf": {"sv", 1, true, printf},
	}
}

// function calls a function. The value before it in the pipe, if there is one, is its last
// argument.
func (x *execution) function(dot any, name *parse.IdentifierNode, nodes []parse.Node, final any, piped bool) (any, error) {
	switch kind := Kind(name.Ident); kind {
	case Secret, Certificate, Key, Find:
		return x.source(Source{kind, nodes[0].(*parse.StringNode).Text})
	}
	if name.Ident == "and" || name.Ident == "or" {
		return x.logic(dot, name.Ident == "or", nodes, final, piped)
	}
	f := functions[name.Ident]
	args := make([]any, 0, len(nodes)+1)
	for _, n := range nodes {
		arg, err := x.operand(dot, n)
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
	}
	if piped {
		args = append(args, final)
	}
	size := 0
	for i, arg := range args {
		if err := checkArgument(name.Ident, f.params[min(i, len(f.params)-1)], i, arg); err != nil {
			return nil, err
		}
		if text, ok := arg.(string); ok {
			size += len(text) / 16 // it is read
		}
	}
	if x.work -= size; x.work < 0 {
		return nil, errWork
	}
	return f.call(x, args)
}

// checkArgument checks the type of an argument.
func checkArgument(name string, param byte, i int, arg any) error {
	_, isText := arg.(string)
	_, isInt := arg.(int)
	_, isBool := arg.(bool)
	switch {
	case param == 'a', param == 's' && isText, param == 'i' && isInt, param == 'v' && (isText || isInt || isBool):
		return nil
	case param == 's' && (isInt || isBool):
		return fmt.Errorf("argument %d of %s is not text", i+1, name)
	case param == 'i':
		return fmt.Errorf("argument %d of %s is not an integer", i+1, name)
	}
	_, err := printed(arg)
	return err
}

func (x *execution) source(s Source) (any, error) {
	if s.Kind == Find {
		if matches, ok := x.values.Matches[s]; ok {
			return matches, nil
		}
	} else if text, ok := x.values.Texts[s]; ok {
		return text, nil
	}
	return nil, fmt.Errorf("%s %s has not been read", s.Kind, quote(s.Name))
}

// selected is what a path finds in a value. A value is parsed once for each execution.
func (x *execution) selected(name string, read func(string) (any, error), args []any) (any, error) {
	path := x.paths[args[0].(string)]
	text, ok := args[1].(string)
	if !ok {
		if _, err := printed(args[1]); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("argument 2 of %s is not text", name)
	}
	root, known := x.trees[name+text]
	if !known {
		const cost = 64 // a parser takes longer than a copy
		if x.work -= cost * len(text); x.work < 0 {
			return nil, errWork
		}
		var err error
		if root, err = read(text); err != nil {
			root = err
		}
		x.trees[name+text] = root
		// Aliases make many values of a short text, and each tree stays.
		const perValue = 256
		if x.work -= perValue * tree.Count(root); x.work < 0 {
			return nil, errWork
		}
	}
	if err, ok := root.(error); ok {
		return nil, fmt.Errorf("the value that %s gets %w", name, err)
	}
	value, found, err := path.Find(root, &x.budget)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s %s %w", name, path.Quote(), err)
	case !found:
		return missing(fmt.Sprintf("%s %s matches nothing in its value", name, path.Quote())), nil
	}
	content := tree.Content(value)
	return string(content), x.spend(len(content))
}

// text makes a function of one text, which grows at most by a factor.
func text(factor float64, f func(string) string) func(*execution, []any) (any, error) {
	return func(x *execution, args []any) (any, error) {
		s := args[0].(string)
		if err := x.spend(len(s)); err != nil {
			return nil, err
		}
		if x.work -= int(factor * float64(len(s))); x.work < 0 {
			return nil, errWork
		}
		result := f(s)
		return result, x.spend(len(result))
	}
}

func decodeBase64(x *execution, args []any) (any, error) {
	content, err := base64.StdEncoding.DecodeString(args[0].(string))
	if err != nil { // its text quotes a byte of the value
		return nil, errors.New("the value that b64dec gets is not valid base64")
	}
	return string(content), x.spend(len(content))
}

// quoted is each argument in quotes, with spaces between them.
func (x *execution) quoted(args []any, format string) (any, error) {
	texts := make([]string, len(args))
	size := 0
	for i, arg := range args {
		s, err := printed(arg)
		if err != nil {
			return nil, err
		}
		size += len(s)
		if err := x.spend(size); err != nil {
			return nil, err
		}
		texts[i] = fmt.Sprintf(format, s)
		size += len(texts[i]) - len(s)
	}
	result := strings.Join(texts, " ")
	return result, x.spend(len(result))
}

func (x *execution) indent(args []any, before string) (any, error) {
	spaces, s := args[0].(int), args[1].(string)
	if spaces < 0 || spaces > 1000 {
		return nil, errors.New("the indent is not from 0 to 1000")
	}
	if err := x.spend(len(s) + spaces*(1+strings.Count(s, "\n")) + len(before)); err != nil {
		return nil, err
	}
	pad := strings.Repeat(" ", spaces)
	return before + pad + strings.ReplaceAll(s, "\n", "\n"+pad), nil
}

// replace takes the text last, as Sprig's does, so that it can stand in a pipe.
func replace(x *execution, args []any) (any, error) {
	old, by, s := args[0].(string), args[1].(string), args[2].(string)
	if err := x.spend(len(s) + strings.Count(s, old)*(len(by)-len(old))); err != nil {
		return nil, err
	}
	return strings.ReplaceAll(s, old, by), nil
}

// fallback is Sprig's default: its first argument, if the second is empty or not there.
func fallback(_ *execution, args []any) (any, error) {
	if len(args) == 1 || !isTrue(args[1]) {
		return args[0], nil
	}
	return args[1], nil
}

func toJSON(x *execution, args []any) (any, error) {
	size := 0
	switch value := args[0].(type) {
	case missing:
		return nil, errors.New(string(value))
	case string:
		size = len(value)
	case []Match:
		for _, m := range value {
			size += len(m.Name) + len(m.Value)
		}
	}
	if err := x.spend(size); err != nil {
		return nil, err
	}
	content, err := json.Marshal(args[0])
	if err != nil {
		return nil, errors.New("toJson cannot write this value")
	}
	return string(content), x.spend(len(content))
}
