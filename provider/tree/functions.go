package tree

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jmespath-community/go-jmespath/pkg/parsing"
)

// kind is a set of types that an argument may have.
type kind uint

const (
	isNull kind = 1 << iota
	isBool
	isNumber
	isString
	isList
	isObject
	expression // &…

	anything = isNull | isBool | isNumber | isString | isList | isObject
)

func kindOf(value any) kind {
	switch value.(type) {
	case bool:
		return isBool
	case json.Number:
		return isNumber
	case string:
		return isString
	case []any:
		return isList
	case map[string]any:
		return isObject
	}
	return isNull
}

var kindNames = map[kind]string{isNull: "null", isBool: "boolean", isNumber: "number", isString: "string", isList: "array", isObject: "object"}

type function struct {
	args     []kind
	variadic bool // the last argument may be there more than once
	call     func(e *evaluation, args []any) any
}

// key evaluates the expression of an argument.
type key func(value any) any

// functions are those of the specification. Init breaks the cycle of the declarations.
var functions map[string]function

func init() {
	functions = map[string]function{
		"abs": {args: []kind{isNumber}, call: func(_ *evaluation, args []any) any {
			return json.Number(strings.TrimPrefix(string(args[0].(json.Number)), "-"))
		}},
		"avg":       {args: []kind{isList}, call: average},
		"ceil":      {args: []kind{isNumber}, call: func(_ *evaluation, args []any) any { return round(args[0], math.Ceil) }},
		"contains":  {args: []kind{isList | isString, anything}, call: contains},
		"ends_with": {args: []kind{isString, isString}, call: func(_ *evaluation, args []any) any { return strings.HasSuffix(args[0].(string), args[1].(string)) }},
		"floor":     {args: []kind{isNumber}, call: func(_ *evaluation, args []any) any { return round(args[0], math.Floor) }},
		"join":      {args: []kind{isString, isList}, call: join},
		"keys":      {args: []kind{isObject}, call: keys},
		"length":    {args: []kind{isString | isList | isObject}, call: length},
		"map":       {args: []kind{expression, isList}, call: mapList},
		"max":       {args: []kind{isList}, call: func(e *evaluation, args []any) any { return e.extreme(args[0], identity, 1) }},
		"max_by":    {args: []kind{isList, expression}, call: func(e *evaluation, args []any) any { return e.extreme(args[0], args[1].(key), 1) }},
		"merge":     {args: []kind{isObject}, variadic: true, call: merge},
		"min":       {args: []kind{isList}, call: func(e *evaluation, args []any) any { return e.extreme(args[0], identity, -1) }},
		"min_by":    {args: []kind{isList, expression}, call: func(e *evaluation, args []any) any { return e.extreme(args[0], args[1].(key), -1) }},
		"not_null":  {args: []kind{anything}, variadic: true, call: notNull},
		"reverse":   {args: []kind{isList | isString}, call: reverse},
		"sort":      {args: []kind{isList}, call: func(e *evaluation, args []any) any { return e.sort(args[0], identity) }},
		"sort_by":   {args: []kind{isList, expression}, call: func(e *evaluation, args []any) any { return e.sort(args[0], args[1].(key)) }},
		"starts_with": {args: []kind{isString, isString}, call: func(_ *evaluation, args []any) any {
			return strings.HasPrefix(args[0].(string), args[1].(string))
		}},
		"sum":       {args: []kind{isList}, call: func(e *evaluation, args []any) any { return newNumber(e.sum(args[0])) }},
		"to_array":  {args: []kind{anything}, call: toArray},
		"to_number": {args: []kind{anything}, call: toNumber},
		"to_string": {args: []kind{anything}, call: toString},
		"type":      {args: []kind{anything}, call: func(_ *evaluation, args []any) any { return kindNames[kindOf(args[0])] }},
		"values":    {args: []kind{isObject}, call: func(e *evaluation, args []any) any { return e.values(args[0].(map[string]any)) }},
	}
}

func identity(value any) any { return value }

