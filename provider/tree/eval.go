package tree

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/jmespath-community/go-jmespath/pkg/parsing"
)

// evaluation is the evaluation of one expression for one value. It panics with a failure to
// leave the recursion, as encoding/json does; Path.Find recovers it.
type evaluation struct {
	steps int // that are left
}

type failure struct{ error }

func (e *evaluation) charge(steps int) {
	if e.steps -= steps; e.steps < 0 {
		panic(failure{ErrSteps})
	}
}

// read charges for values whose text a function or a comparison reads: a number may have as many
// digits as fit into a value.
func (e *evaluation) read(values ...any) {
	for _, value := range values {
		switch value := value.(type) {
		case string:
			e.charge(len(value) / 16)
		case json.Number:
			e.charge(len(value) / 16)
		}
	}
}

func (e *evaluation) eval(n *parsing.ASTNode, value any) any {
	e.charge(1)
	switch n.NodeType {
	case parsing.ASTIdentity, parsing.ASTCurrentNode:
		return value
	case parsing.ASTLiteral:
		return n.Value
	case parsing.ASTField:
		object, _ := value.(map[string]any)
		return object[n.Value.(string)]
	case parsing.ASTIndex:
		list, _ := value.([]any)
		i := n.Value.(int)
		if i < 0 {
			i += len(list)
		}
		if i < 0 || i >= len(list) {
			return nil
		}
		return list[i]
	case parsing.ASTSlice:
		return e.slice(value, n.Value.([]*int))
	case parsing.ASTSubexpression, parsing.ASTIndexExpression:
		left := e.eval(&n.Children[0], value)
		if left == nil {
			return nil
		}
		return e.eval(&n.Children[1], left)
	case parsing.ASTPipe:
		for i := range n.Children {
			value = e.eval(&n.Children[i], value)
		}
		return value
	case parsing.ASTProjection, parsing.ASTValueProjection, parsing.ASTFilterProjection:
		return e.project(n, value)
	case parsing.ASTFlatten:
		return e.flatten(e.eval(&n.Children[0], value))
	case parsing.ASTFunctionExpression:
		return e.call(n, value)
	}
	return e.logic(n, value)
}

func (e *evaluation) logic(n *parsing.ASTNode, value any) any {
	switch n.NodeType {
	case parsing.ASTMultiSelectList:
		if value == nil {
			return nil
		}
		list := make([]any, len(n.Children))
		for i := range n.Children {
			list[i] = e.eval(&n.Children[i], value)
		}
		return list
	case parsing.ASTMultiSelectHash:
		if value == nil {
			return nil
		}
		object := make(map[string]any, len(n.Children))
		for i := range n.Children {
			object[n.Children[i].Value.(string)] = e.eval(&n.Children[i].Children[0], value)
		}
		return object
	}
	left := e.eval(&n.Children[0], value)
	switch {
	case n.NodeType == parsing.ASTNotExpression:
		return !isTrue(left)
	case n.NodeType == parsing.ASTOrExpression && isTrue(left),
		n.NodeType == parsing.ASTAndExpression && !isTrue(left):
		return left
	}
	right := e.eval(&n.Children[1], value)
	if n.NodeType == parsing.ASTComparator {
		return e.compare(n.Value.(parsing.TokType), left, right)
	}
	return right // of || and &&
}

// isTrue is the truth of the specification: every number is true, 0 too.
func isTrue(value any) bool {
	switch value := value.(type) {
	case nil:
		return false
	case bool:
		return value
	case string:
		return value != ""
	case []any:
		return len(value) > 0
	case map[string]any:
		return len(value) > 0
	}
	return true
}

// project evaluates what follows a list, an object's values or a filter for each element, and
// drops the results that are null.
func (e *evaluation) project(n *parsing.ASTNode, value any) any {
	left := e.eval(&n.Children[0], value)
	elements, ok := left.([]any)
	if n.NodeType == parsing.ASTValueProjection {
		var object map[string]any
		if object, ok = left.(map[string]any); ok {
			elements = e.values(object)
		}
	}
	if !ok {
		return nil
	}
	results := []any{}
	for _, element := range elements {
		e.charge(1)
		if n.NodeType == parsing.ASTFilterProjection && !isTrue(e.eval(&n.Children[2], element)) {
			continue
		}
		if result := e.eval(&n.Children[1], element); result != nil {
			results = append(results, result)
		}
	}
	return results
}

func (e *evaluation) flatten(value any) any {
	list, ok := value.([]any)
	if !ok {
		return nil
	}
	results := []any{}
	for _, element := range list {
		if inner, ok := element.([]any); ok {
			e.charge(1 + len(inner))
			results = append(results, inner...)
		} else {
			e.charge(1)
			results = append(results, element)
		}
	}
	return results
}

// slice is [start:stop:step], as in Python.
func (e *evaluation) slice(value any, parts []*int) any {
	list, ok := value.([]any)
	if !ok {
		return nil
	}
	n, step := len(list), 1
	if parts[2] != nil {
		step = min(max(*parts[2], -n-1), n+1) // no element is further from another
	}
	low, high := 0, n
	start, stop := low, high
	if step < 0 {
		low, high = -1, n-1
		start, stop = high, low
	}
	bound := func(part *int, fallback int) int {
		switch {
		case part == nil:
			return fallback
		case *part < 0:
			return max(*part+n, low)
		}
		return min(*part, high)
	}
	start, stop = bound(parts[0], start), bound(parts[1], stop)
	results := []any{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		e.charge(1)
		results = append(results, list[i])
	}
	return results
}

func (e *evaluation) compare(operator parsing.TokType, left, right any) any {
	switch operator {
	case parsing.TOKEQ:
		return e.equal(left, right)
	case parsing.TOKNE:
		return !e.equal(left, right)
	}
	a, isNumber := left.(json.Number)
	b, both := right.(json.Number)
	if !isNumber || !both {
		return nil
	}
	e.read(a, b)
	switch c := compareNumbers(a, b); operator {
	case parsing.TOKLT:
		return c < 0
	case parsing.TOKLTE:
		return c <= 0
	case parsing.TOKGT:
		return c > 0
	default:
		return c >= 0
	}
}

func (e *evaluation) equal(left, right any) bool {
	e.charge(1)
	e.read(left)
	switch left := left.(type) {
	case json.Number:
		e.read(right)
		other, ok := right.(json.Number)
		return ok && compareNumbers(left, other) == 0
	case []any:
		other, ok := right.([]any)
		return ok && slices.EqualFunc(left, other, e.equal)
	case map[string]any:
		other, ok := right.(map[string]any)
		return ok && maps.EqualFunc(left, other, e.equal)
	}
	switch right.(type) {
	case []any, map[string]any: // which == cannot compare
		return false
	}
	return left == right
}

// values are the values of an object, sorted by key.
func (e *evaluation) values(object map[string]any) []any {
	members, _ := Members(object)
	e.charge(2 * len(members))
	values := make([]any, len(members))
	for i, m := range members {
		values[i] = m.Value
	}
	return values
}

// size is about the number of bytes of a tree as JSON. It walks over parts that a tree
// contains several times as often as they are written.
func (e *evaluation) size(value any) (n int) {
	e.charge(1)
	switch value := value.(type) {
	case string:
		n = len(value)
	case json.Number:
		n = len(value)
	case []any:
		for _, element := range value {
			n += e.size(element) + 1
		}
	case map[string]any:
		for key, member := range value {
			n += len(key) + e.size(member) + 4
		}
	}
	if n+2 > maxResult {
		panic(failure{ErrResult})
	}
	return n + 2
}
