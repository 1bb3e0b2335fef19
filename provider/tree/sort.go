package tree

import (
	"encoding/json"
	"slices"
	"strings"
)

// keyed returns the elements with their keys, which are all numbers or all strings.
func (e *evaluation) keyed(list any, by key) (elements []any, keys []any) {
	elements = list.([]any)
	keys = make([]any, len(elements))
	for i, element := range elements {
		e.charge(1)
		keys[i] = by(element)
		if k := kindOf(keys[i]); k&(isNumber|isString) == 0 || k != kindOf(keys[0]) {
			e.wrongType("a function that sorts or compares")
		}
	}
	return elements, keys
}

func (e *evaluation) order(a, b any) int {
	e.charge(1)
	e.read(a, b)
	if text, ok := a.(string); ok {
		return strings.Compare(text, b.(string))
	}
	return compareNumbers(a.(json.Number), b.(json.Number))
}

// extreme is the first of the largest elements, or with sign -1 of the smallest.
func (e *evaluation) extreme(list any, by key, sign int) any {
	elements, keys := e.keyed(list, by)
	if len(elements) == 0 {
		return nil
	}
	best := 0
	for i := range elements {
		if sign*e.order(keys[i], keys[best]) > 0 {
			best = i
		}
	}
	return elements[best]
}

func (e *evaluation) sort(list any, by key) any {
	elements, keys := e.keyed(list, by)
	order := make([]int, len(elements))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return e.order(keys[a], keys[b]) })
	results := make([]any, len(elements))
	for i, at := range order {
		results[i] = elements[at]
	}
	return results
}