// call evaluates the arguments and calls a function. Its number of arguments was checked before.
func (e *evaluation) call(n *parsing.ASTNode, value any) any {
	name := n.Value.(string)
	f := functions[name]
	args := make([]any, len(n.Children))
	for i := range n.Children {
		want := f.args[min(i, len(f.args)-1)]
		if want == expression {
			body := &n.Children[i].Children[0]
			args[i] = key(func(value any) any { return e.eval(body, value) })
			continue
		}
		args[i] = e.eval(&n.Children[i], value)
		if kindOf(args[i])&want == 0 {
			e.wrongType(name)
		}
		e.read(args[i])
	}
	return f.call(e, args)
}

func (e *evaluation) wrongType(name string) {
	panic(failure{fmt.Errorf("calls %s on a value of a type that it does not support", name)})
}

func (e *evaluation) sum(list any) (total float64) {
	for _, element := range list.([]any) {
		e.charge(1)
		n, ok := element.(json.Number)
		if !ok {
			e.wrongType("sum or avg")
		}
		e.read(n)
		total += float(n)
	}
	return total
}

func average(e *evaluation, args []any) any {
	if n := len(args[0].([]any)); n > 0 {
		return newNumber(e.sum(args[0]) / float64(n))
	}
	return nil
}

func round(value any, f func(float64) float64) any {
	if n := value.(json.Number); isInteger(n) {
		return n
	}
	return newNumber(f(float(value.(json.Number))))
}

func contains(e *evaluation, args []any) any {
	if text, ok := args[0].(string); ok {
		part, ok := args[1].(string)
		return ok && strings.Contains(text, part)
	}
	return slices.ContainsFunc(args[0].([]any), func(element any) bool { return e.equal(element, args[1]) })
}

func join(e *evaluation, args []any) any {
	glue, list := args[0].(string), args[1].([]any)
	texts := make([]string, len(list))
	for i, element := range list {
		text, ok := element.(string)
		if !ok {
			e.wrongType("join")
		}
		e.charge(1 + (len(text)+len(glue))/16)
		texts[i] = text
	}
	return strings.Join(texts, glue)
}

func keys(e *evaluation, args []any) any {
	members, _ := Members(args[0])
	e.charge(2 * len(members))
	list := make([]any, len(members))
	for i, m := range members {
		list[i] = m.Key
	}
	return list
}

func length(_ *evaluation, args []any) any {
	n := 0
	switch value := args[0].(type) {
	case string:
		n = utf8.RuneCountInString(value)
	case []any:
		n = len(value)
	case map[string]any:
		n = len(value)
	}
	return newNumber(float64(n))
}

func mapList(e *evaluation, args []any) any {
	list := args[1].([]any)
	e.charge(len(list))
	results := make([]any, len(list))
	for i, element := range list {
		results[i] = args[0].(key)(element)
	}
	return results
}

func merge(e *evaluation, args []any) any {
	merged := make(map[string]any)
	for _, arg := range args {
		for name, value := range arg.(map[string]any) {
			e.charge(1)
			merged[name] = value
		}
	}
	return merged
}

func notNull(_ *evaluation, args []any) any {
	for _, arg := range args {
		if arg != nil {
			return arg
		}
	}
	return nil
}

func reverse(e *evaluation, args []any) any {
	if text, ok := args[0].(string); ok {
		runes := []rune(text)
		slices.Reverse(runes)
		return string(runes)
	}
	list := slices.Clone(args[0].([]any))
	e.charge(len(list))
	slices.Reverse(list)
	return list
}

func toArray(_ *evaluation, args []any) any {
	if _, ok := args[0].([]any); ok {
		return args[0]
	}
	return []any{args[0]}
}

func toNumber(_ *evaluation, args []any) any {
	switch value := args[0].(type) {
	case json.Number:
		return value
	case string:
		if number.MatchString(value) {
			return json.Number(value)
		}
	}
	return nil
}

func toString(e *evaluation, args []any) any {
	if text, ok := args[0].(string); ok {
		return text
	}
	e.charge(e.size(args[0]) / 16)
	return string(Content(args[0]))
}
