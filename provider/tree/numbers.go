package tree

import (
	"cmp"
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// numbers replaces each float64 in a literal of an expression.
func numbers(value any) any {
	switch value := value.(type) {
	case float64:
		return newNumber(value)
	case []any:
		for i := range value {
			value[i] = numbers(value[i])
		}
	case map[string]any:
		for key := range value {
			value[key] = numbers(value[key])
		}
	}
	return value
}

// newNumber is a number that an expression computes; nil if JSON cannot write it.
func newNumber(f float64) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil
	}
	text, err := json.Marshal(f)
	if err != nil {
		return nil
	}
	return json.Number(text)
}

// compareNumbers compares integers by all of their digits, and other numbers as float64. The
// exponent of a number can be as large as its author wants, so there is no exact form of it.
func compareNumbers(a, b json.Number) int {
	if isInteger(a) && isInteger(b) {
		return compareIntegers(string(a), string(b))
	}
	return cmp.Compare(float(a), float(b))
}

func isInteger(n json.Number) bool { return !strings.ContainsAny(string(n), ".eE") }

func compareIntegers(a, b string) int {
	if a == "-0" {
		a = "0"
	}
	if b == "-0" {
		b = "0"
	}
	negative := strings.HasPrefix(a, "-")
	if negative != strings.HasPrefix(b, "-") {
		if negative {
			return -1
		}
		return 1
	}
	c := cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	if negative {
		return -c
	}
	return c
}

// float is the nearest float64; ±Inf if there is none.
func float(n json.Number) float64 {
	f, _ := strconv.ParseFloat(string(n), 64)
	return f
}
