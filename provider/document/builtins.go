package document

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/template/parse"
)

// logic is and, or: the first argument that decides; those after it are not evaluated.
func (x *execution) logic(dot any, or bool, nodes []parse.Node, final any, piped bool) (value any, err error) {
	for _, n := range nodes {
		if value, err = x.operand(dot, n); err != nil || isTrue(value) == or {
			return value, err
		}
	}
	if piped {
		value = final
	}
	return value, nil
}

// print joins the arguments as fmt.Sprint does, which puts a space between two that are both
// not text, and changes the result.
func (x *execution) print(args []any, factor int, f func(string) string) (any, error) {
	size := 0
	for _, arg := range args {
		s, err := printed(arg)
		if err != nil {
			return nil, err
		}
		size += len(s) + 1
	}
	if x.work -= factor * size; x.work < 0 {
		return nil, errWork
	}
	if err := x.spend(size - len(args)); err != nil {
		return nil, err
	}
	result := f(fmt.Sprint(args...))
	return result, x.spend(len(result))
}

// printf writes the arguments by a format whose verbs were checked.
func printf(x *execution, args []any) (any, error) {
	format := args[0].(string)
	size := len(format)
	verbs := verbs(format)
	for i, arg := range args[1:] {
		_, isInt := arg.(int)
		s, isText := arg.(string)
		switch v := verbs[i]; {
		case v == 'd' && !isInt, (v == 's' || v == 'q') && !isText, v == 'x' && !isText && !isInt:
			return nil, fmt.Errorf("argument %d of printf is not allowed with %%%c", i+2, v)
		}
		size += len(s) + 2000 // of width and precision
	}
	if x.work -= size; x.work < 0 {
		return nil, errWork
	}
	result := fmt.Sprintf(format, args[1:]...)
	return result, x.spend(len(result))
}

// verbs are the letters of the verbs of a format that was checked.
func verbs(format string) (letters []byte) {
	for {
		_, rest, found := strings.Cut(format, "%")
		if !found {
			return letters
		}
		if after, ok := strings.CutPrefix(rest, "%"); ok {
			format = after
			continue
		}
		n := len(verb.FindString("%"+rest)) - 1
		letters = append(letters, rest[n-1])
		format = rest[n:]
	}
}

var errCompare = errors.New("values of two types are compared")

// equal reports whether the first argument equals one of the others.
func equal(x *execution, args []any) (any, error) {
	one := order(func(c int) bool { return c == 0 }, true)
	for _, other := range args[1:] {
		same, err := one(x, []any{args[0], other})
		if err != nil || same.(bool) {
			return same, err
		}
	}
	return false, nil
}

// order makes a function that compares two arguments of one type. booleans says whether these
// can be booleans, of which none is less.
func order(want func(int) bool, booleans bool) func(*execution, []any) (any, error) {
	return func(_ *execution, args []any) (any, error) {
		switch a := args[0].(type) {
		case string:
			if b, ok := args[1].(string); ok {
				return want(strings.Compare(a, b)), nil
			}
		case int:
			if b, ok := args[1].(int); ok {
				return want(cmp.Compare(a, b)), nil
			}
		case bool:
			if b, ok := args[1].(bool); ok && booleans {
				return want(strings.Compare(strconv.FormatBool(a), strconv.FormatBool(b))), nil
			}
		}
		return nil, errCompare
	}
}

func length(_ *execution, args []any) (any, error) {
	switch value := args[0].(type) {
	case string:
		return len(value), nil
	case []Match:
		return len(value), nil
	case missing:
		return nil, errors.New(string(value))
	}
	return nil, errors.New("len takes a text or the results of find")
}
